"""Which column of the logits a class label stands for."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["label_columns"]

LEAST_SHARE = 1 / 3
"""Of the rows that are not of the largest class, so many are told by the columns."""

Classes = NDArray[np.intp]


def label_columns(
    labels: NDArray[Any],
    present: NDArray[Any],
    classes: Classes,
    predicted: Classes,
    n_logits: int,
) -> NDArray[np.intp]:
    """Return the column of the logits that each present label stands for.

    Labels that are whole numbers below the number of logits, or texts of them, are
    columns. Other labels are matched by evidence, one column each: the pairs of label
    and predicted column that most rows have come first.

    Parameters
    ----------
    labels : ndarray
        All labels that there are, in ascending order.
    present : ndarray of shape (C,)
        Those of the rows fitted on, in ascending order.
    classes : ndarray of int, shape (n,)
        The rows' places in ``present``.
    predicted : ndarray of int, shape (n,)
        The column of each row's largest logit.
    n_logits : int
        Columns of the logits.

    Returns
    -------
    ndarray of int, shape (C,)

    Raises
    ------
    ValueError
        If there are more labels than columns, or the best match holds for less than a
        third of the rows beyond the share of the largest class; for numbers, if it
        holds for that many, and for twice as many as the numbers do.

    Examples
    --------
    >>> import numpy as np
    >>> from skood.detectors.label_columns import label_columns
    >>> names = np.array(["cat", "dog"])
    >>> label_columns(names, names, np.array([0, 0, 1]), np.array([2, 2, 0]), 3)
    array([2, 0])
    """
    matched = _matched(classes, len(present), predicted, n_logits)
    share = np.mean(matched[classes] == predicted)
    chance = np.bincount(classes).max() / len(classes)
    told = share - chance >= LEAST_SHARE * (1 - chance)
    numbers = _numbers(labels, n_logits)
    if numbers is not None:
        stated = numbers[np.searchsorted(labels, present)]
        right = np.mean(stated[classes] == predicted)
        if told and right < share / 2:
            raise ValueError(
                f"the labels in y are taken for columns of the logits, 0 to "
                f"{n_logits - 1}, in which {right:.0%} of the rows have their largest "
                f"logit, while another match holds for {share:.0%}: number the labels "
                "as the columns are."
            )
        return stated
    if told and len(labels) <= n_logits:
        return matched
    raise ValueError(
        f"y has {len(labels)} classes (first {labels[0]!r}) and the logits have "
        f"{n_logits} columns: which belong together cannot be told by the predictions, "
        f"of which the best match explains {share:.0%} (the most frequent class has "
        f"{chance:.0%}). Give labels that are columns, 0 to {n_logits - 1}."
    )


def _numbers(labels: NDArray[Any], n_logits: int) -> NDArray[np.intp] | None:
    """Return labels as numbers of columns, or None if one is not that."""
    try:
        numbers = np.asarray(labels, dtype=np.float64)
    except ValueError:
        return None
    if ((numbers >= 0) & (numbers < n_logits) & (numbers % 1 == 0)).all():
        return numbers.astype(np.intp)
    return None


def _matched(
    classes: Classes, n_classes: int, predicted: Classes, n_logits: int
) -> NDArray[np.intp]:
    """Return a column for each class, of its own as long as there are columns left."""
    pairs, counts = np.unique(classes * n_logits + predicted, return_counts=True)
    matched = np.full(n_classes, -1, dtype=np.intp)
    free = np.ones(n_logits, dtype=bool)
    for pair in pairs[np.argsort(-counts, kind="stable")].tolist():
        one, column = divmod(pair, n_logits)
        if matched[one] < 0 and free[column]:
            matched[one], free[column] = column, False
    left, columns = np.flatnonzero(matched < 0), np.flatnonzero(free)
    matched[left[: len(columns)]] = columns[: len(left)]
    return matched
