"""Estimators through a folder: what comes back, what is refused, what is replaced."""

from __future__ import annotations

import ast
import builtins
import copy
import importlib
import math
import os
import pickle
import subprocess
import sys
from collections import OrderedDict, defaultdict
from functools import partial
from pathlib import Path, PureWindowsPath

import numpy as np
import pandas as pd
import pytest
import safetensors.numpy
import scipy.special
import scipy.stats
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from instances import OOD_BATTERY, SKLEARN_BATTERY
from networks import Convolutional, Tokens, convolutional
from numpy.testing import assert_array_equal
from sklearn import config_context
from sklearn.base import BaseEstimator, clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.covariance import EllipticEnvelope
from sklearn.decomposition import PCA
from sklearn.ensemble import (
    IsolationForest,
    RandomForestClassifier,
    StackingClassifier,
    VotingClassifier,
)
from sklearn.exceptions import InconsistentVersionWarning
from sklearn.feature_selection import SelectKBest, f_classif
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import (
    LogisticRegression,
    SGDClassifier,
    SGDOneClassSVM,
    SGDRegressor,
)
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import GridSearchCV
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import LocalOutlierFactor, NearestNeighbors
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.svm import OneClassSVM
from sklearn.utils import Bunch
from torch import nn

import skood
from skood import (
    KNN,
    LSGM,
    AnchoredClassifier,
    FeatureStore,
    InlierKFold,
    Jigsaw,
    LayerFeatureTransformer,
    LayerSelector,
    Mahalanobis,
    OutliersIgnored,
    PyODDetector,
    TargetRateThreshold,
    auroc_scorer,
)
from skood.estimator_checks import synthetic_features
from skood.persistence import LoadError
from skood.persistence.encoding import DEPTH
from skood.persistence.names import is_restorable

RNG = np.random.default_rng(0)
ROWS = RNG.normal(size=(80, 6))
LABELS = RNG.integers(0, 3, 80)
IMAGES = torch.from_numpy(RNG.normal(size=(24, 3, 8, 8)).astype("float32"))


class Holder(BaseEstimator):
    """An estimator of somebody else's, which holds anything."""

    def __init__(self, value=None):
        self.value = value


class Slotted:
    """Keeps one thing in a slot and one in an attribute."""

    __slots__ = ("__dict__", "first")

    def __init__(self):
        self.first, self.second = 1, 2

    def call(self, x):
        return x


class Callable:
    """An object that is called, as a tokenizer is."""

    def __call__(self, x):
        return x


def doubled(x):
    """Return twice the input, as a step of a pipeline."""
    return 2 * x


def saved_and_loaded(estimator, folder, /, **how):
    skood.save(estimator, folder)
    return skood.load(folder, **how)


def value_back(value, folder, trusted=()):
    path = folder / "holder"
    skood.save(Holder(value), path, overwrite=True)
    return skood.load(path, trusted=[Holder, *trusted]).value


@pytest.fixture
def path(tmp_path):
    return tmp_path / "saved"


# Every detector ----------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:classes with one row only")
@pytest.mark.parametrize("kind", ["arrays", "features"])
def test_every_detector_scores_the_same(kind, path):
    X, y = (ROWS, LABELS) if kind == "arrays" else synthetic_features()
    for number, one in enumerate(SKLEARN_BATTERY if kind == "arrays" else OOD_BATTERY):
        detector = clone(one).fit(X, y)
        folder = path.with_name(str(number))
        skood.save(detector, folder)
        expected = detector.score_samples(X)
        for mmap in (False, True):
            loaded = skood.load(folder, mmap=mmap)
            assert type(loaded) is type(detector)
            assert_array_equal(loaded.score_samples(X), expected)
            assert loaded.offset_ == detector.offset_
            assert repr(loaded) == repr(detector)


def test_unfitted_estimators_come_back(path):
    for number, one in enumerate([*SKLEARN_BATTERY, *OOD_BATTERY]):
        loaded = saved_and_loaded(one, path.with_name(str(number)))
        assert repr(loaded) == repr(one)
        assert vars(loaded).keys() == vars(one).keys()


def test_the_same_estimator_is_the_same_bytes(tmp_path):
    detector = LSGM(2, random_state=0).fit(ROWS, LABELS)
    for name in ("one", "two"):
        skood.save(detector, tmp_path / name)
    loaded = skood.load(tmp_path / "one")
    skood.save(loaded, tmp_path / "three")
    contents = {
        name: [f.read_bytes() for f in sorted((tmp_path / name).iterdir())]
        for name in ("one", "two", "three")
    }
    assert contents["one"] == contents["two"] == contents["three"]


def test_a_loaded_detector_goes_on_learning(path):
    detector = Mahalanobis().partial_fit(ROWS[:40])
    loaded = saved_and_loaded(detector, path)
    assert_array_equal(
        loaded.partial_fit(ROWS[40:]).score_samples(ROWS),
        detector.partial_fit(ROWS[40:]).score_samples(ROWS),
    )


