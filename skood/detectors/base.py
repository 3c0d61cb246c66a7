"""What every detector shares: input checks, the rule for -1 rows, chunks, threshold."""

from __future__ import annotations

import math
from abc import abstractmethod
from functools import partial
from numbers import Real
from typing import Any, ClassVar, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.utils import Tags, assert_all_finite
from sklearn.utils.validation import check_consistent_length

from skood._learning import Learning
from skood._sklearn_compat import Interval, fit_context, validate_data
from skood._version import Stamped
from skood.detectors.as_if_new import ScoredAsIfNew
from skood.detectors.declared import Declared
from skood.detectors.threshold import (
    THRESHOLD_ROWS,
    NotFiniteError,
    threshold_for,
)
from skood.detectors.thresholded import Thresholded
from skood.detectors.training import Training
from skood.features import LayerFeatures
from skood.features.chunks import by_chunks
from skood.features.tensors import TensorFeatures
from skood.features.workers import workers
from skood.numerics.arrays import validated_table
from skood.numerics.device import on_device, resolved_device, to_numpy
from skood.numerics.graph import in_graph
from skood.numerics.labels import class_numbers, inlier_mask, label_array

__all__ = ["ARRAY", "BaseDetector"]

ARRAY = "array"
"""The layer name that a plain array gets."""

LARGEST = np.finfo(np.float64).max

Self = TypeVar("Self", bound="BaseDetector")


