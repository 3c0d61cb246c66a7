"""Mahalanobis distance to the nearest class mean, and its relatives."""

from __future__ import annotations

import warnings
from functools import partial
from numbers import Real
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.utils._param_validation import Interval, StrOptions

from skood._chunks import by_chunks, merged_statistics
from skood._device import to_numpy, unit_rows
from skood._gaussian import TiedGaussian
from skood._moments import ClassMoments
from skood.detectors.declared import field
from skood.detectors.incremental import IncrementalDetector
from skood.detectors.layer_detector import LayerDetector
from skood.detectors.training import Training
from skood.features import LayerFeatures, Layers
from skood.features.names import Key

__all__ = ["Mahalanobis"]


class Mahalanobis(LayerDetector, IncrementalDetector):
    r"""Squared Mahalanobis distance to the nearest class mean.

    Per layer, the score is :math:`-\min_c (x-\mu_c)^T \Sigma^{-1} (x-\mu_c)` with the
    classes' means and one covariance tied over the classes (divided by n). Without
    labels there is one Gaussian. Several layers are summed, or weighted.

    The threshold comes from leave-one-out scores in closed form: those that a training
    row would get from means and covariance fitted without it. In many dimensions the
    plain training distances are much too small.

    Parameters
    ----------
    layers : str or sequence of str, optional
        The layers to use; None takes all that have the statistic.
    statistic : str, default="avg"
        The statistic to use.
    relative : bool, default=False
        Subtract the distance to one background Gaussian fitted to all rows (relative
        Mahalanobis distance [2]_).
    normalize : bool, default=False
        Scale every row to length one first (Mahalanobis++ [3]_).
    layer_weights : {"sum", "logistic"}, default="sum"
        ``"logistic"`` weighs the layers' scores by a logistic regression between the
        in-distribution rows and the rows with label -1 given to ``fit`` [1]_.
    ridge : float, default=1e-10
        Added to the covariance's diagonal, relative to the mean variance.
    contamination : float, default=0.05
        Share of new in-distribution data that may be rejected, in (0, 0.5].
    device : str, default="auto"
        ``"cpu"``, a torch device, or ``"auto"``.

    Attributes
    ----------
    class_labels_ : ndarray of shape (C,) or None
        The class labels; None when fitted without ``y``.
    means_ : dict of (layer, statistic) to ndarray of shape (C, d)
        The class means.
    whitenings_ : dict of (layer, statistic) to ndarray of shape (d, d)
        W with W W^T the inverse of the tied covariance: ``x @ W`` is white.
    layer_weights_ : ndarray of shape (L,)
        The layers' weights in the score; ones unless learnt.
    offset_ : float
        The threshold on ``score_samples``.

    Raises
    ------
    ValueError
        In ``fit``: constant features; classes of one row only; ``relative=True``
        without two classes; ``layer_weights="logistic"`` without outliers.

    Warns
    -----
    UserWarning
        If a class has one row: it adds a mean, but nothing to the covariance.

    References
    ----------
    .. [1] Lee, Lee, Lee and Shin, "A simple unified framework for detecting
       out-of-distribution samples and adversarial attacks", NeurIPS 2018, Eq. (1)-(2).
    .. [2] Ren et al., "A simple fix to Mahalanobis distance for improving near-OOD
       detection", 2021.
    .. [3] Mueller and Hein, "Mahalanobis++: improving OOD detection via feature
       normalization", ICML 2025.

    Examples
    --------
    >>> import numpy as np
    >>> from skood import Mahalanobis
    >>> rng = np.random.default_rng(0)
    >>> y = np.repeat([0, 1], 100)
    >>> X = rng.normal(size=(200, 4)) + 8 * y[:, None]
    >>> detector = Mahalanobis().fit(X, y)
    >>> detector.predict([[0, 0, 0, 0], [8, 8, 8, 8], [4, 4, 4, 4]])
    array([ 1,  1, -1])
    """

    layers: Layers = field(default=None, kw_only=False)
    statistic: str = field(default="avg", kw_only=False)
    relative: bool = False
    normalize: bool = False
    layer_weights: str = "sum"
    ridge: float = 1e-10

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "relative": ["boolean"],
        "normalize": ["boolean"],
        "layer_weights": [StrOptions({"sum", "logistic"})],
        "ridge": [Interval(Real, 0, None, closed="left")],
    }

    def _fit(self, training: Training) -> None:
        if training.labels is not None:
            _check_class_sizes(training.labels, np.bincount(training.class_numbers))
        self._check_background(training.n_classes)
        self._set_gaussians(self._moments(training))
        self._weigh_layers(training)

    def _update(self, training: Training, moved: NDArray[np.intp] | None) -> None:
        if self.layer_weights != "sum":
            raise ValueError(
                f"layer_weights={self.layer_weights!r} compares all rows with all "
                "outliers: use fit, or layer_weights='sum'."
            )
        self._check_background(training.n_classes)
        moments = self._moments(training)
        if moved is not None:
            moments = {
                name: self._so_far[name].among(moved, training.n_classes).merge(more)
                for name, more in moments.items()
            }
        self._set_gaussians(moments)
        self._so_far: dict[Key, ClassMoments] = moments
        self.layer_weights_ = np.ones(len(moments))

    def _check_background(self, n_classes: int) -> None:
        if self.relative and n_classes < 2:
            raise ValueError(
                "relative=True compares classes with a background, and there is one "
                "class only: give y with at least two classes, or relative=False."
            )

    def _moments(self, training: Training) -> dict[Key, ClassMoments]:
        features, labels = training.features, training.class_numbers
        moments_of = partial(self._chunk_moments, n_classes=training.n_classes)
        return {
            name: merged_statistics(moments_of, features.select(*name), labels)
            for name in features.block_names
        }

    def _set_gaussians(self, moments: dict[Key, ClassMoments]) -> None:
        gaussians = {}
        for name, of_layer in moments.items():
            try:
                gaussians[name] = self._layer_gaussians(of_layer)
            except ValueError as error:
                raise ValueError(f"layer {name[0]!r} ({name[1]}): {error}") from error
        self._gaussians = gaussians

    # Not kept a second time: a file would hold the arrays twice.
    @property
    def means_(self) -> dict[Key, NDArray[np.float64]]:
        """The class means, by (layer, statistic)."""
        return {k: of_classes.means for k, (of_classes, *_) in self._items()}

    @property
    def whitenings_(self) -> dict[Key, NDArray[np.float64]]:
        """Maps under which rows are white, by (layer, statistic)."""
        return {k: of_classes.whitening for k, (of_classes, *_) in self._items()}

    def _chunk_moments(
        self, chunk: LayerFeatures, labels: NDArray[np.intp], n_classes: int
    ) -> ClassMoments:
        (x,) = self._prepared(chunk)
        return ClassMoments.of(x, labels, n_classes)

    def _layer_gaussians(self, moments: ClassMoments) -> tuple[TiedGaussian, ...]:
        """Return the Gaussian of the classes and, if wanted, the background's."""
        kinds = [moments, moments.pooled()] if self.relative else [moments]
        return tuple(TiedGaussian.of(kind, self.ridge) for kind in kinds)

    def _items(self) -> list[tuple[tuple[str, str], tuple[TiedGaussian, ...]]]:
        return list(self._gaussians.items())

    def _prepared(self, chunk: LayerFeatures) -> list[Any]:
        arrays = self._arrays(chunk)
        return [unit_rows(x) for x in arrays] if self.normalize else arrays

    # Scores ----------------------------------------------------------------------

    def _score(self, chunk: LayerFeatures) -> Any:
        layers = zip(self._prepared(chunk), self._gaussians.values(), strict=True)
        return self._weighted(
            [_margin([g.nearest(x) for g in gaussians]) for x, gaussians in layers]
        )

    def _unseen_scores(
        self, training: Training, rows: NDArray[np.intp]
    ) -> NDArray[np.float64]:
        return self._weighted(self._unseen_layer_scores(training))

    def _unseen_layer_scores(self, training: Training) -> list[NDArray[np.float64]]:
        features, labels = training.features, training.class_numbers
        return [
            by_chunks(
                lambda chunk, rows, g=gaussians: self._unseen_margin(  # type: ignore[misc]
                    chunk, labels[rows], g
                ),
                features.select(*name),
            )
            for name, gaussians in self._gaussians.items()
        ]

    def _unseen_margin(
        self,
        chunk: LayerFeatures,
        labels: NDArray[np.intp],
        gaussians: tuple[TiedGaussian, ...],
    ) -> NDArray[np.float64]:
        (x,) = self._prepared(chunk)
        known = [labels, _single_class(len(labels))]
        return to_numpy(
            _margin(
                [g.nearest_unseen(x, c) for g, c in zip(gaussians, known, strict=False)]
            )
        )

    def _weighted(self, layer_scores: list[Any]) -> Any:
        total = self.layer_weights_[0] * layer_scores[0]
        for weight, scores in zip(
            self.layer_weights_[1:], layer_scores[1:], strict=True
        ):
            total = total + weight * scores
        return total

    def _weigh_layers(self, training: Training) -> None:
        self.layer_weights_ = np.ones(len(self._gaussians))
        if self.layer_weights == "sum":
            return
        if len(training.outliers) == 0:
            raise ValueError(
                "layer_weights='logistic' learns from outliers, and y marks none: give "
                "fit rows with the label -1, or use layer_weights='sum'."
            )
        known = np.column_stack(self._unseen_layer_scores(training))
        unlike = np.column_stack(
            [self._layer_scores(training.outliers, name) for name in self._gaussians]
        )
        self.layer_weights_ = _separating_weights(known, unlike)

    def _layer_scores(
        self, features: LayerFeatures, name: tuple[str, str]
    ) -> NDArray[np.float64]:
        def scores(chunk: LayerFeatures, rows: slice) -> NDArray[Any]:
            (x,) = self._prepared(chunk)
            return to_numpy(_margin([g.nearest(x) for g in self._gaussians[name]]))

        return by_chunks(scores, features.select(*name))


