"""Which class a column of the logits stands for, by what the network predicts."""

from __future__ import annotations

from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["column_classes", "is_one_class"]

LEAST_SHARE = 1 / 3
"""Of the rows that are not of the largest class, so many are told by the columns."""

ONE_CLASS_SHARE = 0.9
"""A class that fewer of its rows are predicted as is no class of the network."""

Classes = NDArray[np.intp]


def is_one_class(labels: NDArray[Any], predicted: Classes, n_columns: int) -> bool:
    """Return whether labels only tell inliers from outliers.

    Parameters
    ----------
    labels : ndarray of shape (C,)
        The class labels.
    predicted : ndarray of int, shape (n,)
        The column of the largest logit of each row fitted on.
    n_columns : int
        Columns of the logits.

    Returns
    -------
    bool
        True for a single class among several columns, unless it is the number of a
        column that is predicted for nine of ten rows.

    Examples
    --------
    >>> import numpy as np
    >>> from skood.detectors.layers.nap.columns import is_one_class
    >>> is_one_class(np.array([0]), np.array([0, 1, 2, 0]), 3)
    True
    >>> is_one_class(np.array([2]), np.array([2, 2, 2, 2]), 3)
    False
    """
    if len(labels) > 1 or n_columns < 2:
        return False
    numbers = column_numbers(labels, n_columns)
    if numbers is None:
        return True
    return bool(np.mean(predicted == numbers[0]) < ONE_CLASS_SHARE)


def column_classes(
    labels: NDArray[Any], classes: Classes, predicted: Classes, n_columns: int
) -> Classes:
    """Return the class that each column of the logits stands for.

    Whole numbers below the number of columns, and texts of them, are columns. Other
    labels are matched by evidence: a column stands for the class that most of the rows
    with their largest logit in it have.

    Parameters
    ----------
    labels : ndarray of shape (C,)
        The class labels, sorted.
    classes : ndarray of int, shape (n,)
        The class of each row fitted on, an index into ``labels``.
    predicted : ndarray of int, shape (n,)
        The column of its largest logit.
    n_columns : int
        Columns of the logits.

    Returns
    -------
    ndarray of int, shape (n_columns,)
        Index into ``labels``; -1 for a column without a class.

    Raises
    ------
    ValueError
        If the rows speak against it. A column is right for a row if it stands for the
        row's class by the other rows alone; labels are matched only if that holds for
        a third, at least, of the rows beyond the share of the largest class. Numbers
        are refused where it does, and is right for twice as many rows as they are.

    Examples
    --------
    >>> import numpy as np
    >>> from skood.detectors.layers.nap.columns import column_classes
    >>> classes, predicted = np.array([0, 0, 0, 1, 1]), np.array([2, 2, 2, 0, 0])
    >>> column_classes(np.array(["cat", "dog"]), classes, predicted, 4)
    array([ 1, -1,  0, -1])
    >>> column_classes(np.array(["0", "2"]), classes, 2 * classes, 4)
    array([ 0, -1,  1, -1])
    """
    matched, share = _matched(classes, predicted, n_columns)
    chance = np.bincount(classes).max() / len(classes)
    told = share - chance >= LEAST_SHARE * (1 - chance)
    numbers = column_numbers(labels, n_columns)
    if numbers is None:
        if told:
            return matched
        raise ValueError(
            f"y has {_listing(labels)}, and the logits {n_columns} columns. Which "
            "belongs to which is taken from the rows fitted on, but the best match "
            f"holds for {share:.0%} of them, where the most frequent class has "
            f"{chance:.0%}. Mend y or the logits, or use per_class=False."
        )
    stated = np.full(n_columns, -1, dtype=np.intp)
    stated[numbers] = np.arange(len(labels))
    right = np.mean(stated[predicted] == classes)
    if told and right < share / 2:
        raise ValueError(
            f"y has {_listing(labels)}, which are taken for the logits' columns 0 to "
            f"{n_columns - 1}. But only {right:.0%} of the rows have their largest "
            "logit in the column of their label, while another match of labels and "
            f"columns holds for {share:.0%}: number the labels as the columns are, or "
            "use per_class=False."
        )
    return stated


def column_numbers(labels: NDArray[Any], n_columns: int) -> NDArray[np.intp] | None:
    """Return labels as numbers of columns, or None if one is not that."""
    values = [_number(value) for value in labels.tolist()]
    if not all(value in range(n_columns) for value in values):
        return None
    numbers = np.array(values, dtype=np.intp)
    return numbers if len(np.unique(numbers)) == len(numbers) else None


def _number(value: Any) -> Any:
    """Return the number that a label is or spells."""
    if isinstance(value, bytes):
        value = value.decode(errors="replace")
    if isinstance(value, str):
        return int(value) if value.isascii() and value.isdigit() else None
    return value if isinstance(value, (bool, Real)) else None


def _matched(
    classes: Classes, predicted: Classes, n_columns: int
) -> tuple[Classes, float]:
    """Return each column's most frequent class, and how often others tell a row's."""
    n_classes = int(classes.max()) + 1
    pairs, counts = np.unique(predicted * n_classes + classes, return_counts=True)
    columns, owners = np.divmod(pairs, n_classes)
    order = np.lexsort((-counts, columns))
    columns, owners, counts = columns[order], owners[order], counts[order]
    first = np.flatnonzero(np.r_[True, columns[1:] != columns[:-1]])
    second = np.zeros(len(first), dtype=np.intp)
    several = np.diff(np.r_[first, len(columns)]) > 1
    second[several] = counts[first[several] + 1]
    most = counts[first]
    told = most[most - 1 >= np.maximum(second, 1)].sum()
    matched = np.full(n_columns, -1, dtype=np.intp)
    matched[columns[first]] = owners[first]
    return matched, float(told / len(classes))


def _listing(labels: NDArray[Any]) -> str:
    shown = ", ".join(map(repr, labels[:5].tolist()))
    more = ", ..." if len(labels) > 5 else ""
    return f"{len(labels)} classes ({shown}{more})"
