"""Which members see a row, and how much each of them counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from skood.ensemble.comparable import Comparable
from skood.features import LayerFeatures
from skood.features.names import Key
from skood.numerics.arrays import as_array

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["explanation", "rows_of"]

Floats = NDArray[np.float64]


def rows_of(X: Any, widths: Mapping[Key, int]) -> Any:
    """Return one row, as ``X[i]`` gives it, as data of one row; anything else as is.

    Parameters
    ----------
    X : object
        What ``explain`` was given.
    widths : mapping
        Of the blocks of X in ``fit``, which one row has beside each other.
    """
    if isinstance(X, LayerFeatures) or np.ndim(X) != 1:
        return X
    if hasattr(X, "iloc"):  # a row of a frame, whose columns it names
        return X.to_frame().T
    row = as_array(X, "X")
    if len(widths) == 1 and next(iter(widths))[0] == "array":
        return row[None]
    total = sum(widths.values())
    if len(row) != total:
        raise ValueError(
            f"X is one row of {len(row)} columns, and fit got {total}, of "
            f"{', '.join('/'.join(key) for key in widths)}: give X[[i]], which keeps "
            "the names of the blocks."
        )
    ends = np.cumsum(list(widths.values()))[:-1]
    parts = np.split(row, ends)
    return LayerFeatures(
        {key: part[None] for key, part in zip(widths, parts, strict=True)}
    )


def explanation(
    scores: Floats,
    names: Sequence[str],
    views: Sequence[str],
    scales: Mapping[str, Comparable],
    contributions: Floats,
) -> pd.DataFrame:
    """Return the table of ``explain``: of one row by member, else by row and member."""
    import pandas as pd

    tables = []
    for own, counted in zip(scores, contributions, strict=True):
        pairs = list(zip(own, scales.values(), strict=True))
        z = [float(scale.standardised(np.array([s]))[0]) for s, scale in pairs]
        log_p = [float(scale.log_p_values(np.array([s]))[0]) for s, scale in pairs]
        table = pd.DataFrame(
            {
                "view": list(views),
                "score": own,
                "z": z,
                "p_value": np.exp(log_p),
                "contribution": counted,
            },
            index=pd.Index(list(names), name="member"),
        )
        by = "z" if np.isnan(counted).any() else "contribution"
        tables.append(table.sort_values(by, kind="stable"))
    if len(tables) == 1:
        return tables[0]
    return pd.concat(dict(enumerate(tables)), names=["row"])
