"""A splitter that keeps a whole source of outliers for the test side."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skood.metrics.sources import outlier_sources
from skood.model_selection._folds import LabelSplitter, Rows, check_n_folds
from skood.numerics.labels import inlier_mask
from skood.numerics.seeds import RandomStateLike


class LeaveOutlierSourceOut(LabelSplitter):
    """Leave one source of outliers out in turn: tune on the others, test on it.

    A detector tuned on the outliers it is tested on looks better than it will be in
    use. As the outer splitter around a search, this one shows the search inliers and
    the outliers of all sources but one; its test side holds unseen inliers and the
    source left out. There are as many splits as sources; split number i tests on fold
    ``i % n_inlier_folds`` of the inliers.

    Parameters
    ----------
    n_inlier_folds : int, default=5
        The inliers are cut in so many folds, stratified by class; at least 2.
    shuffle : bool, default=True
        Whether inliers are drawn at random; otherwise dealt out in their order.
    random_state : int, RandomState instance or None, default=0
        Seeds the shuffle.

    See Also
    --------
    InlierKFold : The splitter for the search inside.

    Notes
    -----
    The training side has rows of label -1, for the inner search to score. Detectors of
    this package drop them in ``fit``; wrap others in
    :class:`~skood.model_selection.OutliersIgnored`. `groups` is requested by default
    when metadata routing is on.

    References
    ----------
    Shafaei, Schmidt, Little. A less biased evaluation of out-of-distribution sample
    detectors. BMVC 2019 (three data sets: tuned on one source, tested on another).

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.model_selection import GridSearchCV, cross_val_score
    >>> from sklearn.svm import OneClassSVM
    >>> from skood.model_selection import (
    ...     InlierKFold,
    ...     LeaveOutlierSourceOut,
    ...     OutliersIgnored,
    ...     auroc_scorer,
    ... )
    >>> X = np.random.default_rng(0).normal(size=(100, 2))
    >>> X[60:80] += [9, 0]
    >>> X[80:] -= [9, 9]
    >>> y = np.repeat([0, -1, -1], [60, 20, 20])
    >>> source = np.repeat(["", "right", "corner"], [60, 20, 20])
    >>> search = GridSearchCV(
    ...     OutliersIgnored(OneClassSVM()),
    ...     {"estimator__nu": [0.1, 0.5]},
    ...     scoring=auroc_scorer,
    ...     cv=InlierKFold(2),
    ... )
    >>> outer = LeaveOutlierSourceOut()
    >>> outer.left_out(y, source)
    ['corner', 'right']
    >>> cross_val_score(search, X, y, groups=source, cv=outer, scoring=auroc_scorer)
    array([1., 1.])
    """

    # scikit-learn's way to say that `split` wants groups when metadata is routed
    __metadata_request__split: ClassVar[dict[str, bool]] = {"groups": True}

    def __init__(
        self,
        n_inlier_folds: int = 5,
        *,
        shuffle: bool = True,
        random_state: RandomStateLike = 0,
    ) -> None:
        self.n_inlier_folds = n_inlier_folds
        self.shuffle = shuffle
        self.random_state = random_state

    def get_n_splits(
        self, X: Any = None, y: ArrayLike | None = None, groups: Any = None
    ) -> int:
        """Return the number of outlier sources.

        Parameters
        ----------
        X : object
            Ignored.
        y : array-like of shape (n_samples,)
            Class labels; -1 marks an outlier.
        groups : array-like of shape (n_samples,)
            Each row's source.

        Returns
        -------
        int
            One split per source.

        Raises
        ------
        ValueError
            As `left_out`.
        """
        return len(self.left_out(y, groups))

    def left_out(self, y: ArrayLike | None, groups: ArrayLike | None) -> list[Any]:
        """Return the source that each split leaves out, in the order of the splits.

        Parameters
        ----------
        y : array-like of shape (n_samples,)
            Class labels; -1 marks an outlier.
        groups : array-like of shape (n_samples,)
            Each row's source; entries of inliers are ignored.

        Returns
        -------
        list
            The sources, sorted.

        Raises
        ------
        ValueError
            If y or groups is missing or lacks a name, or there are not two sources.
        """
        labels = self._labels(None, y, groups)
        return np.unique(self._sources(labels, groups)).tolist()

    def split(
        self, X: Any, y: ArrayLike | None = None, groups: ArrayLike | None = None
    ) -> Iterator[tuple[Rows, Rows]]:
        """Yield the rows of the training and of the test side of each split.

        Parameters
        ----------
        X : object of length n
            Only its length is looked at; None is taken too.
        y : array-like of shape (n_samples,)
            Class labels; -1 marks an outlier.
        groups : array-like of shape (n_samples,)
            Each row's source; entries of inliers are ignored.

        Yields
        ------
        train, test : ndarray of int
            In ascending order; the outliers of `train` are of the other sources.

        Raises
        ------
        ValueError
            As `left_out`, and if there are fewer inliers than `n_inlier_folds`.
        """
        n_folds = check_n_folds("n_inlier_folds", self.n_inlier_folds)
        labels = self._labels(X, y, groups)
        sources = self._sources(labels, groups)
        mask = inlier_mask(labels)
        inliers, outliers = np.flatnonzero(mask), np.flatnonzero(~mask)
        folds = self._class_folds(labels, inliers, n_folds, self._rng())
        for number, source in enumerate(np.unique(sources)):
            fold = folds == number % n_folds
            left_out = sources == source
            yield (
                np.sort(np.concatenate([inliers[~fold], outliers[~left_out]])),
                np.sort(np.concatenate([inliers[fold], outliers[left_out]])),
            )

    def _sources(self, labels: NDArray[Any], groups: ArrayLike | None) -> NDArray[Any]:
        """Return the source of each outlier."""
        if groups is None:
            raise ValueError(
                "LeaveOutlierSourceOut needs groups: the name of each row's outlier "
                "source (those of inliers are ignored). Pass groups=..., or "
                'params={"groups": ...} where metadata routing is on.'
            )
        sources = outlier_sources(inlier_mask(labels), groups, "groups")
        n_sources = len(np.unique(sources))
        if n_sources < 2:
            raise ValueError(
                f"LeaveOutlierSourceOut needs outliers of 2 sources at least; groups "
                f"has {n_sources} among the rows of label -1. With one source use "
                "InlierKFold; make another with make_pseudo_outliers."
            )
        return sources
