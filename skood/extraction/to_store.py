"""Extraction to a store: data sets of any size, whole or in parts by ranks."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import nn

from skood.extraction.cached import Cache, as_store, keys_of, note_head, windows
from skood.extraction.forward import assembled
from skood.extraction.inputs import Inputs, is_stream
from skood.extraction.ranks import Rank, rank_of
from skood.extraction.runs import NetworkRuns
from skood.extraction.streams import Stream
from skood.features import Key, LayerFeatures
from skood.store import FeatureStore
from skood.store.feature_store import store_of_part
from skood.store.filling import Filling
from skood.store.index import Keys
from skood.store.listing import Listing, column
from skood.store.listings import add_listing
from skood.store.parts import FIRST_ROWS, Part, data_digest
from skood.store.trouble import StoreTroubleError

__all__ = ["ToStore"]

Column = NDArray[Any] | None


class ToStore(NetworkRuns):
    """The method of a transformer that fills a store."""

    def extract_to(
        self,
        store: str | Path | FeatureStore,
        X: Any,
        y: ArrayLike | None = None,
        *,
        ids: ArrayLike | None = None,
        keys: Callable[[Any], str] | None = None,
        shard: Literal["auto"] | tuple[int, int] | None = None,
        progress: bool = True,
    ) -> LayerFeatures:
        """Write the features of a data set of any size to a store.

        No more than two batches of inputs and a shard of features are in memory. What
        the store has already is not computed again: an extraction that was killed is
        resumed by the same call.

        Parameters
        ----------
        store : str, Path or FeatureStore
            The store; a folder is made one.
        X : array, tensor, Dataset, DataFrame, list or iterable
            One input a row. What can only be gone through, once, is taken as well: a
            generator, an ``IterableDataset``, a data set of webdataset.
        y : array-like of shape (n_samples,), optional
            Labels to keep with the rows, numbers or texts. By default the second
            parts of a Dataset's items, if they are that.
        ids : array-like of shape (n_samples,), optional
            Names of the rows to keep with them, numbers or texts; by default the
            ``"__key__"`` of items that have one, as those of webdataset.
        keys : callable, optional
            From an item of an iterable to a text that it is known by, in place of its
            content; of two items with one text the second counts as the first.
        shard : "auto" or (int, int), optional
            The rank of this process, from 0, and how many there are, all with the same
            call: each extracts a range of X. ``"auto"`` asks the environment:
            torchrun, a job array of SLURM, or the tasks of a SLURM step; without any
            of them there is one rank. ``y`` and ``ids`` are those of all of X, of which
            a rank reads the first two rows beside its own. Ranks wait for nobody.
        progress : bool, default=True
            Whether to show a bar with the rate and the time left.

        Returns
        -------
        LayerFeatures of n rows
            Read from the store when asked for; those of the rank's range with
            ``shard``. ``store.features()`` gives all of them, together with those of
            other data sets written there, as soon as every rank has completed its own.

        Raises
        ------
        ValueError
            If the store has a size limit, or the labels or ids are not one a row, or
            the shard is no rank of so many.
        TypeError
            If an X that is gone through once is to be cut into shards.
        OSError
            If the store cannot be written: the message says how many rows it keeps.
        """
        self._validate_params()
        wanted, rank = _keeping_all(store), None if shard is None else rank_of(shard)
        fitted = hasattr(self, "network_digest_")
        inputs = _given(self, X, keys, rank, reset=not fitted)
        n_rows = len(inputs) if isinstance(inputs, Inputs) else None
        labels, names = column(y, "y", n_rows), column(ids, "ids", n_rows)
        share = _Share(wanted, inputs, _first(inputs, self.batch_size), labels, names)
        if rank is not None and isinstance(inputs, Inputs):
            share = _cut(share, inputs.into(self._module()), rank, self.batch_size)
        with nullcontext() if rank is None else rank.own_device():
            cache = Cache(share.store, strict=True)
            module = self._known_module() if fitted else self._fit(share.first, cache)
            if share.inputs is None:
                return _none_of(self, module, share.first)
            return _written(self, module, share, share.inputs, progress)


@dataclass(frozen=True)
class _Share:
    """What one process is to extract: of a data set, all or the range of its rank.

    Parameters
    ----------
    store : FeatureStore
        Where to.
    inputs : Inputs, Stream or None
        The rows; None where there are more ranks than batches.
    first : Inputs
        The first rows of the data set.
    labels, ids : ndarray, optional
        One for each row.
    title : str
        What the bar says.
    """

    store: FeatureStore
    inputs: Inputs | Stream | None
    first: Inputs
    labels: Column
    ids: Column
    title: str = "extract"


def _keeping_all(store: Any) -> FeatureStore:
    wanted = as_store(store, "store")
    if wanted is None or wanted.max_bytes is not None:
        raise ValueError(
            f"store={store!r}: wanted is a store without a size limit, since it keeps "
            "every row."
        )
    return wanted


def _given(
    transformer: NetworkRuns,
    X: Any,
    keys: Callable[[Any], str] | None,
    rank: Rank | None,
    *,
    reset: bool,
) -> Inputs | Stream:
    """Return the rows of X as they can be had, by number or once."""
    if not is_stream(X):
        if keys is None:
            return transformer._inputs(X, reset=reset)
        raise TypeError(
            f"keys are of an X that is gone through once; this {type(X).__name__} has "
            "rows by number, which are known by their content or their attribute "
            "cache_key."
        )
    if rank is None:
        return Stream(X, transformer.preprocess, keys)
    raise TypeError(
        f"shard={rank}: X is a {type(X).__name__}, which has no length and is gone "
        "through once, so that no range of it can be cut. Give something with rows by "
        "number; or give each process a stream of its own rows (webdataset's "
        "split_by_node, say), a store of its own, and no shard."
    )


def _first(inputs: Inputs | Stream, batch_size: int) -> Inputs:
    return inputs.first(batch_size) if isinstance(inputs, Stream) else inputs


def _cut(whole: _Share, inputs: Inputs, rank: Rank, batch_size: int) -> _Share:
    """Return the share of a rank.

    All ranks look at the same first rows: by their keys it is known that they have the
    same data set, and what they tell about the network is the same everywhere.
    """
    first = inputs.loaded(slice(0, FIRST_ROWS))
    digest = data_digest(keys_of(first))
    part = Part(rank.number, rank.world, len(inputs), batch_size, digest)
    rows = slice(part.rows.start, part.rows.stop)
    labels, ids = (c if c is None else c[rows] for c in (whole.labels, whole.ids))
    return _Share(
        store_of_part(whole.store, part),
        inputs.between(rows) if part.rows else None,
        first.inputs,
        labels,
        ids,
        f"extract shard {rank}",
    )


def _none_of(
    transformer: NetworkRuns, module: nn.Module, first: Inputs
) -> LayerFeatures:
    """Return no rows of what the first ones give."""
    first.into(module)
    parts = transformer._parts(module, first, transformer.blocks_, None)
    with closing(parts):
        dtype = np.dtype(transformer.dtype)
        blocks = assembled(parts, len(first), dtype, lambda _: None)
    return LayerFeatures(blocks, transformer.head_)[:0]


def _written(
    transformer: NetworkRuns,
    module: nn.Module,
    share: _Share,
    inputs: Inputs | Stream,
    progress: bool,
) -> LayerFeatures:
    """Return the features of a share, which are in the store from then on."""
    bar = transformer._bar(inputs.into(module), share.title, shown=progress)
    channels = transformer._reading(transformer._probe)
    filling = transformer._filling(module, share.store, channels)
    n_rows = len(inputs) if isinstance(inputs, Inputs) else None
    with tells_to_call_again(share.store, filling, n_rows), filling, bar:
        note_head(share.store, filling.source.name, transformer.head_)
        batch_size, columns = transformer.batch_size, (share.labels, share.ids)
        blocks = listed_blocks(filling, inputs, batch_size, bar.update, *columns)
    return LayerFeatures(blocks, transformer.head_)


@contextmanager
def tells_to_call_again(
    store: FeatureStore, filling: Filling, n_rows: int | None
) -> Any:
    """Say in errors of the disk what is kept, and how to go on."""
    known = "" if n_rows is None else f"{n_rows} "
    try:
        yield
    except StoreTroubleError as error:
        raise StoreTroubleError(
            error.errno,
            f"{error.strerror}: {store} keeps {filling.n_kept} of the {known}rows. "
            "Make room, or the folder usable, and call extract_to again: it goes on "
            "from there",
        ) from error


def listed_blocks(
    filling: Filling,
    inputs: Inputs | Stream,
    batch_size: int,
    progress: Callable[[int], Any],
    labels: NDArray[Any] | None,
    ids: NDArray[Any] | None,
) -> dict[Key, Any]:
    """Fill a store with a data set, and note there which rows it has in what order.

    Parameters
    ----------
    filling, inputs, batch_size, progress
        As for :func:`stored_blocks`.
    labels, ids : ndarray of shape (n,), optional
        Kept with the rows. Without labels, the second parts of a Dataset's items are
        the labels if they are numbers or texts.

    Returns
    -------
    dict
        From (layer, statistic) to an array that reads from the store when asked.
    """
    keys: list[Keys] = []
    beside: list[Any] | None = []
    own_ids: list[Any] = []
    # The first batch by itself: its first rows are known from the probe, and the others
    # are to be batched in the same way wherever a rank begins.
    for loaded in windows(inputs, batch_size, first=batch_size):
        keys.append(keys_of(loaded))
        filling.fill(keys[-1], loaded.inputs)
        if beside is not None and loaded.labels is not None:
            beside += loaded.labels
        else:
            beside = None
        own_ids += loaded.ids or []
        progress(len(loaded.inputs))
    n_rows = sum(map(len, keys))
    labels, ids = column(labels, "y", n_rows), column(ids, "ids", n_rows)
    if ids is None and len(own_ids) == n_rows:
        ids = _column_if_any(own_ids)
    if labels is None and beside is not None:
        labels = _column_if_any(beside)
    arrays = filling.arrays(np.concatenate(keys))
    listing = Listing(np.concatenate(keys), labels, ids)
    add_listing(filling.store.opened, filling.source, listing)
    return arrays


def _column_if_any(values: list[Any]) -> NDArray[Any] | None:
    with suppress(ValueError, TypeError):
        return column(values, "labels")
    return None
