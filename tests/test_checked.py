"""What every part says of scores that are NaN: one sentence, each with its mend."""

from __future__ import annotations

import re
from types import SimpleNamespace

import numpy as np
import pytest

from skood import PyODDetector
from skood.calibration._held_out import usable_scores
from skood.metrics import auroc
from skood.numerics.checked import checked_scores, refuse_nan
from skood.plotting._axes import by_kind

SCORES = np.array([0.5, np.nan, np.inf, np.nan])
LABELS = np.array([0, -1, 1, -1])


class Broken:
    def score_samples(self, X):
        return SCORES


SAID = {
    "a list of scores": (
        lambda: checked_scores(SCORES, "scores"),
        "scores has 2 NaN of 4; a NaN cannot be compared. Look at the rows that the "
        "detector could not score.",
    ),
    "a metric": (
        lambda: auroc(LABELS, SCORES),
        "y_score has 2 NaN of 4; a NaN cannot be compared. Look at the rows that the "
        "detector could not score.",
    ),
    "a calibration": (
        lambda: usable_scores(Broken(), np.zeros((4, 1))),
        "Broken gave 2 NaN of 4 scores; a NaN cannot be compared. Look at the rows "
        "that it could not score.",
    ),
    "a detector of PyOD": (
        lambda: PyODDetector._usable(SimpleNamespace(model_=Broken()), SCORES),
        "Broken gave 2 NaN of 4 scores; a NaN cannot be compared. Choose other "
        "parameters or another pyod_model for these rows.",
    ),
    "a plot": (
        lambda: by_kind(LABELS, SCORES, "y_score"),
        "y_score has 2 NaN of 4; a NaN cannot be compared. Look at the rows that the "
        "detector could not score.",
    ),
}


@pytest.mark.parametrize("where", SAID)
def test_what_is_said_of_nan(where):
    call, message = SAID[where]
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        call()


def test_infinite_scores_are_scores():
    refuse_nan(np.array([np.inf, -np.inf]), "y_score has")
