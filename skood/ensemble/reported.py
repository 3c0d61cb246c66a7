"""What is known of the members after a fit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from skood.ensemble.comparable import Comparable
from skood.ensemble.evidence import Evidence
from skood.ensemble.members import FittedMember
from skood.metrics import auroc

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Report"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Report:
    """The table of members, as plain values by column.

    Parameters
    ----------
    members : list of str
        Their names: those that count, then those left out.
    columns : dict of str to list
        A value a member.
    """

    members: list[str]
    columns: dict[str, list[Any]]

    @classmethod
    def of(
        cls,
        ensemble: Any,
        fitted: Mapping[str, FittedMember],
        views: Mapping[str, str],
        evidence: Evidence,
    ) -> Report:
        """Return the report of an ensemble that has its weights."""
        kept = list(ensemble.members_)
        names = [*kept, *ensemble.left_out_]
        weights: dict[str, float] = {}
        if ensemble.weights_ is not None:
            weights = dict(zip(kept, ensemble.weights_.tolist(), strict=True))
        place = {name: number for number, name in enumerate(fitted)}
        seconds = {name: member.seconds for name, member in fitted.items()}
        correlation = _correlations(evidence.scale)
        nan = float("nan")
        found: dict[str, list[Any]] = {
            "view": [views[name] for name in names],
            "weight": [weights.get(name, nan) for name in names],
            "fit_seconds": [seconds.get(name, nan) for name in names],
            "correlation": [
                float(correlation[place[n]]) if n in place else nan for n in names
            ],
        }
        kinds = dict(evidence.kinds)
        if len(evidence.outliers):
            known = "known outliers" if "outliers" in kinds else "outliers"
            kinds[known] = evidence.outliers
        for kind, scores in kinds.items():
            areas = aurocs(evidence.scale, scores)
            found[f"auroc_{kind}"] = [
                float(areas[place[n]]) if n in place else nan for n in names
            ]
        found["left_out"] = [ensemble.left_out_.get(name, "") for name in names]
        return cls(names, found)

    def frame(self) -> pd.DataFrame:
        """Return the table."""
        import pandas as pd

        index = pd.Index(self.members, name="member")
        return pd.DataFrame(self.columns, index=index)


def aurocs(inliers: Floats, outliers: Floats) -> Floats:
    """Return each member's area under the ROC curve, NaN where it has no numbers."""
    y = np.repeat([0, -1], [len(inliers), len(outliers)])
    pairs = zip(inliers.T, outliers.T, strict=True)
    return np.array([_auroc(y, np.concatenate(pair)) for pair in pairs])


def _auroc(y: NDArray[np.intp], scores: Floats) -> float:
    return float("nan") if np.isnan(scores).any() else auroc(y, scores)


def _correlations(scores: Floats) -> Floats:
    """Return each member's correlation with the mean of the others."""
    n_rows, count = scores.shape
    z = np.column_stack([Comparable.of(column).gaussian(column) for column in scores.T])
    if count < 2 or n_rows < 3:
        return np.full(count, np.nan)
    others = (z.sum(axis=1, keepdims=True) - z) / (count - 1)
    spread = z.std(axis=0) * others.std(axis=0)
    both = ((z - z.mean(axis=0)) * (others - others.mean(axis=0))).mean(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(spread > 0, both / spread, np.nan)
