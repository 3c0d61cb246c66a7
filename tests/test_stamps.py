"""Files bear the version that wrote them, and newer ones are refused."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import skops.io
import torch
from pyod.models.pca import PCA
from sklearn.base import BaseEstimator
from sklearn.ensemble import IsolationForest
from sklearn.pipeline import make_pipeline

import skood
from skood import (
    KNN,
    AnchoredClassifier,
    ConformalDetector,
    DetectorEnsemble,
    EnergyRegularizedClassifier,
    LayerEnsemble,
    LayerFeatures,
    LayerFeatureTransformer,
    OutliersIgnored,
    PyODDetector,
    ShiftMonitor,
    TargetRateThreshold,
    _version,
    trusted_types,
)
from skood._version import __version__, is_newer
from skood.neural import MLP

GIVEN = {
    AnchoredClassifier: MLP,
    EnergyRegularizedClassifier: MLP,
    ConformalDetector: IsolationForest(),
    DetectorEnsemble: [("forest", IsolationForest())],
    LayerEnsemble: IsolationForest(),
    LayerFeatureTransformer: None,
    OutliersIgnored: IsolationForest(),
    PyODDetector: PCA(),
    ShiftMonitor: IsolationForest(),
    TargetRateThreshold: IsolationForest(),
}
"""What some estimators cannot be made without."""

TRUSTED = [*trusted_types(), "pyod.models.pca.PCA"]


def public_estimators():
    public = (getattr(skood, name) for name in skood.__all__)
    classes = [c for c in public if isinstance(c, type) and c is not skood.BaseDetector]
    return [c for c in classes if issubclass(c, BaseEstimator)]


ESTIMATORS = public_estimators()


def made(kind):
    if kind is LayerFeatureTransformer:
        return kind(None, "layer1")
    return kind(GIVEN[kind]) if kind in GIVEN else kind()


each = pytest.mark.parametrize("kind", ESTIMATORS, ids=lambda kind: kind.__name__)


def test_every_estimator_is_here():
    assert len(ESTIMATORS) >= 20
    assert set(GIVEN) <= set(ESTIMATORS)


@each
@pytest.mark.parametrize(
    ("dumps", "loads"),
    [
        (pickle.dumps, pickle.loads),
        (skops.io.dumps, lambda file: skops.io.loads(file, trusted=TRUSTED)),
    ],
    ids=["pickle", "skops"],
)
def test_a_newer_file_is_refused_and_an_older_one_is_not(
    kind, dumps, loads, monkeypatch
):
    files = {}
    for version in ("99.1", "0.0.1"):
        monkeypatch.setattr(_version, "__version__", version)
        files[version] = dumps(made(kind))
    monkeypatch.undo()
    text = rf"this {kind.__name__} was saved by skood 99\.1, newer than .*update skood"
    with pytest.raises(ValueError, match=text):
        loads(files["99.1"])
    loaded = loads(files["0.0.1"])
    assert type(loaded) is kind
    assert set(loaded.get_params()) == set(made(kind).get_params())


@each
def test_a_file_without_a_stamp_counts_as_old(kind):
    state = made(kind).__getstate__()
    assert state.pop("_skood_version") == __version__
    loaded = object.__new__(kind)
    loaded.__setstate__(state)
    assert set(loaded.get_params()) == set(made(kind).get_params())


@each
def test_the_stamp_is_no_attribute(kind):
    loaded = pickle.loads(pickle.dumps(made(kind)))
    assert not [name for name in vars(loaded) if "version" in name]


def test_what_is_within_is_stamped_too(monkeypatch):
    X = np.random.default_rng(0).normal(size=(40, 3))
    pipeline = make_pipeline(OutliersIgnored(KNN(3))).fit(X)
    monkeypatch.setattr(_version, "__version__", "99.1")
    file = pickle.dumps(pipeline)
    monkeypatch.undo()
    with pytest.raises(ValueError, match=r"was saved by skood 99\.1"):
        pickle.loads(file)


def test_features_are_stamped(monkeypatch):
    features = LayerFeatures({"layer1": np.ones((3, 2))})
    assert pickle.loads(pickle.dumps(features)).shape == (3, 2)
    monkeypatch.setattr(_version, "__version__", "99.1")
    file = pickle.dumps(features)
    monkeypatch.undo()
    with pytest.raises(ValueError, match=r"LayerFeatures was saved by skood 99\.1"):
        pickle.loads(file)


def test_features_of_older_pickles_load():
    """Before there were stamps, blocks were a dict and rows a range."""
    features = object.__new__(LayerFeatures)
    blocks = {("layer1", "avg"): np.arange(6.0).reshape(3, 2)}
    state = {"_blocks": blocks, "_rows": range(3), "head": None, "views": {}}
    features.__setstate__(state)
    np.testing.assert_array_equal(features[[2]], [[4.0, 5.0]])


@pytest.mark.parametrize(
    ("version", "newer"),
    [
        ("0", False),
        ("0.0.9", False),
        (__version__, False),
        (__version__.split(".dev")[0], False),
        (__version__.split(".dev")[0] + "rc1", False),
        (__version__.split(".dev")[0] + ".post2", False),
        (__version__ + "+local.7", False),
        ("99.0.dev3", True),
        ("99.0rc1", True),
        ("99.0", True),
    ],
)
def test_which_versions_are_newer(version, newer):
    assert is_newer(version) == newer


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA")
def test_states_of_an_accelerator_are_arrays():
    X = np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32)
    y = np.arange(60) % 3
    sizes = {"module__n_features": 4, "module__n_classes": 3}
    net = AnchoredClassifier(MLP, **sizes, max_epochs=1, device="cuda").fit(X, y)
    assert next(net.module_.parameters()).is_cuda
    for estimator in (net, KNN(3, device="cuda").fit(X, y)):
        file = pickle.dumps(estimator)
        assert b"torch._utils" not in file
        assert b"torch.storage" not in file
