"""How far the peak of each channel stands out of its mean."""

from __future__ import annotations

from numbers import Real
from typing import Any, ClassVar

from skood._sklearn_compat import Interval
from skood.detectors.base import BaseDetector
from skood.detectors.declared import field
from skood.detectors.training import Training
from skood.features import LOGITS, LayerFeatures, Layers
from skood.features.chunks import chunk_results
from skood.numerics.device import array_namespace
from skood.numerics.logsumexp import log_sum_exp

__all__ = ["ActivationPrior"]


class ActivationPrior(BaseDetector):
    r"""How far the peak of each channel stands out of the channel's mean.

    In a trained network a pattern that is known makes few positions of a channel very
    active. With the largest activation :math:`m_j` and the mean :math:`a_j` of channel
    j before the last pooling, the neural activation prior is

    .. math::

       S = \frac{1}{d} \sum_j \frac{m_j}{a_j} , \qquad
       s = E^w S^{1 - w} , \quad E = \log \sum_k e^{z_k} .

    A channel that is nowhere active counts 0; the authors add a small number to
    :math:`a_j` instead, which depends on the units. Several layers are averaged (ours).

    The authors choose w with made-up outliers; the default 0 is the prior alone and
    sees none. With w > 0 the energy has to be positive: a negative one would turn the
    order of the rows around.

    Features have to come from behind a ReLU. The detector is not :class:`skood.NAP`,
    whose name the authors use too. Nothing is learned from data: the threshold comes
    from the scores of the rows given to ``fit``.

    Parameters
    ----------
    layers : str or sequence of str, optional
        The layers to use; None takes all that have both statistics.
    energy_weight : float, default=0.0
        w, in [0, 1].
    contamination : float, default=0.05
        Share of new in-distribution rows that are flagged, in (0, 0.5]. See
        :term:`contamination`.
    device : str, default="auto"
        ``"cpu"``, a torch device, or ``"auto"``.

    Attributes
    ----------
    offset_ : float
        The threshold on ``score_samples``.

    Raises
    ------
    ValueError
        If no layer has the statistics ``"max"`` and ``"avg"``, if one is negative, or
        if an energy that is asked for is not positive.

    References
    ----------
    Wan, Zhang, Zhou, Yi and Jin, "Out-of-distribution detection using neural activation
    prior", arXiv 2024.

    Examples
    --------
    >>> from skood import ActivationPrior
    >>> from skood.estimator_checks import synthetic_features
    >>> features, y = synthetic_features()
    >>> detector = ActivationPrior(["layer1", "layer2"]).fit(features, y)
    >>> scores = detector.score_samples(features)
    >>> bool(scores[y >= 0].mean() > scores[y == -1].mean())
    True
    """

    layers: Layers = field(default=None, kw_only=False)
    energy_weight: float = 0.0

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "layers": [str, list, tuple, None],
        "energy_weight": [Interval(Real, 0, 1, closed="both")],
    }

    _unbiased = "nothing is learned from the rows"

    def _needed(self, features: LayerFeatures) -> LayerFeatures:
        chosen = features.select(self.layers, "max").layers
        if self.layers is None:
            chosen = [name for name in chosen if (name, "avg") in features.block_names]
            if not chosen:
                raise ValueError(
                    "no layer has both statistics 'max' and 'avg': extract them with "
                    'LayerFeatureTransformer(statistics=("avg", "max")).'
                )
        names = [(name, kind) for name in chosen for kind in ("max", "avg")]
        if self.energy_weight > 0:
            names.append((LOGITS, LOGITS))
        return features.select_blocks(names)

    def _takes_arrays(self) -> bool:
        return False

    def _fit(self, training: Training) -> None:
        for fault in chunk_results(self._fault, training.features):
            if fault:
                raise ValueError(fault)

    def _score(self, chunk: LayerFeatures) -> Any:
        blocks = self._blocks(chunk)
        count = len(blocks) // 2
        priors = [_prior(*blocks[2 * i : 2 * i + 2]) for i in range(count)]
        prior = sum(priors) / count
        if self.energy_weight == 0:
            return prior
        xp = array_namespace(prior)
        energy = xp.clip(log_sum_exp(blocks[-1]), 0, None)
        return energy**self.energy_weight * prior ** (1 - self.energy_weight)

    def _blocks(self, chunk: LayerFeatures) -> list[Any]:
        blocks = self._arrays(chunk)
        xp = array_namespace(blocks[0])
        return [xp.astype(block, xp.float64) for block in blocks]

    def _fault(self, chunk: LayerFeatures) -> str | None:
        """Return what is wrong with some rows, None if nothing is."""
        blocks = self._blocks(chunk)
        if any((block < 0).any() for block in blocks[: len(blocks) // 2 * 2]):
            return (
                "a 'max' or 'avg' is negative, and ActivationPrior is made for layers "
                "behind a ReLU, which are not: name others in layers."
            )
        if self.energy_weight > 0 and (log_sum_exp(blocks[-1]) <= 0).any():
            return (
                f"energy_weight={self.energy_weight} takes a power of the energy, "
                "which is not positive for all rows: use energy_weight=0."
            )
        return None


def _prior(peak: Any, mean: Any) -> Any:
    """Return the mean over channels of peak over mean, 0 where nothing is active."""
    xp = array_namespace(peak)
    active = mean > 0
    ratio = xp.where(active, peak, 0 * peak) / xp.where(active, mean, 1 + 0 * mean)
    return xp.mean(ratio, axis=1)
