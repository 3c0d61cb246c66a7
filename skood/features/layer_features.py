"""LayerFeatures: named blocks of the same rows, as an index view."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from skood._version import stamped, unstamped
from skood.features.blocks import Rows, block_rows, checked_block, row_key
from skood.features.choice import chosen_keys, known_key
from skood.features.head import LinearHead
from skood.features.in_files import InFiles
from skood.features.names import Key, Layers, as_key, column_names
from skood.numerics.arrays import as_array

if TYPE_CHECKING:
    import pandas as pd


class LayerFeatures(InFiles):
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
            self._blocks[key] = checked_block(key, block)
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
        return self._read(self._blocks[known_key(self.block_names, layer, statistic)])

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
        keys = chosen_keys(self.block_names, layers, statistic)
        views = {n: v.select(layers, statistic) for n, v in self.views.items()}
        return self._with({key: self._blocks[key] for key in keys}, views)

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
        there = self.block_names
        keys = [known_key(there, *as_key(name)) for name in names]
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

    # Rows ------------------------------------------------------------------------

    def __getitem__(self, key: Any) -> Any:
        rows = row_key(key)
        return np.asarray(self[[rows]])[0] if isinstance(rows, int) else self._at(rows)

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
        return block_rows(block, self._rows)

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

    # Together, and to other processes ---------------------------------------------

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
