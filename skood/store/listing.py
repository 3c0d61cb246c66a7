"""The rows of a store in their order, with the labels and ids that came with them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skood.numerics.arrays import as_array
from skood.store.index import Keys, Table

__all__ = ["Listing"]

Column = NDArray[Any] | None


@dataclass(frozen=True)
class Listing:
    """Rows in their order.

    Parameters
    ----------
    keys : ndarray of uint8, shape (n, 16)
        Their keys; a row that comes twice in a data set is here twice.
    labels, ids : ndarray of shape (n,), optional
        Numbers or texts.
    """

    keys: Keys
    labels: Column = None
    ids: Column = None

    def __len__(self) -> int:
        return len(self.keys)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return the listing as the arrays of a shard."""
        arrays = {"keys": self.keys}
        for name in ("labels", "ids"):
            column = getattr(self, name)
            if column is not None:
                arrays[name] = _as_numbers(column)
        return arrays

    @classmethod
    def of(cls, arrays: dict[str, NDArray[Any]]) -> Listing:
        """Return the listing that a shard's arrays are."""
        columns = (arrays.get(name) for name in ("labels", "ids"))
        return cls(
            arrays["keys"], *(None if c is None else _as_read(c) for c in columns)
        )

    @classmethod
    def joined(cls, parts: Iterable[Listing]) -> Listing:
        """Return the rows of several listings, all of them, in this order.

        There are labels, or ids, if every listing has them.
        """
        parts = [*parts]
        columns = ([getattr(p, name) for p in parts] for name in ("labels", "ids"))
        return cls(
            np.concatenate([part.keys for part in parts]),
            *(
                None if any(c is None for c in given) else np.concatenate(given)
                for given in columns
            ),
        )

    @classmethod
    def united(cls, listings: Iterable[Listing]) -> Listing:
        """Return the rows of several listings, each once, where it came first.

        What came twice within one listing stays there twice. Labels and ids are those
        of the last listing that has the row.
        """
        return reduce(cls._followed_by, listings)

    def _followed_by(self, later: Listing) -> Listing:
        if not _share(self.keys, later.keys):
            return Listing.joined([self, later])
        names = [*_numbered(self.keys), *_numbered(later.keys)]
        last = {name: row for row, name in enumerate(names)}
        chosen = np.array(list(last.values()), dtype=np.intp)
        keys = np.concatenate([self.keys, later.keys])
        columns = zip((self.labels, self.ids), (later.labels, later.ids), strict=True)
        n = len(self)
        return Listing(keys[chosen], *(_joined(*pair, n, chosen) for pair in columns))


def column(values: Any, name: str, n_rows: int | None = None) -> Column:
    """Return labels or ids as an array that a store can keep.

    Raises
    ------
    ValueError
        If they are not one number or text a row.
    """
    if values is None:
        return None
    array = as_array(values, name)
    if array.dtype == object and all(isinstance(value, str) for value in array.flat):
        array = array.astype(str)
    if array.ndim != 1 or array.dtype.kind not in "biufU":
        raise ValueError(
            f"{name} has shape {array.shape} and type {array.dtype}: wanted is one "
            "number or text for each row."
        )
    if n_rows is not None and len(array) != n_rows:
        raise ValueError(f"{name} has {len(array)} entries for {n_rows} rows of X.")
    return array


def _share(some: Keys, others: Keys) -> bool:
    """Return whether some key is among others too."""
    table = Table()
    if len(some):
        table.add(some, 0)
    return bool(table.find(others).found.any())


def _numbered(keys: Keys) -> list[tuple[bytes, int]]:
    """Return each key with how often it came before."""
    seen: dict[bytes, int] = {}
    numbered = []
    for key in keys:
        name = key.tobytes()
        numbered.append((name, seen.get(name, 0)))
        seen[name] = seen.get(name, 0) + 1
    return numbered


def _joined(one: Column, other: Column, n_one: int, rows: NDArray[np.intp]) -> Column:
    """Return rows of two columns, one behind the other; None if one lacks any."""
    is_later = rows >= n_one
    if one is None:
        return other[rows - n_one] if other is not None and is_later.all() else None
    if other is None:
        return None if is_later.any() else one[rows]
    return np.concatenate([one, other])[rows]


def _as_numbers(values: NDArray[Any]) -> NDArray[Any]:
    if values.dtype.kind == "f":
        return values.astype(np.float64)
    if values.dtype.kind != "U":
        return values.astype(np.int64)
    encoded = np.char.encode(values, "utf-8")
    width = max(encoded.dtype.itemsize, 1)
    return encoded.astype(f"S{width}").view(np.uint8).reshape(-1, width)


def _as_read(values: NDArray[Any]) -> NDArray[Any]:
    if values.ndim == 1:
        return values
    texts = np.ascontiguousarray(values).view(f"S{values.shape[1]}")[:, 0]
    return np.char.decode(texts, "utf-8")
