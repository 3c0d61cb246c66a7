"""Detectors side by side on the same rows and the same outliers."""

from __future__ import annotations

import time
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import clone

from skood._sklearn_compat import num_samples, safe_indexing
from skood.ensemble.members import named, naming
from skood.metrics.report import (
    QUANTITIES,
    Evaluation,
    as_row,
    check_bootstrap,
    evaluations,
)
from skood.metrics.units import in_units
from skood.model_selection._estimators import in_distribution_scores
from skood.numerics.arrays import check_readable
from skood.numerics.labels import inlier_mask, label_array
from skood.numerics.seeds import RandomStateLike
from skood.numerics.splits import HELD_OUT_SHARE, share

if TYPE_CHECKING:
    import pandas as pd

    from skood.plotting.comparison import ComparisonDisplay

__all__ = ["Comparison", "compare"]

Floats = NDArray[np.float64]
Rows = NDArray[np.intp]

EACH = ("false_alarms", "fit_seconds", "score_seconds")
SHOWN = ("auroc", "fpr95", "aupr_in", "aupr_out")


@dataclass(frozen=True)
class Comparison:
    """What :func:`compare` found.

    Attributes
    ----------
    table : DataFrame
        A row a detector and outlier set, group, and ``"mean"`` of all sets: AUROC,
        FPR95, AUPR with either side positive, each with its interval as ``_low`` and
        ``_high``; the share of new in-distribution rows that ``predict`` rejects, and
        the seconds of ``fit`` and of scoring all rows.
    differences : DataFrame
        The same rows for all detectors but the first, less the first's, with intervals
        from the same resamples: one that holds zero says that the two cannot be told
        apart on these rows.
    scores : dict of str to dict of str to ndarray
        By detector and set; the in-distribution rows are ``""``.
    """

    table: pd.DataFrame
    differences: pd.DataFrame
    scores: dict[str, dict[str, Floats]]

    def wide(self, metric: str = "auroc") -> pd.DataFrame:
        """Return one metric, detectors by outlier sets and groups.

        Shares are in per cent; seconds and numbers of rows are what they are.

        Parameters
        ----------
        metric : str, default="auroc"
            A column of ``table``.

        Returns
        -------
        DataFrame
        """
        if metric not in self.table.columns:
            raise ValueError(
                f"metric={metric!r}: the table has {', '.join(self.table.columns)}."
            )
        column = self.table[metric]
        cells = column.unstack("outliers")
        sets = column.index.get_level_values("outliers").unique()
        rows = column.index.get_level_values("detector").unique()
        return in_units(metric)[0] * cells.loc[rows, sets]

    def to_csv(self, path: Any = None, **options: Any) -> str | None:
        """Write ``table`` as CSV; see :meth:`pandas.DataFrame.to_csv`."""
        written: str | None = self.table.to_csv(path, **options)
        return written

    def to_markdown(self, metric: str = "auroc") -> str:
        """Return one metric as a Markdown table, in the units of :meth:`wide`.

        Parameters
        ----------
        metric : str, default="auroc"
            A column of ``table``.

        Returns
        -------
        str
        """
        cells = self.wide(metric)
        head = ["detector", *map(str, cells.columns)]
        lines = [head, ["---", *["---:"] * len(cells.columns)]]
        for name, row in zip(cells.index, cells.to_numpy(), strict=True):
            lines.append([str(name), *(f"{value:.2f}" for value in row)])
        safe = [[cell.replace("|", "\\|") for cell in line] for line in lines]
        return "\n".join("| " + " | ".join(line) + " |" for line in safe)

    def to_latex(self, metric: str = "auroc", **options: Any) -> str:
        """Return one metric as a LaTeX table, the best of each column bold.

        Parameters
        ----------
        metric : str, default="auroc"
            A column of ``table``.
        **options : dict
            For :meth:`pandas.io.formats.style.Styler.to_latex`, which needs jinja2.

        Returns
        -------
        str
        """
        best = "min" if metric.startswith(("fpr", *EACH)) else "max"
        style = self.wide(metric).style.format(precision=2, escape="latex")
        style = style.format_index(escape="latex", axis=0)
        style = style.format_index(escape="latex", axis=1)
        highlight = getattr(style, f"highlight_{best}")(axis=0, props="bfseries: ;")
        written: str = highlight.to_latex(**{"hrules": True, **options})
        return written

    def plot(self, metric: str = "auroc", ax: Any = None) -> ComparisonDisplay:
        """Draw one metric by detector and set, with intervals; needs matplotlib.

        Parameters
        ----------
        metric : str, default="auroc"
            A metric with intervals.
        ax : matplotlib axes, optional
            A new figure's without it.

        Returns
        -------
        ComparisonDisplay
        """
        from skood.plotting.comparison import ComparisonDisplay

        return ComparisonDisplay.from_table(self.table, metric, ax=ax)


