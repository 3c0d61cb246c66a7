"""skops files: what has to be trusted, and what they refuse to hold."""

from __future__ import annotations

from importlib import import_module

import numpy as np
import pytest
import torch
from persisted import OF_OTHERS, data_of, fitted
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from skops.io import dumps, get_untrusted_types, loads
from skops.io.exceptions import UntrustedTypesFoundException
from torch import nn

from skood import (
    AMP,
    KNN,
    MSP,
    AlarmRateMonitor,
    AnchoredClassifier,
    ClassHoldout,
    EnergyRegularizedClassifier,
    FeatureNorm,
    InlierKFold,
    Jigsaw,
    LayerFeatureTransformer,
    LeaveOutlierSourceOut,
    LinearHead,
    Mahalanobis,
    ShiftMonitor,
    auroc_scorer,
    to_pyod,
    trusted_types,
)
from skood.neural import MLP, ImageCorruption, VectorCorruption

KINDS = ["ndarray", "LayerFeatures", "DataFrame"]
SIZES = {"module__n_features": 38, "module__n_classes": 3, "module__width": 8}


class Narrow(nn.Linear):
    """A network of the user's."""

    def __init__(self, n_features, n_classes):
        super().__init__(n_features, n_classes)


def energy_classifier(X, y):
    net = EnergyRegularizedClassifier(
        MLP, ["0", "logits"], **SIZES, max_epochs=2, random_state=0
    )
    return net.fit(X, y)


def convolutional():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3))


def images():
    return np.random.default_rng(0).random((40, 1, 8, 8), dtype=np.float32)


def image_pipeline(network, **params):
    transformer = LayerFeatureTransformer(
        network, ["1", "logits"], "l2", views={"jigsaw": Jigsaw()}, **params
    )
    return make_pipeline(transformer, FeatureNorm("1")).fit(images())


def other_estimators():
    """Return estimators that are not, or not only, detectors of rows."""
    X, y = data_of("ndarray")
    features, _ = data_of("LayerFeatures")
    corrupted = [
        AnchoredClassifier(MLP, corruption=corruption)
        for corruption in (VectorCorruption(), ImageCorruption())
    ]
    searches = [
        GridSearchCV(KNN(), {"n_neighbors": [5]}, scoring=auroc_scorer, cv=cv)
        for cv in (
            InlierKFold(2),
            ClassHoldout(),
            LeaveOutlierSourceOut(InlierKFold(2)),
        )
    ]
    monitor = ShiftMonitor(KNN(5), cv=0.5).fit(X[:60])
    monitor.update(X[60:])
    rate = AlarmRateMonitor(max_rate=0.1).fit()
    rate.update(np.where(np.arange(50) % 9, 1, -1))
    return [
        *corrupted,
        *searches,
        monitor,
        rate,
        energy_classifier(X, y),
        Mahalanobis().partial_fit(features[:40], y[:40]),
        KNN(5, max_rows=50).fit(X),
        KNN(5, backend="ivf").fit(X),
        image_pipeline(convolutional(), store_network=False),
        to_pyod(KNN(5)).fit(X),
        to_pyod(LayerFeatureTransformer(None, "0", store_network=False)),
    ]


@pytest.fixture(scope="module")
def files():
    estimators = [e for kind in KINDS for e in fitted(kind)] + other_estimators()
    return [dumps(estimator) for estimator in estimators]


# What is trusted ---------------------------------------------------------------------


def test_the_list_is_what_the_files_need(files):
    """Nothing is missing, and each type is in some file."""
    needed = set().union(*(get_untrusted_types(data=file) for file in files))
    assert needed - set(OF_OTHERS) == set(trusted_types())
    assert trusted_types() == sorted(set(trusted_types()))


def test_nothing_loads_without_trust(files):
    assert len(files) > 70
    for file in files:
        with pytest.raises(UntrustedTypesFoundException, match="skood"):
            loads(file)