def test_maps_are_read_only_and_shared_arrays_are_kept_once(path):
    array = RNG.normal(size=(50, 20))
    skood.save(Holder([array, array, array[:0]]), path)
    assert (path / "arrays.safetensors").stat().st_size < 2 * array.nbytes
    first, second, none = skood.load(path, trusted=[Holder], mmap=True).value
    assert first is second
    assert isinstance(first, np.memmap)
    assert not first.flags.writeable
    assert none.shape == (0, 20)
    first, second, _ = skood.load(path, trusted=[Holder]).value
    assert first is second
    assert first.flags.writeable
    assert first.flags.owndata or first.base.nbytes == first.nbytes


# Estimators around others ------------------------------------------------------------

AROUND = [
    make_pipeline(StandardScaler(), PCA(3), KNN(3)),
    make_pipeline(StandardScaler(), GaussianMixture(2, random_state=0)),
    OutliersIgnored(make_pipeline(StandardScaler(), EllipticEnvelope(random_state=0))),
    OutliersIgnored(IsolationForest(n_estimators=10, random_state=0)),
    OutliersIgnored(LocalOutlierFactor(novelty=True)),
    OutliersIgnored(LocalOutlierFactor(novelty=True, algorithm="ball_tree")),
    OutliersIgnored(OneClassSVM()),
    TargetRateThreshold(
        OutliersIgnored(IsolationForest(n_estimators=5, random_state=0)), 0.3
    ),
    GridSearchCV(
        Pipeline([("scale", StandardScaler()), ("knn", KNN())]),
        {"knn__n_neighbors": [2, 5]},
        scoring=auroc_scorer,
        cv=InlierKFold(2),
    ),
]


@pytest.mark.parametrize("estimator", AROUND, ids=repr)
def test_estimators_of_estimators(estimator, path):
    y = np.where(LABELS == 2, -1, LABELS)
    estimator = clone(estimator).fit(ROWS, y)
    loaded = saved_and_loaded(estimator, path)
    assert_array_equal(loaded.score_samples(ROWS), estimator.score_samples(ROWS))
    if isinstance(estimator, GridSearchCV):
        best = saved_and_loaded(estimator.best_estimator_, path.with_name("best"))
        assert_array_equal(best.score_samples(ROWS), estimator.score_samples(ROWS))
        table, own = loaded.cv_results_, estimator.cv_results_
        assert table["params"] == own["params"]
        assert_array_equal(table["mean_test_score"], own["mean_test_score"])


@pytest.mark.parametrize(
    "estimator",
    [
        GridSearchCV(LogisticRegression(), {"C": [1, 2]}, scoring="roc_auc", cv=2),
        GridSearchCV(
            LogisticRegression(),
            {"C": [1, 2]},
            scoring=["accuracy", "neg_log_loss"],
            refit="accuracy",
            cv=2,
        ),
        VotingClassifier([("a", LogisticRegression()), ("b", GaussianNB())]),
        StackingClassifier([("a", GaussianNB())], LogisticRegression(), cv=2),
        CalibratedClassifierCV(GaussianNB(), cv=2),
        CalibratedClassifierCV(GaussianNB(), cv=2, method="isotonic"),
        SGDOneClassSVM(random_state=0),
        *(
            SGDClassifier(loss, max_iter=9, tol=None, random_state=0)
            for loss in ("hinge", "log_loss", "modified_huber", "squared_hinge")
        ),
        *(
            SGDRegressor(loss, max_iter=9, tol=None, random_state=0)
            for loss in (
                "squared_error",
                "huber",
                "epsilon_insensitive",
                "squared_epsilon_insensitive",
            )
        ),
    ],
    ids=repr,
)
def test_estimators_of_scikit_learn(estimator, path):
    y = LABELS > 1
    estimator = clone(estimator).fit(ROWS, y)
    loaded = saved_and_loaded(estimator, path)
    assert_array_equal(loaded.predict(ROWS), estimator.predict(ROWS))
    if hasattr(estimator, "score"):
        assert loaded.score(ROWS, y) == estimator.score(ROWS, y)
    if hasattr(estimator, "partial_fit"):
        again = loaded.partial_fit(ROWS, y).predict(ROWS)
        assert_array_equal(again, estimator.partial_fit(ROWS, y).predict(ROWS))


def test_a_forest_of_classes(path):
    forest = RandomForestClassifier(5, random_state=0).fit(ROWS, LABELS.astype(str))
    loaded = saved_and_loaded(forest, path)
    assert_array_equal(loaded.predict_proba(ROWS), forest.predict_proba(ROWS))
    assert_array_equal(loaded.predict(ROWS), forest.predict(ROWS))


def test_selected_layers_and_frames(path):
    features, y = synthetic_features()
    pipeline = make_pipeline(LayerSelector("layer1"), StandardScaler(), KNN(3))
    pipeline.fit(features, y)
    loaded = saved_and_loaded(FrozenEstimator(pipeline), path)
    assert_array_equal(loaded.predict(features), pipeline.predict(features))
    names = loaded.estimator[0].get_feature_names_out()
    assert_array_equal(names, pipeline[0].get_feature_names_out())


