"""LayerFeatures: named blocks of the same rows, as an index view."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray
from scipy.sparse import issparse

from skood._version import stamped, unstamped
from skood.features.arrow import dataset_blocks, parquet_blocks, write_parquet
from skood.features.head import LinearHead
from skood.features.names import (
    DEFAULT_STATISTIC,
    LOGITS,
    Key,
    Layers,
    as_key,
    column_names,
    is_logits,
)
from skood.features.stored import (
    read_blocks,
    replaced_folder,
    view_folder,
    write_blocks,
)
from skood.files.paths import user_path
from skood.numerics.arrays import as_array, check_readable, unread_columns

if TYPE_CHECKING:
    import pandas as pd

Rows: TypeAlias = range | NDArray[np.intp]


class LayerFeatures:
    """Features of several layers of a network for the same inputs, row by row.

    An index view: indexing by rows keeps the arrays where they are (in memory, in a
    memory map, in a store) and copies nothing. Scikit-learn's splitters, searches and
    pipelines index it like an array; ``np.asarray`` gives the matrix of
    shape (n_samples, total width), so that every scikit-learn or PyOD estimator takes
    it.

    Parameters
    ----------
    blocks : mapping
        From a layer's name, or a (layer, statistic) pair, to an array, tensor or
        DataFrame of shape (n_samples, n_features). A bare name means the ``"avg"``
        statistic.
    head : LinearHead, optional
        The network's last linear map, when known.
    views : mapping of str to LayerFeatures, optional
        Features of changed copies of the same inputs (jigsaw puzzles, say), paired
        row by row with these.

    Raises
    ------
    ValueError
        If there is no block, a block is not two-dimensional, has no columns or is not
        of real numbers, or lengths differ.
    TypeError
        If a block cannot be read: a sparse matrix, a LazyFrame.

    See Also
    --------
    LayerFeatureTransformer : Makes them from a network and its inputs.
    LayerSelector : Makes one matrix of them in a pipeline.

    Examples
    --------
    >>> import numpy as np
    >>> from skood import LayerFeatures
    >>> f = LayerFeatures(
    ...     {"conv1": np.zeros((5, 3)), ("conv2", "max"): np.ones((5, 2))}
    ... )
    >>> f
    LayerFeatures(5 rows: conv1/avg 3, conv2/max 2)
    >>> f.shape, f[[0, 2]].shape, f.select(statistic="max").shape
    ((5, 5), (2, 5), (5, 2))
    >>> np.asarray(f)[0]
    array([0., 0., 0., 1., 1.])
    """

    ndim = 2
    device = "cpu"

    def __init__(
        self,
        blocks: Mapping[Any, Any],
        head: LinearHead | None = None,
        views: Mapping[str, LayerFeatures] | None = None,
    ) -> None:
        self._blocks: dict[Key, Any] = {}
        for name, block in blocks.items():
            key = as_key(name)
            self._blocks[key] = _two_dimensional(key, block)
        if not self._blocks:
            raise ValueError("blocks is empty: LayerFeatures need at least one layer.")
        lengths = {key: len(block) for key, block in self._blocks.items()}
        lengths |= {(name, "view"): len(view) for name, view in (views or {}).items()}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"blocks differ in their number of rows: {lengths}.")
        self._rows: Rows = range(next(iter(lengths.values())))
        self.head = head
        self.views: dict[str, LayerFeatures] = dict(views or {})

    # What it holds ---------------------------------------------------------------

    @property
    def block_names(self) -> list[Key]:
        """The (layer, statistic) pairs, in order."""
        return list(self._blocks)

    @property
    def layers(self) -> list[str]:
        """The layers' names, in order, each once."""
        return list(dict.fromkeys(layer for layer, _ in self._blocks))

    @property
    def statistics(self) -> list[str]:
        """The statistics' names, in order, each once."""
        return list(dict.fromkeys(statistic for _, statistic in self._blocks))

    @property
    def widths(self) -> dict[Key, int]:
        """The number of columns of each block."""
        return {key: int(block.shape[1]) for key, block in self._blocks.items()}

    @property
    def shape(self) -> tuple[int, int]:
        """Rows, and columns of all blocks together."""
        return len(self._rows), sum(self.widths.values())

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of ``np.asarray(self)``."""
        return np.result_type(*(block.dtype for block in self._blocks.values()))

    @property
    def in_memory(self) -> bool:
        """Whether all blocks are arrays in memory, none on disk or in a store."""
        blocks = self._blocks.values()
        return all(type(block) is np.ndarray for block in blocks)

    @property
    def pickles_as_path(self) -> bool:
        """Whether another process gets row numbers and a path, not the rows."""
        blocks = self._blocks.values()
        return all(getattr(block, "pickles_as_path", False) for block in blocks)

    def __len__(self) -> int:
        return len(self._rows)

    def __repr__(self) -> str:
        blocks = ", ".join(f"{'/'.join(k)} {width}" for k, width in self.widths.items())
        views = f"; views: {', '.join(self.views)}" if self.views else ""
        return f"LayerFeatures({len(self)} rows: {blocks}{views})"

    def block(self, layer: str, statistic: str | None = None) -> NDArray[Any]:
        """Return one block as an array.

        Parameters
        ----------
        layer : str
            A layer's name.
        statistic : str, optional
            Defaults to ``"avg"``, or to the layer's only statistic.

        Returns
        -------
        ndarray of shape (n_samples, n_features)
            Not a copy when all rows, or a slice of them, are wanted.

        Raises
        ------
        ValueError
            If there is no such block.
        """
        return self._read(self._blocks[self._resolve(layer, statistic)])

    def select(
        self, layers: Layers = None, statistic: str | None = None
    ) -> LayerFeatures:
        """Return the chosen blocks of the same rows.

        Parameters
        ----------
        layers : str or sequence of str, optional
            None takes every layer that has the statistic.
        statistic : str, optional
            None takes every statistic. ``"logits"`` are found by their layer name
            under any statistic, and are not among ``layers=None`` when a statistic is
            given.

        Returns
        -------
        LayerFeatures
            A view; head and paired views go along.

        Raises
        ------
        ValueError
            If a layer or a statistic is not there.
        """
        blocks = {key: self._blocks[key] for key in self._chosen(layers, statistic)}
        views = {n: v.select(layers, statistic) for n, v in self.views.items()}
        return self._with(blocks, views)

    def select_blocks(self, names: Sequence[str | Key]) -> LayerFeatures:
        """Return blocks of the same rows by their (layer, statistic) names.

        Parameters
        ----------
        names : sequence of str or (str, str)
            A bare layer name means its ``"avg"`` statistic.

        Returns
        -------
        LayerFeatures
            A view; head and paired views go along.

        Raises
        ------
        ValueError
            If there is no such block.
        """
        keys = [self._resolve(*as_key(name)) for name in names]
        views = {n: v.select_blocks(names) for n, v in self.views.items()}
        return self._with({key: self._blocks[key] for key in keys}, views)

    def without_company(self) -> LayerFeatures:
        """Return the blocks alone, without the head and paired views.

        Returns
        -------
        LayerFeatures
            A view.
        """
        bare = self.without_views()
        bare.head = None
        return bare

    def without_views(self) -> LayerFeatures:
        """Return the blocks and the head, without the paired views.

        Returns
        -------
        LayerFeatures
            A view.
        """
        return self._with(self._blocks, {})

    def iter_chunks(self, rows: int) -> Iterator[LayerFeatures]:
        """Yield views of at most ``rows`` consecutive rows."""
        if rows < 1:
            raise ValueError(f"rows={rows}: a chunk has at least one row.")
        for start in range(0, len(self), rows):
            yield self[start : start + rows]

    def _chosen(self, layers: Layers, statistic: str | None) -> list[Key]:
        if layers is None:
            chosen = [k for k in self._blocks if statistic in (None, k[1])]
            if not chosen:
                # The logits have no statistic, and are read when they are named.
                named = (
                    f"; layers={LOGITS!r} reads them" if LOGITS in self.layers else ""
                )
                raise ValueError(
                    f"no layer has the statistic {statistic!r}; there are "
                    f"{self._listing()}{named}."
                )
            return chosen
        names = [layers] if isinstance(layers, str) else list(layers)
        if not names:
            raise ValueError("layers is empty: name at least one, or give None.")
        if statistic is None:
            names = [self._known(name) for name in names]
            return [key for key in self._blocks if key[0] in names]
        return [self._resolve(name, statistic) for name in names]

    def _resolve(self, layer: str, statistic: str | None) -> Key:
        if (layer, statistic) in self._blocks:
            return layer, str(statistic)
        layer = self._known(layer)
        own = [key for key in self._blocks if key[0] == layer]
        if is_logits(layer) or (statistic is None and len(own) == 1):
            return own[0]
        key = (layer, statistic or DEFAULT_STATISTIC)
        if key not in self._blocks:
            raise ValueError(
                f"layer {layer!r} has no statistic {key[1]!r}; it has "
                f"{[s for _, s in own]}."
            )
        return key

    def _known(self, layer: str) -> str:
        """Return a layer's name here; ``"logits"`` may be the one named entry of it."""
        if layer not in self.layers:
            entries = [name for name in self.layers if is_logits(name)]
            if layer == LOGITS and len(entries) == 1:
                return entries[0]
            near = get_close_matches(str(layer), self.layers)
            hint = f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
            raise ValueError(
                f"there is no layer {layer!r}; there are {self.layers}.{hint}"
            )
        return layer

    def _listing(self) -> str:
        return ", ".join("/".join(key) for key in self._blocks)

    # Rows ------------------------------------------------------------------------

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, tuple):
            key = _row_part(key)
        if getattr(key, "ndim", None) == 0:
            key = key.item()
        if isinstance(key, int):
            return np.asarray(self[[key]])[0]
        if isinstance(key, str):
            raise TypeError(
                f"features[{key!r}]: indexing is by row; use features.block({key!r}) "
                f"or features.select({key!r})."
            )
        return self._at(key if isinstance(key, slice) else _as_index(key))

    def take(self, indices: ArrayLike, axis: int = 0) -> LayerFeatures:
        """Return the rows at ``indices``; ``axis`` can only be 0."""
        if axis != 0:
            raise ValueError(f"axis={axis}: LayerFeatures are indexed by row (axis 0).")
        return cast(LayerFeatures, self[as_array(indices, "indices")])

    @property
    def iloc(self) -> LayerFeatures:
        """Itself: ``features.iloc[rows]`` is ``features[rows]``."""
        return self

    @property
    def loc(self) -> LayerFeatures:
        """Itself: ``features.loc[mask]`` is ``features[mask]``."""
        return self

    def _at(self, key: slice | NDArray[Any]) -> LayerFeatures:
        rows = self._rows
        if isinstance(rows, range) and not isinstance(key, slice):
            rows = np.asarray(rows, dtype=np.intp)
        view = self._with(self._blocks, {n: v._at(key) for n, v in self.views.items()})
        view._rows = cast(Rows, rows[key])
        return view

    def _with(
        self, blocks: dict[Key, Any], views: dict[str, LayerFeatures]
    ) -> LayerFeatures:
        other = object.__new__(type(self))
        other._blocks, other.views = blocks, views
        other._rows, other.head = self._rows, self.head
        return other

    def _read(self, block: Any) -> NDArray[Any]:
        rows = self._rows
        if isinstance(rows, range):
            if rows == range(len(block)):
                return _native(block)
            if rows.step > 0:
                return _native(block[rows.start : rows.stop : rows.step])
        return _native(block[np.asarray(rows, dtype=np.intp)])

    # As an array -----------------------------------------------------------------

    def __array__(
        self, dtype: DTypeLike | None = None, copy: bool | None = None
    ) -> NDArray[Any]:
        parts = [self._read(block) for block in self._blocks.values()]
        if len(parts) == 1:
            return np.array(parts[0], dtype=dtype, copy=copy)
        if copy is False:
            raise ValueError("several blocks cannot be one array without a copy.")
        return np.concatenate(parts, axis=1, dtype=dtype)

    def __array_namespace__(self, api_version: str | None = None) -> Any:
        """Return numpy: scikit-learn's array API dispatch then indexes it as is."""
        return np

    def to_frame(self) -> pd.DataFrame:
        """Return the blocks side by side as a pandas frame.

        Returns
        -------
        pandas.DataFrame of shape (n_samples, columns of all blocks)
            In memory. Columns are named ``layer__statistic__number``; the index counts
            the rows from 0.

        See Also
        --------
        LayerSelector : Gives frames, of polars too, within a pipeline.

        Examples
        --------
        >>> from skood import LayerFeatures
        >>> LayerFeatures({"conv1": [[1.0, 2.0]], "logits": [[3.0]]}).to_frame()
           conv1__avg__0  conv1__avg__1  logits__logits__0
        0            1.0            2.0                3.0
        """
        import pandas as pd

        return pd.DataFrame(np.asarray(self), columns=column_names(self.widths))

    # Together, to disk and to other processes ------------------------------------

    @classmethod
    def concatenate(cls, parts: Sequence[LayerFeatures]) -> LayerFeatures:
        """Return the rows of several features one after another, in memory.

        Parameters
        ----------
        parts : sequence of LayerFeatures
            All with the same blocks; the first one's head is kept. Paired views are
            kept when every part has them.

        Returns
        -------
        LayerFeatures
        """
        if not parts:
            raise ValueError("parts is empty: there is nothing to concatenate.")
        first = parts[0]
        for part in parts[1:]:
            if part.widths != first.widths:
                raise ValueError(
                    f"parts differ in their blocks: {first!r} and {part!r}."
                )
        blocks = {
            key: np.concatenate([part.block(*key) for part in parts])
            for key in first.block_names
        }
        shared = set.intersection(*(set(part.views) for part in parts))
        views = {
            v: cls.concatenate([p.views[v] for p in parts]) for v in sorted(shared)
        }
        return cls(blocks, first.head, views)

    def save(self, path: str | Path) -> None:
        """Write the rows to a folder, which appears whole or not at all.

        Parameters
        ----------
        path : str or Path
            The folder: one ``.npy`` file a block and a small manifest. Features
            saved there before are replaced.

        Raises
        ------
        FileExistsError
            If the path holds something else.
        """
        with replaced_folder(user_path(path)) as folder:
            self._write(folder)

    def _write(self, folder: Path) -> None:
        blocks = {name: self.block(*name) for name in self.block_names}
        write_blocks(folder, blocks, self.head, list(self.views))
        for name, view in self.views.items():
            view._write(view_folder(folder, name))

    @classmethod
    def load(cls, path: str | Path) -> LayerFeatures:
        """Open saved features; the arrays are memory-mapped.

        Each process compares a file's bytes with the digest that :meth:`save` wrote,
        once while the file stays as it is.

        Parameters
        ----------
        path : str or Path
            A folder written by :meth:`save`.

        Returns
        -------
        LayerFeatures
            It pickles as path, digest and row numbers.

        Raises
        ------
        ValueError
            If the folder holds no features, ones that are damaged, or ones of a newer
            version of skood.
        """
        folder = user_path(path).absolute()
        blocks, head, names = read_blocks(folder)
        views = {name: cls.load(view_folder(folder, name)) for name in names}
        return cls(blocks, head, views)

    def to_parquet(
        self, path: str | Path, columns: Mapping[str, ArrayLike] | None = None
    ) -> None:
        """Write the rows to a Parquet file, for other programs.

        A block is a column of lists of one length, ``layer/statistic``; the head goes
        into the metadata. The file appears whole or not at all, and memory does not
        depend on the number of rows.

        Parameters
        ----------
        path : str or Path
            The file; one that is there is replaced.
        columns : mapping of str to array-like of shape (n_samples,), optional
            What else each row has: labels, keys.

        Raises
        ------
        ValueError
            If there are paired views, for which Parquet has no place, or a column is
            of another length or has the name of a block.
        ImportError
            If pyarrow is not installed.

        See Also
        --------
        save : For skood itself: views go along, and rows are read faster.

        Examples
        --------
        >>> import tempfile
        >>> import numpy as np
        >>> from skood import LayerFeatures
        >>> features = LayerFeatures({"conv1": np.eye(3)})
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     features.to_parquet(f"{folder}/f.parquet", {"label": [0, 1, 0]})
        ...     LayerFeatures.from_parquet(f"{folder}/f.parquet")
        LayerFeatures(3 rows: conv1/avg 3)
        """
        write_parquet(path, self, columns or {})

    @classmethod
    def from_parquet(
        cls,
        path: str | Path | Sequence[str | Path],
        layers: Mapping[Any, str] | Layers = None,
        head: LinearHead | None = None,
    ) -> LayerFeatures:
        """Open features in Parquet files, whoever has written them.

        Rows are read when they are wanted, a row group at a time, and go to workers as
        paths and numbers.

        Parameters
        ----------
        path : str, Path or sequence of these
            A file, a folder whose ``.parquet`` files are taken in the order of their
            names, or several.
        layers : mapping of name to column, or columns, optional
            Which columns of lists are blocks: a mapping from a layer or a (layer,
            statistic) pair, or names of the form ``layer/statistic``. None takes those
            that :meth:`to_parquet` has noted, else all of that form, and ``"logits"``.
        head : LinearHead, optional
            None takes the one that :meth:`to_parquet` has kept.

        Returns
        -------
        LayerFeatures

        Raises
        ------
        FileNotFoundError
            If there is no file.
        ValueError
            If there is no such column, or its rows are no numbers of one length.
        ImportError
            If pyarrow is not installed.

        See Also
        --------
        skood.features.arrow.read_column : Labels, in the order of the rows.
        """
        blocks, kept = parquet_blocks(path, layers)
        return cls(blocks, head or kept)

    @classmethod
    def from_huggingface(
        cls,
        dataset: Any,
        layers: Mapping[Any, str] | Layers = None,
        head: LinearHead | None = None,
    ) -> LayerFeatures:
        """Take columns of a ``datasets.Dataset`` as blocks.

        Rows are read when they are wanted; of a data set in files, they go to workers
        as paths and numbers.

        Parameters
        ----------
        dataset : datasets.Dataset
            With columns of lists.
        layers : mapping of name to column, or columns, optional
            As in :meth:`from_parquet`.
        head : LinearHead, optional
            The network's last linear map.

        Returns
        -------
        LayerFeatures

        Raises
        ------
        ValueError
            If there is no such column, or its rows are no numbers of one length.
        """
        return cls(dataset_blocks(dataset, layers), head)

    def __getstate__(self) -> dict[str, Any]:
        """Pickle row numbers over stored blocks, only the rows of those in memory."""
        state = self.__dict__.copy()
        blocks = self._blocks
        if not self.pickles_as_path:
            state["_blocks"] = {k: self._read(b) for k, b in blocks.items()}
            state["_rows"] = range(len(self))
        elif all(
            len(b) > len(self) and hasattr(b, "narrowed") for b in blocks.values()
        ):
            rows = np.asarray(self._rows, dtype=np.intp)
            state["_blocks"] = {k: b.narrowed(rows) for k, b in blocks.items()}
            state["_rows"] = range(len(self))
        rows = state["_rows"]
        if isinstance(rows, range):
            state["_rows"] = [rows.start, rows.stop, rows.step]
        return stamped(state)

    def __setstate__(self, state: dict[str, Any]) -> None:
        state = unstamped(state, "LayerFeatures")
        if isinstance(state["_rows"], list):
            state["_rows"] = range(*state["_rows"])
        self.__dict__.update(state)


