"""Subspaces of penultimate features: their directions, and how many there are."""

from __future__ import annotations

import numpy as np
import pytest
from references.threshold import kth_smallest

from skood import (
    KPCA,
    NAC,
    NCI,
    PNML,
    ActSub,
    LayerFeatures,
    LinearHead,
    NuSA,
    Residual,
    ViM,
    WeiPer,
)
from skood.detectors.head.subspaces import origin, row_space
from skood.estimator_checks import synthetic_features


def test_a_head_without_null_space_is_refused():
    features, y = synthetic_features()
    rng = np.random.default_rng(0)
    full = LinearHead(rng.normal(size=(12, 10)), np.zeros(12))
    with pytest.raises(ValueError, match="spans all 10 dimensions"):
        NuSA(head=full).fit(features, y)


def test_directions_of_rounding_are_none():
    """Softmax heads of float32 are one short of full rank, up to rounding."""
    rng = np.random.default_rng(0)
    weight = rng.normal(size=(6, 20))
    weight -= weight.mean(axis=0)
    head = LinearHead(weight.astype(np.float32), rng.normal(size=6).astype(np.float32))
    assert len(row_space(head)) == 5
    assert np.linalg.norm(origin(head)) < 5
    np.testing.assert_allclose(
        origin(head), -np.linalg.pinv(weight) @ head.bias, rtol=1e-5, atol=1e-6
    )


def test_a_share_always_leaves_a_direction():
    rows = np.random.default_rng(0).normal(size=(300, 3))
    assert Residual(
        n_components=0.999, head=LinearHead(np.eye(3)[:2], np.zeros(2))
    ).fit(rows).residual_axes_.shape == (3, 1)
    with pytest.raises(ValueError, match="makes 3 components of 3 directions"):
        KPCA(n_components=3).fit(rows)


def test_fits_that_hold_rows_out_have_the_same_number_of_components():
    """A share that is near a step would make detectors of another scale."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(200, 12)) * np.logspace(0, -3, 12)
    detector = KPCA(n_components=0.9).fit(rows)
    numbers = []

    class Watched(KPCA):
        def _learn_head(self, training):
            super()._learn_head(training)
            numbers.append(self.residual_axes_.shape[1])

    Watched(n_components=0.9).fit(rows)
    assert set(numbers) == {detector.residual_axes_.shape[1]}
    assert len(numbers) == 11


def test_one_column_leaves_nothing_beside_the_decisive_direction():
    head = LinearHead(np.ones((3, 1)), np.ones(3))
    features = LayerFeatures({"penultimate": np.ones((20, 1))}, head)
    with pytest.raises(ValueError, match="ActSub is for more columns"):
        ActSub().fit(features)


def test_published_numbers_of_components():
    assert [ViM.published_components(d) for d in (2048, 768, 64)] == [1000, 512, 32]
    assert KPCA(**KPCA.published["CoRP ImageNet"]).gamma == 3.0
    kernels = {name: KPCA(**given).kernel for name, given in KPCA.published.items()}
    assert kernels == {
        name: "cosine_rbf" if "RP" in name else "cosine" for name in kernels
    }
    assert WeiPer(**WeiPer.published["ViT-B/16"]).n_bins == 80
    assert NAC(**NAC.published["ImageNet"]).alpha == 3000.0
    assert NCI.published_alpha["OpenOOD"] == 1e-4


def test_one_column_has_no_direction():
    with pytest.raises(ValueError, match=r"one column \(n_features = 1\)"):
        KPCA().fit(np.arange(30.0)[:, None])


def test_pnml_is_left_out_of_its_moments_exactly():
    features, y = synthetic_features(60, 0)
    detector = PNML(contamination=0.1).fit(features, y)
    left_out = [
        PNML()
        .fit(features[rest], y[rest], threshold_data=features)
        .score_samples(features[[i]])[0]
        for i in range(60)
        for rest in [np.delete(np.arange(60), i)]
    ]
    assert detector.offset_ == pytest.approx(kth_smallest(left_out, 0.1), rel=1e-9)