def test_metadata_requests_are_kept(path):
    with config_context(enable_metadata_routing=True):
        scaler = StandardScaler().set_fit_request(sample_weight=True)
        loaded = saved_and_loaded(scaler, path)
        assert repr(loaded.get_metadata_routing()) == repr(
            scaler.get_metadata_routing()
        )


def test_a_cache_of_pickles_is_not_kept(path, tmp_path):
    pipeline = make_pipeline(StandardScaler(), KNN(3), memory=str(tmp_path / "cache"))
    assert saved_and_loaded(pipeline, path).memory is None


def test_another_scikit_learn_warns(path, monkeypatch):
    monkeypatch.setattr("sklearn.base.__version__", "1.0")
    skood.save(StandardScaler().fit(ROWS), path)
    monkeypatch.undo()
    with pytest.warns(InconsistentVersionWarning, match="StandardScaler"):
        skood.load(path)


def test_pyod_is_kept_where_its_state_is_plain(path):
    ecod = pytest.importorskip("pyod.models.ecod").ECOD()
    knn = pytest.importorskip("pyod.models.knn").KNN()
    detector = PyODDetector(ecod).fit(ROWS)
    skood.save(detector, path)
    with pytest.raises(LoadError, match=r"trusted=\['pyod.models.ecod.ECOD'\]"):
        skood.load(path)
    loaded = skood.load(path, trusted=["pyod.models.ecod.ECOD"])
    assert_array_equal(loaded.score_samples(ROWS), detector.score_samples(ROWS))
    other = saved_and_loaded(
        PyODDetector(knn).fit(ROWS),
        path.with_name("knn"),
        trusted=["pyod.models.knn.KNN"],
    )
    assert other.predict(ROWS).shape == (80,)


# Every kind of value -----------------------------------------------------------------

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=True),
    st.complex_numbers(),
    st.text(st.characters(), max_size=5),
    st.binary(max_size=5),
)
KEYS = st.one_of(
    st.integers(), st.text(max_size=3), st.tuples(st.text(max_size=2), st.booleans())
)
ARRAYS = npst.arrays(
    st.one_of(
        npst.scalar_dtypes().filter(lambda d: d.kind != "V"),
        npst.unicode_string_dtypes(max_len=4),
        npst.byte_string_dtypes(max_len=4),
    ),
    npst.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4),
)
VALUES = st.recursive(
    SCALARS | ARRAYS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.tuples(inner, inner),
        st.dictionaries(KEYS, inner, max_size=3),
        st.dictionaries(st.text(max_size=3), inner, max_size=3),
        st.frozensets(KEYS, max_size=3),
        st.sets(KEYS, max_size=3),
    ),
    max_leaves=8,
)


def assert_same(found, value):
    assert type(found) is type(value)
    if isinstance(value, np.ndarray):
        assert found.dtype == value.dtype
        assert found.shape == value.shape
        assert found.tobytes() == value.tobytes()
    elif isinstance(value, (list, tuple)):
        assert len(found) == len(value)
        for one, other in zip(found, value, strict=True):
            assert_same(one, other)
    elif isinstance(value, dict):
        assert_same(list(found), list(value))
        assert_same(list(found.values()), list(value.values()))
    elif isinstance(value, float):
        assert math.isnan(found) == math.isnan(value)
        assert math.isnan(value) or (found.hex() == value.hex())
    elif isinstance(value, complex):
        assert_same([found.real, found.imag], [value.real, value.imag])
    else:
        assert found == value


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(VALUES)
def test_plain_values(tmp_path, value):
    assert_same(value_back(value, tmp_path), value)


@pytest.mark.parametrize(
    "value",
    [
        slice(1, None, 2),
        range(3, 9, 2),
        Path("some") / "where",
        np.float32(1.5),
        np.int8(-3),
        np.str_(""),
        np.str_("name"),
        np.datetime64("2024-02-29", "D"),
        np.timedelta64("NaT", "s"),
        np.dtype("float32"),
        np.dtype("U5"),
        np.float32,
        float,
        torch.device("cpu"),
        torch.bfloat16,
        np.array(["a", None, 2.5, ("b", 1), [3, 4]], dtype=object),
        np.array([[1, 2], [3, 4]], dtype=object)[:, :1],
        Jigsaw(),
        {("layer1", "avg"): 1, None: 2, 3.5: 4},
        {
            "{}": {"{0}": {}},
            "name": "os.system",
            "object": {"class": "x"},
            "array": [1],
        },
        [[[]], (), {}, set()],
        2**200,
        -(10**300),
        OrderedDict([("b", 1), (2, [3])]),
        Bunch(name=[1], dict=2),
        np.longdouble(1.5),
        np.dtype("m8[25s]"),
        -0.0,
    ],
    ids=repr,
)
def test_other_values(value, tmp_path):
    found = value_back(value, tmp_path)
    assert type(found) is type(value)
    assert repr(found) == repr(value)


def test_a_number_of_many_digits(path):
    number = 7**6000
    skood.save(KNN(number), path)
    assert skood.load(path).n_neighbors == number