def _two_dimensional(key: Key, block: Any) -> Any:
    if type(block) is np.ndarray and _is_block(block):
        return block
    name = f"block {'/'.join(key)}"
    given = block
    check_readable(block, name)
    if not _is_array(block):
        block = as_array(block, name)
    if block.dtype.kind not in "biuf":
        unread = "; ".join(unread_columns(given)) or f"entries of type {block.dtype}"
        raise ValueError(f"{name} has {unread}: a block holds real numbers.")
    if len(block.shape) != 2:
        raise ValueError(f"{name} has shape {tuple(block.shape)}: a block is (n, d).")
    if block.shape[1] == 0:
        raise ValueError(
            f"{name} has 0 columns (shape {tuple(block.shape)}): a block has at least "
            "one. Leave the layer out, or look at how its columns were chosen."
        )
    return block


def _native(block: Any) -> NDArray[Any]:
    """Return an array whose bytes are in the machine's order, as torch wants them."""
    array: NDArray[Any] = np.asarray(block)
    kind = array.dtype
    return array if kind.isnative else array.astype(kind.newbyteorder("="))


def _is_block(array: NDArray[Any]) -> bool:
    return array.ndim == 2 and array.shape[1] > 0 and array.dtype.kind in "biuf"


def _is_array(block: Any) -> bool:
    """Return whether it is an array, perhaps one that is read when rows are wanted."""
    is_other = hasattr(block, "detach") or issparse(block)
    has_type = isinstance(getattr(block, "dtype", None), np.dtype)
    return hasattr(block, "shape") and has_type and not is_other


def _row_part(key: tuple[Any, ...]) -> Any:
    """Return the rows of ``[rows, ...]`` and ``[rows, :]``."""
    rest = [part for part in key[1:] if not (part is ... or part == slice(None))]
    if not key or rest:
        raise IndexError(
            f"features[{key!r}]: LayerFeatures are indexed by row; choose columns by "
            "features.select(...), or index np.asarray(features)."
        )
    return key[0]


def _as_index(key: Any) -> NDArray[Any]:
    index = as_array(key, "the index")
    if index.size == 0 and index.dtype != bool:
        return index.astype(np.intp)
    if index.dtype.kind not in "iub" or index.ndim != 1:
        raise IndexError(
            f"rows are chosen by integers, a slice or a mask, not {type(key).__name__} "
            f"of {index.dtype} with {index.ndim} dimensions."
        )
    return index
