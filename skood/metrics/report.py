"""The table of all metrics, per outlier source and detector, with intervals."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skood.metrics import score_counts as sc
from skood.metrics.sources import outlier_sources
from skood.numerics.labels import inlier_mask
from skood.numerics.seeds import RandomStateLike, stream_seed

if TYPE_CHECKING:
    import pandas as pd

QUANTITIES = ("auroc", "aupr_in", "aupr_out", "fpr95", "detection_accuracy")


def ood_report(
    y_true: ArrayLike,
    scores: ArrayLike | Mapping[str, ArrayLike] | pd.DataFrame,
    *,
    sources: ArrayLike | None = None,
    groups: Mapping[Hashable, Hashable] | None = None,
    n_bootstrap: int = 1000,
    confidence_level: float = 0.95,
    random_state: RandomStateLike = 0,
) -> pd.DataFrame:
    """Table of all metrics, one row per outlier source and detector, with intervals.

    The intervals are percentile bootstrap: inliers and outliers are resampled apart,
    whole rows, with the same draws for every detector (and the same inliers for every
    source), so that the bounds of two rows can be compared. `detection_accuracy` is a
    maximum and lies a little higher in resamples than in the data.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,)
        Class labels; -1 marks an outlier.
    scores : array-like of shape (n_samples,), mapping from name to such or DataFrame
        Higher = more in-distribution. A mapping, or a frame with a column for each,
        compares detectors.
    sources : array-like of shape (n_samples,), default=None
        Name of the data set each outlier comes from; entries of inliers are ignored.
        Each source meets all the inliers. Several sources add a row "mean".
    groups : mapping, default=None
        From sources to the groups they are of (near and far, say): each group adds a
        row with the mean of its sources. A source may have none (be left out, or None).
    n_bootstrap : int, default=1000
        Resamples; 0 leaves the bounds out.
    confidence_level : float, default=0.95
        Share of the resamples between the bounds, in (0, 1).
    random_state : int, RandomState instance or None, default=0
        Seeds the resamples.

    Returns
    -------
    pandas.DataFrame
        Index: the source ("all" if `sources` is None) or the detector, or both, in the
        order given. Columns: n_id, n_ood, then auroc, aupr_in, aupr_out, fpr95
        (outliers accepted at 95 % of inliers) and detection_accuracy, each followed by
        its bounds ``_low`` and ``_high``.

    Raises
    ------
    ValueError
        If one side is missing, lengths differ, a score is NaN, an outlier's source is
        missing or called "mean", a group has a source's name or a source that there is
        not, or an option is out of range.

    References
    ----------
    Efron, Tibshirani. An introduction to the bootstrap. 1993, chapter 13.

    Examples
    --------
    >>> from skood.metrics import ood_report
    >>> y, near = [0, 0, 0, -1, -1], ["", "", "", "near", "far"]
    >>> ood_report(y, [3.0, 2.0, 1.0, 2.5, 0.0], sources=near, n_bootstrap=0).round(2)
            n_id  n_ood  auroc  aupr_in  aupr_out  fpr95  detection_accuracy
    source
    near       3      1   0.33     0.81      0.33    1.0                0.67
    far        3      1   1.00     1.00      1.00    0.0                1.00
    mean       3      2   0.67     0.90      0.67    0.5                0.83
    """
    import pandas as pd

    check_bootstrap(n_bootstrap, confidence_level)
    mask = inlier_mask(y_true, "y_true")
    scores = _by_detector(scores)
    found = evaluations(
        mask,
        _checked_detectors(mask, scores),
        _rows_of_sources(mask, sources),
        _groups_given(groups),
        n_bootstrap,
        random_state,
    )
    index = pd.MultiIndex.from_tuples(list(found), names=["detector", "source"])
    rows = [as_row(part, confidence_level) for part in found.values()]
    frame = pd.DataFrame(rows, index=index)
    if not isinstance(scores, Mapping):
        return frame.droplevel("detector")
    return frame.droplevel("source") if sources is None else frame


def evaluations(
    mask: NDArray[np.bool_],
    scores: Mapping[str, NDArray[np.float64]],
    sources: Mapping[Hashable, NDArray[np.intp]],
    groups: Mapping[Hashable, Hashable],
    n_bootstrap: int,
    random_state: RandomStateLike,
) -> dict[tuple[str, Hashable], Evaluation]:
    """Return the metrics of each detector on each source, group and all sources.

    Parameters
    ----------
    mask : ndarray of bool, shape (n,)
        Whether a row is in-distribution.
    scores : mapping of str to ndarray of shape (n,)
        By detector.
    sources : mapping to ndarray of int
        The rows of each source.
    groups : mapping
        From sources to groups.
    n_bootstrap : int
        Resamples, the same draws for all detectors.
    random_state : int, RandomState instance or None
        Seeds them.

    Returns
    -------
    dict of (detector, source) to Evaluation
    """
    _check_groups(groups, sources)
    seed = np.random.SeedSequence(stream_seed(random_state))
    streams = seed.spawn(1 + len(sources))
    found: dict[tuple[str, Hashable], Evaluation] = {}
    for detector, score in scores.items():
        named = {
            source: _evaluate(score[mask], score[rows], n_bootstrap, (streams[0], own))
            for (source, rows), own in zip(sources.items(), streams[1:], strict=True)
        }
        for group in dict.fromkeys(groups.values()):
            of_group = [named[s] for s in sources if groups.get(s, s) == group]
            named[group] = _mean_evaluation(of_group)
        if len(sources) > 1:
            named["mean"] = _mean_evaluation([named[source] for source in sources])
        found |= {(detector, source): part for source, part in named.items()}
    return found


def _groups_given(groups: Any) -> dict[Hashable, Hashable]:
    if groups is not None and not isinstance(groups, Mapping):
        raise ValueError(
            f"groups={groups!r:.100}: give a mapping from sources to the groups they "
            "are of, {'cifar100': 'near', ...}."
        )
    given = dict(groups or {})
    return {source: group for source, group in given.items() if group is not None}


def _check_groups(
    groups: Mapping[Hashable, Hashable],
    sources: Mapping[Hashable, NDArray[np.intp]],
) -> None:
    unknown = [source for source in groups if source not in sources]
    if unknown:
        raise ValueError(
            f"groups has {unknown}, which are no sources; there are {list(sources)}."
        )
    taken = sorted({str(g) for g in groups.values() if g in sources or g == "mean"})
    if taken:
        raise ValueError(
            f"groups has the name {taken[0]!r}, which another row has; rename it."
        )


class Evaluation(NamedTuple):
    """All metrics of one detector on one source, and those of resamples."""

    n_id: int
    n_ood: int
    values: NDArray[np.float64]  # (quantities,)
    resampled: NDArray[np.float64]  # (n_bootstrap, quantities)


def _evaluate(
    id_scores: NDArray[np.float64],
    ood_scores: NDArray[np.float64],
    n_bootstrap: int,
    streams: tuple[np.random.SeedSequence, np.random.SeedSequence],
) -> Evaluation:
    n_id, n_ood = len(id_scores), len(ood_scores)
    ranks = sc.descending_ranks(np.concatenate([id_scores, ood_scores]))
    n_ranks = int(ranks.max()) + 1
    inliers, outliers = ranks[:n_id], ranks[n_id:]
    id_rng, ood_rng = (np.random.default_rng(stream) for stream in streams)
    resampled = np.empty((n_bootstrap, len(QUANTITIES)))
    for resample in resampled:
        id_draw = inliers[id_rng.integers(n_id, size=n_id)]
        ood_draw = outliers[ood_rng.integers(n_ood, size=n_ood)]
        resample[:] = _quantities(sc.count(id_draw, ood_draw, n_ranks))
    values = np.array(_quantities(sc.count(inliers, outliers, n_ranks)))
    return Evaluation(n_id, n_ood, values, resampled)


def _quantities(counts: sc.ScoreCounts) -> tuple[float, ...]:
    return (
        sc.area_under_roc(counts),
        sc.average_precision(counts),
        sc.average_precision(counts.swapped()),
        sc.false_positive_rate(counts, 0.95),
        sc.best_balanced_accuracy(counts),
    )


def _mean_evaluation(parts: list[Evaluation]) -> Evaluation:
    return Evaluation(
        parts[0].n_id,
        sum(part.n_ood for part in parts),
        np.mean([part.values for part in parts], axis=0),
        np.mean([part.resampled for part in parts], axis=0),
    )


def as_row(part: Evaluation, confidence_level: float) -> dict[str, float]:
    """Return the metrics by name, with the bounds of the resamples where there are."""
    row: dict[str, float] = {"n_id": part.n_id, "n_ood": part.n_ood}
    tail = (1 - confidence_level) / 2
    for column, name in enumerate(QUANTITIES):
        row[name] = float(part.values[column])
        if len(part.resampled):
            low, high = np.quantile(part.resampled[:, column], [tail, 1 - tail])
            row[f"{name}_low"], row[f"{name}_high"] = float(low), float(high)
    return row


def _by_detector(scores: Any) -> Any:
    """Return a frame's columns as a mapping, and anything else as it is."""
    is_frame = hasattr(scores, "columns") and not isinstance(scores, Mapping)
    return {n: scores[n] for n in scores.columns} if is_frame else scores


