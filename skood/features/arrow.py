"""Features in Parquet files and in data sets of Hugging Face, read as they are wanted.

A block is a column of lists of one length, named ``layer/statistic``. What
:meth:`LayerFeatures.to_parquet` writes says in its metadata which columns are blocks,
and keeps the head there; files of others say it by the names.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from skood.features.chunks import chunks_of
from skood.features.head import LinearHead
from skood.features.names import Key, as_key, is_logits
from skood.files.atomic import replacing
from skood.files.paths import user_path
from skood.numerics.arrays import as_array

if TYPE_CHECKING:
    import pyarrow as pa

    from skood.features.layer_features import LayerFeatures

__all__ = [
    "ColumnOfDataset",
    "ParquetColumn",
    "column_name",
    "dataset_blocks",
    "parquet_blocks",
    "parquet_files",
    "read_column",
    "schema_of",
    "write_parquet",
]

METADATA = b"skood"

Layers: TypeAlias = Mapping[Any, str] | Sequence[str] | str | None


def column_name(key: Key) -> str:
    """Return the name of a block's column."""
    return "/".join(key)


# Writing -------------------------------------------------------------------------


def write_parquet(
    path: str | Path, features: LayerFeatures, columns: Mapping[str, ArrayLike]
) -> None:
    """Write features to a file, as :meth:`LayerFeatures.to_parquet` says.

    A chunk of rows is a row group.
    """
    _pyarrow()
    import pyarrow.parquet as pq

    if features.views:
        raise ValueError(
            f"the features have views ({', '.join(features.views)}), for which Parquet "
            "has no place: use save, or write each view to a file of its own."
        )
    target = user_path(path)
    tables = _tables(features, columns)
    target.parent.mkdir(parents=True, exist_ok=True)
    first = next(tables)
    with replacing(target) as file, pq.ParquetWriter(file, first.schema) as writer:
        for table in chain([first], tables):
            writer.write_table(table)


def _tables(
    features: LayerFeatures, columns: Mapping[str, ArrayLike]
) -> Iterator[pa.Table]:
    """Return the rows, chunk by chunk."""
    pa = _pyarrow()
    names = {column_name(key): key for key in features.block_names}
    others = {name: as_array(column, name) for name, column in columns.items()}
    wrong = [n for n, c in others.items() if n in names or len(c) != len(features)]
    if wrong:
        raise ValueError(
            f"columns[{wrong[0]!r}] has {len(others[wrong[0]])} values: wanted is one "
            f"for each of {len(features)} rows, under a name other than {[*names]}."
        )
    head = None if features.head is None else _as_text(features.head)
    metadata = {METADATA: json.dumps({"blocks": names, "head": head}).encode()}

    def table(rows: slice, chunk: LayerFeatures) -> Any:
        blocks = {name: _as_column(chunk.block(*key)) for name, key in names.items()}
        beside = {name: _as_column(column[rows]) for name, column in others.items()}
        return pa.table({**blocks, **beside}).replace_schema_metadata(metadata)

    # Without rows there is no chunk, and there has to be a schema.
    parts = chunks_of(features) if len(features) else [(slice(0, 0), features)]
    return (table(rows, chunk) for rows, chunk in parts)


def _as_column(rows: NDArray[Any]) -> pa.Array:
    pa = _pyarrow()
    if rows.ndim == 1:
        return pa.array(rows)
    flat = pa.array(np.ascontiguousarray(rows).ravel())
    return pa.FixedSizeListArray.from_arrays(flat, rows.shape[1])


def _as_text(head: LinearHead) -> dict[str, str]:
    buffer = io.BytesIO()
    np.savez(buffer, weight=head.weight, bias=head.bias)
    return {"layer": head.layer, "npz": base64.b64encode(buffer.getvalue()).decode()}


# Reading -------------------------------------------------------------------------


def parquet_files(path: str | Path | Sequence[str | Path]) -> list[Path]:
    """Return the Parquet files at a path, or at several, in the order of their rows.

    Raises
    ------
    FileNotFoundError
        If there is none.
    """
    paths = [path] if isinstance(path, (str, Path)) else [*path]
    files: list[Path] = []
    for one in map(user_path, paths):
        files += sorted(one.rglob("*.parquet")) if one.is_dir() else [one]
    missing = [str(file) for file in files if not file.is_file()]
    if missing or not files:
        raise FileNotFoundError(
            f"path={path!r} leads to no Parquet file"
            + (f": {missing[0]} is not there." if missing else ".")
        )
    return [file.absolute() for file in files]