def compare(
    detectors: Mapping[str, Any] | Sequence[tuple[str, Any]],
    features: Any,
    y: ArrayLike | None = None,
    *,
    outliers: Mapping[str, Any],
    inliers: Any = None,
    n_bootstrap: int = 200,
    confidence_level: float = 0.95,
    random_state: RandomStateLike = 0,
) -> Comparison:
    """Fit detectors on the same rows and measure them on the same outliers.

    Parameters
    ----------
    detectors : mapping of str to estimator, or list of (str, estimator)
        Clones are fitted. The first is what the others are compared with.
    features : LayerFeatures or array-like of n rows
        What the detectors are fitted on.
    y : array-like of shape (n_samples,), optional
        Class labels; rows of label -1 are outliers that a detector may be tuned on, and
        must not be among `outliers`.
    outliers : mapping of str to LayerFeatures or array-like
        By name; ``"near/cifar100"`` is of the group ``"near"``.
    inliers : LayerFeatures or array-like, optional
        In-distribution rows that are not in `features`. None: a fifth of the rows of
        `features` is held out of all fits.
    n_bootstrap : int, default=200
        Resamples for the intervals; 0 leaves them out.
    confidence_level : float, default=0.95
        Share of the resamples between the bounds, in (0, 1).
    random_state : int, RandomState instance or None, default=0
        Seeds what is held out, and the resamples.

    Returns
    -------
    Comparison
        With ``table``, ``differences``, ``to_csv``, ``to_latex``, ``to_markdown`` and
        ``plot``.

    Raises
    ------
    ValueError
        If what is asked for is no comparison: no outlier sets, an empty one, no
        in-distribution rows, or such that are fitted on, outliers that are also rows to
        fit, tune or compare on.

    Examples
    --------
    >>> import numpy as np
    >>> from skood import KNN, Mahalanobis, compare
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(500, 3))
    >>> sets = {"near/shifted": X[:99] + 2, "far/wide": 9 * rng.normal(size=(99, 3))}
    >>> found = compare({"knn": KNN(), "distance": Mahalanobis()}, X, outliers=sets)
    >>> print(found.to_markdown())
    | detector | near/shifted | far/wide | near | far | mean |
    | --- | ---: | ---: | ---: | ---: | ---: |
    | knn | ... | ... | ... | ... | ... |
    | distance | ... | ... | ... | ... | ... |
    """
    import pandas as pd

    check_bootstrap(n_bootstrap, confidence_level)
    pairs = list(detectors.items()) if isinstance(detectors, Mapping) else detectors
    by_name = named(pairs)
    training, labels, known = _sides(features, y, inliers, random_state)
    _check_sets(outliers, training, known)
    measured = {
        name: _measured(name, detector, training, labels, {"": known, **outliers})
        for name, detector in by_name.items()
    }
    scores = {name: found[0] for name, found in measured.items()}
    parts = _evaluated(scores, n_bootstrap, random_state)
    index = pd.MultiIndex.from_tuples(list(parts), names=["detector", "outliers"])
    rows = [_row(parts[key], confidence_level, measured[key[0]][1]) for key in parts]
    table = pd.DataFrame(rows, index=index)
    return Comparison(table, _differences(parts, confidence_level), scores)