def _margin(distances: list[Any]) -> Any:
    """Return minus the classes' distance, relative to the background's if given."""
    own, *background = distances
    return background[0] - own if background else -own


def _single_class(n_rows: int) -> NDArray[np.intp]:
    return np.zeros(n_rows, dtype=np.intp)


def _check_class_sizes(names: NDArray[Any], counts: NDArray[np.intp]) -> None:
    alone = names[counts == 1]
    if len(alone) == 0:
        return
    listed = ", ".join(map(repr, alone[:5].tolist())) + (
        ", ..." if len(alone) > 5 else ""
    )
    if len(alone) == len(names) and len(names) > 1:
        raise ValueError(
            f"every class has one row only (classes {listed}): there is no scatter "
            "within classes. Fit without y for one Gaussian."
        )
    warnings.warn(
        f"classes with one row only: {listed}. Each adds a mean but nothing to the "
        "covariance; merge or drop such classes.",
        UserWarning,
        stacklevel=6,
    )


def _separating_weights(
    known: NDArray[np.float64], unlike: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the layers' weights in a logistic regression on standardised scores."""
    scores = np.concatenate([known, unlike])
    inlier = np.repeat([1, 0], [len(known), len(unlike)])
    spread = scores.std(axis=0)
    spread[spread == 0] = 1.0
    model = LogisticRegression(class_weight="balanced", max_iter=1000)
    model.fit((scores - scores.mean(axis=0)) / spread, inlier)
    return np.asarray(model.coef_[0] / spread)
