"""Several detectors whose scores are combined."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from skood.detectors.base import ARRAY
from skood.detectors.declared import field
from skood.detectors.training import Training
from skood.ensemble.members import Member, named, view_of
from skood.ensemble.nested import NestedEnsemble

__all__ = ["DetectorEnsemble"]


class DetectorEnsemble(NestedEnsemble):
    r"""Several detectors, one score, one p-value.

    Every detector is fitted on a part of the in-distribution rows. A third of the
    others makes their scores comparable, and weighs them where the rule has weights;
    the combined scores of the rest, which took part in nothing, set ``offset_`` and the
    p-values. These are exact under any dependence between the detectors, since the
    combination is one fixed score when it meets those rows.

    The rules, with z the comparable scores and p their normal p-values:

    ==============  ==================================================================
    ``"mean"``      mean of z within each view, then over views
    ``"lda"``       weights :math:`\max(C^{-1} \delta, 0)`: C the shrunk covariance on
                    held-out rows, :math:`\delta` how much lower pseudo outliers score;
                    with three tenths of those of the mean
    ``"logistic"``  weights of a logistic regression on the rows of label -1, drawn
                    towards those of the mean
    ``"fisher"``    :math:`\sum \log p`
    ``"stouffer"``  :math:`\sum z / \sqrt m`
    ``"simes"``     :math:`\min_j (m / j) p_{(j)}`
    ``"cauchy"``    mean of :math:`\tan((1/2 - p) \pi)`
    ``"harmonic"``  harmonic mean of p
    ``"min"``       the smallest z
    ==============  ==================================================================

    Pseudo outliers are the ``views`` of the held-out rows' features (jigsaw, mixup,
    ..., but no noise); features without views are changed themselves: blends of two
    rows, and columns each drawn on their own.

    Parameters
    ----------
    detectors : list of (str, estimator)
        Names and detectors, of this package or any whose scores rise towards
        in-distribution; ``"drop"`` in a detector's place leaves it out. They are
        cloned. ``detectors__<name>`` and ``detectors__<name>__<parameter>`` are
        parameters of the ensemble.
    views : mapping of str to str, optional
        What each detector looks at, by its name, for the mean. None: logits, head and
        shaping detectors are a view each, and so is each layer.
    combine : str, default="mean"
        See above.
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
        Not used: each detector has its own.

    Attributes
    ----------
    members_ : dict of str to FittedMember
        The fitted detectors, as ``detector``, by name.
    weights_ : ndarray of shape (n_members,) or None
        They sum to 1; None for a rule without weights.
    views_ : dict of str to str
        The view of each member.
    left_out_ : dict of str to str
        Why members were left out: a score that is constant, or infinite on some of the
        held-out rows, cannot be compared.
    report_ : DataFrame
        The members: view, weight, seconds, correlation, AUROC by kind.
    calibration_scores_ : ndarray of shape (n_held_out,)
        The combined scores of the rows that set the threshold, ascending.
    offset_ : float
        The threshold on ``score_samples``.

    Raises
    ------
    ValueError
        In ``fit``: no or equal names, too few rows, a rule without what it learns from,
        what a detector refuses.
    TypeError
        In ``fit``: what is no detector.

    References
    ----------
    Vovk, Gammerman and Shafer, "Algorithmic learning in a random world", 2nd ed.,
    Springer 2022, chapter 4 (the p-value). Dadalto et al., "Combine and conquer: a
    meta-analysis on data shift and out-of-distribution detection", TMLR 2024.

    Examples
    --------
    >>> import numpy as np
    >>> from skood import KNN, DetectorEnsemble, Mahalanobis
    >>> X = np.random.default_rng(0).normal(size=(500, 4))
    >>> both = DetectorEnsemble([("knn", KNN(5)), ("distance", Mahalanobis())])
    >>> both.fit(X).predict([[0, 0, 0, 0], [6, 0, 0, 0]])
    array([ 1, -1])
    >>> both.set_params(detectors__knn__n_neighbors=9).fit(X).members_["knn"].detector
    KNN(n_neighbors=9)
    """

    detectors: Any = field(kw_only=False)
    views: Mapping[str, str] | None = None

    _pairs_in: ClassVar[str] = "detectors"
    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "detectors": "no_validation",
        "views": [Mapping, None],
    }

    def _panel(self, training: Training) -> list[Member]:
        detectors = named(self.detectors)
        views = self.views or {}
        unknown = sorted(set(views) - {name for name, _ in self.detectors})
        if unknown:
            raise ValueError(
                f"views has {', '.join(map(repr, unknown))}, which detectors has not: "
                f"its names are {', '.join(map(repr, detectors))}."
            )
        return [
            Member(name, detector, views.get(name, view_of(detector)))
            for name, detector in detectors.items()
        ]

    def _array_key(self) -> tuple[str, str]:
        return (ARRAY, "avg")
