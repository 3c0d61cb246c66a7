"""A panel of detectors that is chosen by what the features carry."""

from __future__ import annotations

import warnings
from typing import Any, ClassVar

import numpy as np

from skood._sklearn_compat import StrOptions
from skood.detectors.declared import field
from skood.detectors.threshold import NotFiniteError
from skood.detectors.training import Training
from skood.ensemble.base import WEIGHTED
from skood.ensemble.evidence import Evidence, HeldOutRows
from skood.ensemble.members import FittedMember, Member, named, view_of
from skood.ensemble.nested import NestedEnsemble
from skood.ensemble.panel import default_panel
from skood.ensemble.pseudo import FEATURE_KINDS
from skood.ensemble.reported import aurocs
from skood.ensemble.rules import RULES
from skood.features import LayerFeatures

__all__ = ["AutoOOD"]


CLEARLY_BELOW = 0.3
"""Changed features are no changed inputs: only what is far below chance is broken."""


class AutoOOD(NestedEnsemble):
    """The detectors that the features can carry, as one, without an outlier.

    Which detector is best depends on the outliers to come, and choosing without these
    is no better than chance; averaging detectors that look at different things is. The
    members are chosen from the registry, one for each view of what the features carry:
    the logits, the head, several layers, their statistics. They are fitted on a part of
    the in-distribution rows; a third of the others makes the scores comparable and
    weighs them by pseudo outliers; the rest, which took part in nothing, sets the
    threshold and the p-values, which are therefore exact.

    Parameters
    ----------
    members : "auto" or list of (str, estimator), default="auto"
        The panel, or the detectors to take: ``"drop"`` in one's place leaves it out.
        ``members__<name>`` and ``members__<name>__<parameter>`` are then parameters,
        too. Members of the panel that keep training rows keep 100,000 at most.
    combine : str, default="auto"
        The rule, as in :class:`DetectorEnsemble`. ``"auto"`` is ``"lda"`` where the
        features have ``views`` that are no noise (jigsaw, mixup, ...) and more rows
        make scores comparable than there are members, else the mean by view.
    scale : {"auto", "z", "gaussian"}, default="auto"
        How scores are made comparable, as in :class:`DetectorEnsemble`.
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
        Not used: each member has its own.

    Attributes
    ----------
    members_ : dict of str to FittedMember
        The fitted detectors, as ``detector``, by name.
    combine_ : str
        The rule that was taken.
    weights_ : ndarray of shape (n_members,) or None
        They sum to 1; None for a rule without weights.
    views_ : dict of str to str
        The view of each member.
    left_out_ : dict of str to str
        Why members were left out: they could not be fitted, gave no numbers, are
        constant, or are clearly below chance on every kind of pseudo outliers, under
        any rule.
    report_ : DataFrame
        All members: view, weight, seconds, correlation, AUROC by kind, why left out.
    calibration_scores_ : ndarray of shape (n_held_out,)
        The combined scores of the rows that set the threshold, ascending.
    offset_ : float
        The threshold on ``score_samples``.

    Raises
    ------
    ValueError
        In ``fit``: NaN or infinite features, too few rows, a rule without what it
        learns from, or no member that can be fitted.

    See Also
    --------
    DetectorEnsemble : The same for detectors of your choice.
    compare : Detectors side by side on known outliers.

    Examples
    --------
    >>> from skood import AutoOOD
    >>> from skood.estimator_checks import synthetic_features
    >>> features, y = synthetic_features(500, 100)
    >>> auto = AutoOOD().fit(features[:400], y[:400])
    >>> auto.combine_
    'lda'
    >>> bool((auto.predict(features[500:]) == -1).all())
    True
    >>> auto.report_.columns.tolist()[:3]
    ['view', 'weight', 'fit_seconds']
    """

    members: Any = field(default="auto", kw_only=False)
    combine: str = "auto"

    _pairs_in: ClassVar[str] = "members"
    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "members": [StrOptions({"auto"}), list, tuple],
        "combine": [StrOptions({"auto", *WEIGHTED, *RULES})],
    }

    def _panel(self, training: Training) -> list[Member]:
        self._check_finite(training.features)
        if isinstance(self.members, str):
            return default_panel(training)
        members = named(self.members, "members")
        return [Member(name, one, view_of(one)) for name, one in members.items()]

    def _fitted_on(
        self, training: Training, rows: HeldOutRows
    ) -> tuple[dict[str, FittedMember], Evidence, dict[str, str]]:
        self._check_held_out(rows)
        with warnings.catch_warnings():
            # The members are no choice of the user's, who could mend nothing.
            for told in ("the covariance of", "n_neighbors=", "n_components="):
                warnings.filterwarnings("ignore", told, UserWarning)
            return super()._fitted_on(training, rows)

    def _check_held_out(self, rows: HeldOutRows) -> None:
        """Raise for NaN in what is not among the rows of ``fit``, and say where."""
        kinds = {f"views[{kind!r}]": view for kind, view in rows.kinds.items()}
        outliers = {"rows of label -1": rows.outliers}
        for part in (rows.scale, rows.threshold):
            self._check_finite(part, "threshold_data: ")
        for what, part in (outliers | kinds).items():
            self._check_finite(part, f"{what}: ")

    def _check_finite(self, features: LayerFeatures, what: str = "") -> None:
        """Raise for NaN: members that do not read it would hide it."""
        for rows in features.iter_chunks(4096):
            try:
                self._arrays(rows, "cpu")
            except ValueError as error:
                raise ValueError(f"{what}{error}") from error

    def _skips(self, error: ValueError) -> bool:
        return isinstance(self.members, str) or isinstance(error, NotFiniteError)

    def _wants_kinds(self) -> bool:
        return True  # whatever the rule, they tell which members are broken

    def _rule(self, evidence: Evidence) -> str:
        if self.combine != "auto":
            return super()._rule(evidence)
        real = set(evidence.kinds) - set(FEATURE_KINDS)
        n_rows, n_members = evidence.scale.shape
        return "lda" if real and n_rows > n_members else "mean"

    def _left_out(self, evidence: Evidence, names: list[str]) -> dict[str, str]:
        found = super()._left_out(evidence, names)
        if not evidence.kinds or len(names) < 2:
            return found
        areas = np.array([aurocs(evidence.scale, s) for s in evidence.kinds.values()])
        chance = 0.5 if set(evidence.kinds) - set(FEATURE_KINDS) else CLEARLY_BELOW
        chance = min(chance, _lowest_by_chance(evidence))
        below = {
            name: f"below chance on every kind of pseudo outliers (AUROC {area:.2f} "
            "at most)"
            for name, area in zip(names, areas.max(axis=0), strict=True)
            if area < chance
        }
        both = {**below, **found}
        return found if len(both) == len(names) else both


def _lowest_by_chance(evidence: Evidence) -> float:
    """Return the AUROC, of the smallest kind, that random scores seldom fall below."""
    n, m = len(evidence.scale), min(len(kind) for kind in evidence.kinds.values())
    deviation = ((n + m + 1) / (12 * n * m)) ** 0.5 if m else np.inf
    return float(0.5 - 2 * deviation)