def _sides(
    features: Any, y: ArrayLike | None, inliers: Any, random_state: RandomStateLike
) -> tuple[Any, NDArray[Any] | None, Any]:
    """Return what to fit on, with labels, and in-distribution rows to compare on."""
    check_readable(features)
    n_rows = num_samples(features)
    labels = None if y is None else label_array(y)
    mask = np.ones(n_rows, bool) if labels is None else inlier_mask(labels)
    if len(mask) != n_rows:
        raise ValueError(f"features have {n_rows} rows and y {len(mask)}.")
    if not mask.any():
        raise ValueError("features have no in-distribution rows: every label is -1.")
    if inliers is not None:
        if num_samples(inliers) == 0:
            raise ValueError("inliers is empty: every metric compares with such rows.")
        _check_new(inliers, features)
        return features, labels, inliers
    rows = np.flatnonzero(mask)
    if len(rows) < 2:
        raise ValueError("features have one in-distribution row: none can be held out.")
    held_out = rows[share(len(rows), HELD_OUT_SHARE, None, random_state)]
    fitted = np.setdiff1d(np.arange(n_rows), held_out)
    kept = None if labels is None else labels[fitted]
    return safe_indexing(features, fitted), kept, safe_indexing(features, held_out)


def _check_sets(outliers: Mapping[str, Any], training: Any, known: Any) -> None:
    if not isinstance(outliers, Mapping) or not outliers:
        raise ValueError(
            f"outliers={outliers!r:.100}: give a mapping from names to sets, "
            "{'near/cifar100': features, ...}."
        )
    _check_names(list(outliers))
    seen = {
        "features, which the detectors are fitted and tuned on": _digests(training),
        "the in-distribution rows": _digests(known),
    }
    for name, rows in outliers.items():
        with naming(f"outliers[{name!r}]"):
            check_readable(rows)
            n_rows = num_samples(rows)
        if n_rows == 0:
            raise ValueError(f"outliers[{name!r}] is empty.")
        own = _digests(rows)
        for where, others in seen.items():
            shared = len(own & others)
            if shared:
                raise ValueError(
                    f"outliers[{name!r}] shares {shared} rows with {where}: what a "
                    "detector has seen cannot tell how good it is. Leave them out."
                )


def _check_names(names: Sequence[Any]) -> None:
    """Raise where a set's name is none, or is that of another row of the table."""
    others = {"mean"} | {_group(name) for name in names if _has_group(name)}
    for name in names:
        if not isinstance(name, str) or not name.strip("/") or name in others:
            raise ValueError(
                f"outliers has the name {name!r}: give text that is neither 'mean' nor "
                "the group of another set."
            )
        if _has_group(name) and _group(name) in ("", "mean"):
            raise ValueError(
                f"outliers has the name {name!r}, of the group {_group(name)!r}: give "
                "the group a name, which is not 'mean'."
            )


def _has_group(name: Any) -> bool:
    return isinstance(name, str) and "/" in name


def _group(name: str) -> str:
    return name.partition("/")[0]


def _check_new(inliers: Any, features: Any) -> None:
    """Raise where the rows to compare on are those that were fitted on.

    Rows of a table may be equal by chance, so that some are let pass.
    """
    own = _digests(inliers)
    shared = len(own & _digests(features))
    if 2 * shared > len(own):
        raise ValueError(
            f"inliers shares {shared} rows with features: a detector's scores of rows "
            "that it was fitted on tell nothing of new ones. Give rows that are not in "
            "features, or None, which holds a fifth of these out."
        )


