"""Which column of the logits a class label stands for."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["label_columns"]


def label_columns(labels: NDArray[Any], n_logits: int) -> NDArray[np.intp]:
    """Return the column of the logits for each of all labels, in ascending order.

    Labels that are whole numbers below the number of logits are columns; any other
    labels are in the order of the columns if there are as many.
    """
    try:
        numbers = np.asarray(labels, dtype=np.float64)
    except ValueError:
        numbers = np.full(len(labels), -1.0)
    if ((numbers >= 0) & (numbers < n_logits) & (numbers % 1 == 0)).all():
        return numbers.astype(np.intp)
    if len(labels) == n_logits:
        return np.arange(n_logits)
    raise ValueError(
        f"y has {len(labels)} classes (first {labels[0]!r}) and the logits have "
        f"{n_logits} columns: which belong together cannot be told. Give labels that "
        f"are columns, 0 to {n_logits - 1}."
    )
