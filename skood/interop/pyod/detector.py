"""Any PyOD detector as one of ours."""

from __future__ import annotations

from inspect import Parameter, signature
from numbers import Real
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pyod.models.base import BaseDetector as PyODBase
from sklearn.base import clone

from skood._sklearn_compat import Interval, StrOptions
from skood.detectors.base import BaseDetector
from skood.detectors.declared import field
from skood.detectors.layers.bounded import BoundedDetector
from skood.detectors.training import Training
from skood.features import LayerFeatures
from skood.features.chunks import chunks_of
from skood.numerics.checked import refuse_nan
from skood.numerics.splits import share

__all__ = ["PyODDetector"]

LEAVE_ONE_OUT = ("KNN", "LOF")
"""Models that leave a training row out of its own neighbours."""

TRAINED = (
    *("BaseDeepLearningDetector", "AE1SVM", "ALAD", "AnoGAN", "DeepSVDD", "DIF"),
    *("LUNAR", "MO_GAAL", "SO_GAAL"),
)
"""Models that train a network, and bases of such."""

UNSEEN_SHARE = 0.2
"""Of the rows, for the threshold of models that train a network."""

PROBE_ROWS = 256
"""So many rows beside one show whether its score depends on them."""

PROBE_RTOL = 1e-5
"""Above the rounding of float32, far below what ECOD's counts move by."""


