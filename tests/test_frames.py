"""What may be given to a detector as a table, and what is refused."""

from __future__ import annotations

from itertools import product

import numpy as np
import pandas as pd
import polars as pl
import pytest
from instances import SKLEARN_BATTERY
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from tables import (
    BAD_TABLES,
    CLASSES,
    FRAME,
    IN_FLOAT32,
    NAMES,
    POLARS,
    ROWS,
    TABLES,
    UNNAMED,
    VALUES,
)

from skood import (
    KNN,
    ConformalDetector,
    InlierKFold,
    LayerSelector,
    OutliersIgnored,
    TargetRateThreshold,
    auroc_scorer,
)

WITH_TABLES = [*product(range(len(SKLEARN_BATTERY)), TABLES)]
WITH_BAD_TABLES = [*product(range(len(SKLEARN_BATTERY)), BAD_TABLES)]


def test_the_matrix_is_whole():
    assert len(SKLEARN_BATTERY) >= 18  # each detector that takes bare arrays adds to it
    assert len(WITH_TABLES) == len(SKLEARN_BATTERY) * 24
    assert len(WITH_BAD_TABLES) == len(SKLEARN_BATTERY) * 17


@pytest.fixture(scope="module")
def plain_scores():
    """What each detector says of the plain array, by detector and type."""
    known = {}

    def scores(number, dtype):
        if (number, dtype) not in known:
            X = VALUES.astype(dtype)
            detector = clone(SKLEARN_BATTERY[number]).fit(X)
            known[number, dtype] = detector.score_samples(X)
        return known[number, dtype]

    return scores


@pytest.mark.parametrize(("number", "table"), WITH_TABLES)
def test_a_table_of_any_library_is_the_array(number, table, plain_scores):
    X = TABLES[table]
    detector = clone(SKLEARN_BATTERY[number]).fit(X)
    is_float32 = table.endswith(IN_FLOAT32)
    expected = plain_scores(number, np.float32 if is_float32 else np.float64)
    rtol = 1e-5 if is_float32 else 1e-9
    atol = rtol * np.abs(expected).max()  # a score may be near zero
    np.testing.assert_allclose(detector.score_samples(X), expected, rtol, atol)
    is_named = not table.startswith(UNNAMED)
    assert hasattr(detector, "feature_names_in_") == is_named
    if is_named:
        assert detector.feature_names_in_.tolist() == NAMES


@pytest.mark.filterwarnings("ignore:X has feature names")
@pytest.mark.parametrize(("number", "table"), WITH_BAD_TABLES)
def test_what_is_no_table_of_numbers_is_refused(number, table):
    X, text = BAD_TABLES[table]
    with pytest.raises((TypeError, ValueError), match=text):
        clone(SKLEARN_BATTERY[number]).fit(X)
    fitted = clone(SKLEARN_BATTERY[number]).fit(VALUES)
    with pytest.raises((TypeError, ValueError), match=text):
        fitted.score_samples(X)


NAMED = {
    "detector": KNN(3),
    "threshold": TargetRateThreshold(KNN(3), 0.3, cv=0.5),
    "conformal": ConformalDetector(KNN(3), 0.3, cv=0.5),
    "outliers ignored": OutliersIgnored(KNN(3)),
    "selector": LayerSelector(),
    "pipeline": make_pipeline(StandardScaler(), KNN(3)),
}


@pytest.mark.parametrize("frame", [FRAME, POLARS], ids=["pandas", "polars"])
@pytest.mark.parametrize("estimator", NAMED.values(), ids=NAMED)
def test_columns_are_known_again(estimator, frame):
    fitted = clone(estimator).fit(frame)
    method = getattr(fitted, "score_samples", getattr(fitted, "transform", None))
    assert len(method(frame)) == ROWS
    with pytest.raises(ValueError, match="must be in the same order"):
        method(frame[NAMES[::-1]])
    with pytest.raises(ValueError, match="yet now missing:\n- d"):
        method(frame[NAMES[:3]])
    with pytest.raises(ValueError, match="unseen at fit time:\n- e"):
        method(frame.assign(e="x") if frame is FRAME else frame.with_columns(e=1))
    with pytest.warns(UserWarning, match="does not have valid feature names"):
        method(VALUES)


@pytest.mark.parametrize("frame", [FRAME, POLARS], ids=["pandas", "polars"])
def test_a_search_takes_frames_and_text_labels(frame):
    marked = np.where(np.arange(ROWS) < 6, "-1", np.where(CLASSES, "dog", "cat"))
    y = pd.Series(marked, index=np.arange(ROWS) + 100)
    y = y if frame is FRAME else pl.Series(marked.tolist(), dtype=pl.Categorical)
    search = GridSearchCV(
        OutliersIgnored(KNN()),
        {"estimator__n_neighbors": [2, 3]},
        scoring=auroc_scorer,
        cv=InlierKFold(3),
        error_score="raise",
    ).fit(frame, y)
    assert search.best_estimator_.class_labels_.tolist() == ["cat", "dog"]
    assert search.feature_names_in_.tolist() == NAMES
