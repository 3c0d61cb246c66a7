"""One detector on each layer."""

from __future__ import annotations

from typing import Any, ClassVar

from sklearn.base import clone

from skood._sklearn_compat import HasMethods
from skood.detectors.base import ARRAY, BaseDetector
from skood.detectors.declared import field
from skood.detectors.registry import REGISTRY
from skood.detectors.training import Training
from skood.ensemble.base import BaseEnsemble
from skood.ensemble.members import Member
from skood.features import LOGITS, LayerFeatures, Layers

__all__ = ["LayerEnsemble"]


class LayerEnsemble(BaseEnsemble):
    """A clone of one detector on each layer, one score, one p-value.

    Layers differ more in what they see than formulas do: early ones see textures and
    noise, the last one classes. Rows are held out, scores made comparable and combined
    as in :class:`DetectorEnsemble`, whose rules these are; a layer is a view.

    Parameters
    ----------
    detector : estimator
        Of this package, or any whose scores rise towards in-distribution. It is cloned
        once a layer, with ``layers`` set to it where it has that parameter.
    layers : str or sequence of str, optional
        The layers to use; None takes all that have the detector's statistic.
    combine : str, default="mean"
        ``"mean"``, ``"lda"``, ``"logistic"``, ``"fisher"``, ``"stouffer"``,
        ``"simes"``, ``"cauchy"``, ``"harmonic"`` or ``"min"``: see
        :class:`DetectorEnsemble`.
    scale : {"auto", "z", "gaussian"}, default="auto"
        How scores are made comparable: by mean and standard deviation of held-out
        rows, or through their empirical distribution to a Gaussian, with an exponential
        lower tail. ``"auto"`` is ``"z"`` for the mean and ``"lda"``, and
        ``"gaussian"`` for the others.
    calibration : float, default=0.2
        The share of rows that is held out, in (0, 1), of at most 15,000 rows; not used
        where ``fit`` gets ``threshold_data``, which then takes the place of these rows.
    shrinkage : float, default=0.3
        Of the covariance for ``"lda"``, towards a multiple of the identity.
    random_state : int, RandomState instance or None, default=0
        Seeds which rows are held out.
    contamination : float, default=0.05
        Share of new in-distribution rows that are flagged, in (0, 0.5]. See
        :term:`contamination`.
    device : str, default="auto"
        Not used: the detector has its own.

    Attributes
    ----------
    members_ : dict of str to FittedMember
        The fitted clones, as ``detector``, by layer.
    weights_ : ndarray of shape (n_layers,) or None
        They sum to 1; None for a rule without weights.
    left_out_ : dict of str to str
        Why layers were left out: a score that is constant, or infinite on some of the
        held-out rows, cannot be compared.
    report_ : DataFrame
        The layers: weight, seconds, correlation, AUROC by kind of pseudo outliers.
    calibration_scores_ : ndarray of shape (n_held_out,)
        The combined scores of the rows that set the threshold, ascending.
    offset_ : float
        The threshold on ``score_samples``.

    Raises
    ------
    ValueError
        In ``fit``: no such layer, too few rows, a rule without what it learns from,
        what the detector refuses.

    References
    ----------
    Magesh, Veeravalli, Roy and Jha, "Principled out-of-distribution detection via
    multiple testing", JMLR 24, 2023 (p-values of layers, combined).

    Examples
    --------
    >>> import numpy as np
    >>> from skood import LayerEnsemble, LayerFeatures, Mahalanobis
    >>> rng = np.random.default_rng(0)
    >>> blocks = {
    ...     "layer1": rng.normal(size=(400, 3)),
    ...     "layer2": rng.normal(size=(400, 5)),
    ... }
    >>> detector = LayerEnsemble(Mahalanobis(), combine="fisher")
    >>> detector = detector.fit(LayerFeatures(blocks))
    >>> odd = LayerFeatures({"layer1": [[9.0, 0, 0]], "layer2": np.zeros((1, 5))})
    >>> detector.predict(odd)
    array([-1])
    >>> detector.explain(odd).index[0]
    'layer1'
    """

    detector: Any = field(kw_only=False)
    layers: Layers = None

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "detector": [HasMethods("fit")],
        "layers": [str, list, tuple, None],
    }

    def _panel(self, training: Training) -> list[Member]:
        features = training.features
        if features.block_names == [self._array_key()]:
            return [Member(ARRAY, self.detector, ARRAY)]
        self._check_reads_layers()
        statistic = getattr(self.detector, "statistic", "avg")
        names = features.select(self.layers, statistic).block_names
        return [self._member(features, name) for name in dict(names)]

    def _check_reads_layers(self) -> None:
        """Raise for a detector of the network's end, of which there is one."""
        entry = REGISTRY.get(type(self.detector).__name__)
        if entry is None or "layers" in self.detector.get_params():
            return
        if {LOGITS, "head"} & {*entry.needs}:
            raise ValueError(
                f"detector={self.detector!r:.200} reads the end of the network "
                f"({', '.join(entry.needs)}), not one layer after the other: give a "
                "detector of layers, or put several into a DetectorEnsemble."
            )

    def _member(self, features: LayerFeatures, layer: str) -> Member:
        statistic = getattr(self.detector, "statistic", "avg")
        detector, blocks = clone(self.detector), None
        if isinstance(detector, BaseDetector) and "layers" in detector.get_params():
            detector.set_params(layers=layer)
        else:
            blocks = features.select([layer], statistic).block_names
        return Member(layer, detector, layer, blocks)

    def _array_key(self) -> tuple[str, str]:
        if isinstance(self.detector, BaseDetector):
            return self.detector._array_key()
        return (ARRAY, "avg")

    def _takes_arrays(self) -> bool:
        detector = self.detector
        takes = not isinstance(detector, BaseDetector) or detector._takes_arrays()
        return self.layers is None and takes