class PyODDetector(BoundedDetector):
    r"""Any PyOD detector on layer features, with our signs, labels and threshold.

    The blocks that are chosen are joined to one float64 matrix. ``score_samples`` is
    minus PyOD's ``decision_function``, so that high means in-distribution; ``predict``
    gives +1 and -1. Rows of label -1 are left out of ``fit``, and PyOD never gets to
    see ``y``.

    **The threshold** is for new rows. PyOD's ``decision_scores_``, its scores of the
    rows that it was fitted on, are what new rows get for KNN and LOF only, which leave
    a row out of its own neighbours there; they set the threshold of these two. Methods
    that fit the rows closely are far too sure of them (5 % asked: KPCA rejects all new
    rows, GMM 18 % after 240 rows). For all others but trained networks rows are held
    out of further fits, as for every detector of skood; of a network a fifth of the
    rows is kept away.

    Parameters
    ----------
    pyod_model : pyod.models.base.BaseDetector
        The detector; it is cloned. Its own ``contamination`` only matters with
        ``contamination=None``, except to the few methods that fit by it.
    layers : str or sequence of str, optional
        The layers to use; None takes all that have the statistic.
    statistic : str, default="avg"
        The statistic to use.
    contamination : float or None, default=0.05
        Share of new in-distribution rows that are flagged, in (0, 0.5]. See
        :term:`contamination`. None keeps PyOD's own ``threshold_``. PyOD flags what
        lies above it, so that a tie is an inlier there as it is here.
    held_out : float or "auto", default="auto"
        A number in [0, 1) is the share of the in-distribution rows that is not fitted
        on and only sets the threshold (a seeded draw); 0 takes PyOD's scores of the
        training rows. ``"auto"`` is as above.
    row_by_row : bool or "auto", default="auto"
        Whether each row is scored by a call of its own. ECOD and COPOD count the rows
        they score among those they were fitted on, so that a row's score would depend
        on the rows beside it. ``"auto"`` tries in ``fit``, and takes that way where it
        makes a difference: one row then costs a pass over the training rows. False
        scores all rows in calls of many, as PyOD does. (LSCP and VAE draw at random in
        each call, so that either way scores are not the same twice.)
    max_rows : int, optional
        PyOD gets at most so many training rows, drawn with a seed so that classes (of
        ``y``, if given) have equal shares as far as they have the rows; None gives it
        all, in float64, whatever memory they take.

    Attributes
    ----------
    model_ : pyod.models.base.BaseDetector
        The fitted PyOD detector.
    row_by_row_ : bool
        Whether rows are scored one by one.
    held_out_ : ndarray of int
        The in-distribution rows that were held out, by their number among them.
    bank_rows_ : ndarray of int
        Under ``max_rows``, the numbers of the rows that PyOD got among the
        in-distribution rows.
    offset_ : float
        The threshold on ``score_samples``.

    Raises
    ------
    TypeError
        In ``fit``: a model that learns from labelled outliers: XGBOD, DevNet.
    ValueError
        In ``fit``: a parameter or the data are not usable, or the model cannot score a
        row by itself (COF, SOD). In both: PyOD gives NaN.

    See Also
    --------
    to_pyod : The other way round.

    References
    ----------
    Zhao, Nasrullah and Li, "PyOD: a Python toolbox for scalable outlier detection",
    Journal of Machine Learning Research 20, 2019.

    Examples
    --------
    >>> import numpy as np
    >>> from pyod.models.hbos import HBOS
    >>> from skood import LayerFeatures, PyODDetector
    >>> rng = np.random.default_rng(0)
    >>> features = LayerFeatures(
    ...     {"conv": rng.normal(size=(200, 8)), "fc": rng.normal(size=(200, 4))}
    ... )
    >>> detector = PyODDetector(HBOS(), layers="fc").fit(features)
    >>> far = LayerFeatures({"conv": np.zeros((1, 8)), "fc": np.full((1, 4), 5.0)})
    >>> detector.predict(far)
    array([-1])
    """

    pyod_model: Any = field(kw_only=False)
    contamination: Any = 0.05
    held_out: float | str = "auto"
    row_by_row: bool | str = "auto"

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "pyod_model": [PyODBase],
        "contamination": [*BaseDetector._parameter_constraints["contamination"], None],
        "held_out": [Interval(Real, 0, 1, closed="left"), StrOptions({"auto"})],
        "row_by_row": ["boolean", StrOptions({"auto"})],
    }

    def _fit(self, training: Training) -> None:
        _check_needs_no_labels(self.pyod_model)
        self.held_out_ = self._held_out_rows(len(training))
        if len(self.held_out_):
            kept = np.setdiff1d(np.arange(len(training)), self.held_out_)
            some = self._drawn(training.part(kept))
            if self.max_rows is not None:
                self.bank_rows_ = kept[self.bank_rows_]
        else:
            some = self._drawn(training)
        matrix = self._matrix(some.features)
        self.model_ = clone(self.pyod_model).fit(matrix)
        self.row_by_row_ = (
            _depends_on_company(self.model_, matrix[:PROBE_ROWS])
            if self.row_by_row == "auto"
            else bool(self.row_by_row)
        )

    def _held_out_rows(self, n_rows: int) -> NDArray[np.intp]:
        """Return the rows that this very model is not fitted on."""
        if self.held_out == "auto":
            wanted = UNSEEN_SHARE if _is_slow(self.pyod_model) else 0.0
            size = wanted if self.contamination is not None else 0.0
        else:
            size = float(self.held_out)
        if not size:
            return np.arange(0)
        if self.contamination is None:
            raise ValueError(
                f"held_out={size} with contamination=None: PyOD's own "
                "threshold_ comes from the rows it is fitted on. Set contamination, or "
                "held_out=0."
            )
        n_held_out = max(1, round(size * n_rows))
        if n_rows - n_held_out < 2:
            raise ValueError(
                f"held_out={size} leaves {n_rows - n_held_out} of n_samples="
                f"{n_rows} in-distribution rows to fit on, and 2 are the least."
            )
        return share(n_rows, size)

    def _matrix(self, features: LayerFeatures) -> NDArray[np.float64]:
        """Return the blocks side by side, checked."""
        matrix = np.empty(features.shape)
        for rows, chunk in chunks_of(features):
            np.concatenate(self._arrays(chunk, "cpu"), axis=1, out=matrix[rows])
        return matrix

    def _score(self, chunk: LayerFeatures) -> NDArray[np.float64]:
        matrix = self._matrix(chunk)
        calls = np.split(matrix, len(matrix)) if self.row_by_row_ else [matrix]
        found = [np.ravel(self.model_.decision_function(rows)) for rows in calls]
        return self._usable(np.concatenate(found))

    def _unseen_scores(
        self, training: Training, rows: NDArray[np.intp]
    ) -> NDArray[np.float64] | None:
        if len(self.held_out_):
            return self._scores(training.features[np.isin(rows, self.held_out_)])
        own_threshold = self.contamination is None
        fair = own_threshold or _leaves_one_out(self.pyod_model)
        if self.held_out == "auto" and not fair:
            return None
        return self._scores_of_training(training, rows)

    def _scores_of_training(
        self, training: Training, rows: NDArray[np.intp]
    ) -> NDArray[np.float64]:
        """Return PyOD's scores of rows it was fitted on, and those of the others."""
        known = self._usable(np.ravel(self.model_.decision_scores_))
        if self.max_rows is None:
            return known[rows]
        kept, scores = self._is_kept(rows), np.empty(len(rows))
        scores[kept] = known[np.searchsorted(self.bank_rows_, rows[kept])]
        if not kept.all():
            scores[~kept] = self._scores(training.features[~kept])
        return scores

    def _differs_by_chance(self) -> bool:
        return "random_state" in self.pyod_model.get_params()

    def _threshold(self, scores: NDArray[np.float64]) -> float:
        if self.contamination is None:
            return -float(self.model_.threshold_)
        return super()._threshold(scores)

    def _usable(self, abnormality: NDArray[Any]) -> NDArray[np.float64]:
        """Return scores in our sign, none of them NaN."""
        refuse_nan(
            abnormality,
            f"{type(self.model_).__name__} gave",
            what="scores",
            mend="Choose other parameters or another pyod_model for these rows.",
        )
        return -abnormality.astype(np.float64)


