"""A threshold that keeps a false-alarm rate."""

from __future__ import annotations

import warnings
from math import ceil
from numbers import Real
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import check_is_fitted

from skood._sklearn_compat import HasMethods, Interval, fit_context
from skood.calibration._held_out import (
    HeldOut,
    Labelled,
    splits_of,
    unused_thresholds,
    usable_scores,
)
from skood.calibration._wrapper import DetectorWrapper
from skood.detectors.in_graph import graph_scored
from skood.model_selection._estimators import refuse_pyod
from skood.numerics.ranks import rank_for_rate, rows_for_rate
from skood.numerics.seeds import RandomStateLike
from skood.numerics.splits import HELD_OUT_SHARE

__all__ = ["TargetRateThreshold"]

FOLDS = 10
"""Where one fifth is too few: each fit is then close to that of all rows."""


class TargetRateThreshold(DetectorWrapper):
    r"""A detector with its threshold set for a false-alarm rate.

    In-distribution rows are held out, scored by the detector that was fitted on the
    others, and the threshold is the k-th smallest of the n scores with
    :math:`k = \lfloor \mathrm{max\_false\_alarm} \, (n + 1) \rfloor`. What that
    promises, for new rows that are exchangeable with the held-out ones, whatever the
    detector and the data's distribution:

    * one split (``cv`` None, a share, or ``"prefit"``): a new in-distribution row is
      flagged with probability :math:`k / (n + 1)` if scores have no ties, else with no
      more, and that is at most `max_false_alarm`. The probability is over held-out rows
      and new row together: the rate of one fitted threshold varies around it, as a
      Beta(k, n + 1 - k) variable.
    * one split and `confidence`: moreover, with that probability over the held-out
      rows, the rate of this fitted threshold on all future in-distribution data is at
      most `max_false_alarm`.
    * several folds: every row is held out once and the detector is then fitted on all
      of them. No row is lost, but the threshold belongs to detectors of fewer rows than
      the one that is used, and of the two statements above neither is proved.
      :class:`ConformalDetector` with ``method="cross"`` uses folds and has a bound.

    Rows that are too few for the rate are refused where a `cv` or a `confidence` asks
    for a statement. With neither, ``fit`` does what can be done and says so: 10 folds
    where a fifth of the rows is too few, and the lowest score as threshold where all
    of them are.

    Parameters
    ----------
    detector : estimator
        With ``score_samples`` or ``decision_function``, higher = more in-distribution:
        of this package, of scikit-learn, or a Pipeline that ends in one. It is cloned.
    max_false_alarm : float, default=0.05
        Share of new in-distribution rows that are flagged, at most, in (0, 0.5]. See
        :term:`max_false_alarm`.
    cv : float, int, splitter, iterable or "prefit", default=None
        Which rows are held out. A float in (0, 1) is a share drawn at random. None
        means 0.2, or 10 folds where that is too few rows and `confidence` is None. An
        integer is a number of random folds. A splitter or an iterable of
        (train, test) rows may have one split or several; rows of label -1 are taken out
        of both sides. ``"prefit"``: the detector is fitted already, and ``fit`` gets
        rows that are new to it.
    confidence : float, optional
        In (0, 1): asks for the second statement as well. Needs more rows.
    pass_outliers : bool, default=False
        Whether the detector's ``fit`` is given the rows of label -1 too: only for a
        detector that chooses layers or weights by them and keeps them out of its data.
    random_state : int, RandomState instance or None, default=0
        Seeds the choice of the rows held out.

    Attributes
    ----------
    detector_ : estimator
        The fitted detector.
    offset_ : float
        The threshold on ``score_samples``.
    calibration_scores_ : ndarray of shape (n_held_out,)
        The held-out scores, in ascending order.
    class_labels_ : ndarray or None
        The labels seen in ``fit`` beside -1; None without ``y``.

    Raises
    ------
    ValueError
        In ``fit``: with a `cv` or `confidence`, too few rows for the rate asked (the
        message says how many it takes); no in-distribution rows; an unusable ``cv``.
    TypeError
        In ``fit``: a PyOD detector, whose sign is the other way round.

    Warns
    -----
    UserWarning
        In ``fit``, with neither `cv` nor `confidence`: a fifth of the rows, or all of
        them, are too few for the rate asked.

    See Also
    --------
    ConformalDetector : The same guarantee as p-values, by class, with folds, and
        control of the false-discovery rate.

    References
    ----------
    Vovk, Gammerman and Shafer, "Algorithmic learning in a random world", 2nd ed.,
    Springer 2022, chapter 4. Wilks, "Determination of sample sizes for setting
    tolerance limits", Annals of Mathematical Statistics 12, 1941.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.ensemble import IsolationForest
    >>> from skood.calibration import TargetRateThreshold
    >>> X = np.random.default_rng(0).normal(size=(500, 2))
    >>> detector = TargetRateThreshold(IsolationForest(random_state=0), 0.02).fit(X)
    >>> detector.predict([[0.0, 0.0], [6.0, 6.0]])
    array([ 1, -1])
    >>> TargetRateThreshold(IsolationForest(), 0.001, cv=0.2).fit(X)
    Traceback (most recent call last):
    ValueError: max_false_alarm=0.001 takes 999 held-out in-distribution rows; cv=0.2
    holds out 100 of 500. Give about 4995 rows, hold out more by cv (5 folds hold out
    all of them), or raise max_false_alarm.
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "detector": [HasMethods("fit")],
        "max_false_alarm": [Interval(Real, 0, 0.5, closed="right")],
        "cv": "no_validation",
        "confidence": [Interval(Real, 0, 1, closed="neither"), None],
        "pass_outliers": ["boolean"],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        detector: Any,
        max_false_alarm: float = 0.05,
        cv: Any = None,
        *,
        confidence: float | None = None,
        pass_outliers: bool = False,
        random_state: RandomStateLike = 0,
    ) -> None:
        self.detector = detector
        self.max_false_alarm = max_false_alarm
        self.cv = cv
        self.confidence = confidence
        self.pass_outliers = pass_outliers
        self.random_state = random_state

    @fit_context(prefer_skip_nested_validation=False)
    def fit(self, X: Any, y: ArrayLike | None = None) -> TargetRateThreshold:
        """Fit the detector and set its threshold.

        Parameters
        ----------
        X : array-like of length n
            What the detector takes. With ``cv="prefit"``, rows new to it.
        y : array-like of shape (n_samples,), optional
            Class labels; -1 marks an outlier, which sets no threshold.

        Returns
        -------
        TargetRateThreshold
            Itself.
        """
        refuse_pyod(self.detector)
        with self._learning():
            self._fit(Labelled.of(X, y))
        return self

    def score_samples(self, X: Any) -> NDArray[np.float64]:
        """Return the detector's own scores.

        Parameters
        ----------
        X : array-like of length n
            What the detector takes.

        Returns
        -------
        ndarray of float64, shape (n_samples,)
            Higher is more in-distribution.
        """
        check_is_fitted(self)
        return usable_scores(self.detector_, X)

    def _graph_scored(self, X: Any) -> tuple[Any, None]:
        check_is_fitted(self)
        return graph_scored(self.detector_, X)[0], None

    def _fit(self, data: Labelled) -> None:
        cv, warning = self._held_out_by(data)
        held_out = self._held_out(cv, data)
        if warning:  # only now: there may have been worse to say of the rows
            warnings.warn(warning, UserWarning, stacklevel=4)
        self.detector_ = held_out.detectors[0]
        if len(held_out.detectors) > 1:
            with unused_thresholds():
                self.detector_ = data.fitted(
                    self.detector, data.inliers, pass_outliers=self.pass_outliers
                )
        self.calibration_scores_ = np.sort(np.concatenate(held_out.scores))
        rank = max(self._rank(len(self.calibration_scores_)), 1)  # or it was refused
        self.offset_ = float(self.calibration_scores_[rank - 1])
        self.class_labels_ = data.classes

    def _held_out_by(self, data: Labelled) -> tuple[Any, str | None]:
        """Return ``cv``, or what it is by default and what that does not promise."""
        if self.cv is not None:
            return self.cv, None
        n = len(data.inliers)
        if self.confidence is not None or self._rank(round(HELD_OUT_SHARE * n)) > 0:
            return HELD_OUT_SHARE, None
        data.need_two(self.detector)
        n_folds = min(FOLDS, n)
        return n_folds, self._unproved(n, n_folds)

    def _unproved(self, n: int, n_folds: int) -> str:
        needed = rows_for_rate(self.max_false_alarm)
        said = (
            f"max_false_alarm={self.max_false_alarm} takes {needed} held-out "
            f"in-distribution rows, and "
        )
        if self._rank(n) > 0:
            return (
                f"{said}a fifth of the {n} here is fewer: all of them are held out, in "
                f"{n_folds} folds. That a new row is flagged with no more than that "
                "probability is proved for one split only: give about "
                f"{ceil(needed / HELD_OUT_SHARE)} rows, or cv='prefit' and rows that "
                "are new to the detector, to have it proved."
            )
        return (
            f"{said}there are {n}: the threshold is the lowest of their scores (each "
            f"held out once, in {n_folds} folds), below which {1 / (n + 1):.1%} of new "
            "rows lie. Give more rows, or raise max_false_alarm."
        )

    def _held_out(self, cv: Any, data: Labelled) -> HeldOut:
        splits = splits_of(cv, data, stratified=False, random_state=self.random_state)
        if self.cv is not None or self.confidence is not None:
            self._check_enough(cv, sum(len(test) for _, test in splits), data)
        return HeldOut.of(self.detector, data, splits, pass_outliers=self.pass_outliers)

    def _rank(self, n: int) -> int:
        return rank_for_rate(n, self.max_false_alarm, self.confidence)

    def _check_enough(self, cv: Any, n: int, data: Labelled) -> None:
        if self._rank(n) > 0:
            return
        total = len(data.inliers)
        needed = rows_for_rate(self.max_false_alarm, self.confidence)
        sure = "" if self.confidence is None else f" at confidence={self.confidence}"
        more = f"Give about {ceil(needed * total / max(n, 1))} rows"
        if n < total:
            more += ", hold out more by cv (5 folds hold out all of them)"
        data.refuse(
            self.detector,
            f"max_false_alarm={self.max_false_alarm}{sure} takes {needed} held-out "
            f"in-distribution rows; cv={cv!r} holds out {n} of {total}. {more}, or "
            "raise max_false_alarm.",
        )

    def _any_fitted(self) -> Any:
        return self.detector_
