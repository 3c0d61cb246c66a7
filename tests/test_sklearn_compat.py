"""What is private in scikit-learn is imported in one place, and works as we use it."""

from __future__ import annotations

import ast
from numbers import Real
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.base import BaseEstimator
from sklearn.utils import validation
from torch import nn

import skood
from skood import (
    AnchoredClassifier,
    LayerFeatureTransformer,
    LayerSelector,
    Mahalanobis,
)
from skood import _sklearn_compat as compat
from skood.neural.mlp import MLP

PACKAGE = Path(skood.__file__).parent
SOURCES = sorted(PACKAGE.rglob("*.py"))
NAMES = ["a", "b", "c"]
VALUES = np.random.default_rng(0).normal(size=(40, 3))


def imported(path):
    """Yield (module, name) of every import of a name."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            for name in node.names:
                yield node.module, name.name


def is_private(module, name):
    parts = [*module.split("."), name]
    return parts[0] == "sklearn" and any(
        part.startswith("_") and not part.startswith("__") for part in parts
    )


@pytest.mark.parametrize(
    "path", SOURCES, ids=[str(p.relative_to(PACKAGE)) for p in SOURCES]
)
def test_only_one_module_imports_what_is_private(path):
    if path.name != "_sklearn_compat.py":
        private = [names for names in imported(path) if is_private(*names)]
        assert private == [], "import it from skood._sklearn_compat"


def test_every_name_is_there_and_used():
    used = {
        name
        for path in SOURCES
        for module, name in imported(path)
        if module == "skood._sklearn_compat"
    }
    assert used == set(compat.__all__)
    assert all(callable(getattr(compat, name)) for name in compat.__all__)


def test_constraints_are_compared_with_values():
    constraints = {
        "number": [compat.Interval(Real, 0, 1, closed="left")],
        "word": [compat.StrOptions({"one", "two"})],
        "model": [compat.HasMethods("fit")],
    }
    good = {"number": 0.0, "word": "one", "model": Mahalanobis()}
    compat.validate_parameter_constraints(constraints, good, caller_name="It")
    for name, value in {"number": 1.0, "word": "six", "model": 3}.items():
        with pytest.raises(ValueError, match=f"The '{name}' parameter of It must be"):
            compat.validate_parameter_constraints(
                constraints, good | {name: value}, caller_name="It"
            )


def test_fit_context_validates_before_it_fits():
    class Model(BaseEstimator):
        _parameter_constraints = {"word": [compat.StrOptions({"one"})]}  # noqa: RUF012

        def __init__(self, word="one"):
            self.word = word

        @compat.fit_context(prefer_skip_nested_validation=True)
        def fit(self, X):
            self.fitted_ = True
            return self

    assert Model().fit(VALUES).fitted_
    model = Model("two")
    with pytest.raises(ValueError, match="The 'word' parameter of Model"):
        model.fit(VALUES)
    assert not hasattr(model, "fitted_")


@pytest.mark.parametrize("rows", [[0, 3], np.arange(40) == 5])
def test_rows_are_chosen(rows):
    np.testing.assert_array_equal(compat.safe_indexing(VALUES, rows), VALUES[rows])
    chosen = compat.safe_indexing(pd.DataFrame(VALUES), rows)
    np.testing.assert_array_equal(chosen, VALUES[rows])
    assert compat.num_samples(VALUES.tolist()) == 40
    assert compat.openmp_threads() >= 1


# Reordered columns ---------------------------------------------------------------


def old_feature_names(X):
    """Know frames as scikit-learn 1.7 and 1.8 do."""
    if hasattr(X, "iloc"):
        return np.asarray(X.columns, dtype=object)
    if hasattr(X, "__dataframe__"):
        return np.asarray(list(X.__dataframe__().column_names()), dtype=object)
    return None


class WithoutProtocol(pl.DataFrame):
    """A frame of polars as it is since 2.0, under an older polars too."""

    def __getattribute__(self, name):
        if name == "__dataframe__":
            raise AttributeError(name)
        return super().__getattribute__(name)


def classifier():
    return AnchoredClassifier(
        MLP,
        module__n_features=3,
        module__n_classes=2,
        max_epochs=1,
        train_split=None,
        verbose=0,
        device="cpu",
    )


ESTIMATORS = {
    "detector": Mahalanobis,
    "selector": LayerSelector,
    "classifier": classifier,
    "extractor": lambda: LayerFeatureTransformer(
        nn.Sequential(nn.Linear(3, 2)), ["0"], device="cpu"
    ),
}


@pytest.mark.parametrize("known", [validation._get_feature_names, old_feature_names])
@pytest.mark.parametrize("name", ESTIMATORS)
def test_reordered_columns_are_refused_by_every_scikit_learn(name, known, monkeypatch):
    monkeypatch.setattr(validation, "_get_feature_names", known)
    estimator = ESTIMATORS[name]()
    frame = WithoutProtocol(VALUES.astype(np.float32), schema=NAMES)
    assert not hasattr(frame, "__dataframe__")
    estimator.fit(frame, np.arange(40) % 2)
    assert estimator.feature_names_in_.tolist() == NAMES
    method = estimator.predict if hasattr(estimator, "predict") else estimator.transform
    of_frame = method(frame)
    reordered = WithoutProtocol(frame.select(NAMES[::-1]))
    with pytest.raises(ValueError, match="must be in the same order"):
        method(reordered)
    np.testing.assert_array_equal(
        np.asarray(of_frame),
        np.asarray(method(pd.DataFrame(frame.to_numpy(), columns=NAMES))),
    )


def test_frames_with_numbered_columns_have_no_names(monkeypatch):
    monkeypatch.setattr(validation, "_get_feature_names", lambda X: None)
    detector = Mahalanobis().fit(pd.DataFrame(VALUES))
    assert not hasattr(detector, "feature_names_in_")