def test_every_type_that_is_saved_is_loaded(tmp_path):
    types = {**vars(builtins), **vars(np)}.values()
    types = {kind for kind in types if isinstance(kind, type)}
    skood.save(Holder(types), tmp_path / "types")
    found = skood.load(tmp_path / "types", trusted=[Holder, *types]).value
    assert found == types
    assert skood.load(tmp_path / "types", trusted=named(tmp_path / "types")) is not None
    transformer = saved_and_loaded(
        FunctionTransformer(list), tmp_path / "list", trusted=[list]
    )
    assert transformer.transform((1, 2)) == [1, 2]


def named(path):
    """What a folder asks to be trusted."""
    with pytest.raises(LoadError) as error:
        skood.load(path)
    return ast.literal_eval(str(error.value).rpartition("trusted=")[2].rstrip("."))


def test_arrays_keep_their_order_in_memory(tmp_path):
    arrays = {
        "rows": np.arange(6.0).reshape(2, 3),
        "columns": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "steps": np.arange(12.0).reshape(3, 4)[::2, ::-1],
        "stretched": np.broadcast_to(np.arange(3), (2, 3)),
        "big": np.arange(3, dtype=">i4"),
        "masked": np.ma.array([1.0, 2.0], mask=[True, False], fill_value=7),
    }
    found = value_back(arrays, tmp_path)
    for name, array in arrays.items():
        assert_array_equal(found[name], array)
        assert found[name].dtype == array.dtype
    assert found["columns"].flags.f_contiguous
    assert found["rows"].flags.c_contiguous
    assert_array_equal(found["masked"].mask, [True, False])
    assert found["masked"].fill_value == 7


@pytest.mark.parametrize(
    "kind", ["RandomState", "MT19937", "PCG64", "PCG64DXSM", "Philox", "SFC64"]
)
def test_generators_go_on_where_they_were(kind, tmp_path):
    if kind == "RandomState":
        generator = np.random.RandomState(3)
        generator.normal()
    else:
        generator = np.random.Generator(getattr(np.random, kind)(3))
        generator.integers(0, 9, 3, dtype=np.int16)
    found = value_back(generator, tmp_path)
    assert_array_equal(found.normal(size=5), generator.normal(size=5))


def test_functions_and_classes_take_trust(path):
    transformer = FunctionTransformer(doubled)
    skood.save(transformer, path)
    with pytest.raises(LoadError, match=r"trusted=\['test_save_load.doubled'\]"):
        skood.load(path)
    for trusted in (["test_save_load.doubled"], ["test_save_load:doubled"], doubled):
        assert skood.load(path, trusted=trusted).func is doubled
    chosen = SelectKBest(f_classif, k=2).fit(ROWS, LABELS)
    name = f"{f_classif.__module__}.f_classif"
    with pytest.raises(LoadError, match=rf"no class.*trusted=\['{name}'\]"):
        saved_and_loaded(chosen, path.with_name("chosen"))
    loaded = skood.load(path.with_name("chosen"), trusted=[name])
    assert_array_equal(loaded.transform(ROWS), chosen.transform(ROWS))
    assert value_back(np.log1p, path.parent, ["numpy.log1p"]) is np.log1p
    assert value_back(Convolutional, path.parent, [Convolutional]) is Convolutional
    assert value_back(nn.CrossEntropyLoss, path.parent) is nn.CrossEntropyLoss


