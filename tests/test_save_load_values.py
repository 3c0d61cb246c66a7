"""Every kind of value through a folder: what comes back, what is refused."""

from __future__ import annotations

import ast
import builtins
import math
import os
import sys
from collections import OrderedDict, defaultdict
from functools import partial
from pathlib import Path, PureWindowsPath

import numpy as np
import pandas as pd
import pytest
import scipy.special
import scipy.stats
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from networks import Convolutional
from numpy.testing import assert_array_equal
from saving import (
    LABELS,
    ROWS,
    Attributed,
    Callable,
    Holder,
    Slotted,
    doubled,
    saved_and_loaded,
    value_back,
)
from sklearn.feature_selection import SelectKBest, f_classif
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils import Bunch
from torch import nn

import skood
from skood import (
    KNN,
    Jigsaw,
)
from skood.estimator_checks import synthetic_features
from skood.persistence import LoadError
from skood.persistence.writer import DEPTH


@pytest.fixture
def path(tmp_path):
    return tmp_path / "saved"


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
        np.ones(2, dtype=[("a", "i4"), ("b", "f8", (2,))]),
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
    with pytest.raises(LoadError, match=r"trusted=\['saving.doubled'\]"):
        skood.load(path)
    for trusted in (["saving.doubled"], ["saving:doubled"], doubled):
        assert skood.load(path, trusted=trusted).func is doubled
    chosen = SelectKBest(f_classif, k=2).fit(ROWS, LABELS)
    name = f"{f_classif.__module__}.f_classif"
    with pytest.raises(LoadError, match=rf"trusted=\['{name}'\]"):
        saved_and_loaded(chosen, path.with_name("chosen"))
    loaded = skood.load(path.with_name("chosen"), trusted=[name])
    assert_array_equal(loaded.transform(ROWS), chosen.transform(ROWS))
    assert value_back(np.log1p, path.parent) is np.log1p  # as all of its kind
    assert value_back(Convolutional, path.parent, [Convolutional]) is Convolutional
    found = value_back(nn.CrossEntropyLoss, path.parent, [nn.CrossEntropyLoss])
    assert found is nn.CrossEntropyLoss


def test_objects_of_others_take_trust(path):
    skood.save(Holder(Attributed()), path)
    with pytest.raises(LoadError, match=r"saving.Attributed, saving.Holder"):
        skood.load(path)
    found = skood.load(path, trusted=["saving.Holder", Attributed]).value
    assert (found.first, found.second) == (1, 2)


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (torch.ones(2), "torch.Tensor"),
        (open(os.devnull), "TextIOWrapper"),  # noqa: SIM115
        (np.zeros(2, dtype=[("a", object)]), "numpy.ndarray"),
        (np.matrix([[1]]), "numpy.matrix"),
        (Slotted(), "saving.Slotted"),
        (np.dtype((float, (2,))), "VoidDType"),
        (iter([1]), "list_iterator"),
        (np.random.default_rng(0).bit_generator, "PCG64"),
        (sys, "builtins.module"),
        (pd.DataFrame({"a": [1]}), "pandas.core"),
        (pd.Series([1]), "RangeIndex"),
        (np.empty(2, "V4"), "numpy.ndarray"),
        (np.ndarray(2, "U0"), "numpy.ndarray"),
        (np.array(["a"], dtype=np.dtypes.StringDType()), "numpy.ndarray"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_not_saved_is_named_with_its_place(value, kind, path):
    with pytest.raises(TypeError, match=r"Holder\.value\['a'\]\[1\].*joblib.dump") as e:
        skood.save(Holder({"a": [0, value]}), path)
    assert kind.split("value")[-1] in str(e.value)
    assert not path.exists()


@pytest.mark.parametrize("value", [lambda x: x, doubled.__get__(3), Attributed().call])
def test_a_function_without_a_name_is_to_be_defined_in_a_module(value, path):
    with pytest.raises(TypeError, match=r"Holder\.value is.*define a function in"):
        skood.save(Holder(value), path)


def test_objects_that_are_called_are_saved(path):
    found = value_back(partial(Callable(), 3), path.parent, [Callable])
    assert (type(found.func), found()) == (Callable, 3)
    assert value_back(PureWindowsPath("a"), path.parent, [PureWindowsPath]).name == "a"
    assert value_back(defaultdict(list, a=[1]), path.parent)["b"] == []
    assert value_back(defaultdict(list, {1: 2}), path.parent) == {1: 2}


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
    ],
    ids=lambda function: function.__name__,
)
def test_functions_are_found_again(function, path):
    skood.save(FunctionTransformer(function), path)
    names = [] if isinstance(function, np.ufunc) else named(path)
    assert skood.load(path, trusted=names).func is function
    assert skood.load(path, trusted=function).func is function


def test_partials_take_trust(path):
    skood.save(FunctionTransformer(partial(np.clip, a_min=0, a_max=[1])), path)
    assert named(path) == ["numpy.clip"]
    loaded = skood.load(path, trusted=[np.clip])
    assert_array_equal(loaded.transform(ROWS), np.clip(ROWS, 0, 1))
    found = value_back(partial(doubled, name=doubled), path.parent, [doubled])
    assert (found.func, found.args, found.keywords) == (doubled, (), {"name": doubled})
    with pytest.raises(LoadError, match=r"trusted=\['torch.*Linear'\]"):
        value_back(partial(nn.Linear, 2, 3), path.parent)
    found = value_back(partial(nn.Linear, 2, 3), path.parent, [nn.Linear])
    assert found().weight.shape == (3, 2)


def test_what_is_defined_in_main_is_warned_of(path, monkeypatch):
    monkeypatch.setattr(doubled, "__module__", "__main__")
    monkeypatch.setattr(sys.modules["__main__"], "doubled", doubled, raising=False)
    with pytest.warns(UserWarning, match=r"doubled is defined in __main__.*a module"):
        skood.save(FunctionTransformer(doubled), path)
    assert skood.load(path, trusted=[doubled]).func is doubled


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
