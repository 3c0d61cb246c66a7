"""Scores of the network's output: MSP, MaxLogit and Energy."""

from __future__ import annotations

from abc import abstractmethod
from numbers import Real
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from sklearn.utils._param_validation import Interval

from skood._device import array_namespace
from skood._logsumexp import log_sum_exp
from skood.detectors.declared import field
from skood.detectors.incremental import IncrementalDetector
from skood.detectors.training import Training
from skood.features import LOGITS, LayerFeatures

__all__ = ["MSP", "Energy", "LogitDetector", "MaxLogit"]


class LogitDetector(IncrementalDetector):
    """Base class of detectors that read the logits and have nothing to learn from data.

    A subclass implements ``_logit_scores``. Only the threshold comes from ``fit``. A
    network is surer of its own training data than of new data, so on those rows the
    threshold comes out too high and too much new data is rejected: give ``fit``
    in-distribution rows that the network was not trained on, as X or as
    ``threshold_data``.

    Parameters
    ----------
    contamination : float, default=0.05
        Share of new in-distribution data that may be rejected, in (0, 0.5].
    device : str, default="auto"
        ``"cpu"``, a torch device, or ``"auto"``.
    """

    _unbiased = "nothing is learned from the rows"

    @abstractmethod
    def _logit_scores(self, logits: Any) -> Any:
        """Return the scores, shape (n,), of logits of shape (n, n_classes)."""

    def _needed(self, features: LayerFeatures) -> LayerFeatures:
        return features.select(LOGITS)

    def _array_key(self) -> tuple[str, str]:
        return (LOGITS, LOGITS)

    def _fit(self, training: Training) -> None:
        """Learn nothing."""

    def _update(self, training: Training, moved: NDArray[np.intp] | None) -> None:
        self._fit(training)

    def _score(self, chunk: LayerFeatures) -> Any:
        return self._logit_scores(self._array(chunk, LOGITS, LOGITS))


class MSP(LogitDetector):
    """Maximum softmax probability.

    The score is the probability of the predicted class, from 1 / n_classes to 1. It is
    computed in float64, where it is exactly 1 for rows whose best logit leads by more
    than about 37: such rows tie (in float32 they do from a lead of 17 on).

    The threshold comes from the scores of the rows given to ``fit``. A network is
    surer of its own training data than of new data: give in-distribution rows that it
    was not trained on, as X or as ``threshold_data``.

    Parameters
    ----------
    contamination : float, default=0.05
        Share of new in-distribution data that may be rejected, in (0, 0.5].
    device : str, default="auto"
        ``"cpu"``, a torch device, or ``"auto"``.

    Attributes
    ----------
    offset_ : float
        The threshold on ``score_samples``.

    Raises
    ------
    ValueError
        If there are no logits; in ``fit``, if they have one column only.

    References
    ----------
    Hendrycks and Gimpel, "A baseline for detecting misclassified and
    out-of-distribution examples in neural networks", ICLR 2017.

    Examples
    --------
    >>> import numpy as np
    >>> from skood import MSP
    >>> logits = np.random.default_rng(0).normal(size=(100, 3)) + [9, 0, 0]
    >>> detector = MSP().fit(logits)
    >>> detector.predict([[9, 0, 0], [1, 1, 1]])
    array([ 1, -1])
    >>> detector.score_samples([[1, 1, 1]])
    array([0.33333333])
    """

    def _fit(self, training: Training) -> None:
        if training.features.shape[1] == 1:
            raise ValueError(
                "the logits have one column (n_features = 1), whose softmax is always "
                "1. For a network with one output z for two classes, give the logits "
                "[0, z]."
            )

    def _logit_scores(self, logits: Any) -> Any:
        xp = array_namespace(logits)
        logits = xp.astype(logits, xp.float64)
        behind = logits - xp.max(logits, axis=1)[:, None]
        return 1 / xp.sum(xp.exp(behind), axis=1)


class MaxLogit(LogitDetector):
    """Largest logit.

    The threshold comes from the scores of the rows given to ``fit``. A network is
    surer of its own training data than of new data: give in-distribution rows that it
    was not trained on, as X or as ``threshold_data``.

    Parameters
    ----------
    contamination : float, default=0.05
        Share of new in-distribution data that may be rejected, in (0, 0.5].
    device : str, default="auto"
        ``"cpu"``, a torch device, or ``"auto"``.

    Attributes
    ----------
    offset_ : float
        The threshold on ``score_samples``.

    Raises
    ------
    ValueError
        If there are no logits.

    References
    ----------
    Hendrycks et al., "Scaling out-of-distribution detection for real-world settings",
    ICML 2022.

    Examples
    --------
    >>> import numpy as np
    >>> from skood import MaxLogit
    >>> logits = np.random.default_rng(0).normal(size=(100, 3)) + [9, 0, 0]
    >>> detector = MaxLogit().fit(logits)
    >>> detector.score_samples([[9, 0, 0], [1, 1, 1]])
    array([9., 1.])
    >>> detector.predict([[9, 0, 0], [1, 1, 1]])
    array([ 1, -1])
    """

    def _logit_scores(self, logits: Any) -> Any:
        return array_namespace(logits).max(logits, axis=1)


class Energy(LogitDetector):
    r"""Minus the energy of the logits.

    The score is :math:`T \log \sum_c e^{z_c / T}`, the authors' energy with its sign
    turned so that higher is more in-distribution. It tends to the largest logit for
    small T.

    The threshold comes from the scores of the rows given to ``fit``. A network is
    surer of its own training data than of new data: give in-distribution rows that it
    was not trained on, as X or as ``threshold_data``.

    Parameters
    ----------
    temperature : float, default=1.0
        T, positive.
    contamination : float, default=0.05
        Share of new in-distribution data that may be rejected, in (0, 0.5].
    device : str, default="auto"
        ``"cpu"``, a torch device, or ``"auto"``.

    Attributes
    ----------
    offset_ : float
        The threshold on ``score_samples``.

    Raises
    ------
    ValueError
        If there are no logits.

    References
    ----------
    Liu, Wang, Owens and Li, "Energy-based out-of-distribution detection", NeurIPS
    2020.

    Examples
    --------
    >>> import numpy as np
    >>> from skood import Energy
    >>> logits = np.random.default_rng(0).normal(size=(100, 3)) + [9, 0, 0]
    >>> detector = Energy().fit(logits)
    >>> detector.score_samples([[1, 1, 1]])
    array([2.09861229])
    >>> detector.predict([[9, 0, 0], [1, 1, 1]])
    array([ 1, -1])
    """

    temperature: float = field(default=1.0, kw_only=False)

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "temperature": [Interval(Real, 0, None, closed="neither")],
    }

    def _logit_scores(self, logits: Any) -> Any:
        return log_sum_exp(logits, self.temperature)
