"""From scores and a threshold to flags: what all that has an ``offset_`` shares."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, NoReturn

import numpy as np
from numpy.typing import NDArray
from sklearn.base import OutlierMixin
from sklearn.pipeline import Pipeline
from sklearn.utils.metaestimators import available_if

from skood.detectors.score_file import written_scores

__all__ = ["Scored", "Thresholded", "score_and_predict"]


class Scored(NamedTuple):
    """What one pass over some rows says.

    Attributes
    ----------
    scores : ndarray of float64, shape (n_samples,)
        ``score_samples``: higher is more in-distribution.
    decision : ndarray of float64, shape (n_samples,)
        ``decision_function``: the scores over the threshold, negative for outliers.
    flags : ndarray of int, shape (n_samples,)
        ``predict``: +1 for in-distribution rows, -1 for outliers.
    """

    scores: NDArray[np.float64]
    decision: NDArray[np.float64]
    flags: NDArray[np.int_]

    @classmethod
    def of(cls, scores: NDArray[np.float64], offset: float) -> Scored:
        """Return what scores say under a threshold."""
        decision = scores - offset
        return cls(scores, decision, np.where(decision >= 0, 1, -1))


def _never(detector: Any) -> NoReturn:
    raise AttributeError(
        "fit_predict is not available: the threshold is set for rows that were not "
        "fitted on, so use fit(X).predict(X_new)."
    )


class Thresholded(OutlierMixin):
    """Mixin of detectors: ``score_samples`` and ``offset_`` make all the rest.

    Like :class:`sklearn.neighbors.LocalOutlierFactor` with ``novelty=True``, such a
    detector is for new rows and has no ``fit_predict``.
    """

    novelty: ClassVar[bool] = True
    offset_: float

    @abstractmethod
    def score_samples(self, X: Any) -> NDArray[np.float64]:
        """Return how in-distribution each row is."""

    def score_and_predict(self, X: Any) -> Scored:
        """Return scores, decision values and flags from one pass over the rows.

        For a service, which wants them all: ``predict`` and ``score_samples`` would
        each compute the scores. :func:`skood.score_and_predict` does it for a Pipeline.

        Parameters
        ----------
        X : LayerFeatures or array-like of shape (n_samples, n_features)
            With the blocks seen in ``fit``.

        Returns
        -------
        Scored
            A named tuple (scores, decision, flags), each of shape (n_samples,).
        """
        scores = self.score_samples(X)
        return Scored.of(scores, self.offset_)

    def decision_function(self, X: Any) -> NDArray[np.float64]:
        """Return ``score_samples(X) - offset_``: negative for outliers.

        Parameters
        ----------
        X : LayerFeatures or array-like of shape (n_samples, n_features)
            With the blocks seen in ``fit``.

        Returns
        -------
        ndarray of float64, shape (n_samples,)
        """
        return self.score_and_predict(X).decision

    def predict(self, X: Any) -> NDArray[np.int_]:
        """Return +1 for in-distribution rows and -1 for outliers.

        Parameters
        ----------
        X : LayerFeatures or array-like of shape (n_samples, n_features)
            With the blocks seen in ``fit``.

        Returns
        -------
        ndarray of int, shape (n_samples,)
        """
        return self.score_and_predict(X).flags

    def score_to(self, path: str | Path, X: Any) -> NDArray[np.float64]:
        """Write the scores of any number of rows to a file.

        Memory does not depend on the number of rows, if X is read from the disk. The
        work goes where joblib's backend takes it, as that of ``score_samples`` does.

        Parameters
        ----------
        path : str or Path
            A ``.npy`` file, which appears when it is whole, or not at all. One that is
            there is replaced then.
        X : LayerFeatures or array-like of shape (n_samples, n_features)
            With the blocks seen in ``fit``.

        Returns
        -------
        ndarray of float64, shape (n_samples,)
            ``score_samples(X)`` to the last bit, memory-mapped, read-only.

        Examples
        --------
        >>> import tempfile
        >>> from pathlib import Path
        >>> import numpy as np
        >>> from skood import Mahalanobis
        >>> X = np.random.default_rng(0).normal(size=(100, 2))
        >>> detector = Mahalanobis().fit(X)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     scores = detector.score_to(Path(folder) / "scores.npy", X)
        ...     print(type(scores).__name__, len(scores))
        ...     del scores
        memmap 100
        """
        return written_scores(path, self.score_samples, X)

    def score_stream(self, batches: Iterable[Any]) -> Iterator[Scored]:
        """Yield scores, decision values and flags of one batch after another.

        For input that does not end. A batch is read when the scores of the one before
        have been taken.

        Parameters
        ----------
        batches : iterable of LayerFeatures or array-like
            Each with rows for ``score_samples``.

        Yields
        ------
        Scored
            A named tuple (scores, decision, flags) of the batch.

        Examples
        --------
        >>> from itertools import count
        >>> import numpy as np
        >>> from skood import Mahalanobis
        >>> rng = np.random.default_rng(0)
        >>> detector = Mahalanobis().fit(rng.normal(size=(100, 2)))
        >>> endless = ([[0.0, n]] for n in count())
        >>> for number, scored in enumerate(detector.score_stream(endless)):
        ...     if scored.flags[0] < 0:
        ...         break
        >>> number
        3
        """
        for batch in batches:
            yield self.score_and_predict(batch)

    @available_if(_never)
    def fit_predict(self, X: Any, y: Any = None) -> NoReturn:
        """Not available: the threshold is for rows that were not fitted on."""
        _never(self)


def score_and_predict(estimator: Any, X: Any) -> Scored:
    """Return scores, decision values and flags from one pass over the rows.

    Parameters
    ----------
    estimator : estimator
        A fitted detector with ``score_samples`` and ``offset_``, or a Pipeline that
        ends in one.
    X : array-like of length n_samples
        What it takes.

    Returns
    -------
    Scored
        A named tuple (scores, decision, flags), each of shape (n_samples,).

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> from skood import Mahalanobis, score_and_predict
    >>> X = np.random.default_rng(0).normal(size=(200, 3))
    >>> alarm = make_pipeline(StandardScaler(), Mahalanobis()).fit(X)
    >>> scored = score_and_predict(alarm, [[0.0, 0.0, 0.0], [9.0, 9.0, 9.0]])
    >>> scored.flags
    array([ 1, -1])
    """
    while isinstance(estimator, Pipeline) or hasattr(estimator, "best_estimator_"):
        if isinstance(estimator, Pipeline):
            X, estimator = estimator[:-1].transform(X), estimator[-1]
        else:
            estimator = estimator.best_estimator_
    if hasattr(estimator, "score_and_predict"):
        return estimator.score_and_predict(X)
    scores = np.asarray(estimator.score_samples(X), dtype=np.float64)
    return Scored.of(scores, estimator.offset_)
