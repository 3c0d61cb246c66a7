"""What may be given as labels, and what is refused."""

from __future__ import annotations

from itertools import product

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from sklearn.base import clone
from tables import (
    CLASSES,
    LABELS,
    MARKED,
    ROWS,
    SOURCES,
    TEXTS,
    VALUES,
    classifier,
)
from torch import nn

from skood import (
    KNN,
    ClassHoldout,
    ConformalDetector,
    InlierKFold,
    LeaveOutlierSourceOut,
    Mahalanobis,
    OutliersIgnored,
    ShiftMonitor,
    TargetRateThreshold,
    auroc,
    auroc_scorer,
    make_pseudo_outliers,
    ood_report,
)
from skood.numerics.labels import class_numbers, inlier_mask
from skood.plotting import ScoreHistogramDisplay

HOLE = np.arange(ROWS) == 9
BAD_LABELS = {
    "pandas, NaN": (pd.Series(MARKED).mask(HOLE), "NaN: 1 of 40.*row 9"),
    "pandas, NA": (pd.Series(MARKED, dtype="Int64").mask(HOLE), "NaN: 1 of 40"),
    "pandas, missing text": (pd.Series(TEXTS).mask(HOLE), "NaN: 1 of 40"),
    "polars, null": (pl.Series([None, *TEXTS[1:].tolist()]), "NaN: 1 of 40.*row 0"),
    "texts and numbers": (["cat", 3] * 20, "mixes texts and numbers"),
    "a float as text": (np.where(HOLE, -1.0, MARKED).astype(str), "'-1.0', a number"),
    "texts and NaN": (["cat", np.nan] * 20, "NaN: 20 of 40.*row 1"),
    "tensor without data": (torch.tensor(MARKED).to("meta"), "'meta', without any"),
    "one-hot": (nn.functional.one_hot(torch.tensor(CLASSES)), "1d array"),
    "infinite": (np.where(HOLE, np.inf, MARKED), "infinity"),
}


def _classes_and_scores(detector, fit="fit"):
    def use(y):
        fitted = getattr(clone(detector), fit)(VALUES, y)
        return fitted.class_labels_.tolist(), fitted.score_samples(VALUES)

    return use


def _test_sides(splitter, *groups):
    return lambda y: [test for _, test in splitter.split(VALUES, y, *groups)]


def _net_of(y):
    net = classifier().fit(VALUES, y)
    return net.classes_.tolist(), net.predict(VALUES).tolist()


FITTED = Mahalanobis().fit(VALUES)
LABEL_USES = {
    "fit": _classes_and_scores(Mahalanobis()),
    "partial_fit": _classes_and_scores(Mahalanobis(), "partial_fit"),
    "outliers ignored": _classes_and_scores(OutliersIgnored(KNN(3))),
    "threshold": _classes_and_scores(TargetRateThreshold(KNN(3), 0.3)),
    "conformal": _classes_and_scores(
        ConformalDetector(KNN(3), 0.3, method="cross", class_conditional=True)
    ),
    "monitor": lambda y: ShiftMonitor(KNN(3)).fit(VALUES, y).calibration_scores_,
    "classifier": _net_of,
    "folds": _test_sides(InlierKFold(3)),
    "class holdout": _test_sides(ClassHoldout()),
    "source holdout": _test_sides(LeaveOutlierSourceOut(2), SOURCES),
    "scorer": lambda y: auroc_scorer(FITTED, VALUES, y),
    "metric": lambda y: auroc(y, VALUES[:, 0]),
    "report": lambda y: ood_report(y, VALUES[:, 0], n_bootstrap=0).to_numpy(),
    "pseudo outliers": lambda y: make_pseudo_outliers(
        VALUES, y, kind="extrapolate", random_state=0
    ),
    "held-out class": lambda y: make_pseudo_outliers(
        VALUES, y, kind="class_holdout", random_state=0
    ),
    "plot": lambda y: (
        ScoreHistogramDisplay.from_predictions(y, VALUES[:, 0]).outlier_scores
    ),
}
WITH_LABELS = [*product(LABEL_USES, LABELS)]
WITH_BAD_LABELS = [*product(LABEL_USES, BAD_LABELS)]


def test_the_matrix_is_whole():
    assert len(WITH_LABELS) == 16 * 26
    assert len(WITH_BAD_LABELS) == 16 * 10


@pytest.mark.filterwarnings("ignore:A column-vector y was passed")
@pytest.mark.parametrize(("use", "labels"), WITH_LABELS)
def test_labels_of_any_library_are_the_array(use, labels):
    plain = {"numbers": MARKED, "texts": TEXTS}[labels[0]]
    found, expected = LABEL_USES[use](LABELS[labels]), LABEL_USES[use](plain)
    for one, other in zip(_parts(found), _parts(expected), strict=True):
        np.testing.assert_array_equal(one, other)


def _parts(value):
    return value if isinstance(value, (tuple, list)) else [value]


@pytest.mark.parametrize(("use", "labels"), WITH_BAD_LABELS)
def test_labels_that_say_nothing_are_refused(use, labels):
    y, text = BAD_LABELS[labels]
    with pytest.raises((TypeError, ValueError), match=text):
        LABEL_USES[use](y)


def test_labels_of_other_objects_stay_as_they_are():
    from decimal import Decimal

    y = np.array([Decimal(1), Decimal(-1), Decimal(2)], dtype=object)
    assert inlier_mask(y).tolist() == [True, False, True]
    assert inlier_mask(np.array([True, False])).all()


@pytest.mark.parametrize(
    "labels",
    [
        np.random.default_rng(0).integers(0, 10, 300),
        np.array([9, 4, 9, 4], dtype=np.uint64),
        np.array([0], dtype=np.int8),
        np.array([-7, 3, -7]),
        np.array([2**62, 1, 2**62]),
        np.array([], dtype=int),
        np.array([True, False, True]),
        np.array([1.5, 0.5, 1.5]),
        np.array(["b", "a", "b"]),
    ],
)
def test_class_numbers_are_those_of_a_sort(labels):
    names, numbers = class_numbers(labels)
    expected, places = np.unique(labels, return_inverse=True)
    assert names.dtype == labels.dtype
    np.testing.assert_array_equal(names, expected)
    np.testing.assert_array_equal(numbers, places)
