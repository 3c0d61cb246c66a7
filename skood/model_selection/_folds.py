"""What the splitters share: which rows are inliers, and balanced folds of them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.model_selection import BaseCrossValidator
from sklearn.utils import indexable

from skood.numerics.labels import label_array
from skood.numerics.seeds import RandomStateLike, stream_seed

Rows = NDArray[np.intp]


class LabelSplitter(BaseCrossValidator):
    """Base of the splitters that read from ``y`` which rows are outliers."""

    shuffle: bool
    random_state: RandomStateLike

    def _rng(self) -> np.random.Generator | None:
        if not self.shuffle:
            return None
        return np.random.default_rng(stream_seed(self.random_state))

    def _labels(self, X: Any, y: ArrayLike | None, groups: Any) -> NDArray[Any]:
        if y is None:
            raise ValueError(
                f"{type(self).__name__} needs y: class labels, with -1 for outliers."
            )
        return label_array(indexable(X, y, groups)[1])

    def _class_folds(
        self,
        labels: NDArray[Any],
        rows: Rows,
        n_folds: int,
        rng: np.random.Generator | None,
    ) -> Rows:
        """Return the fold of each of these inliers, balanced by class."""
        self._check_enough(len(rows), n_folds, "inliers to spread")
        _, classes = np.unique(labels[rows], return_inverse=True)
        return balanced_folds(classes, n_folds, rng)

    def _check_enough(self, n_rows: int, n_folds: int, what: str) -> None:
        if n_rows < n_folds:
            raise ValueError(
                f"{type(self).__name__}: y has {n_rows} {what}, fewer than the "
                f"{n_folds} folds asked for. Ask for fewer folds or give more rows."
            )


def balanced_folds(
    classes: NDArray[np.intp], n_folds: int, rng: np.random.Generator | None
) -> Rows:
    """Return a fold per row; fold sizes differ by at most 1, in every class and in all.

    Rows are dealt out like cards, class after class without starting anew, so that a
    class smaller than the number of folds is spread as well.
    """
    order = np.arange(len(classes)) if rng is None else rng.permutation(len(classes))
    by_class = order[np.argsort(classes[order], kind="stable")]
    folds = np.empty(len(classes), dtype=np.intp)
    folds[by_class] = np.arange(len(classes)) % n_folds
    return folds


def check_n_folds(name: str, value: Any) -> int:
    """Return ``value`` as a number of folds, an integer of at least 2."""
    if not isinstance(value, (int, np.integer)) or value < 2:
        raise ValueError(f"{name} must be an integer >= 2; got {value!r}.")
    return int(value)
