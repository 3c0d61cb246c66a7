"""What members say of rows that none of them was fitted on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from skood.ensemble.members import FittedMember
from skood.features import LayerFeatures
from skood.features.names import Key

__all__ = ["Evidence", "HeldOutRows"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class HeldOutRows:
    """Rows kept from the members' fit.

    Parameters
    ----------
    scale : LayerFeatures
        In-distribution rows that make the members' scores comparable.
    threshold : LayerFeatures
        Other in-distribution rows, that set the threshold and the p-values.
    kinds : mapping of str to LayerFeatures
        Pseudo outliers of each kind.
    outliers : LayerFeatures
        Known outliers, perhaps none.
    """

    scale: LayerFeatures
    threshold: LayerFeatures
    kinds: Mapping[str, LayerFeatures]
    outliers: LayerFeatures


@dataclass(frozen=True)
class Evidence:
    """The members' own scores of held-out rows, each of shape (rows, members)."""

    scale: Floats
    threshold: Floats
    kinds: Mapping[str, Floats]
    outliers: Floats

    @classmethod
    def of(
        cls, members: Mapping[str, FittedMember], rows: HeldOutRows, array: Key
    ) -> Evidence:
        """Let all members score the rows."""
        return cls(
            columns(members, rows.scale, array),
            columns(members, rows.threshold, array),
            {kind: columns(members, x, array) for kind, x in rows.kinds.items()},
            columns(members, rows.outliers, array),
        )

    def only(self, members: Sequence[int]) -> Evidence:
        """Return the evidence of some members, by their numbers."""
        chosen = list(members)
        return Evidence(
            self.scale[:, chosen],
            self.threshold[:, chosen],
            {kind: scores[:, chosen] for kind, scores in self.kinds.items()},
            self.outliers[:, chosen],
        )


def columns(
    members: Mapping[str, FittedMember], features: LayerFeatures, array: Key
) -> Floats:
    """Return the members' scores of some rows, of shape (rows, members)."""
    return np.column_stack([m.scores(features, array) for m in members.values()])
