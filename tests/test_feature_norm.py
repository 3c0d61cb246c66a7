"""FeatureNorm and NormRatio against loops over whole maps."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from references import feature_norm as reference
from references.threshold import kth_smallest
from sklearn.base import clone
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import Pipeline
from torch import nn

from skood import FeatureNorm, LayerFeatures, LayerFeatureTransformer
from skood.detectors.norm_ratio import feature_norm
from skood.estimator_checks import synthetic_features
from skood.features import chunks
from skood.model_selection.jigsaw import Jigsaw

SHAPES = {"early": (4, 6, 6), "middle": (6, 3, 3), "late": (8, 2, 2)}


def maps_of(n, seed, late=1.0):
    rng = np.random.default_rng(seed)
    maps = {layer: rng.normal(size=(n, *shape)) for layer, shape in SHAPES.items()}
    return {**maps, "late": maps["late"] * late}


def features_of(maps, **more):
    blocks = {(layer, "l2"): reference.channel_norms(m) for layer, m in maps.items()}
    return LayerFeatures(blocks, **more)


@pytest.fixture
def maps():
    return maps_of(40, 0, late=2.0)


@pytest.fixture
def jigsaw_maps():
    return maps_of(40, 1)


@pytest.fixture
def features(maps, jigsaw_maps):
    return features_of(maps, views={"jigsaw": features_of(jigsaw_maps)})


# The norm ------------------------------------------------------------------------


@pytest.mark.parametrize("layer", SHAPES)
def test_score_equals_the_loops_over_the_maps(maps, features, layer):
    detector = FeatureNorm(layer).fit(features)
    assert detector.selected_layer_ == layer
    np.testing.assert_allclose(
        detector.score_samples(features),
        reference.feature_norm(maps[layer]),
        rtol=1e-12,
    )


def test_threshold_is_of_the_inliers(features):
    y = np.where(np.arange(40) < 30, 0, -1)
    detector = FeatureNorm("late", contamination=0.1).fit(features, y)
    expected = kth_smallest(detector.score_samples(features)[:30], 0.1)
    assert detector.offset_ == expected


def test_float32_is_close(maps, features):
    narrow = {
        name: features.block(*name).astype(np.float32) for name in features.block_names
    }
    scores = FeatureNorm("late").fit(features).score_samples(LayerFeatures(narrow))
    np.testing.assert_allclose(scores, reference.feature_norm(maps["late"]), rtol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_torch_kernel_is_the_same(dtype):
    x = torch.randn(20, 300, dtype=dtype, generator=torch.Generator().manual_seed(0))
    np.testing.assert_allclose(feature_norm(x), feature_norm(x.numpy()), rtol=1e-12)


def test_order_in_memory_is_no_matter():
    x = np.random.default_rng(0).uniform(size=(50, 4000)).astype(np.float32)
    np.testing.assert_allclose(
        feature_norm(np.asfortranarray(x)), feature_norm(x), rtol=1e-12
    )


def test_maps_of_one_position_are_vectors():
    X = np.random.default_rng(0).normal(size=(30, 7))
    detector = FeatureNorm().fit(X)
    expected = np.maximum(X, 0).mean(axis=1)
    np.testing.assert_allclose(detector.score_samples(X), expected, rtol=1e-12)
    np.testing.assert_allclose(
        reference.feature_norm(X[:, :, None, None]), expected, rtol=1e-12
    )
    assert (detector.selected_layer_, detector.norm_ratios_) == ("array", {})


def test_negative_maps_score_zero():
    X = -np.random.default_rng(0).uniform(size=(10, 4))
    assert (FeatureNorm().fit(X).score_samples(X) == 0).all()


@settings(max_examples=25)
@given(st.integers(0, 100), st.floats(1e-3, 1e3))
def test_norm_grows_with_the_map(seed, factor):
    x = np.random.default_rng(seed).normal(size=(5, 6))
    np.testing.assert_allclose(feature_norm(factor * x), factor * feature_norm(x))


# The choice of the layer ---------------------------------------------------------


def test_ratios_equal_the_loops_and_the_largest_is_taken(maps, jigsaw_maps, features):
    detector = FeatureNorm().fit(features)
    expected = {la: reference.norm_ratio(maps[la], jigsaw_maps[la]) for la in SHAPES}
    assert detector.norm_ratios_ == pytest.approx(expected, rel=1e-12)
    assert detector.selected_layer_ == "late"
    np.testing.assert_allclose(
        detector.score_samples(features), reference.feature_norm(maps["late"])
    )


def test_ratio_is_the_mean_of_ratios():
    jigsaw = LayerFeatures({("a", "l2"): [[1.0], [4.0]], ("b", "l2"): [[1.0], [1.0]]})
    blocks = {("a", "l2"): [[4.0], [1.0]], ("b", "l2"): [[2.0], [2.0]]}
    detector = FeatureNorm().fit(LayerFeatures(blocks, views={"jigsaw": jigsaw}))
    # The ratio of the means would be 1 for layer a.
    assert detector.norm_ratios_ == {"a": 2.125, "b": 2.0}


def test_outliers_do_not_choose(maps, jigsaw_maps):
    for layer, factor in [("early", 50.0), ("late", 0.01)]:
        maps[layer][30:] *= factor
    features = features_of(maps, views={"jigsaw": features_of(jigsaw_maps)})
    y = np.where(np.arange(40) < 30, 0, -1)
    known = FeatureNorm().fit(features[:30])
    marked = FeatureNorm().fit(features, y)
    assert marked.norm_ratios_ == known.norm_ratios_
    assert marked.selected_layer_ == "late"
    assert FeatureNorm().fit(features).selected_layer_ == "early"


def test_unchanged_images_have_the_ratio_one(maps):
    features = features_of(maps, views={"jigsaw": features_of(maps)})
    detector = FeatureNorm().fit(features)
    assert set(detector.norm_ratios_.values()) == {1.0}
    assert detector.selected_layer_ == "early"  # the first of equals


@settings(max_examples=25)
@given(st.integers(0, 100), st.floats(1e-3, 1e3))
def test_ratio_does_not_depend_on_a_layers_scale(seed, factor):
    x, jigsaw = np.random.default_rng(seed).uniform(1, 2, size=(2, 10, 4))
    features, scaled = (
        LayerFeatures(
            {("a", "l2"): f * x, ("b", "l2"): x},
            views={"jigsaw": LayerFeatures({("a", "l2"): f * jigsaw, ("b", "l2"): x})},
        )
        for f in (1.0, factor)
    )
    expected = FeatureNorm().fit(features).norm_ratios_
    assert FeatureNorm().fit(scaled).norm_ratios_ == pytest.approx(expected, rel=1e-9)


def test_a_sequence_of_names_is_chosen_among(features):
    detector = FeatureNorm(["early", "middle"]).fit(features)
    assert set(detector.norm_ratios_) == {"early", "middle"}
    assert FeatureNorm(None).fit(features).selected_layer_ == "late"
    alone = FeatureNorm(["middle"]).fit(features)
    assert (alone.selected_layer_, alone.norm_ratios_) == ("middle", {})


def test_one_candidate_needs_no_views(maps):
    features = features_of({"late": maps["late"]})
    assert FeatureNorm().fit(features).selected_layer_ == "late"


def test_chunks_equal_the_whole(features, monkeypatch):
    whole = FeatureNorm().fit(features)
    monkeypatch.setattr(chunks, "CHUNK_ELEMENTS", 7 * features.shape[1])
    chunked = FeatureNorm().fit(features)
    assert chunked.norm_ratios_ == pytest.approx(whole.norm_ratios_, rel=1e-12)
    np.testing.assert_array_equal(
        chunked.score_samples(features), whole.score_samples(features)
    )


def test_made_up_outliers_are_found():
    features, y = synthetic_features()
    detector = FeatureNorm().fit(features, y)
    assert roc_auc_score(y >= 0, detector.score_samples(features)) > 0.9


# What goes wrong -----------------------------------------------------------------


def test_several_layers_without_views(maps, features):
    with pytest.raises(ValueError, match=r"carries none. Give LayerFeatureTransformer"):
        FeatureNorm().fit(features_of(maps))
    other = features_of(maps, views={"noise": features})
    with pytest.raises(ValueError, match=r"carries \['noise'\]"):
        FeatureNorm().fit(other)


def test_views_of_other_blocks(maps, jigsaw_maps):
    view = features_of({**jigsaw_maps, "late": jigsaw_maps["early"]})
    with pytest.raises(ValueError, match="compares the same blocks of both"):
        FeatureNorm().fit(features_of(maps, views={"jigsaw": view}))


def test_puzzles_without_a_norm_are_left_out(maps, jigsaw_maps):
    jigsaw_maps["late"][:15] = -1.0
    jigsaw_maps["early"][:] = -1.0
    features = features_of(maps, views={"jigsaw": features_of(jigsaw_maps)})
    with pytest.warns(UserWarning, match="rows by layer: {'early': 40, 'late': 15}"):
        detector = FeatureNorm().fit(features)
    assert np.isnan(detector.norm_ratios_["early"])
    expected = reference.norm_ratio(maps["late"][15:], jigsaw_maps["late"][15:])
    assert detector.norm_ratios_["late"] == pytest.approx(expected)
    assert detector.selected_layer_ == "late"


@pytest.mark.filterwarnings("ignore:jigsaw views with norm zero")
def test_only_puzzles_without_a_norm(maps, jigsaw_maps):
    dead = features_of({layer: -np.abs(m) for layer, m in jigsaw_maps.items()})
    with pytest.raises(ValueError, match="no jigsaw view has a norm above zero"):
        FeatureNorm().fit(features_of(maps, views={"jigsaw": dead}))


def test_a_view_that_is_not_finite(maps, jigsaw_maps):
    jigsaw_maps["middle"][3] = np.nan
    view = LayerFeatures(
        {(la, "l2"): np.linalg.norm(m, axis=(2, 3)) for la, m in jigsaw_maps.items()}
    )
    with pytest.raises(ValueError, match=r"jigsaw view of 'middle'.*contains NaN"):
        FeatureNorm().fit(features_of(maps, views={"jigsaw": view}))


def test_layers_that_are_not_there(features):
    with pytest.raises(ValueError, match=r"no layer 'lat'.*Did you mean 'late'"):
        FeatureNorm("lat").fit(features)
    with pytest.raises(ValueError, match="no layer has the statistic 'l2'"):
        FeatureNorm().fit(LayerFeatures({"late": np.eye(3)}))
    with pytest.raises(ValueError, match="layers='late' but X is a plain array"):
        FeatureNorm("late").fit(np.eye(3))


# From images ---------------------------------------------------------------------


@pytest.fixture
def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 6, 3, stride=2), nn.Conv2d(6, 5, 3)
    ).eval()


@pytest.fixture
def images():
    # Smooth ones: a puzzle of its tiles has edges that the image does not have.
    rng = np.random.default_rng(0)
    rows, columns = rng.uniform(0, 3, size=(2, 30, 11)).cumsum(axis=2)
    return np.sin(rows[:, None, :, None] + columns[:, None, None, :]).astype(np.float32)


def test_one_pipeline_from_images(network, images):
    layers = ["1", "2", "3"]
    pipeline = Pipeline(
        [
            (
                "features",
                LayerFeatureTransformer(
                    network,
                    layers,
                    "l2",
                    batch_size=7,
                    views={"jigsaw": Jigsaw(grid=3)},
                ),
            ),
            ("detector", FeatureNorm()),
        ]
    )
    y = np.where(np.arange(30) < 25, 0, -1)
    detector = clone(pipeline).fit(images, y)["detector"]
    puzzles = Jigsaw(grid=3)(images, rows=np.arange(30))

    def maps_after(depth, inputs):
        with torch.inference_mode():
            return network[: depth + 1](torch.from_numpy(inputs)).numpy()

    expected = {
        layer: reference.norm_ratio(
            maps_after(int(layer), images[:25]), maps_after(int(layer), puzzles[:25])
        )
        for layer in layers
    }
    assert detector.norm_ratios_ == pytest.approx(expected, rel=1e-5)
    selected = max(expected, key=expected.get)
    assert detector.selected_layer_ == selected
    np.testing.assert_allclose(
        clone(pipeline).fit(images, y).score_samples(images),
        reference.feature_norm(maps_after(int(selected), images)),
        rtol=1e-5,
    )
