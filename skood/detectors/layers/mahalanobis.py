"""Mahalanobis distance to the nearest class mean, and its relatives."""

from __future__ import annotations

import warnings
from functools import partial
from numbers import Real
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from skood._sklearn_compat import Interval, StrOptions
from skood.detectors.declared import field
from skood.detectors.incremental import IncrementalDetector
from skood.detectors.layers.base import LayerDetector
from skood.detectors.layers.weighing import check_weighable, separating_weights
from skood.detectors.training import Training
from skood.features import LayerFeatures, Layers
from skood.features.chunks import by_chunks, chunk_results, merged_statistics
from skood.features.names import Key
from skood.numerics.device import array_namespace, to_numpy
from skood.numerics.gaussian import TiedGaussian
from skood.numerics.moments import ClassMoments, FourthMoment, PartMoments
from skood.numerics.rows import unit_rows
from skood.numerics.shrinkage import SHRUNK, Shrinkage

__all__ = ["Mahalanobis"]


class Mahalanobis(LayerDetector, IncrementalDetector):
    r"""Squared Mahalanobis distance to the nearest class mean.

    Per layer, the score is :math:`-\min_c (x-\mu_c)^T \Sigma^{-1} (x-\mu_c)` with the
    classes' means and one covariance tied over the classes (divided by n). Without
    labels there is one Gaussian. Several layers are summed, weighted, or taken
    together. Means and covariance are computed in float64 from centred differences,
    and rows are whitened in float64, whatever type they have: in float32 the directions
    of little variance, which decide a distance, are lost. A row's score is the same, to
    the last bit, whatever stands beside it.

    The threshold comes from leave-one-out scores in closed form: those that a training
    row would get from means and covariance fitted without it (the shrinkage is held as
    it is). In many dimensions the plain training distances are much too small. Where
    rows span fewer directions than there are features, or a row's leverage is so near 1
    that rounding would decide, rows are held out instead: of further fits, or, where
    there are about as many rows as features, so that a tenth of them matters, or one, a
    fifth of this fit itself (up to two, where the rate takes as many).

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
    covariance : {"empirical", "ledoit_wolf", "oas"}, default="empirical"
        The estimator of the tied covariance: that of scikit-learn with this name, on
        the rows less their class means. The shrunk ones are for few rows: they draw
        the covariance to a multiple of the identity, in the features' own units.
        ``"ledoit_wolf"`` looks at the rows twice.
    joint : bool, default=False
        Take all layers as one vector, with one covariance that knows how they go
        together, instead of a sum over layers. With `normalize` each layer's part has
        length one.
    reg_covar : float, default=1e-12
        The ridge: added to each feature's variance, relative to it, so that units are
        no matter. (A feature that is constant counts as one with the median of the
        others' variances: it says nothing about the training rows, and a new row that
        differs in it is far away.)
    contamination : float, default=0.05
        Share of new in-distribution rows that are flagged, in (0, 0.5]. See
        :term:`contamination`.
    device : str, default="auto"
        ``"cpu"``, a torch device, or ``"auto"``.

    Attributes
    ----------
    class_labels_ : ndarray of shape (n_classes,) or None
        The class labels; None when fitted without ``y``.
    means_ : dict of (layer, statistic) to ndarray of shape (n_classes, n_features)
        The class means.
    whitenings_ : dict of (layer, statistic) to ndarray
        W of shape (n_features, n_features) with W W^T the inverse of the tied
        covariance: ``x @ W`` is white.
    covariances_ : dict of (layer, statistic) to ndarray
        The tied covariance, with ridge and shrinkage, (n_features, n_features).
    shrinkages_ : dict of (layer, statistic) to float
        How far each covariance was drawn to a multiple of the identity; 0 for
        ``"empirical"``.
    layer_weights_ : dict of (layer, statistic) to float
        The layers' weights in the score; ones unless learnt.
    offset_ : float
        The threshold on ``score_samples``.

    Raises
    ------
    ValueError
        In ``fit``: constant features, or values whose squares do not fit; classes of
        one row only; a singular covariance with ``reg_covar=0``; ``relative=True``
        without two classes; ``layer_weights="logistic"`` without outliers, or with
        ``joint=True``. In ``partial_fit``: ``layer_weights="logistic"``,
        ``covariance="ledoit_wolf"``.

    Warns
    -----
    UserWarning
        If a class has one row: it adds a mean, but nothing to the covariance. If the
        empirical covariance of a layer is singular, or would be without one of the
        rows: the ridge alone says then how far a row is in the directions in which the
        training rows do not vary.

    See Also
    --------
    LSGM : Mixtures in place of one Gaussian a class, over layers.
    KNN : Distances to rows in place of means.

    Notes
    -----
    With ``joint=True`` the attributes have the one key ``("joint", statistic)``.

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
    covariance: str = "empirical"
    joint: bool = False
    reg_covar: float = 1e-12

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "relative": ["boolean"],
        "normalize": ["boolean"],
        "layer_weights": [StrOptions({"sum", "logistic"})],
        "covariance": [StrOptions({"empirical", *SHRUNK})],
        "joint": ["boolean"],
        "reg_covar": [Interval(Real, 0, None, closed="left")],
    }

    def _fit(self, training: Training) -> None:
        if training.labels is not None:
            _check_class_sizes(training.labels, np.bincount(training.class_numbers))
        self._check_background(training.n_classes)
        moments = self._moments(training)
        self._set_gaussians(moments, self._fourth_moments(training, moments))
        self._weigh_layers(training)

    def _update(self, training: Training, moved: NDArray[np.intp] | None) -> None:
        if self.layer_weights != "sum":
            raise ValueError(
                f"layer_weights={self.layer_weights!r} compares all rows with all "
                "outliers: use fit, or layer_weights='sum'."
            )
        if self.covariance == "ledoit_wolf":
            raise ValueError(
                "covariance='ledoit_wolf' looks at all rows twice: use fit, or "
                "covariance='oas'."
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
        self.layer_weights_ = dict.fromkeys(moments, 1.0)

    def _check_background(self, n_classes: int) -> None:
        if self.relative and n_classes < 2:
            raise ValueError(
                "relative=True compares classes with a background, and there is one "
                "class only: give y with at least two classes, or relative=False."
            )

    def _groups(self, features: LayerFeatures) -> dict[Key, LayerFeatures]:
        """Return the blocks that have a covariance in common, by its key."""
        if self.joint:
            return {("joint", self.statistic): features}
        return {name: features.select(*name) for name in features.block_names}

    def _moments(self, training: Training) -> dict[Key, ClassMoments]:
        labels, n_classes = training.class_numbers, training.n_classes
        return {
            name: merged_statistics(self._chunk_moments, group, labels).whole(n_classes)
            for name, group in self._groups(training.features).items()
        }

    def _chunk_moments(
        self, chunk: LayerFeatures, labels: NDArray[np.intp]
    ) -> PartMoments:
        (x,) = self._prepared(chunk)
        return PartMoments.of(x, labels)

    def _fourth_moments(
        self, training: Training, moments: dict[Key, ClassMoments]
    ) -> dict[Key, list[float]]:
        """Return what Ledoit's and Wolf's estimator needs for each Gaussian."""
        if self.covariance != "ledoit_wolf":
            return {}
        classes = [training.class_numbers, _single_class(len(training))]
        return {
            name: [
                merged_statistics(
                    partial(self._chunk_fourth, means=means), group, labels
                ).total
                for means, labels in zip(
                    [moments[name].means, moments[name].mean()[None]],
                    classes[: 1 + self.relative],
                    strict=False,
                )
            ]
            for name, group in self._groups(training.features).items()
        }

    def _chunk_fourth(
        self,
        chunk: LayerFeatures,
        labels: NDArray[np.intp],
        means: NDArray[np.float64],
    ) -> FourthMoment:
        (x,) = self._prepared(chunk)
        return FourthMoment.of(x, labels, means)

    def _set_gaussians(
        self,
        moments: dict[Key, ClassMoments],
        fourths: dict[Key, list[float]] | None = None,
    ) -> None:
        gaussians = {}
        for name, of_layer in moments.items():
            fourth = (fourths or {}).get(name)
            try:
                gaussians[name] = self._layer_gaussians(of_layer, fourth)
            except ValueError as error:
                raise ValueError(f"layer {name[0]!r} ({name[1]}): {error}") from error
        self._gaussians = gaussians
        _warn_of_singular({name: of_layer[0] for name, of_layer in gaussians.items()})

    # Not kept a second time: a file would hold the arrays twice.
    @property
    def means_(self) -> dict[Key, NDArray[np.float64]]:
        """The class means, by (layer, statistic)."""
        return {k: of_classes.means for k, (of_classes, *_) in self._items()}

    @property
    def whitenings_(self) -> dict[Key, NDArray[np.float64]]:
        """Maps under which rows are white, by (layer, statistic)."""
        return {k: g.whitening / g.scale[:, None] for k, (g, *_) in self._items()}

    @property
    def covariances_(self) -> dict[Key, NDArray[np.float64]]:
        """The tied covariances, by (layer, statistic)."""
        return {k: g.covariance() for k, (g, *_) in self._items()}

    @property
    def shrinkages_(self) -> dict[Key, float]:
        """The covariances' shrinkages, by (layer, statistic)."""
        return {k: g.shrinkage for k, (g, *_) in self._items()}

    def _layer_gaussians(
        self, moments: ClassMoments, fourths: list[float] | None
    ) -> tuple[TiedGaussian, ...]:
        """Return the Gaussian of the classes and, if wanted, the background's."""
        kinds = [moments, moments.pooled()] if self.relative else [moments]
        needed: list[float | None] = [*(fourths or (None, None))]
        return tuple(
            TiedGaussian.of(
                kind, self.reg_covar, Shrinkage.of(self.covariance, kind, fourth)
            )
            for kind, fourth in zip(kinds, needed, strict=False)
        )

    def _items(self) -> list[tuple[tuple[str, str], tuple[TiedGaussian, ...]]]:
        return list(self._gaussians.items())

    def _prepared(self, chunk: LayerFeatures) -> list[Any]:
        arrays = self._arrays(chunk)
        if self.normalize:
            arrays = [unit_rows(x) for x in arrays]
        if not self.joint or len(arrays) == 1:
            return arrays
        return [array_namespace(arrays[0]).concat(arrays, axis=1)]

    # Scores ----------------------------------------------------------------------

    def _score(self, chunk: LayerFeatures) -> Any:
        layers = zip(self._prepared(chunk), self._gaussians.values(), strict=True)
        return self._weighted(
            [_margin([g.nearest(x) for g in gaussians]) for x, gaussians in layers]
        )

    def _unseen_scores(
        self, training: Training, rows: NDArray[np.intp]
    ) -> NDArray[np.float64] | None:
        if any(g[0].is_made_of_its_ridge for g in self._gaussians.values()):
            return None
        scores = self._unseen_layer_scores(training)
        return None if scores is None else self._weighted(scores)

    def _hangs_on_few(self, training: Training) -> bool:
        return any(g[0].hangs_on_few_rows for g in self._gaussians.values())

    def _unseen_layer_scores(
        self, training: Training
    ) -> list[NDArray[np.float64]] | None:
        """Return each layer's scores, or None where leverages are too near 1."""
        labels = training.class_numbers
        scores: list[NDArray[np.float64]] = []
        for name, group in self._groups(training.features).items():
            margin = partial(self._unseen_margin, gaussians=self._gaussians[name])
            parts = [*chunk_results(margin, group, labels)]
            if any(part is None for part in parts):
                return None
            scores.append(np.concatenate(parts))  # type: ignore[arg-type]
        return scores

    def _unseen_margin(
        self,
        chunk: LayerFeatures,
        labels: NDArray[np.intp],
        gaussians: tuple[TiedGaussian, ...],
    ) -> NDArray[np.float64] | None:
        (x,) = self._prepared(chunk)
        known = [labels, _single_class(len(labels))]
        distances = [
            g.nearest_unseen(x, c) for g, c in zip(gaussians, known, strict=False)
        ]
        if any(one is None for one in distances):
            return None
        return to_numpy(_margin(distances))

    def _weighted(self, layer_scores: list[Any]) -> Any:
        weights = self.layer_weights_.values()
        return sum(w * s for w, s in zip(weights, layer_scores, strict=True))

    def _weigh_layers(self, training: Training) -> None:
        self.layer_weights_ = dict.fromkeys(self._gaussians, 1.0)
        if self.layer_weights == "sum":
            return
        check_weighable(training, joint=self.joint)
        known, outliers = self._unseen_layer_scores(training), training.outliers
        unlike = [self._layer_scores(outliers, name) for name in self._gaussians]
        learnt = separating_weights(known, unlike).tolist()
        self.layer_weights_ = dict(zip(self._gaussians, learnt, strict=True))

    def _layer_scores(
        self, features: LayerFeatures, name: tuple[str, str]
    ) -> NDArray[np.float64]:
        def scores(chunk: LayerFeatures) -> NDArray[Any]:
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


def _warn_of_singular(gaussians: dict[Key, TiedGaussian]) -> None:
    """Say which covariances the rows do not determine."""
    singular = [
        f"{name[0]!r} ({name[1]}) has rank {g.rank} of {len(g.scale)} features "
        f"({int(g.counts.sum())} rows, {np.count_nonzero(g.counts)} classes)"
        for name, g in gaussians.items()
        if (g.rank < len(g.scale) or g.rows_to_spare <= 0) and g.shrinkage == 0
    ]
    if singular:
        warnings.warn(
            f"the covariance of layer {'; '.join(singular)}: it is singular, or would "
            "be without one of the rows, and the ridge alone decides how far a row is "
            "where the training rows do not vary. "
            "Use covariance='oas' or 'ledoit_wolf', a larger reg_covar (1e-4), more "
            "rows, or fewer features (sklearn.decomposition.PCA).",
            UserWarning,
            stacklevel=6,
        )