def _checked_detectors(
    mask: NDArray[np.bool_], scores: ArrayLike | Mapping[str, ArrayLike]
) -> dict[str, NDArray[np.float64]]:
    if not isinstance(scores, Mapping):
        return {"": sc.checked_scores(mask, scores, "scores")}
    if not scores:
        raise ValueError("scores is an empty mapping; give it a detector's scores.")
    return {
        name: sc.checked_scores(mask, values, f"scores[{name!r}]")
        for name, values in scores.items()
    }


def _rows_of_sources(
    mask: NDArray[np.bool_], sources: ArrayLike | None
) -> dict[Hashable, NDArray[np.intp]]:
    outliers = np.flatnonzero(~mask)
    if sources is None:
        return {"all": outliers}
    names = outlier_sources(mask, sources, "sources")
    distinct = list(dict.fromkeys(names.tolist()))
    if "mean" in distinct:
        raise ValueError(
            'sources has a source called "mean", the name of the row of means; '
            "rename it."
        )
    return {name: outliers[names == name] for name in distinct}


def check_bootstrap(n_bootstrap: int, confidence_level: float) -> None:
    """Raise ValueError for an option out of range."""
    is_count = isinstance(n_bootstrap, (int, np.integer))
    if not is_count or isinstance(n_bootstrap, bool) or n_bootstrap < 0:
        raise ValueError(f"n_bootstrap must be an integer >= 0; got {n_bootstrap!r}.")
    if not 0 < confidence_level < 1:
        raise ValueError(
            f"confidence_level must lie in (0, 1); got {confidence_level}. "
            "For 95 % pass 0.95."
        )
