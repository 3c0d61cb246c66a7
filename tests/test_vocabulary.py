"""One word means one thing, in all that is public."""

from __future__ import annotations

import ast
import inspect
import re
import warnings
from functools import cache

import numpy as np
import pytest

import skood
from skood.detectors.registry import REGISTRY
from skood.estimator_checks import synthetic_features

MODULES = ("calibration", "datasets", "metrics", "model_selection", "plotting")
FALSE_ALARMS = ("contamination", "max_false_alarm", "alpha")
OF_STREAMS = ("ShiftMonitor", "AlarmRateMonitor")
FORMULAS = {"DML", "NAC", "NCI"}
"""Their ``alpha`` is a factor of their paper's formula."""
PYODS_MEANING = {"to_pyod"}
NOT_BY_BLOCK = {
    "n_iter_": "scikit-learn compares it with numbers",
    "converged_": "beside n_iter_",
    "lower_bound_": "beside n_iter_",
    "transition_matrix_": "between two layers",
    "configuration_": "a table of choices, a layer each",
    "class_labels_": "of classes",
    "norm_ratios_": "of layers, by name: the statistic is always l2",
}
ONE_VECTOR = {"LayerEnergy"}
"""Its row is the vector of the layers' energies, and that of an array any vector."""


@cache
def public_objects():
    """Return everything that a user may import, by name."""
    found = {name: getattr(skood, name) for name in skood.__all__}
    for room in MODULES:
        module = __import__(f"skood.{room}", fromlist=["__all__"])
        found |= {f"{room}.{name}": getattr(module, name) for name in module.__all__}
    return {name: value for name, value in found.items() if callable(value)}


@cache
def documents():
    """Return the docstrings of all public objects and their methods, by name."""
    found = {}
    for name, value in public_objects().items():
        found[name] = inspect.getdoc(value) or ""
        if inspect.isclass(value):
            for method, function in inspect.getmembers(value, callable):
                ours = getattr(function, "__module__", None) or ""
                if not method.startswith("_") and ours.startswith("skood"):
                    found[f"{name}.{method}"] = inspect.getdoc(function) or ""
    return found


def parameters(name):
    """Return the public callables that have a parameter, with its default."""
    for owner, value in public_objects().items():
        try:
            found = inspect.signature(value).parameters
        except (TypeError, ValueError):
            continue
        if name in found:
            yield owner, found[name].default


def described(document, parameter):
    """Return what a docstring says of a parameter, its type first."""
    found = re.search(
        rf"^{parameter} : (.*(?:\n(?:    .*)?)*?)\n(?=\S)", document, re.M
    )
    return " ".join(found[1].split()) if found else ""


def test_everything_that_draws_draws_the_same_unless_told():
    found = dict(parameters("random_state"))
    assert len(found) > 20
    assert {name: default for name, default in found.items() if default != 0} == {}
    for name in found:
        kind = described(documents()[name], "random_state")
        assert kind.partition(" Seed")[0].partition(" Draws")[0].endswith("default=0")


def test_two_fits_of_what_draws_are_one():
    features, y = synthetic_features()
    scores = [
        skood.LSGM(3, layers="layer1").fit(features, y).score_samples(features)
        for _ in range(2)
    ]
    np.testing.assert_array_equal(*scores)


def test_the_ridge_has_one_name():
    assert [*parameters("ridge")] == []
    assert {owner for owner, _ in parameters("reg_covar")} >= {"LSGM", "Mahalanobis"}


@pytest.mark.parametrize("word", FALSE_ALARMS)
def test_a_rate_of_false_alarms_says_so_and_where_to_read_on(word):
    owners = {name for name, _ in parameters(word)} - FORMULAS - PYODS_MEANING
    assert owners
    for name in owners:
        text = described(documents()[name], word)
        assert "Share of new in-distribution rows that are flagged" in text, name
        assert f"See :term:`{word}`" in text, name


def test_the_level_of_a_monitor_is_no_rate_of_rows():
    for name in OF_STREAMS:
        text = described(documents()[name], "level")
        assert "of streams, not of rows. See :term:`level`" in text


def test_shapes_are_in_words():
    for name, document in documents().items():
        for shape in re.findall(r"shape\s+\\?\s*\(([^)]*)\)", document):
            symbols = {part.strip() for part in shape.split(",")}
            assert not symbols & {"n", "m", "d", "C", "L", "K"}, (name, shape)


@cache
def fitted_detectors():
    """Return each detector that takes them, fitted on the features of three layers."""
    features, y = synthetic_features()
    found = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of few rows, of too many components
        for name, entry in REGISTRY.items():
            if entry.on_features and entry.family in ("layers", "logits", "head"):
                detector = entry.detector(**entry.on_features[0])
                found.append((name, detector.fit(features, y), features))
    return found


def public_state(detector):
    names = {*vars(detector), *dir(type(detector))}
    return {
        name: getattr(detector, name)
        for name in names
        if name.endswith("_") and not name.startswith("_") and hasattr(detector, name)
    }


def documented(kind):
    """Return the attributes that a class or its bases document."""
    found = set()
    for base in kind.__mro__:
        names = re.findall(
            r"^([\w, ]+_) : ", inspect.cleandoc(base.__doc__ or ""), re.M
        )
        found |= {name for line in names for name in re.split(r", ", line)}
    return found


def test_what_is_learned_is_documented():
    for name, detector, _ in fitted_detectors():
        inherited = {"n_features_in_", "feature_names_in_"}  # scikit-learn's
        unknown = {*public_state(detector)} - documented(type(detector)) - inherited
        assert unknown == set(), name


def test_what_is_learned_per_layer_is_by_layer_and_statistic():
    seen = 0
    for name, detector, features in fitted_detectors():
        for attribute, value in public_state(detector).items():
            if attribute in NOT_BY_BLOCK or name in ONE_VECTOR:
                continue
            if isinstance(value, dict):
                seen += 1
                assert {*value} <= {*features.block_names}, (name, attribute)
            elif REGISTRY[name].family == "layers" and np.ndim(value):
                assert len(value) != len(detector._widths), (name, attribute)
    assert seen > 9


LITERAL = re.compile(
    r'default=("[^"]*"|True|False|None|-?[\d_]+(?:\.\d+)?(?:e-?\d+)?)(?![\w(])'
)


def test_defaults_are_those_that_are_described():
    compared = 0
    for owner, value in public_objects().items():
        try:
            signature = inspect.signature(value).parameters
        except (TypeError, ValueError):
            continue
        for name, parameter in signature.items():
            said = LITERAL.search(described(inspect.getdoc(value) or "", name))
            if said and parameter.default is not parameter.empty:
                compared += 1
                assert ast.literal_eval(said[1]) == parameter.default, (owner, name)
    assert compared > 300