class BaseDetector(
    ScoredAsIfNew, Declared, Stamped, Learning, Thresholded, BaseEstimator
):
    """Base class of all detectors: a subclass is its formula.

    A subclass declares its parameters as annotated class attributes and implements
    ``_fit`` (learn from a :class:`~skood.detectors.training.Training`) and ``_score``.
    It may override ``_needed`` (the blocks it reads), ``_array_key`` (what a plain
    array is) and ``_unseen_scores`` (exact leave-one-out scores of training rows).
    :class:`~skood.detectors.layers.base.LayerDetector` is the base of those that
    read layers of one statistic.

    What the base sees to: ``score_samples`` is higher for more in-distribution; rows
    with the label -1 are never fitted on; ``fit`` begins with nothing of an earlier
    ``fit``, and one that fails leaves nothing; parameters set after ``fit`` change
    nothing until the next ``fit`` (but for ``device``).

    **The threshold** ``offset_`` is for new rows. It comes, in this order, from
    ``threshold_data``; from exact leave-one-out scores, where a class has them; from
    rows held out of other fits (10 folds up to 2,000 rows, 5 folds up to 5,000, above
    that one fifth, all seeded; with under 10 rows a column twice, to see how the
    threshold moves with the rows), after which the detector is fitted on all; one that
    draws at random keeps a fifth out for good where rows are few for the columns, or up
    to two fifths where the rate takes as many. It is
    the k-th smallest of n such scores with k = floor(contamination * (n + 1)), of at
    most 10,000 rows. A class whose scores of training rows are those of new rows says
    why in ``_unbiased``.

    Parameters
    ----------
    contamination : float, default=0.05
        Share of new in-distribution rows that are flagged, in (0, 0.5]. See
        :term:`contamination`.
    device : str, default="auto"
        ``"cpu"``, a torch device, or ``"auto"``: CUDA when torch is loaded and sees
        one, else the CPU.

    Attributes
    ----------
    class_labels_ : ndarray of shape (n_classes,) or None
        The class labels seen in ``fit``; None without ``y``. (Not ``classes_``, by
        which scikit-learn would take a detector for a classifier.)
    offset_ : float
        The threshold on ``score_samples``.

    Examples
    --------
    >>> import numpy as np
    >>> from skood.detectors import BaseDetector
    >>> class Distance(BaseDetector):
    ...     power: float = 2.0
    ...
    ...     def _fit(self, training):
    ...         (x,) = self._arrays(training.features)
    ...         self.mean_ = x.mean(axis=0)
    ...
    ...     def _score(self, chunk):
    ...         (x,) = self._arrays(chunk)
    ...         return -(abs(x - self.mean_) ** self.power).sum(axis=1)
    >>> detector = Distance(power=1).fit(np.random.default_rng(0).normal(size=(99, 2)))
    >>> detector.predict([[0, 0], [9, 9]])
    array([ 1, -1])
    """

    contamination: float = 0.05
    device: Any = "auto"

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "contamination": [Interval(Real, 0, 0.5, closed="right")],
        "device": "no_validation",
    }

    # What a method is made of ----------------------------------------------------

    @abstractmethod
    def _fit(self, training: Training) -> None:
        """Learn from in-distribution rows; outliers may only choose or weigh."""

    @abstractmethod
    def _score(self, chunk: LayerFeatures) -> Any:
        """Return the scores of a chunk, an array of shape (rows,) of any device."""

    def _needed(self, features: LayerFeatures) -> LayerFeatures:
        """Return the blocks that this detector reads."""
        return features

    def _array_key(self) -> tuple[str, str]:
        """Return the layer and statistic that a plain array stands for."""
        return (ARRAY, "avg")

    def _takes_arrays(self) -> bool:
        """Return whether a plain array will do, under the parameters as they are."""
        return True

    def _threshold(self, scores: NDArray[np.float64]) -> float:
        """Return the threshold that the scores of unseen rows ask for."""
        return threshold_for(scores, self.contamination)

    # The estimator ---------------------------------------------------------------

    @fit_context(prefer_skip_nested_validation=True)
    def fit(
        self: Self, X: Any, y: ArrayLike | None = None, threshold_data: Any = None
    ) -> Self:
        """Fit the detector on the in-distribution rows.

        Parameters
        ----------
        X : LayerFeatures or array-like of shape (n_samples, n_features)
            A plain array is one layer.
        y : array-like of shape (n_samples,), optional
            Class labels; -1 marks rows that are outliers and are not fitted on. Labels
            0 and 1 are two classes, not inliers and outliers.
        threshold_data : LayerFeatures or array-like, optional
            In-distribution rows that set the threshold and are not fitted on. Where X
            is what the network itself was trained on, give rows that it has not seen:
            it is surer of its own training data than of new data, so that X would put
            the threshold too high.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If a parameter or the data are not usable; the message says which and why.
            The detector is then not fitted, whatever it was before.

        Warns
        -----
        UserWarning
            If the rows are too few for the rate asked, or tie at the threshold.
        """
        with self._learning(), workers():
            self._fit_all(self._training(X, y), threshold_data)
        return self

    def score_samples(self, X: Any) -> NDArray[np.float64]:
        """Return how in-distribution each row is.

        Parameters
        ----------
        X : LayerFeatures or array-like of shape (n_samples, n_features)
            With the blocks seen in ``fit``.

        Returns
        -------
        ndarray of float64, shape (n_samples,)
            Higher is more in-distribution. Finite: a row so far out that its score
            would be infinite has the smallest number of float64.
        """
        detector = self._as_fitted()
        return _within_float64(detector._scores(detector._known_features(X)))

    # Fitting ---------------------------------------------------------------------

    def _training(self, X: Any, y: ArrayLike | None) -> Training:
        """Read what is to be learnt from, and set what is known of X."""
        features = self._needed(self._as_features(X, reset=True))
        self._widths = features.widths
        return self._read_labels(features, y)

    def _fit_all(self, training: Training, threshold_data: Any) -> None:
        if len(training) < 2:
            raise ValueError(
                f"fit got n_samples={len(training)} in-distribution row: a minimum of "
                "2 is required, since one row says nothing of how rows differ."
            )
        unfitted = dict(vars(self))
        self._learn(training)
        self._remember_parameters()
        if threshold_data is None:
            scores = self._scores_as_if_new(training, unfitted)
        else:
            scores = self._scores_of_new(threshold_data)
        self._set_threshold(scores, training.features)

    def _learn(self, training: Training) -> None:
        self.class_labels_ = training.labels
        self._fit(training)

    def _scores_of_new(self, threshold_data: Any) -> NDArray[np.float64]:
        try:
            return self._scores(self._known_features(threshold_data))
        except ValueError as error:
            raise ValueError(f"threshold_data: {error}") from error

    def _set_threshold(
        self, scores: NDArray[np.float64], features: LayerFeatures
    ) -> None:
        if np.isnan(scores).any() or not np.isfinite(offset := self._threshold(scores)):
            raise NotFiniteError(
                f"{type(self).__name__} found no finite threshold: "
                f"{int((~np.isfinite(scores)).sum())} of the scores of {len(scores)} "
                f"in-distribution rows are not finite. {_largest_entry(features)}"
            )
        self.offset_ = offset

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = self._takes_arrays()
        return tags

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
        if not self._takes_arrays():
            layers = getattr(self, "layers", None)
            if layers is None:
                raise ValueError(
                    "X is a plain array, which has no named layers, and "
                    f"{type(self).__name__} reads several blocks: give LayerFeatures."
                )
            raise ValueError(
                f"layers={layers!r} but X is a plain array, which has no named "
                "layers: give LayerFeatures, or layers=None."
            )
        return LayerFeatures({self._array_key(): X})

    def _known_features(self, X: Any) -> LayerFeatures:
        """Return the blocks that were fitted on, checked to be as they were."""
        features = self._needed(self._as_features(X, reset=False))
        if features.widths != self._widths:
            raise ValueError(
                f"X has the blocks {_listing(features.widths)}, but this "
                f"{type(self).__name__} was fitted on {_listing(self._widths)}."
            )
        return features

    def _read_labels(self, features: LayerFeatures, y: ArrayLike | None) -> Training:
        """Tell in-distribution rows, with their classes, from outliers."""
        if y is None:
            return Training(features, features[:0])
        labels = label_array(y)
        if len(labels) != len(features):
            check_consistent_length(np.empty(len(features)), labels)
        inliers = inlier_mask(labels)
        if not inliers.any():
            raise ValueError(
                "every row of y is -1: fit needs in-distribution rows, with class "
                "labels other than -1."
            )
        known = features if inliers.all() else features[inliers]
        names, classes = class_numbers(labels[inliers])
        return Training(known, features[~inliers], classes, names)

    def _array(
        self, chunk: LayerFeatures, layer: str, statistic: str, device: Any = None
    ) -> Any:
        """Return one block of a chunk, checked, as float32 or float64 on the device."""
        block = chunk.block(layer, statistic)
        if in_graph():
            return block
        if block.dtype not in (np.float32, np.float64):
            block = block.astype(np.float32 if block.dtype.itemsize < 4 else np.float64)
        if not _has_finite_sum(block):
            assert_all_finite(block, input_name=f"layer {layer!r} ({statistic})")
        # Rows in C order: sums over other strides round otherwise, so that a row would
        # score differently alone.
        block = np.ascontiguousarray(block)
        return on_device(block, resolved_device(device or self.device))

    def _arrays(self, chunk: LayerFeatures, device: Any = None) -> list[Any]:
        """Return the blocks of a chunk, in order."""
        return [self._array(chunk, *name, device) for name in chunk.block_names]

    # In a graph --------------------------------------------------------------------

    def _graph_scored(self, X: Any) -> tuple[Any, Any | None]:
        """Return scores and p-values of tensors, by operations that become a graph.

        Those of ``_score`` do. Where it turns to NumPy or looks at the rows' number or
        values, it asks :func:`~skood.numerics.graph.in_graph` and does otherwise; or
        the class's entry in the registry says why it has no graph.

        Parameters
        ----------
        X : tensor or TensorFeatures
            Of unknown rows.

        Returns
        -------
        scores, p_values : tensor of shape (n,)
            No p-values (None) where ``fit`` has calibrated none.
        """
        fitted = self._as_fitted()
        if not isinstance(X, LayerFeatures):
            X = TensorFeatures({fitted._array_key(): X})
        scores = fitted._score(fitted._needed(X))
        return scores.double(), None

    def _scores(self, features: LayerFeatures) -> NDArray[np.float64]:
        return by_chunks(partial(_chunk_scores, self._without_rows()), features)

    def _without_rows(self: Self) -> Self:
        """Return this detector without what it needs to learn more, and not to score.

        It goes to every worker.
        """
        return self


