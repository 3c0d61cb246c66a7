"""PyOD's detectors behind our networks, and PyOD missing."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from pyod.models.embedding import EmbeddingOD
from pyod.models.knn import KNN as PyODKNN
from pyod.utils import persistence
from sklearn.base import clone
from sklearn.decomposition import PCA as SklearnPCA
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skood import (
    KNN,
    LayerFeatureTransformer,
    Mahalanobis,
    auroc,
    to_pyod,
)
from skood.interop.pyod import SkoodEncoder


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(120, 1, 6, 6)).astype(np.float32)
    X[100:] = 4 * np.abs(X[100:])
    return X, np.repeat([0, -1], [100, 20])


@pytest.fixture(scope="module")
def extractor():
    torch.manual_seed(0)
    network = torch.nn.Sequential(
        torch.nn.Conv2d(1, 8, 3),
        torch.nn.ReLU(),
        torch.nn.Conv2d(8, 8, 3),
        torch.nn.ReLU(),
    )
    return LayerFeatureTransformer(network, ["1", "3"], ["avg", "max"])


@pytest.mark.parametrize("detector", [PyODKNN(), to_pyod(Mahalanobis())], ids=repr)
@pytest.mark.parametrize("form", ["encoder", "fitted", "callable"])
def test_our_extraction_as_pyods_encoder(detector, form, extractor, images):
    X, y = images
    fitted = clone(extractor).fit(X[:100])
    encoder = {
        "encoder": to_pyod(extractor),
        "fitted": to_pyod(fitted),
        "callable": lambda rows: np.asarray(fitted.transform(rows)),
    }[form]
    model = EmbeddingOD(encoder, detector).fit(X[:100])
    by_hand = StandardScaler().fit(np.asarray(fitted.transform(X[:100]), np.float64))
    embedded = by_hand.transform(np.asarray(fitted.transform(X), np.float64))
    expected = clone(detector).fit(embedded[:100].astype(np.float32))
    np.testing.assert_allclose(
        model.decision_function(X),
        expected.decision_function(embedded.astype(np.float32)),
        rtol=1e-5,
    )
    assert auroc(y, -model.decision_function(X)) > 0.95
    assert model.predict_proba(X).shape == (120, 2)


def test_the_encoder_is_cloned_with_its_network_shared(extractor, images, tmp_path):
    X, _ = images
    encoder = to_pyod(extractor)
    assert isinstance(encoder, SkoodEncoder)
    assert encoder.encode(X).shape == (120, 32)
    assert encoder.encode(X).dtype == np.float64
    model = EmbeddingOD(encoder, to_pyod(KNN(3)))
    other = clone(model)
    assert other.encoder.transformer.network is extractor.network
    expected = model.fit(X).decision_function(X)
    persistence.save(model, tmp_path / "model.joblib")
    loaded = persistence.load(tmp_path / "model.joblib", trusted=True)
    np.testing.assert_array_equal(loaded.decision_function(X), expected)


def test_an_encoder_keeps_nothing_of_earlier_rows(extractor, images):
    X, _ = images
    encoder = to_pyod(extractor)
    EmbeddingOD(encoder, PyODKNN()).fit(X[:50])
    with torch.no_grad():
        extractor.network[0].weight.mul_(2)  # trained on
    again = EmbeddingOD(encoder, PyODKNN()).fit(X[50:])
    fresh = EmbeddingOD(to_pyod(clone(extractor)), PyODKNN()).fit(X[50:])
    np.testing.assert_array_equal(again.decision_scores_, fresh.decision_scores_)
    with pytest.raises(ValueError, match=r"PCA is not fitted.*fit it first"):
        SkoodEncoder(SklearnPCA(2)).encode(X.reshape(len(X), -1))
    known = SklearnPCA(2).fit(X.reshape(len(X), -1))
    assert SkoodEncoder(known).encode(X.reshape(len(X), -1)).shape == (len(X), 2)


def test_images_go_through_a_whole_pipeline(extractor, images):
    X, y = images
    adapted = to_pyod(make_pipeline(extractor, KNN(3, statistic="max"))).fit(X[:100])
    features = clone(extractor).fit_transform(X)
    expected = to_pyod(KNN(3, statistic="max")).fit(features[:100])
    np.testing.assert_allclose(adapted.decision_scores_, expected.decision_scores_)
    assert auroc(y, -adapted.decision_function(X)) > 0.95
    assert adapted.predict_proba(X).shape == (120, 2)


WITHOUT_PYOD = """
import sys
sys.modules["pyod"] = sys.modules["pyod.models"] = None
import skood
assert "torch" not in sys.modules
for name in ("PyODDetector", "to_pyod"):
    try:
        getattr(skood, name)
    except ImportError as error:
        assert "pip install 'skood[pyod]'" in str(error), error
    else:
        raise AssertionError(name)
from skood import KNN
from skood.model_selection import OutliersIgnored
print(OutliersIgnored(KNN(1)).fit([[0.0], [1.0], [2.0]]).predict([[1.5]]))
"""


def test_what_to_install_is_said():
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_PYOD],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "[1]\n"
