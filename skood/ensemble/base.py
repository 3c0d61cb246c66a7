"""What every ensemble shares: held-out rows, comparable scores, one p-value."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from numbers import Real
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import check_is_fitted

from skood._sklearn_compat import Interval, StrOptions
from skood.calibration.p_values import conformal_p_values, p_values_in_graph
from skood.detectors.base import BaseDetector
from skood.detectors.threshold import THRESHOLD_ROWS, NotFiniteError
from skood.detectors.training import Training
from skood.ensemble.comparable import LARGEST, Comparable
from skood.ensemble.evidence import Evidence, HeldOutRows
from skood.ensemble.explained import explanation, rows_of
from skood.ensemble.in_graph import combined_in_graph
from skood.ensemble.members import FittedMember, Member, naming
from skood.ensemble.pseudo import check_views, pseudo_outliers
from skood.ensemble.reported import Report
from skood.ensemble.rules import RULES, mean_by_view
from skood.ensemble.weights import lda_weights, logistic_weights
from skood.features import LayerFeatures
from skood.numerics.device import array_namespace
from skood.numerics.graph import in_graph
from skood.numerics.seeds import RandomStateLike
from skood.numerics.splits import share

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["BaseEnsemble"]

Floats = NDArray[np.float64]
Rows = NDArray[np.intp]

WEIGHTED = ("mean", "lda", "logistic")
LINEAR_TAIL = ("mean", "lda")
"""Rules that add z: the Gaussian of a share grows with the root of a far distance."""

PULL = 0.3
"""The share of equal votes in weights from pseudo outliers, which are not all kinds."""

FOR_SCALE = 2
"""One score alone has no spread to compare others with."""

HELD_OUT = FOR_SCALE + 1
"""With a row for the threshold."""

FEWEST = HELD_OUT + 2
"""With two for the members, the fewest that any takes."""

MOST_HELD_OUT = 3 * THRESHOLD_ROWS // 2
"""Rows held out, at most, two thirds of which set the threshold."""


class BaseEnsemble(BaseDetector):
    r"""Base class of ensembles: a subclass says who its members are.

    In-distribution rows are held out of the members' fit. A third of them makes the
    members' scores comparable and, with pseudo outliers, weighs them; the others, which
    took part in nothing, set ``offset_`` and the p-values. So the threshold and the
    p-values are exact, whatever the dependence between members.

    Parameters
    ----------
    combine : str, default="mean"
        ``"mean"`` (equal votes for views, then within each), ``"lda"`` (weights that
        tell pseudo outliers from held-out rows), ``"logistic"`` (weights from the rows
        of label -1), or a combination of p-values: ``"fisher"``, ``"stouffer"``,
        ``"simes"``, ``"cauchy"``, ``"harmonic"``, ``"min"``.
    scale : {"auto", "z", "gaussian"}, default="auto"
        How scores are made comparable: by mean and standard deviation, or through
        their empirical distribution to a Gaussian, with an exponential lower tail.
        ``"auto"`` is ``"z"`` for the mean and ``"lda"``, and ``"gaussian"`` for all
        others.
    calibration : float, default=0.2
        The share of the rows that is held out of the members' fit, in (0, 1); not used
        where ``fit`` gets ``threshold_data``.
    shrinkage : float, default=0.3
        Of the covariance for ``"lda"``, towards a multiple of the identity.
    random_state : int, RandomState instance or None, default=0
        Seeds which rows are held out.
    """

    combine: str = "mean"
    scale: str = "auto"
    calibration: float = 0.2
    shrinkage: float = 0.3
    random_state: RandomStateLike = 0

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "combine": [StrOptions({*WEIGHTED, *RULES})],
        "scale": [StrOptions({"auto", "z", "gaussian"})],
        "calibration": [Interval(Real, 0, 1, closed="neither")],
        "shrinkage": [Interval(Real, 0, 1, closed="both")],
        "random_state": ["random_state"],
    }

    # What an ensemble is made of -------------------------------------------------

    @abstractmethod
    def _panel(self, training: Training) -> list[Member]:
        """Return the members that are to be fitted."""

    def _left_out(self, evidence: Evidence, names: list[str]) -> dict[str, str]:
        """Return why members get no say, by their names."""
        pairs = list(zip(names, evidence.scale.T, strict=True))
        found = {
            name: "not finite on in-distribution rows"
            for name, column in pairs
            if np.abs(column).max() >= LARGEST
        }
        found |= {
            name: "constant on in-distribution rows"
            for name, column in pairs
            if Comparable.of(column).constant
        }
        return {} if len(found) == len(names) else found

    def _skips(self, error: ValueError) -> bool:
        """Return whether a member that raises is left out, not the end of ``fit``."""
        return False

    # The estimator ---------------------------------------------------------------

    def p_values(self, X: Any) -> Floats:
        """Return the p-value of "this row is in-distribution".

        Parameters
        ----------
        X : LayerFeatures or array-like of shape (n_samples, n_features)
            With the blocks seen in ``fit``.

        Returns
        -------
        ndarray of float64, shape (n_samples,)
            The place of the combined score among those of held-out rows; see
            :func:`skood.conformal_p_values`.
        """
        detector = self._as_fitted()
        scores = detector.score_samples(X)
        return conformal_p_values(detector.calibration_scores_, scores)

    def explain(self, X: Any) -> pd.DataFrame:
        """Return what each member says of some rows, and how much it counts.

        Parameters
        ----------
        X : LayerFeatures, array-like of shape (n_samples, n_features), or one row
            One row may be given as ``X[i]``.

        Returns
        -------
        DataFrame
            A row a member, those first that speak most against the row: ``view``,
            ``score``, ``z`` (against held-out rows), ``p_value`` (the share of
            held-out rows that score lower) and ``contribution`` to the combined score,
            NaN where the rule has no weights. For several rows, indexed by the row's
            number, too.
        """
        detector = self._as_fitted()
        known = detector._known_features(rows_of(X, detector._given_widths))
        members = detector.members_
        scores = detector._columns(known)
        return explanation(
            scores,
            list(members),
            [detector.views_[name] for name in members],
            detector._scales,
            detector._contributions(scores),
        )

    @property
    def report_(self) -> pd.DataFrame:
        """The members, those left out last: a DataFrame, indexed by the name.

        ``view``, ``weight`` (NaN without weights), ``fit_seconds``, ``correlation``
        with the mean of the others on held-out rows, ``auroc_<kind>`` on each kind of
        pseudo outliers and on known ones, ``left_out`` (why, or empty).
        """
        check_is_fitted(self)
        return self._report.frame()

    # Fitting ---------------------------------------------------------------------

    def _training(self, X: Any, y: ArrayLike | None) -> Training:
        whole = self._read_labels(self._as_features(X, reset=True), y)
        self._given_widths = whole.features.widths
        self._chosen = self._panel(whole)
        array, bare = self._array_key(), whole.features.without_views()
        blocks: dict[Any, None] = {}
        for member in self._chosen:
            with naming(f"member {member.name!r}"):
                blocks |= dict.fromkeys(member.needed(bare, array))
        self._blocks = list(blocks)
        features = self._needed(whole.features if self._wants_kinds() else bare)
        self._widths = features.widths
        outliers = self._needed(whole.outliers.without_views())
        return Training(features, outliers, whole.classes, whole.labels)

    def _needed(self, features: LayerFeatures) -> LayerFeatures:
        blocks = getattr(self, "_blocks", None)  # known from fit on
        if blocks is None:
            return features
        check_views(features, blocks)
        return features.select_blocks(blocks)

    def _known_features(self, X: Any) -> LayerFeatures:
        bare = X.without_views() if isinstance(X, LayerFeatures) else X
        return super()._known_features(bare)

    def _fit_all(self, training: Training, threshold_data: Any) -> None:
        self._check_rows(training, threshold_data)
        self.class_labels_ = training.labels
        names = [member.name for member in self._chosen]
        views = {member.name: member.view for member in self._chosen}
        members, evidence, faults = self._fitted(training, threshold_data)
        left_out = {**faults, **self._left_out(evidence, list(members))}
        kept = [n for n, name in enumerate(members) if name not in left_out]
        self.members_ = {n: m for n, m in members.items() if n not in left_out}
        self.views_ = {name: views[name] for name in self.members_}
        self._combine(evidence.only(kept))
        self.left_out_ = {n: left_out[n] for n in names if n in left_out}
        self._report = Report.of(self, members, views, evidence)
        del self._chosen
        self._remember_parameters()
        scores = self._combined(evidence.only(kept).threshold)
        self.calibration_scores_ = np.sort(scores)
        self._set_threshold(scores, training.features)

    def _check_rows(self, training: Training, threshold_data: Any) -> None:
        n_rows = len(training)
        fewest = 2 if threshold_data is not None else FEWEST
        if n_rows < fewest:
            raise ValueError(
                f"fit got n_samples={n_rows} in-distribution rows: a minimum of "
                f"{fewest} is required, some for the members and some that they do not "
                "see."
            )

    def _fitted(
        self, training: Training, threshold_data: Any
    ) -> tuple[dict[str, FittedMember], Evidence, dict[str, str]]:
        """Return fitted members, what they say of held-out rows, and whom it failed."""
        n_rows = len(training)
        if threshold_data is not None:
            rows = self._rows_given(training, threshold_data)
            return self._fitted_on(training, rows)
        most = 1 - (FEWEST - HELD_OUT) / n_rows
        size = min(float(self.calibration), MOST_HELD_OUT / n_rows)
        size = min(max(size, HELD_OUT / n_rows), most)
        out = share(n_rows, size, None, self.random_state)
        fitted = training.alone(np.setdiff1d(np.arange(n_rows), out))
        return self._fitted_on(fitted, self._rows_out(training, out))

    def _fitted_on(
        self, training: Training, rows: HeldOutRows
    ) -> tuple[dict[str, FittedMember], Evidence, dict[str, str]]:
        array = self._array_key()
        members: dict[str, FittedMember] = {}
        parts: list[Evidence] = []
        faults: dict[str, str] = {}
        y = None if training.classes is None else training.labels[training.classes]  # type: ignore[index]
        for member in self._chosen:
            try:
                found = member.fitted(training.features, y, rows.scale, array)
                part = Evidence.of({member.name: found}, rows, array)
                _check_numbers(part)
            except Exception as error:
                if not isinstance(error, ValueError) or not self._skips(error):
                    with naming(f"member {member.name!r}"):
                        raise
                faults[member.name], first = str(error), error
                continue
            members[member.name] = found
            parts.append(part)
        if not members:
            raise first
        return members, _beside(parts), faults

    # Held-out rows ---------------------------------------------------------------

    def _rows_out(self, training: Training, out: Rows) -> HeldOutRows:
        scale, threshold = _parts(out, self.random_state)
        features, classes = training.features, training.classes
        return HeldOutRows(
            features[scale],
            features[threshold],
            self._kinds(features[scale], None if classes is None else classes[scale]),
            training.outliers,
        )

    def _rows_given(self, training: Training, threshold_data: Any) -> HeldOutRows:
        try:
            given = super()._known_features(threshold_data)
            if len(given) < HELD_OUT:
                raise ValueError(
                    f"n_samples={len(given)}, and a minimum of {HELD_OUT} is required: "
                    f"{FOR_SCALE} make scores comparable, one sets the threshold."
                )
        except ValueError as error:
            raise ValueError(f"threshold_data: {error}") from error
        scale, threshold = _parts(np.arange(len(given)), self.random_state)
        source, classes = given[scale], None
        if not source.views and training.features.views:
            some = np.linspace(0, len(training) - 1, min(len(training), 2000))
            source = training.features[some.astype(np.intp)]
        kinds = self._kinds(source, classes)
        return HeldOutRows(given[scale], given[threshold], kinds, training.outliers)

    def _kinds(
        self, features: LayerFeatures, classes: Rows | None
    ) -> Mapping[str, LayerFeatures]:
        """Return the pseudo outliers of some rows, by their kind."""
        if not self._wants_kinds():
            return {}
        return pseudo_outliers(features, classes, self.random_state)

    def _wants_kinds(self) -> bool:
        return self.combine == "lda"

    # Combining -------------------------------------------------------------------

    def _combine(self, evidence: Evidence) -> None:
        """Learn the scales of the members, and their weights."""
        self._scales = {
            name: Comparable.of(column)
            for name, column in zip(self.members_, evidence.scale.T, strict=True)
        }
        self.combine_ = self._rule(evidence)
        equal = mean_by_view(list(self.views_.values()))
        self.weights_: Floats | None = None
        if self.combine_ == "mean":
            self.weights_ = equal
        elif self.combine_ == "lda":
            inliers = self._comparable(evidence.scale)
            kinds = [self._comparable(scores) for scores in evidence.kinds.values()]
            weights = lda_weights(inliers, kinds, self.shrinkage)
            learnt = equal if weights is None else weights
            self.weights_ = (1 - PULL) * learnt + PULL * equal
        elif self.combine_ == "logistic":
            inliers = self._comparable(evidence.scale)
            outliers = self._comparable(evidence.outliers)
            self.weights_ = logistic_weights(inliers, outliers, equal)

    def _rule(self, evidence: Evidence) -> str:
        """Return the rule, checked to have what it learns from."""
        if self.combine == "logistic" and len(evidence.outliers) == 0:
            raise ValueError(
                "combine='logistic' learns weights from known outliers, and there are "
                "none: label them -1 in y, or take combine='lda' or 'mean'."
            )
        if self.combine == "lda" and not evidence.kinds:
            raise ValueError(
                "combine='lda' learns weights from pseudo outliers, and none could be "
                f"made of {len(evidence.scale)} held-out rows: give more rows, or "
                "LayerFeatures with views (jigsaw, mixup, ...), or combine='mean'."
            )
        return self.combine

    def _kind_of_scale(self) -> str:
        if self.scale == "auto":
            return "z" if self.combine_ in LINEAR_TAIL else "gaussian"
        return self.scale

    def _comparable(self, scores: Floats) -> Floats:
        """Return the members' scores on one scale."""
        scale = self._kind_of_scale()
        made = [
            of.standardised(column) if scale == "z" else of.gaussian(column)
            for of, column in zip(self._scales.values(), scores.T, strict=True)
        ]
        return np.column_stack(made)

    def _combined(self, scores: Floats) -> Floats:
        """Return one score a row of the members' own scores."""
        comparable = self._comparable(scores)
        if self.weights_ is None:
            return RULES[self.combine_](comparable)
        # a sum of products in order: a matrix product rounds by the number of rows
        return np.asarray((comparable * self.weights_).sum(axis=1))

    def _contributions(self, scores: Floats) -> Floats:
        comparable = self._comparable(scores)
        if self.weights_ is None:
            return np.full(comparable.shape, np.nan)
        return comparable * self.weights_

    def _fit(self, training: Training) -> None:
        """Learn with rows held out of the rows given."""
        self._fit_all(training, None)

    def _graph_scored(self, X: Any) -> tuple[Any, Any]:
        scores, _ = super()._graph_scored(X)
        return scores, p_values_in_graph(self.calibration_scores_, scores)

    def _graph_score(self, features: LayerFeatures) -> Any:
        array = self._array_key()
        each = [member.scores(features, array) for member in self.members_.values()]
        scores = array_namespace(each[0]).stack(each, axis=1)
        scales, weights = list(self._scales.values()), self.weights_
        kind = self._kind_of_scale()
        return combined_in_graph(scales, scores, self.combine_, kind, weights)

    def _score(self, chunk: LayerFeatures) -> Any:
        if in_graph():
            return self._graph_score(chunk)
        scores = self._columns(chunk)
        bad = np.isnan(scores).any(axis=0)
        if bad.any():
            name = list(self.members_)[int(bad.argmax())]
            raise ValueError(
                f"member {name!r} gave {int(np.isnan(scores).sum())} NaN: look at the "
                "rows that it could not score, or leave it out."
            )
        return self._combined(scores)

    def _columns(self, features: LayerFeatures) -> Floats:
        """Return the members' own scores of new rows, of shape (rows, members)."""
        array, found = self._array_key(), []
        for name, member in self.members_.items():
            with naming(f"member {name!r}"):
                found.append(member.scores(features, array))
        return np.column_stack(found)


def _parts(rows: Rows, random_state: RandomStateLike) -> tuple[Rows, Rows]:
    """Return rows for the scale and rows for the threshold, drawn at random.

    A third makes scores comparable, for which a hundred rows are enough; the rate of
    the threshold is the harder to know.
    """
    size = max(1 / 3, FOR_SCALE / len(rows))
    chosen = share(len(rows), size, None, random_state)
    return rows[chosen], np.delete(rows, chosen)


def _check_numbers(evidence: Evidence) -> None:
    parts = [evidence.scale, evidence.threshold, *evidence.kinds.values()]
    n_bad = sum(int(np.isnan(part).sum()) for part in parts)
    if n_bad:
        raise NotFiniteError(
            f"{n_bad} of the scores of held-out rows are NaN: leave it out, or look at "
            "the rows that it could not score."
        )


def _beside(parts: list[Evidence]) -> Evidence:
    """Return the evidence of all members from that of each."""
    return Evidence(
        np.hstack([part.scale for part in parts]),
        np.hstack([part.threshold for part in parts]),
        {k: np.hstack([part.kinds[k] for part in parts]) for k in parts[0].kinds},
        np.hstack([part.outliers for part in parts]),
    )
