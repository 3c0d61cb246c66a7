"""An alarm when a stream has left the training distribution."""

from __future__ import annotations

from math import log
from numbers import Real
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import check_is_fitted

from skood._sklearn_compat import HasMethods, Interval, fit_context
from skood.calibration._held_out import HeldOut, Labelled, usable_scores
from skood.calibration._schemes import conformal_splits
from skood.calibration._wrapper import AroundDetector
from skood.calibration.betting import ChangeMixture
from skood.model_selection._estimators import refuse_pyod
from skood.numerics.checked import checked_scores
from skood.numerics.seeds import RandomStateLike, stream_seed, uniform_draws

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from skood.plotting.martingale import MartingaleDisplay

__all__ = ["ShiftMonitor"]

Floats = NDArray[np.float64]

BLOCK = 512


class ShiftMonitor(AroundDetector):
    """A running test that a stream as a whole has left the training distribution.

    A detector flags single rows; this monitor watches all of them and raises one alarm,
    when many small surprises add up. It bets against the rows' p-values being uniform,
    and its capital, which starts at 1, is evidence against the stream being like the
    training data. The alarm is raised when the capital reaches 1 / `level`:

    As long as the stream's rows are exchangeable with each other and with the held-out
    in-distribution rows, the probability that the alarm is *ever* raised, however long
    the stream and whenever one looks, is at most `level` (Ville's inequality).

    This is exact, with no condition on the detector or the distribution: each row's
    p-value is its randomised rank among the held-out scores and the stream so far, and
    such p-values are independent and uniform (comparing with the held-out scores alone
    would leave them dependent). The price is that a change is slowly taken up into what
    the stream is compared with: a shift that has gone unnoticed for about as many rows
    as were held out will hardly be noticed later.

    Both kinds of shift count, to scores that are too low and to scores that are too
    high. The capital is a mixture over the time and the size of the change, see
    :class:`~skood.calibration.betting.ChangeMixture`: after a quiet stretch of t rows
    an alarm waits for about 2 log t more of the capital's logarithm.

    Parameters
    ----------
    detector : estimator, optional
        With ``score_samples`` or ``decision_function``, higher = more in-distribution:
        of this package (a calibrated one too), of scikit-learn, or a Pipeline that ends
        in one. It is cloned. None: what ``fit`` and ``update`` get are scores, of a
        detector that has not seen these rows; for a service that scores its rows
        already, and keeps no second detector in the monitor's file.
    level : float, default=0.01
        Probability of a false alarm, ever, in (0, 1): of streams, not of rows. See
        :term:`level`.
    cv : float, splitter, iterable or "prefit", default=None
        Which rows are held out: a share drawn at random (None: 0.2), a splitter or an
        iterable of one (train, test) pair, or ``"prefit"``: the detector is fitted
        already and ``fit`` gets rows that are new to it.
    random_state : int, RandomState instance or None, default=0
        Seeds the choice of the rows held out and the ranks of ties.

    Attributes
    ----------
    detector_ : estimator or None
        The fitted detector.
    calibration_scores_ : ndarray of shape (n_held_out,)
        The held-out scores, in ascending order.
    p_values_ : ndarray of shape (n_samples,)
        Of the stream's rows so far.
    log_martingale_ : ndarray of shape (n_samples,)
        Natural logarithm of the capital after each row of the stream.
    alarm_ : bool
        Whether the capital has ever reached 1 / `level`.
    alarm_at_ : int or None
        The row of the stream, counted from 0, at which it first did.

    Raises
    ------
    ValueError
        In ``fit``: no in-distribution rows, or a ``cv`` of several splits.
    TypeError
        In ``fit``: a PyOD detector, whose sign is the other way round.

    See Also
    --------
    ConformalDetector : P-values and alarms of single rows.
    AlarmRateMonitor : The same for the share of rows that are flagged.
    skood.plotting.MartingaleDisplay : The path of the capital.

    References
    ----------
    Vovk, Nouretdinov and Gammerman, "Testing exchangeability on-line", ICML 2003.
    Vovk, Gammerman and Shafer, "Algorithmic learning in a random world", 2nd ed.,
    Springer 2022, chapters 2 and 8.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.covariance import EllipticEnvelope
    >>> from skood.calibration import ShiftMonitor
    >>> rng = np.random.default_rng(0)
    >>> monitor = ShiftMonitor(EllipticEnvelope(random_state=0), level=0.01)
    >>> monitor.fit(rng.normal(size=(1000, 3))).update(rng.normal(size=(300, 3)))
    False
    >>> monitor.update(rng.normal(1.5, 1, size=(100, 3)))
    True
    >>> monitor.alarm_at_
    319
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "detector": [HasMethods("fit"), None],
        "level": [Interval(Real, 0, 1, closed="neither")],
        "cv": "no_validation",
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        detector: Any = None,
        level: float = 0.01,
        *,
        cv: Any = None,
        random_state: RandomStateLike = 0,
    ) -> None:
        self.detector = detector
        self.level = level
        self.cv = cv
        self.random_state = random_state

    @fit_context(prefer_skip_nested_validation=False)
    def fit(self, X: Any, y: ArrayLike | None = None) -> ShiftMonitor:
        """Fit the detector and score the rows kept from it.

        Parameters
        ----------
        X : array-like of length n
            What the detector takes. With ``cv="prefit"``, rows new to it; without a
            detector the scores of such rows.
        y : array-like of shape (n_samples,), optional
            Class labels; rows of label -1 are left out.

        Returns
        -------
        ShiftMonitor
            Itself, before the first row of a stream.
        """
        refuse_pyod(self.detector)
        with self._learning():
            data = Labelled.of(X, y)
            if self.detector is None:
                self.detector_ = None
                known = self._scores(X)[data.inliers]
            else:
                held_out = self._held_out(data)
                self.detector_ = held_out.detectors[0]
                known = held_out.scores[0]
            self.calibration_scores_ = np.sort(known)
            self._seed = stream_seed(self.random_state)
            self._remember_parameters()
            self.reset()
        return self

    def reset(self) -> ShiftMonitor:
        """Forget the stream, as if just fitted.

        Returns
        -------
        ShiftMonitor
            Itself.
        """
        check_is_fitted(self, "calibration_scores_")
        self._reference = self.calibration_scores_
        self._mixture = ChangeMixture()
        self.p_values_ = np.zeros(0)
        self.log_martingale_ = np.zeros(0)
        self.alarm_ = False
        self.alarm_at_: int | None = None
        return self

    def update(self, X: Any) -> bool:
        """Take in the next rows of the stream.

        Parameters
        ----------
        X : array-like of length n
            What the detector takes, or scores, in the order of the stream. It does not
            matter how the stream is cut into calls.

        Returns
        -------
        bool
            Whether the alarm has been raised, now or before.
        """
        check_is_fitted(self)
        scores = self._scores(X)
        p_values = self._next_p_values(scores)
        path = self._mixture.after(p_values)
        crossed = np.flatnonzero(path >= -log(self._as_fitted().level))
        if len(crossed) and not self.alarm_:
            self.alarm_ = True
            self.alarm_at_ = len(self.log_martingale_) + int(crossed[0])
        self.p_values_ = np.concatenate([self.p_values_, p_values])
        self.log_martingale_ = np.concatenate([self.log_martingale_, path])
        return self.alarm_

    def plot(self, *, ax: Axes | None = None) -> MartingaleDisplay:
        """Plot the path of the capital; see `MartingaleDisplay`.

        Parameters
        ----------
        ax : matplotlib axes, optional
            A new figure's without it.

        Returns
        -------
        skood.plotting.MartingaleDisplay
        """
        from skood.plotting.martingale import MartingaleDisplay

        return MartingaleDisplay.from_estimator(self, ax=ax)

    def _any_fitted(self) -> Any:
        return self.detector_

    def _scores(self, X: Any) -> Floats:
        if self.detector_ is not None:
            return usable_scores(self.detector_, X)
        return checked_scores(X, "scores")

    def _held_out(self, data: Labelled) -> HeldOut:
        if self.cv is None:
            data.need_two(self.detector)
        splits = conformal_splits(
            "split", self.cv, data, stratified=False, random_state=self.random_state
        )
        return HeldOut.of(self.detector, data, splits, pass_outliers=False)

    def _next_p_values(self, scores: Floats) -> Floats:
        parts = [np.zeros(0)]
        draws = 1 - uniform_draws(self._seed, len(self.p_values_), len(scores))
        for start in range(0, len(scores), BLOCK):
            block = scores[start : start + BLOCK]
            own = draws[start : start + BLOCK]  # in (0, 1]
            parts.append(online_p_values(self._reference, block, own))
            new = np.sort(block)
            places = np.searchsorted(self._reference, new)
            self._reference = np.insert(self._reference, places, new)
        return np.concatenate(parts)


def online_p_values(reference: Floats, scores: Floats, draws: Floats) -> Floats:
    """Return each score's randomised rank among all scores up to it, over their number.

    Parameters
    ----------
    reference : ndarray of shape (n_held_out,)
        Earlier scores, in ascending order.
    scores : ndarray of shape (n_samples,)
        New scores, in the order in which they came.
    draws : ndarray of shape (n_samples,)
        Uniform on (0, 1]: where a score stands among equal ones.

    Returns
    -------
    ndarray of shape (n_samples,)
        Independent and uniform on (0, 1] if all scores are exchangeable.
    """
    lower = np.tri(len(scores), k=-1, dtype=bool)
    below = np.searchsorted(reference, scores, side="left")
    up_to = np.searchsorted(reference, scores, side="right")
    before_below = (lower & (scores < scores[:, None])).sum(axis=1)
    before_equal = (lower & (scores == scores[:, None])).sum(axis=1)
    equal = up_to - below + before_equal + 1  # and itself
    seen = len(reference) + np.arange(1, len(scores) + 1)
    return (below + before_below + draws * equal) / seen
