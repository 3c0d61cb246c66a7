"""Conformal p-values around any detector."""

from __future__ import annotations

import warnings
from numbers import Real
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from skood._sklearn_compat import HasMethods, Interval, StrOptions, fit_context
from skood.calibration._held_out import HeldOut, Labelled, Rows, usable_scores
from skood.calibration._schemes import conformal_splits, default_share, too_few
from skood.calibration._wrapper import DetectorWrapper
from skood.calibration.e_values import e_discoveries
from skood.calibration.false_discovery import conditional_p_values, discoveries
from skood.calibration.p_values import Reference
from skood.calibration.probability import LogisticCalibration, Standardised
from skood.detectors.in_graph import graph_scored
from skood.model_selection._estimators import refuse_pyod
from skood.numerics.seeds import RandomStateLike

__all__ = ["ConformalDetector"]

Floats = NDArray[np.float64]


def _knows_outliers(detector: ConformalDetector) -> bool:
    if getattr(detector, "_probability", None) is None:
        raise AttributeError(
            "predict_proba needs outliers that the detector was not fitted on: give "
            "fit a y with rows of label -1, and leave pass_outliers=False."
        )
    return True


class ConformalDetector(DetectorWrapper):
    r"""Any detector, with p-values for "this row is in-distribution".

    A row's score is compared with those of in-distribution rows that were kept from the
    detector: :math:`p = (1 + \#\{i : S_i \le s\}) / (n + 1)`. Rows with p at most
    `alpha` are flagged. What that promises for a new row that is exchangeable with the
    in-distribution rows, whatever the detector and the data's distribution:

    * ``method="split"``: one part of the rows fits the detector, the other is compared
      with. :math:`P(p \le \alpha) \le \alpha` for every :math:`\alpha`, and exactly
      :math:`\lfloor \alpha (n + 1) \rfloor / (n + 1)` without ties [1]_.
    * ``method="cross"``: K folds; each held-out row is compared with the new row under
      the detector that was fitted without its fold. Every row is used for both, for K
      fits and K times the work of scoring. :math:`P(p \le \alpha) \le 2 \alpha +
      2 (1 - \alpha) (K - 1) / (n + K)` [2]_ [3]_; in practice close to
      :math:`\alpha`.
    * ``method="jackknife+"``: the same with one row a fold, so n fits: for little data
      or quick detectors. :math:`P(p \le \alpha) \le 2 \alpha - 1 / (n + 1)` [4]_
      (their argument counts comparisons and so holds for scores too); in practice close
      to :math:`\alpha`.

    For the last two the detector's fit must not depend on the order of rows. After
    ``fit``, ``false_alarm_bound_`` holds the bound in numbers.

    With ``class_conditional=True`` every class has a test of its own, against its own
    held-out rows, and p is the largest of the classes' p-values: a row is flagged if it
    is unlike all classes. The statements then hold within each class, with the class's
    n: rare classes are not flagged more often than common ones [1]_.

    ``score_samples`` is the p-value, with ties of the p-value broken by the detector's
    own score by less than any two p-values differ. So the ranking of a ``"split"``
    detector is the wrapped detector's, and ``predict`` is ``p_values(X) <= alpha``.

    Parameters
    ----------
    detector : estimator
        With ``score_samples`` or ``decision_function``, higher = more in-distribution:
        of this package, of scikit-learn, or a Pipeline that ends in one. It is cloned.
    alpha : float, default=0.05
        Share of new in-distribution rows that are flagged, at most, in (0, 0.5]: those
        with p-values up to it, by what `method` promises. See :term:`alpha`.
    method : {"split", "cross", "jackknife+"}, default="split"
        See above.
    cv : float, int, splitter, iterable or "prefit", default=None
        Which rows are held out. For ``"split"`` a share drawn at random (None: 0.2, or
        as much more as `alpha` needs, up to 0.5), a splitter or an iterable of one
        (train, test) pair, or ``"prefit"``: the detector is fitted already and ``fit``
        gets rows that are new to it. For ``"cross"`` a number of random folds (None:
        5), a splitter or an iterable. Rows of label -1 are taken out of both sides.
    class_conditional : bool, default=False
        Whether to calibrate within classes. Random draws are then stratified.
    pass_outliers : bool, default=False
        Whether the detector's ``fit`` is given the rows of label -1 too: only for a
        detector that chooses layers or weights by them and keeps them out of its data.
    random_state : int, RandomState instance or None, default=0
        Seeds the choice of the rows held out.

    Attributes
    ----------
    detectors_ : list of estimator
        The fitted detectors: one, K or n.
    offset_ : float
        The smallest p-value above `alpha`.
    false_alarm_bound_ : float
        The proved bound on the probability of flagging an in-distribution row.
    n_calibration_ : ndarray of shape (classes,)
        The number n of rows compared with, by class.
    class_labels_ : ndarray or None
        The labels seen in ``fit`` beside -1; None without ``y``.

    Raises
    ------
    ValueError
        In ``fit``: too few rows for `alpha` (the message says how many it takes),
        but for ``method="split"`` without a `cv`; no in-distribution rows, a ``cv``
        that does not suit the method. In ``select``: a
        method without a proof for this detector.
    TypeError
        In ``fit``: a PyOD detector, whose sign is the other way round.

    Warns
    -----
    UserWarning
        In ``fit``, for ``method="split"`` without a `cv`: half of the rows are too few
        for `alpha`, so that nothing can be flagged.

    See Also
    --------
    TargetRateThreshold : The same guarantee as a threshold alone.
    ShiftMonitor : One alarm for a stream.

    References
    ----------
    .. [1] Vovk, Gammerman and Shafer, "Algorithmic learning in a random world", 2nd
       ed., Springer 2022, chapter 4.
    .. [2] Vovk, "Cross-conformal predictors", Annals of Mathematics and Artificial
       Intelligence 74, 2015.
    .. [3] Vovk and Wang, "Combining p-values via averaging", Biometrika 107, 2020;
       Barber et al. [4]_, Theorem 4.
    .. [4] Barber, Candès, Ramdas and Tibshirani, "Predictive inference with the
       jackknife+", Annals of Statistics 49, 2021, Theorem 1.
    .. [5] Bates, Candès, Lei, Romano and Sesia, "Testing for outliers with conformal
       p-values", Annals of Statistics 51, 2023.
    .. [6] Bashari, Epstein, Romano and Sesia, "Derandomized novelty detection with FDR
       control via conformal e-values", NeurIPS 2023.

    Examples
    --------
    >>> import numpy as np
    >>> from skood import Mahalanobis
    >>> from skood.calibration import ConformalDetector
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(1000, 2))
    >>> detector = ConformalDetector(Mahalanobis(), alpha=0.05).fit(X)
    >>> detector.false_alarm_bound_
    0.04975124378109453
    >>> detector.p_values([[0.0, 0.0], [3.0, 3.0]]).round(3)
    array([1.   , 0.005])
    >>> X_new = np.vstack([rng.normal(size=(80, 2)), rng.normal(5, 1, size=(20, 2))])
    >>> found = detector.select(X_new, fdr=0.1)
    >>> int(found[:80].sum()), int(found[80:].sum())
    (2, 20)
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "detector": [HasMethods("fit")],
        "alpha": [Interval(Real, 0, 0.5, closed="right")],
        "method": [StrOptions({"split", "cross", "jackknife+"})],
        "cv": "no_validation",
        "class_conditional": ["boolean"],
        "pass_outliers": ["boolean"],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        detector: Any,
        alpha: float = 0.05,
        method: str = "split",
        *,
        cv: Any = None,
        class_conditional: bool = False,
        pass_outliers: bool = False,
        random_state: RandomStateLike = 0,
    ) -> None:
        self.detector = detector
        self.alpha = alpha
        self.method = method
        self.cv = cv
        self.class_conditional = class_conditional
        self.pass_outliers = pass_outliers
        self.random_state = random_state

    @fit_context(prefer_skip_nested_validation=False)
    def fit(self, X: Any, y: ArrayLike | None = None) -> ConformalDetector:
        """Fit the detector, or several, and score the rows kept from each.

        Parameters
        ----------
        X : array-like of length n
            What the detector takes. With ``cv="prefit"``, rows new to it.
        y : array-like of shape (n_samples,), optional
            Class labels; -1 marks an outlier, with which nothing is compared. Such rows
            make ``predict_proba`` available.

        Returns
        -------
        ConformalDetector
            Itself.
        """
        refuse_pyod(self.detector)
        with self._learning():
            self._fit(Labelled.of(X, y))
        return self

    def _fit(self, data: Labelled) -> None:
        classes = self._class_numbers(data)
        held_out = self._held_out(data, classes)
        self.detectors_ = held_out.detectors
        self._reference = Reference.of(
            held_out.scores, [classes[rows] for rows in held_out.rows]
        )
        self.n_calibration_ = self._reference.sizes
        self.offset_ = self._reference.smallest_above(self.alpha)
        self.false_alarm_bound_ = self._reference.false_alarm_bound(self.alpha)
        self.class_labels_ = data.classes
        scores = np.concatenate(held_out.scores)
        self._standardised = Standardised.of(scores)
        self._probability = self._probability_from(scores, data)

    # Scores ----------------------------------------------------------------------

    def p_values(self, X: Any) -> Floats:
        """Return the p-value of "this row is in-distribution".

        Parameters
        ----------
        X : array-like of length n
            What the detector takes.

        Returns
        -------
        ndarray of float64, shape (n_samples,)
            In (0, 1]; small for outliers.
        """
        return self._reference.p_values(self._counts(self._scores(X))).max(axis=0)

    def score_samples(self, X: Any) -> Floats:
        """Return the p-values, with ties broken by the detector's own score.

        Parameters
        ----------
        X : array-like of length n
            What the detector takes.

        Returns
        -------
        ndarray of float64, shape (n_samples,)
            Higher is more in-distribution. Above the p-value by less than any two
            p-values differ.
        """
        scores = self._scores(X)
        p_values = self._reference.p_values(self._counts(scores)).max(axis=0)
        own = self._standardised(np.mean(scores, axis=0))
        # From 0 to 1; unlike a logistic curve it never runs out of digits.
        place = np.arctan2(1.0, -own) / np.pi
        return p_values + place * self._reference.resolution

    def _graph_scored(self, X: Any) -> tuple[Any, Any]:
        check_is_fitted(self)
        scores = [graph_scored(detector, X)[0] for detector in self.detectors_]
        p_values = self._reference.p_values_in_graph(scores)
        own: Any = self._standardised(sum(scores) / len(scores))
        # It breaks ties, for which float32 will do: onnxruntime knows no other.
        place = 0.5 + own.float().atan().double() / np.pi
        return p_values + place * self._reference.resolution, p_values

    @available_if(_knows_outliers)
    def predict_proba(self, X: Any) -> Floats:
        """Return the probabilities of being an outlier and of being in-distribution.

        By a logistic regression on the scores of the held-out rows and of the rows of
        label -1 given to ``fit`` (:class:`~skood.calibration.probability.\
LogisticCalibration`). They hold for such outliers, in the proportion to
        in-distribution rows that ``y`` has; no guarantee goes with them.

        Parameters
        ----------
        X : array-like of length n
            What the detector takes.

        Returns
        -------
        ndarray of float64, shape (n_samples, 2)
            Columns: -1 (outlier), 1 (in-distribution).
        """
        assert self._probability is not None  # available_if has looked
        return self._probability(np.mean(self._scores(X), axis=0))

    # Many rows at once -----------------------------------------------------------

    def select(
        self,
        X: Any,
        fdr: float = 0.1,
        method: str = "bh",
        *,
        confidence: float = 0.9,
    ) -> NDArray[np.bool_]:
        r"""Return which rows are outliers, at a false-discovery rate.

        The rate is the expected share of in-distribution rows among those selected,
        when the rows of X are independent of each other and of those of ``fit``.

        Parameters
        ----------
        X : array-like of length n
            All the rows to choose from.
        fdr : float, default=0.1
            The rate, in (0, 1).
        method : {"bh", "conditional", "e-values", "by"}, default="bh"
            ``"bh"``: Benjamini-Hochberg, for ``method="split"`` detectors. P-values
            that share calibration rows are dependent, but positively so, and the rate
            holds (Bates et al. 2023): on average over calibration rows as well as X. It
            is at most `fdr` times the share of in-distribution rows in X. (With
            class-conditional p-values too: the class of an in-distribution row bounds
            its p-value from below, and the argument goes through with that class's
            rows.)

            ``"conditional"``: Benjamini-Hochberg on p-values that are valid given the
            calibration rows, for ``method="split"`` detectors: with probability
            `confidence` over these, the rate of this fitted detector on future data is
            at most `fdr`. Finds fewer.

            ``"e-values"``: each detector chooses rows by Benjamini-Hochberg, with the
            rows held out from it alone; the choices become e-values, which are averaged
            over the detectors, and the rate holds whatever these have in common
            (Bashari et al. 2023): for ``"cross"`` detectors. In simulation it finds a
            half to three quarters of what ``"bh"`` finds with one split, where ``"by"``
            finds nothing; next to nothing where outliers are few and near. For one
            detector it is ``"bh"``.

            ``"by"``: Benjamini-Yekutieli, valid under any dependence, for all
            detectors; the p-values of ``"cross"`` and ``"jackknife+"`` are first
            made valid at a factor of about 2. Finds fewest, with folds next to nothing
            unless many more rows are held out than X has.
        confidence : float, default=0.9
            Of ``"conditional"``, in (0, 1).

        Returns
        -------
        ndarray of bool, shape (n_samples,)
            True for the rows flagged as outliers.
        """
        check_is_fitted(self)
        _check_selection(fdr, method, confidence)
        self._check_proved(method)
        scores = self._scores(X)
        if method == "e-values":
            return e_discoveries(self._e_values(scores, fdr), fdr)
        counts = self._counts(scores)
        if method == "conditional":
            p_values = self._conditional_p_values(counts, confidence)
        else:
            p_values = self._reference.valid_p_values(counts)
        procedure = "by" if method == "by" else "bh"
        return discoveries(p_values.max(axis=0), fdr, procedure)

    def _conditional_p_values(
        self, counts: NDArray[np.intp], confidence: float
    ) -> Floats:
        """Return them by class, valid in all classes at once with the confidence."""
        sizes = self._reference.sizes
        each = 1 - (1 - confidence) / len(sizes)
        by_class = zip(self._reference.p_values(counts), sizes, strict=True)
        return np.array([conditional_p_values(p, int(n), each) for p, n in by_class])

    def _e_values(self, scores: list[Floats], fdr: float) -> Floats:
        """Return the mean over detectors of the e-values, least over classes."""
        each = [
            self._reference.of_detector(number).e_values([own], fdr)
            for number, own in enumerate(scores)
        ]
        return np.mean(each, axis=0).min(axis=0)

    def _check_proved(self, method: str) -> None:
        one, folds = len(self.detectors_) == 1, not self._reference.one_row_each
        if not (method == "by" or one or (method == "e-values" and folds)):
            other = "'e-values' or 'by'" if folds else "'by'"
            raise ValueError(
                f"select(method={method!r}) is proved for one detector, and this one "
                f"was fitted with method={self.method!r}: use select(method={other}), "
                "or ConformalDetector(method='split')."
            )

    # What fit is made of ---------------------------------------------------------

    def _class_numbers(self, data: Labelled) -> Rows:
        """Return the number of the class in which each row is compared."""
        if self.class_conditional:
            return data.class_numbers()
        return np.zeros(len(data), dtype=np.intp)

    def _held_out(self, data: Labelled, classes: Rows) -> HeldOut:
        by_default = self.cv is None and self.method == "split"
        if self.cv is None:
            data.need_two(self.detector)
        everybody = np.bincount(classes[data.inliers], minlength=1)
        splits = conformal_splits(
            self.method,
            default_share(self.alpha, everybody) if by_default else self.cv,
            data,
            stratified=self.class_conditional,
            random_state=self.random_state,
        )
        rows = np.concatenate([test for _, test in splits])
        sizes = np.bincount(classes[rows], minlength=len(everybody))
        scheme = f"method={self.method!r} with cv={self.cv!r}"
        names = data.classes if self.class_conditional else None
        shortage = too_few(self.alpha, sizes, names, scheme)
        if shortage and not by_default:
            data.refuse(self.detector, shortage)
        found = HeldOut.of(
            self.detector, data, splits, pass_outliers=self.pass_outliers
        )
        if shortage:  # only now: there may have been worse to say of the rows
            warnings.warn(shortage, UserWarning, stacklevel=5)
        return found

    def _probability_from(
        self, inlier_scores: Floats, data: Labelled
    ) -> LogisticCalibration | None:
        if self.pass_outliers or len(data.outliers) == 0:
            return None
        scores = [data.scores(d, data.outliers) for d in self.detectors_]
        # Fewer in-distribution rows than outliers may be held out: all of them count.
        weight = len(data.inliers) / len(inlier_scores)
        return LogisticCalibration.of(inlier_scores, np.mean(scores, axis=0), weight)

    def _scores(self, X: Any) -> list[Floats]:
        check_is_fitted(self)
        return [usable_scores(detector, X) for detector in self.detectors_]

    def _counts(self, scores: list[Floats]) -> NDArray[np.intp]:
        return self._reference.counts_below(scores)

    def _any_fitted(self) -> Any:
        return self.detectors_[0]


def _check_selection(fdr: float, method: str, confidence: float) -> None:
    for name, value in (("fdr", fdr), ("confidence", confidence)):
        if not 0 < value < 1:
            raise ValueError(f"{name}={value!r}: give a number in (0, 1).")
    if method not in ("bh", "by", "conditional", "e-values"):
        raise ValueError(
            f"method={method!r}: select takes 'bh', 'conditional', 'e-values' or 'by'."
        )