def _digests(rows: Any) -> set[int]:
    """Return a number for each row's values, equal for equal rows."""
    found: set[int] = set()
    count = num_samples(rows)
    for start in range(0, count, 1024):
        part = safe_indexing(rows, slice(start, min(start + 1024, count)))
        values = np.asarray(part)
        if values.dtype.kind in "OSU":  # texts, or columns of several kinds
            found |= {hash(tuple(np.ravel(row).tolist())) for row in values}
            continue
        values = np.ascontiguousarray(values, dtype=np.float64)
        found |= {hash(row.tobytes()) for row in values if row.any()}
    return found


def _measured(
    name: str,
    detector: Any,
    training: Any,
    labels: NDArray[Any] | None,
    sets: Mapping[str, Any],
) -> tuple[dict[str, Floats], dict[str, float]]:
    """Return a clone's scores of all sets, and its false alarms and times."""
    start = time.perf_counter()
    with naming(f"detectors[{name!r}], fitted on features"):
        fitted = clone(detector).fit(training, labels)
    after = time.perf_counter()
    scores = {of: _scores(name, fitted, of, rows) for of, rows in sets.items()}
    done = time.perf_counter()
    has_flags = hasattr(fitted, "predict")
    flags = np.asarray(fitted.predict(sets[""])) if has_flags else None
    alarms = float("nan") if flags is None else float((flags == -1).mean())
    return scores, dict(zip(EACH, (alarms, after - start, done - after), strict=True))


def _scores(name: str, fitted: Any, of: str, rows: Any) -> Floats:
    """Return a detector's scores of a set, one number a row."""
    which = f"outliers[{of!r}]" if of else "the in-distribution rows"
    with naming(f"detectors[{name!r}], of {which}"):
        found = in_distribution_scores(fitted, rows)
        if found.shape != (num_samples(rows),):
            raise ValueError(
                f"scores of shape {found.shape} for {num_samples(rows)} rows: a "
                "detector gives one number a row. (A classifier of several classes is "
                "none.)"
            )
        if np.isnan(found).any():
            raise ValueError(
                f"{int(np.isnan(found).sum())} of the scores are NaN: look at the rows "
                "that it could not score."
            )
    return found


def _evaluated(
    scores: Mapping[str, Mapping[str, Floats]],
    n_bootstrap: int,
    random_state: RandomStateLike,
) -> dict[tuple[str, Any], Evaluation]:
    first = next(iter(scores.values()))
    sizes = [len(part) for part in first.values()]
    ends = np.cumsum(sizes)
    mask = np.arange(ends[-1]) < sizes[0]
    sets = [name for name in first if name]
    rows: dict[Hashable, Rows] = {
        name: np.arange(start, end)
        for name, start, end in zip(sets, ends[:-1], ends[1:], strict=True)
    }
    together = {
        name: np.concatenate(list(parts.values())) for name, parts in scores.items()
    }
    groups: dict[Hashable, Hashable] = {
        name: _group(name) for name in sets if _has_group(name)
    }
    return evaluations(mask, together, rows, groups, n_bootstrap, random_state)


def _row(
    part: Evaluation, confidence_level: float, each: Mapping[str, float]
) -> dict[str, float]:
    row = as_row(part, confidence_level)
    kept = [name for name in row if name.startswith((*SHOWN, "n_"))]
    return {name: row[name] for name in kept} | dict(each)


def _differences(
    parts: Mapping[tuple[str, Any], Evaluation], confidence_level: float
) -> pd.DataFrame:
    """Return each detector's metrics less the first's, resample by resample."""
    import pandas as pd

    first = next(iter(parts))[0]
    rows = {}
    for (detector, source), part in parts.items():
        if detector == first:
            continue
        base = parts[first, source]
        less = part._replace(
            values=part.values - base.values, resampled=part.resampled - base.resampled
        )
        row = as_row(less, confidence_level)
        rows[detector, source] = {
            name: row[name] for name in row if name.startswith(SHOWN)
        }
    index = pd.MultiIndex.from_tuples(list(rows), names=["detector", "outliers"])
    columns = None if rows else [name for name in QUANTITIES if name in SHOWN]
    return pd.DataFrame(list(rows.values()), index=index, columns=columns)
