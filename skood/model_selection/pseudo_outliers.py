"""Outliers made from the inliers, to tune on when there are no real ones."""

from __future__ import annotations

from collections.abc import Callable
from inspect import Parameter, signature
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skood.model_selection._frames import appended_frame, frame_values, is_frame
from skood.model_selection._inliers import Inliers, Rows, Values, inliers_of
from skood.model_selection._outlier_kinds import (
    FEATURE_KINDS,
    IMAGE_KINDS,
    Batch,
    Kind,
)
from skood.model_selection._text_kinds import TEXT_KINDS
from skood.model_selection._texts import appended_texts, text_values
from skood.numerics.arrays import as_array, check_readable
from skood.numerics.labels import OUTLIER, inlier_mask, label_array
from skood.numerics.seeds import RandomStateLike, stream_seed

_BATCH_VALUES = 2**22  # values made at a time, so that float64 work stays near 100 MB


def make_pseudo_outliers(
    X: Any,
    y: ArrayLike | None = None,
    *,
    kind: str = "jigsaw",
    n_outliers: int | None = None,
    channel_axis: int | None = None,
    random_state: RandomStateLike = 0,
    **options: Any,
) -> tuple[Any, NDArray[Any]]:
    """Return the data followed by made-up outliers, and labels with -1 for those.

    Tuning on the outliers of the test is a leak, and often there are none: these stand
    in for them. The kinds differ in what they ask of a detector, so tune on more than
    one; `LeaveOutlierSourceOut` tells how well that carries over.

    Images keep their dtype and stay in the range of the inliers' values:

    ========================  ======================================================
    ``"jigsaw"``              tiles shuffled; option ``grid=3``. Rows and columns that
                              remain are 0
    ``"gaussian"``            normal noise about mid-range; ``scale=0.25`` is its
                              standard deviation as a share of the range
    ``"uniform"``             uniform noise over the range
    ``"rademacher"``          noise of the two ends of the range
    ``"blob"``                smooth shapes with sharp edges; ``sigma=1.5`` pixels
    ``"mixup"``               blend with an image of another class; ``weight=0.5``
    ``"invert"``              negatives
    ``"fourier_phase"``       the same amplitude spectrum, phases scrambled
    ========================  ======================================================

    Features and tables (dtype kept):

    ========================  ======================================================
    ``"permute_columns"``     every column drawn on its own from its values among the
                              inliers: the right margins, the wrong dependence
    ``"extrapolate"``         pushed away from the class mean; ``factor=2.0`` times as
                              far, so out of the range of values
    ========================  ======================================================

    Texts; none that is made says the same as an inlier:

    ========================  ======================================================
    ``"shuffle_words"``       the words of a text in a random order
    ``"splice"``              the first half of a text, then the second half of one of
                              another class
    ``"random_words"``        as many words, each drawn on its own from all texts
    ========================  ======================================================

    Words are what stands between spaces.

    Any data: ``"class_holdout"`` adds no rows but labels the rows of some classes -1;
    ``classes=None`` draws one class, or a list says which.

    Parameters
    ----------
    X : array-like of shape (n_samples, channels, height, width), \
            (n_samples, height, width, channels), (n_samples, height, width), \
            (n_samples, n_features) or, of texts, (n_samples,)
        The data. A frame of pandas or polars stays one, with its columns' types; texts
        stay a list or a column if they are one; anything else, tensors too, becomes an
        ndarray.
    y : array-like of shape (n_samples,), default=None
        Class labels; rows of label -1 are kept and nothing is made from them. None: all
        rows are inliers of class 0.
    kind : str, default="jigsaw"
        One of the above.
    n_outliers : int or None, default=None
        How many to make. None: one from each inlier, in the same order.
    channel_axis : {1, 3, -1} or None, default=None
        Where the channels of a 4-d X are. None: the one of axes 1 and 3 whose length is
        1, 3 or 4; an error if that is both or neither.
    random_state : int, RandomState instance or None, default=0
        Seeds everything. With an integer, "jigsaw" makes the same images as
        ``Jigsaw(grid, random_state)`` in a feature extractor's ``views``.
    **options : dict
        Options of the kind.

    Returns
    -------
    X_all : ndarray, DataFrame, Series or list of length n + n_outliers
        The rows of X, then the outliers. The index of a pandas frame or column counts
        them from 0.
    y_all : ndarray of shape (n + n_outliers,)
        The labels, then -1 (``"-1"`` if labels are text). Unsigned labels become int64.

    Raises
    ------
    ValueError
        If the kind is unknown or makes no sense for the shape of X, the channels cannot
        be told, there are no inliers, images are constant or not finite, texts have
        too few words, some entries are no texts, or an option is out of range.
    TypeError
        If the kind has no such option, or X is one text.

    References
    ----------
    Hendrycks, Gimpel. A baseline for detecting misclassified and out-of-distribution
    examples in neural networks. ICLR 2017 (Gaussian noise). Hendrycks, Mazeika,
    Dietterich. Deep anomaly detection with outlier exposure. ICLR 2019 (Rademacher,
    blobs, means of pairs, jigsaw, inverted). Yu et al. Block selection method for using
    feature norm in out-of-distribution detection. CVPR 2023 (jigsaw). DeVries, Taylor.
    Dataset augmentation in feature space. ICLR workshop 2017 (extrapolation).

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skood.model_selection import make_pseudo_outliers
    >>> X, y = load_digits(return_X_y=True)
    >>> X_all, y_all = make_pseudo_outliers(
    ...     X, y, kind="permute_columns", random_state=0
    ... )
    >>> X_all.shape, y_all[[0, 1, -1]].tolist()
    ((3594, 64), [0, 1, -1])
    >>> X_all, y_all = make_pseudo_outliers(X, y, kind="class_holdout", classes=[8, 9])
    >>> X_all.shape, int((y_all == -1).sum())
    ((1797, 64), 354)
    >>> texts, intents = ["pay my bill", "book a table"], ["bank", "travel"]
    >>> make_pseudo_outliers(texts, intents, kind="splice", random_state=0)[0][2:]
    ['pay my a table', 'book a my bill']
    """
    labels, mark = _with_room_for_mark(_labels(X, y))
    if kind == "class_holdout":
        _check_options(kind, _held_out, options)
        return X, _held_out(labels, mark, n_outliers, random_state, **options)
    texts = None if is_frame(X) else text_values(X)
    values = _values(X) if texts is None else texts
    make = _kind_for(kind, values.shape, are_texts=texts is not None)
    _check_options(kind, make, options)
    data, back = inliers_of(values, labels, channel_axis, stream_seed(random_state))
    made = _made(data, make, n_outliers, options)
    outliers = made if back is None else np.moveaxis(made, 1, back)
    y_all = np.concatenate([labels, np.full(len(made), mark, dtype=labels.dtype)])
    outliers = outliers.reshape(-1, *values.shape[1:])
    if texts is not None:
        return appended_texts(X, outliers), y_all
    if is_frame(X):
        return appended_frame(X, outliers), y_all
    return np.concatenate([values, outliers]), y_all