def test_objects_of_others_take_trust(path):
    skood.save(Holder(Slotted()), path)
    with pytest.raises(LoadError, match=r"test_save_load.Holder, test_save_load.Slot"):
        skood.load(path)
    found = skood.load(path, trusted=["test_save_load.Holder", Slotted]).value
    assert (found.first, found.second) == (1, 2)


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (torch.ones(2), "torch.Tensor"),
        (open(os.devnull), "TextIOWrapper"),  # noqa: SIM115
        (np.zeros(2, dtype=[("a", int)]), "numpy.ndarray"),
        (np.matrix([[1]]), "numpy.matrix"),
        (PureWindowsPath("a"), "PureWindowsPath"),
        (np.dtype((float, (2,))), "VoidDType"),
        (iter([1]), "list_iterator"),
        (np.random.default_rng(0).bit_generator, "PCG64"),
        (sys, "builtins.module"),
        (defaultdict(list), "defaultdict"),
        (pd.DataFrame({"a": [1]}), "BlockManager"),
        (pd.Series([1]), "SingleBlockManager"),
        (np.empty(2, "V4"), "numpy.ndarray"),
        (np.ndarray(2, "U0"), "numpy.ndarray"),
        (np.array(["a"], dtype=np.dtypes.StringDType()), "numpy.ndarray"),
        (NearestNeighbors(metric="canberra").fit(ROWS[:, :2]), "value._tree is a skl"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_not_saved_is_named_with_its_place(value, kind, path):
    with pytest.raises(TypeError, match=r"Holder\.value\['a'\]\[1\].*joblib.dump") as e:
        skood.save(Holder({"a": [0, value]}), path)
    assert kind.split("value")[-1] in str(e.value)
    assert not path.exists()


@pytest.mark.parametrize("value", [lambda x: x, doubled.__get__(3), Slotted().call])
def test_a_function_without_a_name_is_to_be_defined_in_a_module(value, path):
    with pytest.raises(TypeError, match=r"Holder\.value is.*define a function in"):
        skood.save(Holder(value), path)
    with pytest.raises(TypeError, match=r"value is a functools.partial.*in a module"):
        skood.save(Holder(partial(Callable(), 3)), path)


@pytest.mark.parametrize(
    "function",
    [
        np.clip,
        np.nan_to_num,
        np.log1p,
        torch.from_numpy,
        torch.as_tensor,
        torch.relu,
        nn.functional.relu,
        scipy.special.expit,
        math.sqrt,
        np.random.default_rng,
        Slotted.call,
    ],
    ids=lambda function: function.__name__,
)
def test_functions_are_found_again(function, path):
    skood.save(FunctionTransformer(function), path)
    names = named(path)
    assert skood.load(path, trusted=names).func is function
    assert skood.load(path, trusted=function).func is function


def test_partials_take_trust(path):
    skood.save(FunctionTransformer(partial(np.clip, a_min=0, a_max=[1])), path)
    assert named(path) == ["numpy.clip"]
    loaded = skood.load(path, trusted=[np.clip])
    assert_array_equal(loaded.transform(ROWS), np.clip(ROWS, 0, 1))
    found = value_back(partial(doubled, name=doubled), path.parent, [doubled])
    assert (found.func, found.args, found.keywords) == (doubled, (), {"name": doubled})
    with pytest.raises(LoadError, match=r"torch.*Linear', which is not trusted"):
        value_back(partial(nn.Linear, 2, 3), path.parent)
    found = value_back(partial(nn.Linear, 2, 3), path.parent, [nn.Linear])
    assert found().weight.shape == (3, 2)


def test_what_is_defined_in_main_is_warned_of(path, monkeypatch):
    monkeypatch.setattr(doubled, "__module__", "__main__")
    monkeypatch.setattr(sys.modules["__main__"], "doubled", doubled, raising=False)
    with pytest.warns(UserWarning, match=r"doubled is defined in __main__.*a module"):
        skood.save(FunctionTransformer(doubled), path)
    assert skood.load(path, trusted=[doubled]).func is doubled


def test_every_class_that_skops_trusts_is_restored():
    for name in skood.trusted_types():
        module, _, kind = name.rpartition(".")
        found = getattr(importlib.import_module(module), kind)
        assert is_restorable(found) or issubclass(found, nn.Module), name


def test_what_holds_itself_is_refused(path):
    loop: list = []
    loop.append(loop)
    deep: list = []
    for _ in range(DEPTH):
        deep = [deep]
    for value in (loop, deep):
        with pytest.raises(TypeError, match="lies within itself, or too deep"):
            skood.save(Holder(value), path)


@pytest.mark.parametrize(
    "value", [KNN, 3, synthetic_features()[0]], ids=["a", "b", "c"]
)
def test_only_estimators_are_saved(value, path):
    with pytest.raises(TypeError, match="wanted is an estimator"):
        skood.save(value, path)


# Networks ----------------------------------------------------------------------------


def pipeline_of(network, **how):
    features = LayerFeatureTransformer(
        network, ["relu1", "penultimate", "logits"], ["avg", "max"], **how
    )
    return Pipeline([("features", features), ("detector", KNN(3))])


@pytest.fixture(scope="module")
def fitted():
    network = convolutional()
    with torch.no_grad():
        network.bn1.running_mean += 0.5
    return pipeline_of(network).fit(IMAGES)


def test_a_pipeline_with_its_network(fitted, path):
    skood.save(fitted, path)
    expected = fitted.score_samples(IMAGES)
    own = fitted["features"].network
    assert skood.load(path, network=own)["features"].network is own
    fresh = Convolutional()
    before = copy.deepcopy(fresh.state_dict())
    for network in (fresh, Convolutional, lambda: fresh, [Convolutional()]):
        loaded = skood.load(path, network=network)
        assert_array_equal(loaded.score_samples(IMAGES), expected)
        if network is fresh:
            for name, value in before.items():
                assert torch.equal(fresh.state_dict()[name], value)
            assert loaded["features"].network is not fresh


def test_a_pipeline_without_its_network(fitted, path):
    skood.save(fitted, path, weights=False)
    assert not (path / "network.safetensors").exists()
    own = fitted["features"].network
    loaded = skood.load(path, network=own)
    assert_array_equal(loaded.score_samples(IMAGES), fitted.score_samples(IMAGES))
    with pytest.raises(LoadError, match="its weights, or its buffers"):
        skood.load(path, network=Convolutional())
    bare = skood.load(path)
    assert bare["features"].network is None
    with pytest.raises(ValueError, match="network is None"):
        bare.predict(IMAGES)
    bare.set_params(features__network=Convolutional())
    with pytest.raises(ValueError, match="not those seen in fit"):
        bare.predict(IMAGES)
    bare.set_params(features__network=own)
    assert_array_equal(bare.score_samples(IMAGES), fitted.score_samples(IMAGES))
    # What was loaded without one is saved, and given one, again.
    other = path.with_name("again")
    with pytest.raises(ValueError, match=r"network is None, so that its weights"):
        skood.save(skood.load(path), other)
    assert not other.exists()
    skood.save(skood.load(path), other, weights=False)
    again = skood.load(other, network=own)
    assert_array_equal(again.score_samples(IMAGES), fitted.score_samples(IMAGES))


def test_store_network_leaves_the_weights_out(path):
    pipeline = pipeline_of(convolutional(), store_network=False).fit(IMAGES)
    loaded = saved_and_loaded(pipeline, path, network=convolutional)
    assert not (path / "network.safetensors").exists()
    assert_array_equal(loaded.predict(IMAGES), pipeline.predict(IMAGES))


def test_a_factory_is_trusted_or_replaced(path):
    pipeline = pipeline_of(convolutional).fit(IMAGES)
    expected = pipeline.score_samples(IMAGES)
    skood.save(pipeline, path)
    with pytest.raises(LoadError, match=r"trusted=\['networks.convolutional'\]"):
        skood.load(path)
    loaded = skood.load(path, trusted=["networks.convolutional"])
    assert loaded["features"].network is convolutional
    assert_array_equal(loaded.score_samples(IMAGES), expected)
    loaded = skood.load(path, network=convolutional())
    assert_array_equal(loaded.score_samples(IMAGES), expected)
    with pytest.raises(TypeError, match="found again by its name"):
        skood.save(pipeline_of(lambda: convolutional()), path.with_name("other"))


def test_the_differences_of_networks_are_listed(fitted, path):
    skood.save(fitted, path)
    cases = [
        (
            Convolutional(4),
            r"fc.weight is float32 \(4, 8\), saved was float32 \(5, 8\)",
        ),
        (Convolutional().double(), r"conv1.weight is float64.*; \d+ more"),
        (nn.Linear(2, 2), r"conv1.weight is missing;.*\d+ more"),
    ]
    for network, message in cases:
        with pytest.raises(LoadError, match=message):
            skood.load(path, network=network)
    with pytest.raises(LoadError, match="has 2 networks, but the folder has 1"):
        skood.load(path, network=[Convolutional(), Convolutional()])
    with pytest.raises(ValueError, match="no shape yet"):
        skood.load(path, network=nn.LazyLinear(2))
    with pytest.raises(TypeError, match="network is a int"):
        skood.load(path, network=3)


class Odd(nn.Module):
    """Tied weights, a buffer that no state_dict has, views, and an empty tensor."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(6, 4)
        self.head = nn.Linear(4, 6)
        self.head.weight = self.embed.weight
        self.register_buffer("scale", torch.ones(4), persistent=False)
        self.register_buffer("none", torch.empty(0, 3))
        self.register_buffer("count", torch.tensor(7))
        whole = torch.arange(8.0)
        self.register_buffer("odd", whole[1::2])
        self.register_buffer("even", whole[::2])

    def forward(self, x):
        return self.head(self.embed(x) * self.scale)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_tied_and_odd_tensors(dtype, path):
    torch.manual_seed(1)
    network = Odd().to(dtype)
    network.scale.mul_(3)
    X = torch.arange(6)
    features = LayerFeatureTransformer(network, ["embed", "logits"]).fit(X)
    loaded = saved_and_loaded(features, path, network=Odd().to(dtype))
    assert_array_equal(
        np.asarray(loaded.transform(X)), np.asarray(features.transform(X))
    )
    assert loaded.network.head.weight is loaded.network.embed.weight
    assert torch.equal(loaded.network.scale, network.scale)
    with safetensors.safe_open(path / "network.safetensors", "pt") as file:
        names = set(file.keys())
        assert torch.equal(file.get_tensor("0/weights/odd"), network.odd)
    assert "0/weights/head.weight" not in names  # it is embed.weight
    # The caller's own has the weights, but another buffer: it is copied.
    own = copy.deepcopy(network)
    own.scale.mul_(2)
    again = skood.load(path, network=own)
    assert again.network is not own
    assert torch.equal(again.network.scale, network.scale)


def test_buffers_that_no_state_dict_has_are_compared(path):
    network, X = Odd(), torch.arange(6)
    features = LayerFeatureTransformer(network, "embed").fit(X)
    skood.save(features, path, weights=False)
    same, other = copy.deepcopy(network), copy.deepcopy(network)
    other.scale.mul_(2)
    assert other.state_dict().keys() == network.state_dict().keys()
    assert skood.load(path, network=same).network is same
    with pytest.raises(LoadError, match="buffers that no state_dict has"):
        skood.load(path, network=other)


def test_what_is_written_past_torch_is_seen(path):
    network = convolutional()
    pipeline = pipeline_of(network).fit(IMAGES)
    skood.save(pipeline, path, weights=False)
    network.conv1.weight.data.mul_(2)  # torch counts no change
    with pytest.raises(LoadError, match=r"its weights.*are not those"):
        skood.load(path, network=network)
    with pytest.raises(ValueError, match=r"network: .*not those seen in fit.*again"):
        skood.save(pipeline, path.with_name("changed"))
    pipeline.fit(IMAGES)
    loaded = saved_and_loaded(
        pipeline, path.with_name("again"), network=Convolutional()
    )
    assert_array_equal(loaded.score_samples(IMAGES), pipeline.score_samples(IMAGES))


def test_a_network_that_changed_after_fit_is_not_saved(path):
    network = convolutional()
    pipeline = pipeline_of(network, store_network=False).fit(IMAGES)
    nn.init.zeros_(network.fc.weight)
    for weights in (True, False):
        with pytest.raises(ValueError, match=r"not those seen in fit.*fit again"):
            skood.save(pipeline, path, weights=weights)
    assert not path.exists()
    skood.save(clone(pipeline), path)  # not fitted to any


def test_a_folder_is_not_overwritten_without_its_weights(fitted, path):
    skood.save(fitted, path)
    bare = skood.load(path)
    with pytest.raises(ValueError, match=r"is None.*store_network=False"):
        skood.save(bare, path, overwrite=True)
    assert (path / "network.safetensors").exists()
    with pytest.raises(ValueError, match=r"skood\.load\(path, network"):
        bare.predict(IMAGES)
    skood.save(bare.set_params(features__store_network=False), path, overwrite=True)
    loaded = skood.load(path, network=fitted["features"].network)
    assert_array_equal(loaded.score_samples(IMAGES), fitted.score_samples(IMAGES))


def test_a_factory_in_a_search_is_one_network(path):
    y = np.where(np.arange(24) % 4 == 0, -1, 1)
    search = GridSearchCV(
        pipeline_of(convolutional),
        {"detector__n_neighbors": [1, 2]},
        scoring=auroc_scorer,
        cv=InlierKFold(2),
    ).fit(IMAGES, y)
    skood.save(search, path)
    for network in (convolutional, convolutional()):
        loaded = skood.load(path, network=network)
        inner = loaded.estimator["features"].network
        assert loaded.best_estimator_["features"].network is inner
        assert_array_equal(loaded.score_samples(IMAGES), search.score_samples(IMAGES))
    trusted = skood.load(path, trusted=[convolutional])
    assert trusted.estimator["features"].network is convolutional
    # What is loaded without a network is a search around one that is missing.
    search = loaded.set_params(estimator__features__store_network=False)
    search.best_estimator_["features"].store_network = False
    skood.save(search, path, overwrite=True)
    other = path.with_name("other")
    skood.save(skood.load(path), other)
    again = skood.load(other, network=convolutional)
    assert_array_equal(again.predict(IMAGES), search.predict(IMAGES))


def test_one_network_of_two_steps_stays_one(path):
    network = convolutional()
    union = FeatureUnion(
        [
            (
                name,
                make_pipeline(LayerFeatureTransformer(network, name), LayerSelector()),
            )
            for name in ("relu1", "conv2")
        ]
    ).fit(IMAGES)
    loaded = saved_and_loaded(union, path, network=Convolutional())
    parts = [step[0].network for _, step in loaded.transformer_list]
    assert parts[0] is parts[1]
    assert_array_equal(loaded.transform(IMAGES), union.transform(IMAGES))


def test_two_networks_are_given_in_order(path):
    steps = [("one", convolutional()), ("two", Convolutional(3))]
    union = FeatureUnion(
        [
            (n, make_pipeline(LayerFeatureTransformer(net, "logits"), LayerSelector()))
            for n, net in steps
        ]
    ).fit(IMAGES)
    skood.save(union, path)
    loaded = skood.load(path, network=[Convolutional(), Convolutional(3)])
    assert_array_equal(loaded.transform(IMAGES), union.transform(IMAGES))
    with pytest.raises(LoadError, match=r"network has 1 .*\[0\].*\[1\].*in this order"):
        skood.load(path, network=Convolutional())


def test_caches_and_views(tmp_path):
    for number, cache in enumerate([tmp_path / "cache", str(tmp_path / "other")]):
        pipeline = pipeline_of(convolutional(), cache=cache, views={"jigsaw": Jigsaw()})
        pipeline.fit(IMAGES)
        path = tmp_path / str(number)
        loaded = saved_and_loaded(pipeline, path, network=Convolutional())
        assert loaded["features"].cache == cache
        assert_array_equal(loaded.score_samples(IMAGES), pipeline.score_samples(IMAGES))


def test_a_store_is_opened_only_where_it_is_trusted(tmp_path):
    store = FeatureStore(tmp_path / "cache", max_bytes=10**6)
    pipeline = pipeline_of(convolutional(), cache=store).fit(IMAGES)
    path = tmp_path / "saved"
    skood.save(pipeline, path)
    with pytest.raises(LoadError, match="FeatureStore"):
        skood.load(path, network=Convolutional())
    loaded = skood.load(path, network=Convolutional(), trusted=[FeatureStore])
    assert loaded["features"].cache.max_bytes == 10**6
    assert_array_equal(loaded.predict(IMAGES), pipeline.predict(IMAGES))


def test_preprocessing_takes_trust(path):
    pipeline = pipeline_of(convolutional(), preprocess=doubled).fit(IMAGES)
    skood.save(pipeline, path)
    with pytest.raises(LoadError, match=r"test_save_load.doubled"):
        skood.load(path, network=Convolutional())
    loaded = skood.load(path, network=Convolutional(), trusted=[doubled])
    assert_array_equal(loaded.score_samples(IMAGES), pipeline.score_samples(IMAGES))


def test_networks_with_more_than_tensors_are_refused(path):
    class Extra(nn.Linear):
        def get_extra_state(self):
            return {"a": 1}

    features = LayerFeatureTransformer(Extra(2, 2), "logits")
    with pytest.raises(TypeError, match=r"network: '_extra_state' is a dict"):
        skood.save(features, path)
    meta = LayerFeatureTransformer(nn.Linear(2, 2, device="meta"), "logits")
    with pytest.raises(ValueError, match="'weight' is on the device 'meta'"):
        skood.save(meta, path)


def test_a_trained_net_of_a_module(path):
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
    net = AnchoredClassifier(module, max_epochs=1, random_state=0).fit(
        ROWS.astype("float32"), LABELS
    )
    skood.save(net, path)
    with pytest.raises(LoadError, match=r"is a network, a torch.*Sequential.*network="):
        skood.load(path)
    loaded = skood.load(path, network=copy.deepcopy(module))
    X = ROWS.astype("float32")
    assert_array_equal(loaded.predict_proba(X), net.predict_proba(X))


@pytest.mark.filterwarnings("ignore:.*weight_norm:FutureWarning")
def test_a_network_that_cannot_be_copied_is_made_anew(path):
    def make():
        return nn.utils.weight_norm(nn.Linear(6, 3))

    X = torch.from_numpy(ROWS.astype("float32"))
    features = LayerFeatureTransformer(make(), "logits").fit(X)
    skood.save(features, path)
    with pytest.raises(LoadError, match=r"cannot be copied.*a function that makes it"):
        skood.load(path, network=make())
    found = np.asarray(skood.load(path, network=make).transform(X))
    assert_array_equal(found, np.asarray(features.transform(X)))


def test_attributes_may_be_named_as_kinds_are(path):
    slotted = Slotted()
    vars(slotted).clear()
    slotted.name = "os.system"
    kept = {"slot": slotted, "args": partial(doubled, name="x")}
    found = value_back(kept, path.parent, [Slotted, doubled])
    assert found["slot"].name == "os.system"
    assert found["args"].keywords == {"name": "x"}


def test_what_is_loaded_can_be_pickled_and_cloned(fitted, path):
    loaded = saved_and_loaded(fitted, path, network=Convolutional)
    expected = fitted.score_samples(IMAGES)
    again = pickle.loads(pickle.dumps(loaded))
    assert_array_equal(again.score_samples(IMAGES), expected)
    refitted = clone(loaded).fit(IMAGES)
    assert_array_equal(refitted.score_samples(IMAGES), expected)


def test_dictionaries_as_inputs(path):
    ids = torch.randint(0, 20, (12, 5), generator=torch.Generator().manual_seed(0))
    features = LayerFeatureTransformer(Tokens(), ["attend", "logits"], preprocess=batch)
    features.fit(ids)
    loaded = saved_and_loaded(features, path, network=Tokens, trusted=[batch])
    found = np.asarray(loaded.transform(ids))
    assert_array_equal(found, np.asarray(features.transform(ids)))


def batch(ids):
    """Return tokens as a network takes them."""
    return {"input_ids": ids, "attention_mask": torch.ones(ids.shape)}


# The files ---------------------------------------------------------------------------


def test_the_arrays_are_plain_safetensors(path):
    arrays = {str(d): RNG.integers(0, 2, (3, 2)).astype(d) for d in "?bBhHiIlLefd"}
    skood.save(Holder(arrays), path)
    found = safetensors.numpy.load_file(path / "arrays.safetensors")
    assert len(found) == len(arrays)
    for own, array in zip(found, sorted(found), strict=True):
        assert own in found
        assert found[array].shape == (3, 2)
    assert {a.dtype for a in found.values()} == {a.dtype for a in arrays.values()}


def test_scores_are_the_same_in_another_process_without_torch(path):
    detector = KNN(3).fit(ROWS)
    skood.save(detector, path)
    np.save(path.with_name("rows.npy"), ROWS)
    code = (
        "import sys, numpy as np, skood\n"
        f"X = np.load({str(path.with_name('rows.npy'))!r})\n"
        f"scores = skood.load({str(path)!r}).score_samples(X)\n"
        "assert 'torch' not in sys.modules\n"
        f"np.save({str(path.with_name('scores.npy'))!r}, scores)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
    found = np.load(path.with_name("scores.npy"))
    assert_array_equal(found, detector.score_samples(ROWS))
