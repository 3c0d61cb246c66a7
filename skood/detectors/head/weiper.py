"""Likeness of a row's histograms to those of training rows, under perturbed weights."""

from __future__ import annotations

from collections.abc import Iterator
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from skood._sklearn_compat import Interval
from skood.detectors.head.bank import balanced_rows
from skood.detectors.head.base import HeadDetector
from skood.detectors.head.histograms import BinCounts, row_counts
from skood.detectors.head.weiper_parts import Range, divergence, smoothed
from skood.detectors.training import Training
from skood.numerics.device import array_namespace, like, to_numpy
from skood.numerics.graph import in_graph
from skood.numerics.probabilities import softmax
from skood.numerics.rows import best_logit, lengths
from skood.numerics.seeds import stream_seed

__all__ = ["WeiPer"]


_TUNED = (
    "perturbation",
    "copies_weight",
    "msp_weight",
    "n_bins",
    "smoothing",
    "copies_smoothing",
)


class WeiPer(HeadDetector):
    r"""Likeness of histograms to those of training rows, under perturbed weights.

    Copies of the head's weights are perturbed by vectors of random directions that are
    ``perturbation`` times as long as the weights themselves. The score [1]_ is

    .. math::

       s = -D(h) - \lambda_1 D(\tilde W h) + \lambda_2 \operatorname{MSP}

    where D is the symmetric divergence between the histogram of all entries of a row
    (of h, or of the logits of all copies), smoothed, and the mean histogram of the
    training rows, and MSP the mean over the copies of the largest softmax probability.

    The authors choose the parameters for each network with outliers: ``published``.
    The defaults are those of their function. They estimate the histograms' limits from
    batches; here they are the extremes in at most ``max_rows`` training rows, of which
    the mean histograms are made as well.

    The copies are not kept: they are drawn anew, from the seed, for each chunk.

    The threshold comes from rows held out of other fits.

    Parameters
    ----------
    perturbation : float, default=2.1
        Length of the perturbation over that of the weights.
    n_copies : int, default=100
        Copies of the weights.
    copies_weight : float, default=1.0
        :math:`\lambda_1`.
    msp_weight : float, default=1.0
        :math:`\lambda_2`.
    n_bins : int, default=100
        Bins of the histograms.
    smoothing, copies_smoothing : int, default=20
        Bins over which the histogram of h, or of the copies' logits, is averaged.
    max_rows : int, default=1000
        At most so many training rows are learned from; None takes all.
    random_state : int, RandomState instance or None, default=0
        Seed of the copies, and of which rows are learned from.
    head : LinearHead, optional
        The network's last linear map; None takes the one of the features, or finds it.
    contamination : float, default=0.05
        Share of new in-distribution rows that are flagged, in (0, 0.5]. See
        :term:`contamination`.
    device : str, default="auto"
        ``"cpu"``, a torch device, or ``"auto"``.

    Attributes
    ----------
    seed_ : int
        From which the copies are drawn.
    limits_ : ndarray of shape (2, 2)
        Lower and upper limit of the histograms of h and of the copies' logits.
    histograms_ : ndarray of shape (2, n_bins)
        The mean histograms of training rows.
    head_ : LinearHead
        The last linear map.
    offset_ : float
        The threshold on ``score_samples``.

    Raises
    ------
    ValueError
        If there is no head.

    References
    ----------
    .. [1] Granz, Heurich and Landgraf, "WeiPer: OOD detection using weight
       perturbations of class projections", NeurIPS 2024.

    Examples
    --------
    >>> from skood import WeiPer
    >>> from skood.estimator_checks import synthetic_features
    >>> features, y = synthetic_features()
    >>> detector = WeiPer().fit(features, y)
    >>> float((detector.predict(features[y == -1]) == -1).mean())
    1.0
    """

    perturbation: float = 2.1
    n_copies: int = 100
    copies_weight: float = 1.0
    msp_weight: float = 1.0
    n_bins: int = 100
    smoothing: int = 20
    copies_smoothing: int = 20
    max_rows: int | None = 1000
    random_state: Any = 0

    published: ClassVar[dict[str, dict[str, Any]]] = {
        "CIFAR-10": dict(zip(_TUNED, (1.8, 2.5, 0.1, 100, 4, 15), strict=True)),
        "CIFAR-100": dict(zip(_TUNED, (2.4, 0.1, 1.0, 100, 4, 40), strict=True)),
        "ResNet-50": dict(zip(_TUNED, (2.4, 2.5, 0.25, 100, 40, 15), strict=True)),
        "ViT-B/16": dict(zip(_TUNED, (2.0, 2.5, 0.1, 80, 40, 15), strict=True)),
    }
    """The authors' parameters in OpenOOD; the last two are for ImageNet."""

    _block_elements = 1 << 23  # the copies are drawn once for a block

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "perturbation": [Interval(Real, 0, None, closed="left")],
        "n_copies": [Interval(Integral, 1, None, closed="left")],
        "copies_weight": [Interval(Real, 0, None, closed="left")],
        "msp_weight": [Interval(Real, 0, None, closed="left")],
        "n_bins": [Interval(Integral, 2, None, closed="left")],
        "smoothing": [Interval(Integral, 1, None, closed="left")],
        "copies_smoothing": [Interval(Integral, 1, None, closed="left")],
        "max_rows": [Interval(Integral, 1, None, closed="left"), None],
        "random_state": ["random_state"],
    }

    def _learn_head(self, training: Training) -> None:
        self.seed_ = self._choice("seed", lambda: stream_seed(self.random_state))
        some = training.part(balanced_rows(training, self.max_rows, self.seed_))
        # Extremes hang on single rows: a fit without them would have other bins.
        self.limits_ = self._choice(
            "limits", lambda: self._gathered(self._range, some).limits
        )
        found = self._gathered(self._summed, some)
        self.histograms_ = found.counts / found.n_rows

    def _copied_weights(self) -> Iterator[NDArray[np.float64]]:
        assert self.head_ is not None
        rng, weight = np.random.default_rng(self.seed_), self.head_.weight
        far = self.perturbation * lengths(weight)[:, None]
        for _ in range(self.n_copies):
            noise = rng.normal(size=weight.shape)
            noise *= far / np.linalg.norm(noise, axis=1)[:, None]
            yield weight + noise

    def _copied_logits(self, h: Any) -> Iterator[Any]:
        assert self.head_ is not None
        for weight in self._copied_weights():
            yield h @ like(weight, h).T + like(self.head_.bias, h)

    def _range(self, h: Any, z: Any, _: Any) -> Range:
        copies = Range.of(map(to_numpy, self._copied_logits(h)))
        own = Range.of([to_numpy(h)])
        return Range(np.concatenate([own.limits, copies.limits]))

    def _histograms(self, h: Any) -> tuple[Any, Any]:
        """Return the shares of the entries in the bins, (2, n, bins), and the MSP."""
        if in_graph():
            return self._histograms_at_once(h)
        own, copies = self.limits_
        of_copies, msp = np.zeros((len(h), self.n_bins)), 0
        for logits in self._copied_logits(h):
            of_copies += row_counts(to_numpy(logits), copies, self.n_bins)
            msp = msp + best_logit(softmax(logits)) / self.n_copies
        of_row = row_counts(to_numpy(h), own, self.n_bins)
        n_logits = self.n_copies * logits.shape[1]
        return np.stack([of_row / h.shape[1], of_copies / n_logits]), msp

    def _histograms_at_once(self, h: Any) -> tuple[Any, Any]:
        """Return the same from one product with the weights of all copies."""
        assert self.head_ is not None
        xp, (own, copies) = array_namespace(h), self.limits_
        weights = np.concatenate([*self._copied_weights()])
        logits = h @ like(weights, h).T
        logits = logits + like(np.tile(self.head_.bias, self.n_copies), h)
        each = logits.reshape(-1, len(self.head_.bias))
        msp = best_logit(softmax(each)).reshape(-1, self.n_copies)
        of_row = row_counts(h, own, self.n_bins) / h.shape[1]
        of_copies = row_counts(logits, copies, self.n_bins) / len(weights)
        return (of_row, of_copies), xp.mean(msp, axis=1)

    def _summed(self, h: Any, z: Any, _: Any) -> BinCounts:
        return BinCounts(len(h), self._histograms(h)[0].sum(axis=1))

    def _numbers_a_row(self, width: int) -> int:
        return max(super()._numbers_a_row(width), self.n_bins)

    def _head_scores(self, h: Any, z: Any) -> Any:
        (own, copies), msp = self._histograms(h)
        of_row = divergence(self.histograms_[0], smoothed(own, self.smoothing), 0.01)
        of_copies = divergence(
            self.histograms_[1], smoothed(copies, self.copies_smoothing), 0.025
        )
        total = of_row + self.copies_weight * of_copies
        return self.msp_weight * msp - (total if in_graph() else like(total, h))
