"""What every detector shares: input checks, the rule for -1 rows, chunks, threshold."""

from __future__ import annotations

from abc import abstractmethod
from numbers import Real
from typing import Any, ClassVar, NoReturn, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, OutlierMixin, _fit_context
from sklearn.utils import assert_all_finite
from sklearn.utils._param_validation import Interval
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import (
    check_consistent_length,
    check_is_fitted,
    validate_data,
)

from skood._arrays import validated_table
from skood._chunks import by_chunks
from skood._device import on_device, resolved_device, to_numpy
from skood._labels import inlier_mask, label_array
from skood._version import Stamped
from skood.features import LayerFeatures, Layers

__all__ = ["BaseDetector"]

ARRAY = "array"
"""The layer name that a plain array gets."""

THRESHOLD_ROWS = 10_000
"""At most so many rows set the threshold: its rate is then known to 0.25 points."""

Self = TypeVar("Self", bound="BaseDetector")


def _never(detector: Any) -> NoReturn:
    raise AttributeError(
        "fit_predict is not available: the threshold is set for rows that were not "
        "fitted on, so use fit(X).predict(X_new)."
    )


class BaseDetector(Stamped, OutlierMixin, BaseEstimator):
    """Base class of all detectors.

    A subclass states its own parameters and implements ``_fit`` and ``_score``; it may
    override ``_needed`` (the blocks it reads), ``_unseen_scores`` (the scores of
    training rows as if they had not been trained on) and ``_array_key`` (what a plain
    array is).

    The conventions hold for all of them: ``score_samples`` is higher for more
    in-distribution; rows with the label -1 are never fitted on; ``offset_`` is the
    ``contamination`` quantile of the scores that in-distribution rows get when they
    are new to the detector, taken on at most 10,000 training rows (a seeded sample).
    Like :class:`sklearn.neighbors.LocalOutlierFactor` with ``novelty=True``, a
    detector is for new rows and has no ``fit_predict``.

    Parameters
    ----------
    layers : str or sequence of str, optional
        The layers to use; None takes all that have the statistic.
    statistic : str, default="avg"
        The statistic to use.
    contamination : float, default=0.05
        Share of new in-distribution data that may be rejected, in (0, 0.5].
    device : str, default="auto"
        ``"cpu"``, a torch device, or ``"auto"``: CUDA when torch is loaded and sees
        one, else the CPU.
    """

    novelty: ClassVar[bool] = True

    _unnamed_layers: ClassVar[tuple[str | None, ...]] = (None,)
    """Values of ``layers`` that name none: those that a plain array goes with."""

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "layers": [str, list, tuple, None],
        "statistic": [str],
        "contamination": [Interval(Real, 0, 0.5, closed="right")],
        "device": "no_validation",
    }

    def __init__(
        self,
        *,
        layers: Layers = None,
        statistic: str = "avg",
        contamination: float = 0.05,
        device: Any = "auto",
    ) -> None:
        self.layers = layers
        self.statistic = statistic
        self.contamination = contamination
        self.device = device

    # What a method is made of ----------------------------------------------------

    @abstractmethod
    def _fit(
        self,
        features: LayerFeatures,
        classes: NDArray[np.intp] | None,
        outliers: LayerFeatures,
    ) -> None:
        """Learn from in-distribution rows.

        ``classes`` are indices into ``classes_``, or None when ``fit`` got no ``y``.
        ``outliers`` (perhaps of no rows) may only choose or weigh, never be data.
        """

    @abstractmethod
    def _score(self, chunk: LayerFeatures) -> Any:
        """Return the scores of a chunk, an array of shape (rows,) of any device."""

    def _needed(self, features: LayerFeatures) -> LayerFeatures:
        """Return the blocks that this detector reads."""
        return features.select(self.layers, self.statistic)

    def _array_key(self) -> tuple[str, str]:
        """Return the layer and statistic that a plain array stands for."""
        return (ARRAY, self.statistic)

    def _unseen_scores(
        self,
        features: LayerFeatures,
        classes: NDArray[np.intp] | None,
        rows: NDArray[np.intp],
    ) -> NDArray[np.float64]:
        """Return the scores that training rows would get if they were new.

        ``rows`` are their numbers among the in-distribution rows of ``fit``.
        """
        return self._scores(features)

    def _threshold(self, scores: NDArray[np.float64]) -> float:
        """Return the threshold that the scores of unseen rows ask for."""
        return float(np.quantile(scores, self.contamination))

    # The estimator ---------------------------------------------------------------

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self: Self, X: Any, y: ArrayLike | None = None) -> Self:
        """Fit the detector on the in-distribution rows.

        Parameters
        ----------
        X : LayerFeatures or array-like of shape (n, d)
            A plain array is one layer.
        y : array-like of shape (n,), optional
            Class labels; -1 marks rows that are outliers and are not fitted on.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If a parameter or the data are not usable; the message says which and why.
        """
        features = self._needed(self._as_features(X, reset=True))
        self._widths = features.widths
        inliers, classes = self._read_labels(y, len(features))
        known = features if inliers.all() else features[inliers]
        self._fit(known, classes, features[~inliers])
        rows = _threshold_rows(len(known))
        sample = known if len(rows) == len(known) else known[rows]
        chosen = None if classes is None else classes[rows]
        scores = self._unseen_scores(sample, chosen, rows)
        self.offset_ = self._threshold(scores)
        return self

    def score_samples(self, X: Any) -> NDArray[np.float64]:
        """Return how in-distribution each row is.

        Parameters
        ----------
        X : LayerFeatures or array-like of shape (n, d)
            With the blocks seen in ``fit``.

        Returns
        -------
        ndarray of float64, shape (n,)
            Higher is more in-distribution.
        """
        return self._scores(self._known_features(X))

    def decision_function(self, X: Any) -> NDArray[np.float64]:
        """Return ``score_samples(X) - offset_``: negative for outliers.

        Parameters
        ----------
        X : LayerFeatures or array-like of shape (n, d)
            With the blocks seen in ``fit``.

        Returns
        -------
        ndarray of float64, shape (n,)
        """
        scores = self.score_samples(X)
        return scores - self.offset_

    def predict(self, X: Any) -> NDArray[np.int_]:
        """Return +1 for in-distribution rows and -1 for outliers.

        Parameters
        ----------
        X : LayerFeatures or array-like of shape (n, d)
            With the blocks seen in ``fit``.

        Returns
        -------
        ndarray of int, shape (n,)
        """
        return np.where(self.decision_function(X) >= 0, 1, -1)

    @available_if(_never)
    def fit_predict(self, X: Any, y: Any = None) -> NoReturn:
        """Not available: the threshold is for rows that were not fitted on."""
        _never(self)

    # Input -----------------------------------------------------------------------

    def _as_features(self, X: Any, *, reset: bool) -> LayerFeatures:
        if isinstance(X, LayerFeatures):
            if reset:
                validate_data(self, X, reset=True, skip_check_array=True)
            _check_not_empty(X)
            return X
        dtypes = [np.float64, np.float32]
        X = validated_table(
            self, X, reset=reset, dtype=dtypes, ensure_min_samples=2 if reset else 1
        )
        if self.layers not in self._unnamed_layers:
            raise ValueError(
                f"layers={self.layers!r} but X is a plain array, which has no named "
                "layers: give LayerFeatures, or layers=None."
            )
        return LayerFeatures({self._array_key(): X})

    def _known_features(self, X: Any) -> LayerFeatures:
        """Return the blocks that were fitted on, checked to be as they were."""
        check_is_fitted(self)
        features = self._needed(self._as_features(X, reset=False))
        if features.widths != self._widths:
            raise ValueError(
                f"X has the blocks {_listing(features.widths)}, but this "
                f"{type(self).__name__} was fitted on {_listing(self._widths)}."
            )
        return features

    def _read_labels(
        self, y: ArrayLike | None, n_rows: int
    ) -> tuple[NDArray[np.bool_], NDArray[np.intp] | None]:
        self.classes_: NDArray[Any] | None = None
        if y is None:
            return np.ones(n_rows, dtype=bool), None
        labels = label_array(y)
        if len(labels) != n_rows:
            check_consistent_length(np.empty(n_rows), labels)
        inliers = inlier_mask(labels)
        if not inliers.any():
            raise ValueError(
                "every row of y is -1: fit needs in-distribution rows, with class "
                "labels other than -1."
            )
        self.classes_, classes = np.unique(labels[inliers], return_inverse=True)
        return inliers, classes

    def _array(self, chunk: LayerFeatures, layer: str, statistic: str) -> Any:
        """Return one block of a chunk, checked, as float32 or float64 on the device."""
        block = chunk.block(layer, statistic)
        if block.dtype not in (np.float32, np.float64):
            block = block.astype(np.float32 if block.dtype.itemsize < 4 else np.float64)
        assert_all_finite(block, input_name=f"layer {layer!r} ({statistic})")
        return on_device(block, resolved_device(self.device))

    def _arrays(self, chunk: LayerFeatures) -> list[Any]:
        """Return the blocks of a chunk, in order."""
        return [self._array(chunk, *name) for name in chunk.block_names]

    def _scores(self, features: LayerFeatures) -> NDArray[np.float64]:
        return by_chunks(lambda chunk, rows: to_numpy(self._score(chunk)), features)


def _threshold_rows(n_rows: int) -> NDArray[np.intp]:
    if n_rows <= THRESHOLD_ROWS:
        return np.arange(n_rows)
    rng = np.random.default_rng(0)
    return np.sort(rng.choice(n_rows, THRESHOLD_ROWS, replace=False))


def _check_not_empty(features: LayerFeatures) -> None:
    if len(features) == 0:
        raise ValueError(
            f"X has 0 rows (shape {features.shape}): a minimum of 1 is required."
        )


def _listing(widths: dict[tuple[str, str], int]) -> str:
    return ", ".join(f"{'/'.join(name)} ({width})" for name, width in widths.items())
