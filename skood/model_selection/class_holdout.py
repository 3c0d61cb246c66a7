"""A splitter that leaves classes out in turn."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from skood.model_selection._folds import LabelSplitter, Rows, check_n_folds
from skood.numerics.labels import inlier_mask
from skood.numerics.seeds import RandomStateLike


class ClassHoldout(LabelSplitter):
    """Leave classes out in turn: near outliers made of the data itself.

    The training side of a split knows nothing of the classes left out; the test side
    holds all rows of them and unseen rows of the known classes. No splitter can change
    y, so the score must be told that an unseen class is an outlier: use
    ``OODScorer(..., unseen_as_outliers=True)``, which reads the known classes from the
    fitted detector's ``class_labels_``. Rows of label -1 are in no split: far outliers
    would hide what near ones cost.

    Parameters
    ----------
    n_splits : int or None, default=None
        The classes are dealt out to so many splits, each left out exactly once; None
        means one class a split.
    n_inlier_folds : int, default=5
        Share of the known classes on the test side: one in so many rows, stratified.
    shuffle : bool, default=True
        Whether rows (and, if `n_splits` is given, classes) are drawn at random.
    random_state : int, RandomState instance or None, default=0
        Seeds the shuffle. Give an integer for `left_out` to repeat what `split` did.

    See Also
    --------
    make_pseudo_outliers : ``kind="class_holdout"`` relabels stated classes as -1, which
        serves detectors without ``class_labels_`` and any splitter.

    References
    ----------
    Ahmed, Courville. Detecting semantic anomalies. AAAI 2020 (held-out classes).

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.model_selection import cross_val_score
    >>> from sklearn.svm import OneClassSVM
    >>> from skood.model_selection import ClassHoldout, OODScorer, OutliersIgnored
    >>> X, y = load_iris(return_X_y=True)
    >>> cv = ClassHoldout()
    >>> cv.left_out(y)
    [[0], [1], [2]]
    >>> scorer = OODScorer("auroc", unseen_as_outliers=True)
    >>> detector = OutliersIgnored(OneClassSVM())
    >>> cross_val_score(detector, X, y, cv=cv, scoring=scorer).round(1)
    array([1. , 0.1, 1. ])

    The second species lies between the two others, where one boundary drawn around
    both holds it too: a detector that knows the classes is needed.
    """

    def __init__(
        self,
        n_splits: int | None = None,
        *,
        n_inlier_folds: int = 5,
        shuffle: bool = True,
        random_state: RandomStateLike = 0,
    ) -> None:
        self.n_splits = n_splits
        self.n_inlier_folds = n_inlier_folds
        self.shuffle = shuffle
        self.random_state = random_state

    def get_n_splits(
        self, X: Any = None, y: ArrayLike | None = None, groups: Any = None
    ) -> int:
        """Return the number of splits.

        Parameters
        ----------
        X, groups : object
            Ignored.
        y : array-like of shape (n_samples,)
            Class labels.

        Returns
        -------
        int
            `n_splits`, or the number of classes.

        Raises
        ------
        ValueError
            As `left_out`.
        """
        return len(self.left_out(y))

    def left_out(self, y: ArrayLike | None) -> list[list[Any]]:
        """Return the classes that each split leaves out, in the order of the splits.

        Parameters
        ----------
        y : array-like of shape (n_samples,)
            Class labels.

        Returns
        -------
        list of list
            Every class is in exactly one.

        Raises
        ------
        ValueError
            If y is missing, has fewer classes than `n_splits` or than 2, or a class of
            one row, which cannot be both learned and tested.
        """
        labels = self._labels(None, y, None)
        classes, sizes = np.unique(labels[inlier_mask(labels)], return_counts=True)
        if (sizes < 2).any():
            raise ValueError(
                f"ClassHoldout: class {classes[sizes < 2].tolist()[0]!r} has one row, "
                "which cannot be both learned and tested. Leave it out of the data."
            )
        n_splits = len(classes)
        if self.n_splits is not None:
            n_splits = check_n_folds("n_splits", self.n_splits)
            rng = self._rng()
            classes = classes if rng is None else rng.permutation(classes)
        if len(classes) < max(n_splits, 2):
            raise ValueError(
                f"ClassHoldout: y has {len(classes)} classes beside -1; "
                f"{max(n_splits, 2)} are needed to leave some out and know others. "
                "Give class labels, or ask for fewer splits."
            )
        return [np.sort(classes[i::n_splits]).tolist() for i in range(n_splits)]

    def split(
        self, X: Any, y: ArrayLike | None = None, groups: Any = None
    ) -> Iterator[tuple[Rows, Rows]]:
        """Yield the rows of the training and of the test side of each split.

        Parameters
        ----------
        X : object of length n
            Only its length is looked at; None is taken too.
        y : array-like of shape (n_samples,)
            Class labels.
        groups : object
            Ignored.

        Yields
        ------
        train, test : ndarray of int
            In ascending order.

        Raises
        ------
        ValueError
            As `left_out`, and if the classes known in a split have fewer rows than
            `n_inlier_folds`.
        """
        n_folds = check_n_folds("n_inlier_folds", self.n_inlier_folds)
        labels, rng = self._labels(X, y, groups), self._rng()
        rows = np.flatnonzero(inlier_mask(labels))
        for number, classes in enumerate(self.left_out(y)):
            is_unseen = np.isin(labels[rows], classes)
            known, unseen = rows[~is_unseen], rows[is_unseen]
            fold = self._class_folds(labels, known, n_folds, rng) == number % n_folds
            yield known[~fold], np.sort(np.concatenate([known[fold], unseen]))
