"""scikit-learn's battery over the trained classifiers, and what they validate."""

from __future__ import annotations

import warnings
from collections import Counter

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import DataConversionWarning, NotFittedError
from sklearn.utils.estimator_checks import check_estimator

from skood import AnchoredClassifier, EnergyRegularizedClassifier
from skood.neural import MLP

CHECKS = 55
"""Checks of scikit-learn 1.9 for a classifier; one needs SCIPY_ARRAY_API."""

NOT_OURS = {
    "check_no_attributes_set_in_init": "skorch's constructor keeps module__width and "
    "the like, and an empty history",
    "check_set_params": "skorch's set_params reads some values, such as callbacks",
}
"""What fails because of skorch."""

BY_RULE = {
    "check_classifiers_classes": "it has -1 for a class, which marks outliers here",
}
"""What fails because skood's labels mean something else."""


class Float64MLP(MLP):
    """In float64 a row's output is the same beside any others, to 1e-9."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.double()


class Sized:
    """A network made as wide as the data, which the battery changes all the time."""

    def fit(self, X, y=None, **fit_params):
        self._note(X, y)
        return super().fit(X, y, **fit_params)

    def partial_fit(self, X, y=None, classes=None, **fit_params):
        if not self.initialized_:
            self._note(X, y if classes is None else classes)
        return super().partial_fit(X, y, classes, **fit_params)

    def _note(self, X, y):
        shape = getattr(X, "shape", np.shape(np.asarray(X, dtype=object)))
        if len(shape) == 2 and y is not None:
            sizes = shape[1], max(len(np.unique(np.asarray(y))), 1)
            self._sizes = dict(zip(("n_features", "n_classes"), sizes, strict=True))

    def get_params_for(self, prefix):
        known = getattr(self, "_sizes", {}) if prefix == "module" else {}
        return {**known, **super().get_params_for(prefix)}


class SizedAnchored(Sized, AnchoredClassifier):
    _kept = (*AnchoredClassifier._kept, "_sizes")


class SizedEnergy(Sized, EnergyRegularizedClassifier):
    _kept = (*EnergyRegularizedClassifier._kept, "_sizes")


CLASSES = [SizedAnchored, SizedEnergy]
EACH = pytest.mark.parametrize("classifier", CLASSES, ids=lambda c: c.__name__)


def made(classifier, **parameters):
    return classifier(
        Float64MLP,
        **{
            "module__width": 32,
            "train_split": None,
            "lr": 0.02,
            "max_epochs": 20,
            "batch_size": 32,
            "random_state": 0,
            "device": "cpu",
            **parameters,
        },
    )


@EACH
def test_battery_of_scikit_learn(classifier, capsys):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        report = check_estimator(made(classifier), on_skip=None, on_fail=None)
    failed = {r["check_name"] for r in report if r["status"] == "failed"}
    count = Counter(result["status"] for result in report)
    with capsys.disabled():
        print(f"\n{classifier.__name__}: {len(report)} checks, {dict(count)}", end=" ")
    assert failed == {*NOT_OURS, *BY_RULE}
    assert len(report) >= CHECKS - 2  # older versions have two fewer
    assert count["skipped"] <= 1


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(40, 3))
    return X, (X[:, 0] > 0).astype(int)


@EACH
def test_it_notes_the_columns(classifier, data):
    X, y = data
    fitted = made(classifier, max_epochs=1).fit(X, y)
    assert fitted.n_features_in_ == 3
    assert not hasattr(fitted, "feature_names_in_")
    with pytest.raises(ValueError, match=r"X has 2 features, but .* is expecting 3"):
        fitted.predict(X[:, :2])
    named = clone(fitted).fit(pd.DataFrame(X, columns=["a", "b", "c"]), y)
    assert named.feature_names_in_.tolist() == ["a", "b", "c"]


@EACH
def test_a_target_of_regression_is_refused(classifier, data):
    X, y = data
    with pytest.raises(ValueError, match=r"type: y is continuous .*[01]\.5"):
        made(classifier).fit(X, y + 0.5)
    fitted = made(classifier, max_epochs=1).fit(X, y.astype(float))
    assert fitted.classes_.tolist() == [0.0, 1.0]


@EACH
def test_a_column_of_labels_is_taken_with_a_warning(classifier, data):
    X, y = data
    flat = made(classifier, max_epochs=2).fit(X, y).predict_proba(X)
    for column in (y[:, None], pd.DataFrame({"y": y})):
        with pytest.warns(DataConversionWarning, match="column-vector y") as said:
            fitted = made(classifier, max_epochs=2).fit(X, column)
        assert len(said) == 1
        np.testing.assert_array_equal(fitted.predict_proba(X), flat)


@EACH
@pytest.mark.parametrize("kind", [object, ">f8", ">f4", np.longdouble, "f2", ">i4"])
def test_arrays_of_any_kind_of_numbers(classifier, kind, data):
    X, y = data
    X = np.rint(X * 8)  # exact in all of them
    wanted = made(classifier, max_epochs=2).fit(X, y).predict_proba(X)
    given = X.astype(kind)
    found = made(classifier, max_epochs=2).fit(given, y).predict_proba(given)
    np.testing.assert_allclose(found, wanted, rtol=1e-9)


@EACH
@pytest.mark.parametrize(
    ("bad", "kind", "message"),
    [
        (np.ones((9, 2), complex), ValueError, "Complex data not supported"),
        (np.array([["a", "b"]] * 9, object), ValueError, "could not convert string"),
        (np.array([[{}, 1]] * 9, object), TypeError, "real number"),
        (np.array([[np.nan, 1]] * 9, object), ValueError, "contains NaN"),
        (np.ones((9, 0)), ValueError, r"0 feature\(s\) \(shape=\(9, 0\)\)"),
        (np.ones(9), ValueError, "Reshape your data"),
    ],
    ids=["complex", "texts", "dicts", "nan", "columns", "flat"],
)
def test_what_is_no_table_of_numbers_is_refused(classifier, bad, kind, message):
    with pytest.raises(kind, match=message):
        made(classifier).fit(bad, np.arange(9) % 2)


@EACH
def test_weights_of_rows_are_refused_and_not_lost(classifier, data):
    X, y = data
    with pytest.raises(TypeError, match="takes no sample_weight"):
        made(classifier).fit(X, y, sample_weight=np.ones(40))
    with pytest.raises(TypeError, match="takes no sample_weight"):
        made(classifier, module__n_features=3, module__n_classes=2).partial_fit(
            X, y, sample_weight=np.ones(40)
        )


@EACH
def test_a_fit_that_fails_leaves_nothing_of_the_first(classifier, data):
    X, y = data
    fitted = made(classifier, max_epochs=1).fit(X, y)
    for bad_X, bad_y in [(X, None), (X * np.nan, y), (X, np.zeros(40)), (X, y + 0.5)]:
        with pytest.raises(ValueError, match=r"\w"):
            fitted.fit(bad_X, bad_y)
        with pytest.raises(NotFittedError):
            fitted.predict(X)
        assert not hasattr(fitted, "classes_")
        assert not hasattr(fitted, "n_features_in_")
        again = fitted.fit(X, y).predict_proba(X)
    fresh = made(classifier, max_epochs=1).fit(X, y).predict_proba(X)
    np.testing.assert_array_equal(again, fresh)


@EACH
def test_parameters_set_after_fit_wait_for_the_next_fit(classifier, data):
    X, y = data
    fitted = made(classifier, max_epochs=2).fit(X, y)
    before = fitted.predict_proba(X)
    torch.manual_seed(1)
    fitted.set_params(lr=1.0, max_epochs=9, random_state=5)
    np.testing.assert_array_equal(fitted.predict_proba(X), before)