class ParquetColumn:
    """A column of lists in Parquet files, as an array that is read when asked.

    Of a file, the row groups are read that hold wanted rows; the last one is kept. It
    pickles as the files' paths and the digests of their footers.

    Parameters
    ----------
    files : sequence of Path
        In the order of their rows.
    name : str
        The column.

    Raises
    ------
    ValueError
        If its rows are no numbers of one length; when rows are read, if a file is no
        longer what it was.
    """

    ndim = 2
    pickles_as_path = True

    def __init__(self, files: Sequence[Path], name: str) -> None:
        self.name, self._files = name, tuple(files)
        self._digests = tuple(map(_footer_digest, self._files))
        self._groups = _row_groups(self._files)
        self._starts = np.cumsum([0, *(rows for _, _, rows in self._groups)])
        self._last: tuple[int, NDArray[Any]] | None = None
        some = next((n for n, group in enumerate(self._groups) if group[2]), None)
        if some is None:
            raise ValueError(f"the files of column {name!r} have no rows.")
        first = self._group(some)
        self.shape = int(self._starts[-1]), first.shape[1]
        self.dtype = first.dtype

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> NDArray[Any]:
        rows = np.arange(len(self))[key] if isinstance(key, slice) else np.asarray(key)
        values = np.empty((len(rows), self.shape[1]), dtype=self.dtype)
        group = np.searchsorted(self._starts, rows, side="right") - 1
        for number in np.unique(group):
            here = group == number
            values[here] = self._group(number)[rows[here] - self._starts[number]]
        return values

    def __array__(
        self, dtype: DTypeLike | None = None, copy: bool | None = None
    ) -> NDArray[Any]:
        return np.array(self[:], dtype=dtype, copy=copy)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_last": None}

    def _group(self, number: int) -> NDArray[Any]:
        if self._last is None or self._last[0] != number:
            self._last = int(number), self._read(*self._groups[number][:2])
        return self._last[1]

    def _read(self, file: int, group: int) -> NDArray[Any]:
        import pyarrow.parquet as pq

        path = self._files[file]
        if _footer_digest(path) != self._digests[file]:
            raise ValueError(
                f"{path} holds other rows than when this object was made: open it "
                "again with LayerFeatures.from_parquet."
            )
        with pq.ParquetFile(path) as opened:
            column = opened.read_row_group(group, columns=[self.name])[self.name]
        return _as_table(column, self.name)


class ColumnOfDataset:
    """A column of a ``datasets.Dataset``, as an array that is read when asked.

    Parameters
    ----------
    dataset : datasets.Dataset
        Its format is no matter.
    name : str
        The column.
    """

    ndim = 2

    def __init__(self, dataset: Any, name: str) -> None:
        self.name = name
        self._dataset = dataset.select_columns([name]).with_format("arrow")
        if len(dataset) == 0:
            raise ValueError(f"the data set of column {name!r} has no rows.")
        first = self[:1]
        self.shape = len(dataset), first.shape[1]
        self.dtype = first.dtype

    @property
    def pickles_as_path(self) -> bool:
        """Whether the data set lies in files."""
        return bool(self._dataset.cache_files)

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, key: Any) -> NDArray[Any]:
        table = self._dataset[key if isinstance(key, slice) else np.asarray(key)]
        return _as_table(table[self.name], self.name)

    def __array__(
        self, dtype: DTypeLike | None = None, copy: bool | None = None
    ) -> NDArray[Any]:
        return np.array(self[:], dtype=dtype, copy=copy)


def parquet_blocks(
    path: str | Path | Sequence[str | Path], layers: Layers
) -> tuple[dict[Key, ParquetColumn], LinearHead | None]:
    """Return the blocks in files, and the head kept with them.

    Raises
    ------
    FileNotFoundError
        If there is no file.
    ValueError
        If there is no such column, or no block.
    """
    files = parquet_files(path)
    schema = schema_of(files)
    found = _column_blocks(schema.names, layers, schema.metadata)
    blocks = {key: ParquetColumn(files, column) for key, column in found.items()}
    return blocks, _head_of(schema.metadata)


def dataset_blocks(dataset: Any, layers: Layers) -> dict[Key, ColumnOfDataset]:
    """Return the blocks in a data set of Hugging Face.

    Raises
    ------
    ValueError
        If there is no such column, or no block.
    """
    found = _column_blocks(dataset.column_names, layers, None)
    return {key: ColumnOfDataset(dataset, name) for key, name in found.items()}