def _check_needs_no_labels(model: Any) -> None:
    y = signature(model.fit).parameters.get("y")
    if y is not None and y.default is Parameter.empty:
        raise TypeError(
            f"pyod_model={type(model).__name__} learns from labelled outliers, and "
            "rows of label -1 are never fitted on here: give a detector whose fit "
            "takes X alone."
        )


def _leaves_one_out(model: Any) -> bool:
    """Return whether the model's scores of its training rows are those of new rows."""
    return _is_pyod_model(model, LEAVE_ONE_OUT)


def _is_slow(model: Any) -> bool:
    """Return whether the model trains a network, which nobody wants ten times."""
    return _is_pyod_model(model, TRAINED)


def _is_pyod_model(model: Any, names: tuple[str, ...]) -> bool:
    bases = type(model).__mro__
    return any(b.__module__.startswith("pyod.") and b.__name__ in names for b in bases)


def _depends_on_company(model: Any, rows: NDArray[np.float64]) -> bool:
    """Return whether the first row's score changes with the rows beside it."""
    together = np.ravel(model.decision_function(rows))
    try:
        alone = np.ravel(model.decision_function(rows[:1]))
    except (ValueError, IndexError) as error:
        raise _cannot_score_one(model) from error
    if np.isnan(alone[0]) and not np.isnan(together[0]):
        raise _cannot_score_one(model)
    tiny = 1e-9 * np.abs(together[np.isfinite(together)]).max(initial=0)
    return not np.isclose(alone[0], together[0], PROBE_RTOL, tiny, equal_nan=True)


def _cannot_score_one(model: Any) -> ValueError:
    return ValueError(
        f"pyod_model={type(model).__name__} cannot score a row by itself, only rows "
        "among others of their kind: its scores would depend on what comes along. "
        "Choose another detector, or row_by_row=False to score as PyOD does."
    )