def test_the_types_are_there():
    for name in trusted_types():
        module, _, kind = name.rpartition(".")
        assert isinstance(getattr(import_module(module), kind), type)


def test_the_list_is_the_callers_own():
    trusted_types().append("os.system")
    assert "os.system" not in trusted_types()


def test_a_class_of_the_users_is_trusted_by_the_user():
    X, y = data_of("ndarray")
    sizes = {"module__n_features": 38, "module__n_classes": 3}
    net = AnchoredClassifier(Narrow, **sizes, max_epochs=1, random_state=0)
    detector = AMP(net).fit(X, y)
    file = dumps(detector)
    own = f"{__name__}.Narrow"
    assert set(get_untrusted_types(data=file)) - set(trusted_types()) == {own}
    with pytest.raises(UntrustedTypesFoundException, match="Narrow"):
        loads(file, trusted=trusted_types())
    loaded = loads(file, trusted=[*trusted_types(), own])
    np.testing.assert_array_equal(loaded.score_samples(X), detector.score_samples(X))


# What comes back ---------------------------------------------------------------------


def test_a_trained_classifier():
    X, y = data_of("ndarray")
    net = energy_classifier(X, y)
    loaded = loads(dumps(net), trusted=trusted_types())
    np.testing.assert_array_equal(loaded.predict_proba(X), net.predict_proba(X))
    assert loaded.margins_ == net.margins_
    assert loaded.history_[:, "train_loss"] == net.history_[:, "train_loss"]
    for one in (net, loaded):
        one.partial_fit(X, y)
    np.testing.assert_array_equal(loaded.predict_proba(X), net.predict_proba(X))


def test_a_monitor_goes_on():
    X, _ = data_of("ndarray")
    monitor = ShiftMonitor(KNN(5), cv=0.5).fit(X[:60])
    monitor.update(X[60:70])
    loaded = loads(dumps(monitor), trusted=trusted_types())
    for one in (monitor, loaded):
        one.update(X[70:])
    np.testing.assert_array_equal(loaded.p_values_, monitor.p_values_)
    np.testing.assert_array_equal(loaded.log_martingale_, monitor.log_martingale_)


def test_a_head():
    head = LinearHead(np.eye(3), np.arange(3.0), "fc")
    loaded = loads(dumps(head), trusted=trusted_types())
    np.testing.assert_array_equal(loaded.weight, head.weight)
    assert loaded.layer == "fc"


def test_unfitted_estimators_load():
    loaded = loads(dumps(MSP(contamination=0.1)), trusted=trusted_types())
    assert loaded.contamination == 0.1
    assert not hasattr(loaded, "offset_")


# Networks ----------------------------------------------------------------------------


def test_a_pipeline_without_its_network():
    network = convolutional()
    pipeline = image_pipeline(network, store_network=False)
    expected = pipeline.score_samples(images())
    loaded = loads(dumps(pipeline), trusted=trusted_types())
    with pytest.raises(ValueError, match=r"without its network.*set_params\(network="):
        loaded.score_samples(images())
    loaded.set_params(layerfeaturetransformer__network=network)
    np.testing.assert_array_equal(loaded.score_samples(images()), expected)


def test_a_network_is_refused():
    pipeline = image_pipeline(convolutional())
    with pytest.raises(TypeError, match=r"only pickle and joblib.*store_network=False"):
        dumps(pipeline)


def test_a_module_given_as_an_instance_is_refused():
    X, y = data_of("ndarray")
    detector = AMP(AnchoredClassifier(nn.Linear(38, 3), max_epochs=1)).fit(X, y)
    with pytest.raises(TypeError, match=r"only pickle and joblib.*module as a class"):
        dumps(detector)


def test_tensors_are_refused():
    net = AnchoredClassifier(MLP, **SIZES, criterion__weight=torch.ones(3))
    with pytest.raises(TypeError, match=r"a Tensor .*give no tensors as parameters"):
        dumps(net)