def _chunk_scores(detector: BaseDetector, chunk: LayerFeatures) -> NDArray[np.float64]:
    with np.errstate(over="ignore"):  # of a row that is far out, what is right
        return to_numpy(detector._score(chunk))


def _within_float64(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return finite scores: the largest number for what is beyond float64."""
    if _has_finite_sum(scores):
        return scores
    return np.clip(scores, -LARGEST, LARGEST)


def _check_not_empty(features: LayerFeatures) -> None:
    if len(features) == 0:
        raise ValueError(
            f"X has 0 rows (shape {features.shape}): a minimum of 1 is required."
        )


def _has_finite_sum(block: NDArray[Any]) -> bool:
    """Return whether a sum proves all entries finite, which takes no time."""
    with np.errstate(over="ignore", invalid="ignore"):
        return math.isfinite(block.sum())


def _listing(widths: dict[tuple[str, str], int]) -> str:
    return ", ".join(f"{'/'.join(name)} ({width})" for name, width in widths.items())


def _largest_entry(features: LayerFeatures) -> str:
    """Return where the entry of the largest size is, and what to do about it."""
    sizes = {}
    for name in features.block_names:
        chunks = features.select_blocks([name]).iter_chunks(THRESHOLD_ROWS)
        columns = [np.abs(c.block(*name)).max(axis=0, initial=0) for c in chunks]
        sizes[name] = np.max(columns, axis=0)
    layer = max(sizes, key=lambda name: sizes[name].max(initial=0))
    column = int(sizes[layer].argmax())
    return (
        f"The largest entry, {sizes[layer][column]:.3g} in size, is in column {column} "
        f"of layer {layer[0]!r} ({layer[1]}): scale the columns (StandardScaler), give "
        "float64, or leave such rows out."
    )
