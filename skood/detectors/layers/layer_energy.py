"""Energies of several layers, put together into one score."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from skood._sklearn_compat import StrOptions
from skood.detectors.base import ARRAY, BaseDetector
from skood.detectors.declared import field
from skood.detectors.training import Training
from skood.features import LOGITS, LayerFeatures, Layers
from skood.features.chunks import by_chunks, merged_statistics
from skood.numerics.device import array_namespace, like, to_numpy
from skood.numerics.gaussian import TiedGaussian
from skood.numerics.logsumexp import log_sum_exp
from skood.numerics.moments import ClassMoments

__all__ = ["LayerEnergy"]

LSE = "lse"
RIDGE = 1e-8
ROUNDING = 1e-10
EPSILON = float(np.finfo(np.float64).eps)


class LayerEnergy(BaseDetector):
    r"""Aggregated energy of several layers.

    The energy of a layer is :math:`E_l = -\log \sum_i e^{a_i}` over all units
    :math:`a_i` of its output [1]_: minus the ``"lse"`` statistic. With
    :math:`z_l = (E_l - \mu_l) / \sigma_l`, standardised over the in-distribution rows,
    the score is

    ``"zscore"``
        :math:`-\sum_l |z_l|`: two-sided, since outliers have the higher energy in some
        layers and the lower one in others.
    ``"mahalanobis"``
        minus the squared Mahalanobis distance of the energies to their mean, which
        also looks at how they go together.
    ``"signed"``
        :math:`\sum_l \pm z_l`, each layer's sign such that the rows with label -1
        given to ``fit`` come out lower on average.

    These three are skood's own and not the paper's aggregation, of which no description
    was at hand; and nothing is trained here. Energies have to be standardised, since
    they contain the logarithm of the number of units.

    The threshold comes from leave-one-out scores in closed form: those that a training
    row would get from moments taken without it (the signs are kept).

    Parameters
    ----------
    layers : str or sequence of str, optional
        The layers to use; None takes all that have the ``"lse"`` statistic. The energy
        of the ``"logits"``, if named, is computed from them.
    aggregation : {"zscore", "mahalanobis", "signed"}, default="zscore"
        How the energies make one score.
    contamination : float, default=0.05
        Share of new in-distribution rows that are flagged, in (0, 0.5]. See
        :term:`contamination`.
    device : str, default="auto"
        ``"cpu"``, a torch device, or ``"auto"``.

    Attributes
    ----------
    means_ : ndarray of shape (n_layers,)
        The layers' mean energies, in the order of the layers; of a plain array,
        whose columns stand for the layers' ``"lse"``, in the order of the columns.
    scales_ : ndarray of shape (n_layers,)
        Their standard deviations (divided by n).
    signs_ : ndarray of shape (n_layers,) or None
        With ``aggregation="signed"``, -1 where a lower energy is in-distribution and 1
        where a higher one is.
    offset_ : float
        The threshold on ``score_samples``.

    Raises
    ------
    ValueError
        In ``fit``: no layer with the ``"lse"`` statistic; a layer's energy that does
        not vary; ``aggregation="signed"`` without outliers.

    See Also
    --------
    Energy : The energy of the logits.
    Mahalanobis : The distance to the nearest class.

    References
    ----------
    .. [1] Guglielmo and Masana, "Leveraging intermediate representations for better
       out-of-distribution detection", 2025.

    Examples
    --------
    >>> import numpy as np
    >>> from skood import LayerEnergy, LayerFeatures
    >>> rng = np.random.default_rng(0)
    >>> early, late = rng.normal(size=(2, 100, 1))
    >>> features = LayerFeatures({("early", "lse"): early + 9, ("late", "lse"): late})
    >>> detector = LayerEnergy().fit(features)
    >>> new = LayerFeatures(
    ...     {("early", "lse"): [[9.0], [9.0]], ("late", "lse"): [[0.0], [6.0]]}
    ... )
    >>> detector.predict(new)
    array([ 1, -1])
    """

    layers: Layers = field(default=None, kw_only=False)
    aggregation: str = field(default="zscore", kw_only=False)

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "layers": [str, list, tuple, None],
        "aggregation": [StrOptions({"zscore", "mahalanobis", "signed"})],
    }

    def _needed(self, features: LayerFeatures) -> LayerFeatures:
        return features.select(self.layers, LSE)

    def _array_key(self) -> tuple[str, str]:
        return (ARRAY, LSE)

    def _takes_arrays(self) -> bool:
        return self.layers is None

    def _fit(self, training: Training) -> None:
        features = training.features
        moments = self._energy_moments(features)
        self._n_rows = len(features)
        self.means_ = moments.means[0]
        self.scales_ = np.sqrt(np.diag(moments.covariance()))
        _check_varying(features, self.means_, self.scales_)
        self.signs_ = self._gaussian = None
        if self.aggregation == "signed":
            self.signs_ = self._separating_signs(training.outliers)
        if self.aggregation == "mahalanobis":
            self._gaussian = self._joint_gaussian(moments)

    def _energy_moments(self, features: LayerFeatures) -> ClassMoments:
        return merged_statistics(self._chunk_moments, features)

    def _chunk_moments(self, chunk: LayerFeatures) -> ClassMoments:
        one_class = np.zeros(len(chunk), dtype=np.intp)
        return ClassMoments.of(self._energies(chunk), one_class, 1)

    def _joint_gaussian(self, moments: ClassMoments) -> TiedGaussian:
        """Return the Gaussian of the standardised energies."""
        scatter = moments.scatter / self.scales_ / self.scales_[:, None]
        standardised = ClassMoments(moments.counts, 0 * moments.means, scatter)
        return TiedGaussian.of(standardised, RIDGE)

    def _separating_signs(self, outliers: LayerFeatures) -> NDArray[np.float64]:
        if len(outliers) == 0:
            raise ValueError(
                "aggregation='signed' learns the layers' directions from outliers, and "
                "y marks none: give fit rows with the label -1, or use "
                "aggregation='zscore'."
            )
        return np.sign(self.means_ - self._energy_moments(outliers).means[0])

    # Scores ----------------------------------------------------------------------

    def _energies(self, chunk: LayerFeatures) -> Any:
        """Return the energies, an array of float64, shape (n, L)."""
        columns = []
        for layer, statistic in chunk.block_names:
            x = self._array(chunk, layer, statistic)
            xp = array_namespace(x)
            lse = log_sum_exp(x)[:, None] if layer == LOGITS else x
            columns.append(-xp.astype(lse, xp.float64))
        return xp.concat(columns, axis=1)

    def _standardised(self, chunk: LayerFeatures) -> Any:
        energies = self._energies(chunk)
        return (energies - like(self.means_, energies)) / like(self.scales_, energies)

    def _score(self, chunk: LayerFeatures) -> Any:
        z = self._standardised(chunk)
        return -self._gaussian.nearest(z) if self._gaussian else self._summed(z)

    def _unseen_scores(
        self, training: Training, rows: NDArray[np.intp]
    ) -> NDArray[np.float64] | None:
        def scores(chunk: LayerFeatures) -> NDArray[Any]:
            z = self._standardised(chunk)
            return to_numpy(self._summed(_unseen_z(z, self._n_rows)))

        if self._gaussian:
            z = self._standardised(training.features)
            distances = self._gaussian.nearest_unseen(z, np.zeros(len(z), np.intp))
            return None if distances is None else to_numpy(-distances)
        return by_chunks(scores, training.features)

    def _summed(self, z: Any) -> Any:
        xp = array_namespace(z)
        if self.signs_ is None:
            return -xp.sum(xp.abs(z), axis=1)
        return xp.sum(z * like(self.signs_, z), axis=1)


def _unseen_z(z: Any, n_rows: int) -> Any:
    """Return what z of each training row is by the moments of the other rows.

    Without a row at z, the mean moves by -z / (n - 1) standard deviations, and the
    variance is n / (n - 1) * (1 - z^2 / (n - 1)) of what it was. Where that is nothing,
    the others being equal, the row is infinitely far from them.
    """
    xp = array_namespace(z)
    kept = 1 - z * z / (n_rows - 1)
    some = kept > n_rows * EPSILON
    stretch = n_rows / (n_rows - 1) / xp.where(some, kept, 0 * kept + 1)
    return xp.where(some, z * stretch**0.5, xp.sign(z) * np.inf)


def _check_varying(
    features: LayerFeatures, means: NDArray[np.float64], scales: NDArray[np.float64]
) -> None:
    names = [
        repr(layer) if columns == 1 else f"{layer!r} (column {column})"
        for (layer, _), width in features.widths.items()
        for columns in [1 if layer == LOGITS else width]
        for column in range(columns)
    ]
    huge = [name for name, s in zip(names, scales, strict=True) if not np.isfinite(s)]
    if huge:
        raise ValueError(
            f"the energy of layer {', '.join(huge)} is too large: the squares of its "
            "deviations do not fit float64. Leave the layer out."
        )
    # The rounding of the mean gives equal values a spread, too.
    varying = scales > ROUNDING * np.abs(means)
    constant = [name for name, varies in zip(names, varying, strict=True) if not varies]
    if constant:
        raise ValueError(
            f"the energy of layer {', '.join(constant)} is the same in all "
            f"{len(features)} in-distribution rows: it cannot be standardised. Leave "
            "the layer out."
        )
