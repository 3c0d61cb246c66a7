"""Cross-validation in which nothing is ever trained on an outlier."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from skood.model_selection._folds import (
    LabelSplitter,
    Rows,
    balanced_folds,
    check_n_folds,
)
from skood.numerics.labels import inlier_mask
from skood.numerics.seeds import RandomStateLike


class InlierKFold(LabelSplitter):
    """K folds whose training side holds inliers only, and whose test side holds both.

    Every row is in exactly one test fold. Inliers are stratified by class: a class has
    as many rows in every fold, give or take one; a class with fewer rows than folds is
    spread as well. Outliers are spread evenly.

    Parameters
    ----------
    n_splits : int, default=5
        Number of folds, at least 2.
    shuffle : bool, default=True
        Whether rows are drawn at random; otherwise they are dealt out in their order.
    random_state : int, RandomState instance or None, default=0
        Seeds the shuffle. Successive-halving searches ask for an integer.

    See Also
    --------
    LeaveOutlierSourceOut : Judges a tuned detector on outliers of an unseen kind.
    ClassHoldout : Needs no outliers: classes are left out in turn.

    Notes
    -----
    A search's refit is on all rows. Detectors of this package drop those of label -1;
    wrap others in :class:`~skood.model_selection.OutliersIgnored`. A training fold has
    no score: halving searches must be told ``return_train_score=False``.

    Examples
    --------
    >>> from skood.model_selection import InlierKFold
    >>> X, y = [[0], [1], [2], [3], [4], [5]], [0, 0, 1, 1, -1, -1]
    >>> for train, test in InlierKFold(2, shuffle=False).split(X, y):
    ...     print(train, test)
    [1 3] [0 2 4]
    [0 2] [1 3 5]
    """

    def __init__(
        self,
        n_splits: int = 5,
        *,
        shuffle: bool = True,
        random_state: RandomStateLike = 0,
    ) -> None:
        self.n_splits = n_splits
        self.shuffle = shuffle
        self.random_state = random_state

    def get_n_splits(self, X: Any = None, y: Any = None, groups: Any = None) -> int:
        """Return the number of folds.

        Parameters
        ----------
        X, y, groups : object
            Ignored, here for compatibility.

        Returns
        -------
        int
            `n_splits`.

        Raises
        ------
        ValueError
            If `n_splits` is not an integer >= 2.
        """
        return check_n_folds("n_splits", self.n_splits)

    def split(
        self, X: Any, y: ArrayLike | None = None, groups: Any = None
    ) -> Iterator[tuple[Rows, Rows]]:
        """Yield the rows of the training and of the test side of each fold.

        Parameters
        ----------
        X : object of length n
            Only its length is looked at; None is taken too.
        y : array-like of shape (n_samples,)
            Class labels; -1 marks an outlier.
        groups : object
            Ignored, with a warning.

        Yields
        ------
        train, test : ndarray of int
            In ascending order.

        Raises
        ------
        ValueError
            If y is missing, has no outliers, or fewer inliers or outliers than folds.
        """
        if groups is not None:
            warnings.warn(
                "groups is ignored by InlierKFold; to leave out whole sources of "
                "outliers use LeaveOutlierSourceOut.",
                UserWarning,
                stacklevel=2,
            )
        n_splits = self.get_n_splits()
        labels, rng = self._labels(X, y, groups), self._rng()
        mask = inlier_mask(labels)
        inliers, outliers = np.flatnonzero(mask), np.flatnonzero(~mask)
        if not len(outliers):
            raise ValueError(
                "InlierKFold: y has no outliers (no label is -1), so a test fold would "
                "have nothing to detect. Add rows of label -1, real or from "
                "skood.model_selection.make_pseudo_outliers, or leave classes out in "
                "turn with ClassHoldout."
            )
        self._check_enough(len(outliers), n_splits, "outliers")
        inlier_folds = self._class_folds(labels, inliers, n_splits, rng)
        outlier_folds = balanced_folds(np.zeros(len(outliers), np.intp), n_splits, rng)
        for fold in range(n_splits):
            test = [inliers[inlier_folds == fold], outliers[outlier_folds == fold]]
            yield inliers[inlier_folds != fold], np.sort(np.concatenate(test))