def _column_blocks(
    columns: Sequence[str], layers: Layers, metadata: Mapping[bytes, bytes] | None
) -> dict[Key, str]:
    """Return which columns are which blocks, as the user or the metadata say."""
    if isinstance(layers, Mapping):
        found = {as_key(name): column for name, column in layers.items()}
    elif layers is not None:
        chosen = [layers] if isinstance(layers, str) else layers
        found = {_key_of(column): column for column in chosen}
    elif metadata is not None and METADATA in metadata:
        blocks = json.loads(metadata[METADATA])["blocks"]
        found = {as_key(tuple(key)): column for column, key in blocks.items()}
    else:
        named = [name for name in columns if "/" in name or is_logits(name)]
        found = {_key_of(column): column for column in named}
    missing = [column for column in found.values() if column not in columns]
    if missing or not found:
        raise ValueError(
            f"layers={layers!r}: "
            + (f"there is no column {missing[0]!r}; " if missing else "no column of ")
            + f"{'there are ' if missing else ''}{[*columns]}"
            + ("." if missing else " is named layer/statistic: say which are layers.")
        )
    return found


def _head_of(metadata: Mapping[bytes, bytes] | None) -> LinearHead | None:
    """Return the head that the metadata keep, if they do."""
    if metadata is None or METADATA not in metadata:
        return None
    about = json.loads(metadata[METADATA])["head"]
    if about is None:
        return None
    with np.load(
        io.BytesIO(base64.b64decode(about["npz"])), allow_pickle=False
    ) as kept:
        return LinearHead(kept["weight"], kept["bias"], about["layer"])


def read_column(path: str | Path | Sequence[str | Path], name: str) -> NDArray[Any]:
    """Return a column that is no block, in the order of the rows: labels, keys.

    Parameters
    ----------
    path : str, Path or sequence of these
        As given to ``LayerFeatures.from_parquet``.
    name : str
        The column, one value a row.

    Returns
    -------
    ndarray of shape (n,)
    """
    _pyarrow()
    import pyarrow.parquet as pq

    files = parquet_files(path)
    parts = [pq.read_table(file, columns=[name], partitioning=None) for file in files]
    return np.concatenate([part[name].to_numpy() for part in parts])


def schema_of(files: Sequence[Path]) -> pa.Schema:
    """Return the schema of the first file."""
    _pyarrow()
    import pyarrow.parquet as pq

    return pq.read_schema(files[0])


def _key_of(column: str) -> Key:
    layer, slash, statistic = column.rpartition("/")
    return as_key((layer, statistic) if slash else column)


def _row_groups(files: Sequence[Path]) -> list[tuple[int, int, int]]:
    """Return file, number in it, and rows of each row group."""
    import pyarrow.parquet as pq

    groups = []
    for number, file in enumerate(files):
        about = pq.read_metadata(file)
        groups += [
            (number, group, about.row_group(group).num_rows)
            for group in range(about.num_row_groups)
        ]
    return groups


def _footer_digest(path: Path) -> str:
    """Return a digest of where and what everything in a file is."""
    with path.open("rb") as file:
        file.seek(-8, io.SEEK_END)
        length = int.from_bytes(file.read(4), "little")
        end = file.seek(0, io.SEEK_END)
        file.seek(max(0, end - 8 - length))
        return hashlib.sha256(file.read() + str(end).encode()).hexdigest()


def _as_table(column: Any, name: str) -> NDArray[Any]:
    """Return the rows of a column of Arrow, shape (n, d)."""
    pa = _pyarrow()
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    while isinstance(array, pa.ChunkedArray):  # of several chunks, or none
        array = pa.concat_arrays(array.chunks)
    while isinstance(array, pa.ExtensionArray):  # tensors of Arrow, of Ray
        array = array.storage
    while pa.types.is_struct(array.type) and array.type.get_field_index("data") >= 0:
        array = array.field("data")
    n = len(array)
    if array.null_count:
        raise ValueError(f"column {name!r} has rows without values.")
    if pa.types.is_list(array.type) or pa.types.is_large_list(array.type):
        lengths = np.unique(np.diff(np.asarray(array.offsets)))
        if len(lengths) > 1:
            raise ValueError(
                f"column {name!r} has lists of {lengths.min()} to {lengths.max()} "
                "numbers: a block has rows of one length."
            )
    flat = array.flatten() if hasattr(array, "flatten") else array
    values = flat.to_numpy(zero_copy_only=False)
    if values.dtype.kind not in "biuf":
        raise ValueError(
            f"column {name!r} is of type {array.type}: a block holds lists of numbers."
        )
    return values.reshape(n, -1 if n else 0)


def _pyarrow() -> Any:
    try:
        import pyarrow
    except ImportError as error:
        raise ImportError(
            "Parquet and Arrow need pyarrow: pip install 'skood[arrow]'."
        ) from error
    return pyarrow