def _values(X: Any) -> Values:
    return frame_values(X) if is_frame(X) else as_array(X)


def _labels(X: Any, y: ArrayLike | None) -> NDArray[Any]:
    check_readable(X)
    n_rows = X.shape[0] if hasattr(X, "shape") else len(X)  # sparse ones have no len
    labels = np.zeros(n_rows, int) if y is None else label_array(y)
    if len(labels) != n_rows:
        raise ValueError(
            f"X has {n_rows} rows but y {len(labels)}; one label per row is wanted."
        )
    if not inlier_mask(labels).any():
        raise ValueError("y has no inliers: there is nothing to make outliers from.")
    return labels


def _with_room_for_mark(labels: NDArray[Any]) -> tuple[NDArray[Any], Any]:
    """Return the labels in a dtype that holds the mark of an outlier, and the mark."""
    kind = labels.dtype.kind
    if kind in "US":
        wide = np.promote_types(labels.dtype, f"{kind}{len(str(OUTLIER))}")
        return labels.astype(wide), str(OUTLIER)
    return (labels.astype(np.int64) if kind in "bu" else labels), OUTLIER


def _held_out(
    labels: NDArray[Any],
    mark: Any,
    n_outliers: int | None,
    random_state: RandomStateLike,
    *,
    classes: ArrayLike | None = None,
) -> NDArray[Any]:
    """Return the labels with those of the held-out classes replaced by the mark."""
    known = np.unique(labels[inlier_mask(labels)])
    if n_outliers is not None:
        raise ValueError(
            'kind="class_holdout" relabels rows and makes none; leave n_outliers out.'
        )
    if classes is None:
        classes = [np.random.default_rng(stream_seed(random_state)).choice(known)]
    held_out = np.atleast_1d(as_array(classes, "classes"))
    if not np.isin(held_out, known).all() or np.isin(known, held_out).all():
        raise ValueError(
            f"classes must be some, not all, of the classes of y {known.tolist()}; got "
            f"{held_out.tolist()}. (Without y there is one class.)"
        )
    relabelled = labels.copy()
    relabelled[np.isin(labels, held_out)] = mark
    return relabelled


