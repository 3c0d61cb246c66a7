"""From an estimator of ours to what PyOD calls it."""

from __future__ import annotations

from typing import Any

from skood.interop.pyod.adapter import SkoodOD, check_can_be_pyod
from skood.interop.pyod.encoder import SkoodEncoder
from skood.model_selection._estimators import SCORE_METHODS

__all__ = ["to_pyod"]


def to_pyod(estimator: Any, contamination: Any = 0.1) -> Any:
    """Return a detector as PyOD's detector, or a transformer as PyOD's encoder.

    Parameters
    ----------
    estimator : estimator
        A detector, or a Pipeline that ends in one: see
        :class:`~skood.interop.pyod.SkoodOD`. Or a transformer, such as
        LayerFeatureTransformer: see :class:`~skood.interop.pyod.SkoodEncoder`. One that
        has scores too, as scikit-learn's PCA, is taken for a detector;
        ``SkoodEncoder(pca)`` takes it for the other.
    contamination : float, default=0.1
        Share of the rows given to ``fit`` that are outliers, in (0, 0.5]. PyOD's, and
        its default; encoders have none.

    Returns
    -------
    SkoodOD or SkoodEncoder
        To be fitted by PyOD's ``fit(X)``.

    Raises
    ------
    TypeError
        If the estimator is PyOD's already, only adds a threshold to a detector, or is
        neither detector nor transformer.
    ValueError
        If `contamination` is out of range.

    See Also
    --------
    PyODDetector : The other way round.

    Examples
    --------
    >>> import numpy as np
    >>> from pyod.models.lof import LOF
    >>> from pyod.models.lscp import LSCP
    >>> from skood import KNN, to_pyod
    >>> X = np.random.default_rng(0).normal(size=(100, 4))
    >>> ours = to_pyod(KNN(n_neighbors=5))
    >>> ours
    SkoodOD(contamination=0.1, detector=KNN(n_neighbors=5))
    >>> ensemble = LSCP([ours, LOF()], n_bins=2, random_state=0).fit(X)
    >>> ensemble.predict_proba(X[:3]).shape
    (3, 2)
    """
    if isinstance(estimator, type):
        check_can_be_pyod(estimator)
    scores = any(hasattr(estimator, method) for method in SCORE_METHODS)
    if hasattr(estimator, "transform") and not scores:
        return SkoodEncoder(estimator)
    check_can_be_pyod(estimator)
    return SkoodOD(estimator, contamination)
