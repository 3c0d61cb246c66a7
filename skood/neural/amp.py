"""AMP: how far a classifier's anchors agree about an input."""

from __future__ import annotations

import warnings
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.cluster import KMeans
from sklearn.exceptions import NotFittedError
from sklearn.preprocessing import StandardScaler
from sklearn.utils.validation import check_is_fitted

from skood._progress import is_shown
from skood._sklearn_compat import HasMethods, Interval, StrOptions
from skood.detectors.declared import field
from skood.detectors.layers.base import LayerDetector
from skood.detectors.training import Training
from skood.features import LayerFeatures
from skood.neural.anchored import AnchoredClassifier
from skood.neural.mlp import MLP
from skood.neural.scores import SCORES, calibrated
from skood.numerics.arrays import as_array
from skood.numerics.seeds import RandomStateLike, stream_seed
from skood.numerics.splits import share

__all__ = ["AMP"]

PSEUDO_CLASSES = 3
"""Clusters to tell apart where there are neither labels nor a number of them."""


class AMP(LayerDetector):
    r"""Anchor-marginalised prediction: trained, with a temperature of its own per row.

    An :class:`skood.AnchoredClassifier` is trained on the class labels. The logits of
    a row, averaged over K anchors, are divided by a temperature that grows with the
    anchors' disagreement, and the score is

    .. math:: s(x) = -\frac{1}{C} \sum_c \log \mathrm{softmax}(H(x) / \tau(x))_c

    (Eq. 2 of [1]_), which is high where one class stands out. The anchors are the same
    for all rows, so that no score depends on the rows beside it.

    The threshold comes from a held-out share of the rows, which the classifier is not
    trained on.

    Parameters
    ----------
    classifier : AnchoredClassifier, optional
        Is cloned and fitted; None is an MLP on standardised columns (or the blocks of
        LayerFeatures side by side), for vectors only. A classifier that is fitted
        already is used as it is, and all rows given to ``fit`` set the threshold: give
        rows that it was not trained on. Searches clone, and so refit, it; wrap it in
        :class:`sklearn.frozen.FrozenEstimator` there.
    n_anchors : int, default=5
        K, from 2 to the size of the classifier's bank.
    temperature : {"exp", "ratio"}, default="exp"
        :math:`1 + \exp(\tau)`, the paper's for CIFAR, or :math:`\tau` itself, its for
        ImageNet.
    score_type : {"amp", "entropy", "energy", "msp"}, default="amp"
        What is computed of the tempered logits: Eq. 2, minus the entropy, the
        log-sum-exp, or the largest probability.
    spread : {"auto", "mean", "sum"}, default="auto"
        :math:`\tau` is the sum (the paper's Eq. 1) or the mean (the authors' code) of
        the classes' standard deviations. ``"auto"`` is the mean for ``"exp"``, whose
        temperatures the sum would make so large that all scores agree, and the sum
        for ``"ratio"``.
    held_out : float, default=0.2
        Share of the in-distribution rows that only set the threshold; 0 takes the
        training rows for it, of which the network is too sure.
    n_pseudo_classes : int, optional
        Without ``y`` there are no classes to learn. With this number k it learns to
        tell k clusters of the rows (k-means, vectors only): not the paper's method, and
        it says what is far from the clusters' borders. None takes 3 of them, with a
        warning; images are refused.
    layers : str or sequence of str, optional
        Of LayerFeatures; None takes all that have the statistic.
    statistic : str, default="avg"
        The statistic to use.
    contamination : float, default=0.05
        Share of new in-distribution rows that are flagged, in (0, 0.5]. See
        :term:`contamination`.
    random_state : int, RandomState instance or None, default=0
        Seeds the held-out rows, the clusters, and the classifier if none is given.
    device : str, default="auto"
        Of the default network; a classifier that is given has a device of its own.

    Attributes
    ----------
    classifier_ : AnchoredClassifier
        The fitted classifier; it predicts classes as any other.
    held_out_ : ndarray of int
        The in-distribution rows that set the threshold, by their number among them.
    offset_ : float
        The threshold on ``score_samples``.

    Raises
    ------
    ValueError
        In ``fit``: no labels, one class, too few rows or anchors.

    See Also
    --------
    AnchoredClassifier : The network behind it.
    EnergyRegularizedClassifier : Another detector that is trained.

    Notes
    -----
    Inputs are vectors (n_samples, n_features), images (n_samples, channels, height,
    width) or LayerFeatures. A row costs K forward passes. Vectors of float64 are scored
    in float64; images in float32, where scores may differ in the last digits with the
    batch.

    References
    ----------
    .. [1] Anirudh and Thiagarajan, "Out of distribution detection via neural network
       anchoring", ACML 2022.

    Examples
    --------
    >>> from sklearn.datasets import load_wine
    >>> from skood import AMP
    >>> X, y = load_wine(return_X_y=True)
    >>> detector = AMP(random_state=0).fit(X[y < 2], y[y < 2])
    >>> bool(
    ...     detector.score_samples(X[y < 2]).mean()
    ...     > detector.score_samples(X[y == 2]).mean()
    ... )
    True
    >>> detector.classifier_.predict(X[:3])
    array([0, 0, 0])
    """

    classifier: Any = field(default=None, kw_only=False)
    n_anchors: int = 5
    temperature: str = "exp"
    score_type: str = "amp"
    spread: str = "auto"
    held_out: float = 0.2
    n_pseudo_classes: int | None = None
    random_state: RandomStateLike = 0

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "classifier": [HasMethods(["fit", "anchored_logits"]), None],
        "n_anchors": [Interval(Integral, 2, None, closed="left")],
        "temperature": [StrOptions({"exp", "ratio"})],
        "score_type": [StrOptions(set(SCORES))],
        "spread": [StrOptions({"auto", "mean", "sum"})],
        "held_out": [Interval(Real, 0, 1, closed="left")],
        "n_pseudo_classes": [Interval(Integral, 2, None, closed="left"), None],
        "random_state": ["random_state"],
    }

    def _fit(self, training: Training) -> None:
        features, n_rows = training.features, len(training)
        seed = stream_seed(self.random_state)
        self.held_out_ = np.arange(n_rows)
        if _is_fitted(self.classifier):
            self.classifier_ = self.classifier
            return
        labels = self._labels(training, seed)
        kept = np.arange(n_rows)
        if self.held_out > 0:
            self.held_out_ = share(n_rows, self.held_out, labels, seed)
            kept = np.setdiff1d(kept, self.held_out_)
        self.classifier_ = self._fresh_classifier(features, labels, seed)
        known = features[kept]
        # What is in a store is trained on from there, batch by batch.
        self.classifier_.fit(
            self._rows(known) if features.in_memory else known, labels[kept]
        )

    def _labels(self, training: Training, seed: int) -> NDArray[Any]:
        features = training.features
        if training.labels is not None:
            return training.labels[training.classes]
        n_clusters = self._n_clusters(len(features))
        means = KMeans(n_clusters, n_init=3, random_state=seed)
        flat = self._rows(features).reshape(len(features), -1)
        return means.fit_predict(StandardScaler().fit_transform(flat))

    def _n_clusters(self, n_rows: int) -> int:
        """Return into how many pseudo-classes rows without labels are divided."""
        if self.n_pseudo_classes is not None:
            if n_rows < self.n_pseudo_classes:
                raise ValueError(
                    f"n_pseudo_classes={self.n_pseudo_classes}, but there are "
                    f"n_samples={n_rows} in-distribution rows."
                )
            return self.n_pseudo_classes
        missing = "y is None: AMP trains a classifier and wants class labels"
        if len(self._shape) > 1:
            raise ValueError(f"{missing}. Give y, or a fitted classifier.")
        n_clusters = min(PSEUDO_CLASSES, n_rows)
        warnings.warn(
            f"{missing}. It tells {n_clusters} clusters of the rows apart instead, "
            "which is not the paper's method. Give y, or a fitted classifier; or say "
            "so by n_pseudo_classes.",
            UserWarning,
            stacklevel=7,
        )
        return n_clusters

    def _fresh_classifier(
        self, features: LayerFeatures, labels: NDArray[Any], seed: int
    ) -> Any:
        if self.classifier is not None:
            return clone(self.classifier)
        if len(self._shape) > 1:
            raise ValueError(
                f"X holds images of shape {self._shape}, for which there is no "
                "default network: give classifier=AnchoredClassifier(module)."
            )
        return AnchoredClassifier(
            MLP,
            module__n_features=features.shape[1],
            module__n_classes=len(np.unique(labels)),
            standardize=True,
            n_anchors=self.n_anchors,
            train_split=None,
            max_epochs=30,
            batch_size=64,
            lr=3e-3,
            device=self.device,
            verbose=int(is_shown()),
            random_state=seed,
        )

    def _score(self, chunk: LayerFeatures) -> NDArray[np.float64]:
        logits = self.classifier_.anchored_logits(self._rows(chunk), self.n_anchors)
        z = calibrated(logits, self.temperature, self.spread)
        return SCORES[self.score_type](z)

    def _unseen_scores(
        self, training: Training, rows: NDArray[np.intp]
    ) -> NDArray[np.float64]:
        return self._scores(training.features[np.isin(rows, self.held_out_)])

    # Images travel as rows of a block -------------------------------------------------

    def _as_features(self, X: Any, *, reset: bool) -> LayerFeatures:
        shape = tuple(getattr(X, "shape", ())[1:])
        if len(shape) > 1:
            X = as_array(X)
            X = X.reshape(len(X), -1).astype(np.float32, copy=False)
        if reset:
            self._shape = shape
        features = super()._as_features(X, reset=reset)
        if shape != self._shape and max(len(shape), len(self._shape)) > 1:
            raise ValueError(
                f"X has rows of shape {shape}, but this AMP was fitted on rows of "
                f"shape {self._shape}."
            )
        return features

    def _rows(self, features: LayerFeatures) -> NDArray[Any]:
        arrays = self._arrays(features, "cpu")
        rows = arrays[0] if len(arrays) == 1 else np.concatenate(arrays, axis=1)
        return rows.reshape(len(rows), *self._shape) if len(self._shape) > 1 else rows


def _is_fitted(classifier: Any) -> bool:
    if classifier is None:
        return False
    try:
        check_is_fitted(classifier)
    except NotFittedError:
        return False
    return True
