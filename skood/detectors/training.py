"""What a detector learns from: in-distribution rows, their classes, known outliers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skood.features import LayerFeatures

__all__ = ["Training"]


@dataclass(frozen=True, eq=False)
class Training:
    """The rows of one fit.

    Parameters
    ----------
    features : LayerFeatures of n rows
        In-distribution rows, of the blocks that the detector needs.
    outliers : LayerFeatures
        The rows of label -1, perhaps none: they may choose or weigh, and are never
        data.
    classes : ndarray of int, shape (n,), optional
        Places of the rows' labels in `labels`; None when ``fit`` got no ``y``.
    labels : ndarray of shape (C,), optional
        The classes' labels in ascending order, each of which has a row; None when
        ``fit`` got no ``y``.
    """

    features: LayerFeatures
    outliers: LayerFeatures
    classes: NDArray[np.intp] | None = None
    labels: NDArray[Any] | None = None

    def __len__(self) -> int:
        return len(self.features)

    @property
    def n_classes(self) -> int:
        """The number of classes, 1 without labels."""
        return 1 if self.labels is None else len(self.labels)

    @property
    def class_numbers(self) -> NDArray[np.intp]:
        """The rows' classes from 0 on; all 0 without labels."""
        if self.classes is not None:
            return self.classes
        return np.zeros(len(self), dtype=np.intp)

    def part(self, rows: NDArray[np.intp]) -> Training:
        """Return some of the rows, with the numbers that their classes have here."""
        features = self.features if len(rows) == len(self) else self.features[rows]
        classes = None if self.classes is None else self.classes[rows]
        return Training(features, self.outliers, classes, self.labels)

    def alone(self, rows: NDArray[np.intp]) -> Training:
        """Return some of the rows as if there were no others, nor other classes."""
        part = self.part(rows)
        if part.classes is None or part.labels is None:
            return part
        present, classes = np.unique(part.classes, return_inverse=True)
        return Training(part.features, part.outliers, classes, part.labels[present])