def _kind_for(kind: str, shape: tuple[int, ...], *, are_texts: bool) -> Kind:
    by_axes = {2: FEATURE_KINDS, 3: IMAGE_KINDS, 4: IMAGE_KINDS}
    kinds = TEXT_KINDS if are_texts else by_axes.get(len(shape))
    if kinds is None:
        raise ValueError(
            f"X must be images, (n, height, width) with or without channels, "
            f"features, (n, d), or texts, (n,); got shape {shape}."
        )
    if kind not in kinds:
        raise ValueError(
            f"kind={kind!r} makes no sense for {_what(kinds)} of shape {shape}; valid "
            f"kinds: {', '.join(sorted([*kinds, 'class_holdout']))}. "
            f"{_mend(kind, kinds)}"
        )
    return kinds[kind]


def _what(kinds: dict[str, Kind]) -> str:
    if kinds is TEXT_KINDS:
        return "texts"
    return "features" if kinds is FEATURE_KINDS else "images"


def _mend(kind: str, kinds: dict[str, Kind]) -> str:
    if kind in TEXT_KINDS:
        return "(Texts are given as a list, an array of one axis or a column.)"
    if kinds is TEXT_KINDS:
        return "(Images and tables are given as numbers.)"
    return "(Flattened images must be reshaped first.)"


def _check_options(
    kind: str, make: Callable[..., Any], options: dict[str, Any]
) -> None:
    parameters = signature(make).parameters.values()
    known = [p.name for p in parameters if p.kind is Parameter.KEYWORD_ONLY]
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise TypeError(
            f"kind={kind!r} has no option {', '.join(unknown)}; its options: "
            f"{', '.join(known) or 'none'}."
        )


def _made(
    data: Inliers, make: Kind, n_outliers: int | None, options: dict[str, Any]
) -> Values:
    """Return the outliers, made batch by batch."""
    # a child stream: default_rng(seed) itself may well have made the user's data
    rng = np.random.default_rng(np.random.SeedSequence(data.seed).spawn(1)[0])
    rows = _source_rows(len(data.values), n_outliers, rng)
    out = np.empty((len(rows), *data.values.shape[1:]), dtype=data.values.dtype)
    step = max(1, _BATCH_VALUES // max(1, out[:1].size))
    for start in range(0, len(rows), step):
        numbers = np.arange(start, min(start + step, len(rows)))
        out[numbers] = make(data, Batch(numbers, rows[numbers]), rng, **options)
    return out


def _source_rows(
    n_inliers: int, n_outliers: int | None, rng: np.random.Generator
) -> Rows:
    """Return the inlier that each outlier starts from: all equally often, or nearly."""
    if n_outliers is None:
        return np.arange(n_inliers)
    if not isinstance(n_outliers, (int, np.integer)) or n_outliers < 1:
        raise ValueError(f"n_outliers must be an integer >= 1; got {n_outliers!r}.")
    rounds, rest = divmod(int(n_outliers), n_inliers)
    some = np.sort(rng.choice(n_inliers, rest, replace=False))
    return np.concatenate([np.tile(np.arange(n_inliers), rounds), some])
