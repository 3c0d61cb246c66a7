"""FeatureStore: features on disk, each computed once."""

from __future__ import annotations

import re
import warnings
from contextlib import suppress
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skood.features import LayerFeatures, LinearHead
from skood.files.paths import user_path
from skood.store.listing import Listing
from skood.store.listings import united_listing
from skood.store.opened import OpenedStore, opened
from skood.store.parts import Part

__all__ = ["MEMORY", "FeatureStore", "store_of_part"]

MEMORY = "memory"


class FeatureStore:
    """Features of inputs, computed once and kept in a folder.

    A row is known by a digest of its input's bytes, a block by everything else that
    decides its values: the network's weights, structure and code, the layer, the
    statistic, the preprocessing and the types. So what is there is never computed
    again, and what has changed is never taken for the same.

    The rows lie in shards: files that are written once, appear whole or not at all,
    and are named by the digest of their bytes. Every process compares a shard with its
    name before it first reads it. A damaged one is named in a warning, moved into the
    folder ``quarantine``, and its rows count as missing. Any number of processes and
    threads may use a store at the same time. The manifest only says what the folder
    is; when it is missing it is made again.

    Parameters
    ----------
    path : str or Path
        A folder, made when first written to; ``~`` is the home folder. ``"memory"``
        keeps everything in the memory of this process instead, for all that use it
        there.
    max_bytes : int, optional
        A transformer that has the store as ``cache`` deletes the shards that have not
        been used for the longest time until the rest is not larger.
    shard_bytes : int, default=67108864
        A shard is written when so much has been computed, ...
    flush_seconds : float, default=10.0
        ... or after so many seconds. A process that is killed loses no more. Rows of
        small passes, one input at a time, wait as long in memory and are written
        together; many small shards are merged into one.

    Raises
    ------
    TypeError
        If the path is no path.
    ValueError
        If the path is a file or an address (``s3://...``), a size is no number, or the
        folder holds the store of a newer version of skood.
    FileExistsError
        If the folder holds something else.

    See Also
    --------
    skood.LayerFeatureTransformer : Its parameter ``cache`` takes a store, and its
        method ``extract_to`` fills one.

    Examples
    --------
    >>> import tempfile
    >>> import torch
    >>> from skood import FeatureStore, LayerFeatureTransformer
    >>> net = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.ReLU())
    >>> inputs = torch.rand(10, 4)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     store = FeatureStore(folder)
    ...     transformer = LayerFeatureTransformer(net, ["0", "logits"], cache=store)
    ...     first = transformer.fit_transform(inputs)
    ...     again = transformer.transform(inputs[5:])
    ...     counts = store.stats()
    >>> counts["rows"], counts["misses"]  # computed once, each of them
    (10, 10)
    """

    def __init__(
        self,
        path: str | Path,
        *,
        max_bytes: int | None = None,
        shard_bytes: int = 1 << 26,
        flush_seconds: float = 10.0,
    ) -> None:
        if not isinstance(path, (str, Path)):
            raise TypeError(f"path={path!r}: wanted is a folder, or {MEMORY!r}.")
        if max_bytes is not None:
            _check_number("max_bytes", max_bytes, Integral, 1)
        _check_number("shard_bytes", shard_bytes, Integral, 1)
        _check_number("flush_seconds", flush_seconds, Real, 0)
        self.path: Path | None = None if path == MEMORY else _folder(path)
        self.max_bytes = max_bytes
        self.shard_bytes = shard_bytes
        self.flush_seconds = flush_seconds
        self.opened: OpenedStore = opened(self.path)

    def __repr__(self) -> str:
        path = MEMORY if self.path is None else str(self.path)
        limit = "" if self.max_bytes is None else f", max_bytes={self.max_bytes}"
        return f"FeatureStore({path!r}{limit})"

    # Rows ------------------------------------------------------------------------

    @property
    def sources(self) -> dict[str, str]:
        """What the features come from: a name and a description of each source."""
        self.opened.refresh()
        about = (shard.metadata for shard in self.opened.catalogue.of_kind("features"))
        described = {text["source"]: text["description"] for text in about}
        return {k: v for k, v in described.items() if not k.startswith("view")}

    def features(self, rows: Any = None, *, source: str | None = None) -> LayerFeatures:
        """Return the features of the store's rows, which are read when asked for.

        Parameters
        ----------
        rows : slice, array of int or bool, optional
            Numbers of the wanted rows; None takes all.
        source : str, optional
            The beginning of a name in ``sources``; needed when there are several.

        Returns
        -------
        LayerFeatures
            The rows of all data sets that ``extract_to`` has completed, in that order,
            each once. If there was none, all rows, in the order they were written.
            The parts of ranks are joined in the order of their ranges.

        Raises
        ------
        ValueError
            If the store has no features, or several sources and none is named, or
            rows have been lost, or ranks have not completed their parts of a data set;
            the message names the missing ranges. Later, when rows are read whose shard
            is damaged or deleted; the message names it.

        Warns
        -----
        UserWarning
            If a block is left out, since some of the rows lack it.
        """
        name = self._one_source(source)
        keys = self.listing(source=name).keys
        return self._of_keys(name, keys if rows is None else keys[rows])

    def _of_keys(self, source: str, keys: NDArray[Any]) -> LayerFeatures:
        catalogue = self.opened.catalogue
        blocks = catalogue.blocks(source)
        found = dict(zip(blocks, catalogue.places(source, blocks, keys), strict=True))
        lacking = {b: int((~places.found).sum()) for b, places in found.items()}
        whole = [block for block in blocks if not lacking[block]]
        if not whole:
            lost = ", ".join(name for name, _ in self.opened.folder.lost()[:3])
            aside = f" (set aside last: {lost})" if lost else ""
            raise ValueError(
                f"{min(lacking.values(), default=0)} of {len(keys)} rows have lost "
                f"their features in {self!r}{aside}: extract them again."
            )
        if len(whole) < len(blocks):
            listed = ", ".join(
                f"{'/'.join(b)} (lacked by {n} of {len(keys)} rows)"
                for b, n in lacking.items()
                if n
            )
            warnings.warn(
                f"left out: {listed}. Extract again to complete.",
                UserWarning,
                stacklevel=3,
            )
        arrays = catalogue.arrays(whole, [found[block] for block in whole])
        return LayerFeatures(arrays, self.head(source))

    @property
    def labels(self) -> NDArray[Any] | None:
        """The labels of the rows of ``features()``; None if any came without."""
        return self.listing().labels

    @property
    def ids(self) -> NDArray[Any] | None:
        """The ids of the rows of ``features()``; None if any came without."""
        return self.listing().ids

    def listing(self, *, source: str | None = None) -> Listing:
        """Return keys, labels and ids of the rows of ``features()``.

        Parameters
        ----------
        source : str, optional
            As for :meth:`features`.

        Returns
        -------
        Listing
        """
        name = self._one_source(source)
        return united_listing(self.opened, name)

    def head(self, source: str) -> LinearHead | None:
        """Return the final linear map of a source's network, if it was noted."""
        for note in self.opened.notes(f"head {source}"):
            # Cleared in this moment, or no such note.
            with suppress(OSError, KeyError, ValueError):
                weight, bias = (np.array(note.array(n)) for n in ("weight", "bias"))
                return LinearHead(weight, bias)
        return None

    def _one_source(self, wanted: str | None) -> str:
        sources = self.sources
        chosen = [name for name in sources if name.startswith(wanted or "")]
        if len(chosen) == 1:
            return chosen[0]
        if not sources:
            raise ValueError(
                f"{self!r} holds no features yet: fill it by a transformer's "
                "extract_to, or give it to one as cache."
            )
        listed = "; ".join(f"{name!r}: {text}" for name, text in sources.items())
        asked = "" if wanted is None else f" source={wanted!r} names no single one."
        raise ValueError(
            f"{self!r} holds features of {len(sources)} sources.{asked} Say which by "
            f"source=, one of {listed}."
        )

    # Care ------------------------------------------------------------------------

    def stats(self) -> dict[str, int]:
        """Return what the store holds, and how it was used by this process.

        Returns
        -------
        dict
            ``hits`` and ``misses``: rows that this process found and computed;
            ``in_vain``: passes in which all rows were computed though they had been
            before, so that the cache does not pay; ``rows``, ``bytes`` and ``shards``:
            what is there.
        """
        self.opened.refresh()
        shards = self.opened.catalogue.of_kind("features")
        return {
            "hits": self.opened.counts["hits"],
            "misses": self.opened.counts["misses"],
            "in_vain": self.opened.paying.in_vain,
            "rows": self.opened.catalogue.n_rows(),
            "bytes": sum(shard.nbytes for shard in shards),
            "shards": len(shards),
        }

    def verify(self) -> list[str]:
        """Compare every byte of every shard with its digest now.

        Returns
        -------
        list of str
            Names of the shards that were damaged and have been set aside meanwhile.

        Warns
        -----
        UserWarning
            For each of them.
        """
        return self.opened.verify()

    def clear(self) -> None:
        """Delete everything in the store, what was set aside too."""
        self.opened.clear()

    # Copies and files ------------------------------------------------------------

    def __copy__(self) -> FeatureStore:
        return self

    def __deepcopy__(self, memo: Any) -> FeatureStore:
        return self

    def __getstate__(self) -> dict[str, Any]:
        return {
            "path": MEMORY if self.path is None else self.path,
            "max_bytes": self.max_bytes,
            "shard_bytes": self.shard_bytes,
            "flush_seconds": self.flush_seconds,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        FeatureStore.__init__(self, **state)


def store_of_part(store: FeatureStore, part: Part) -> FeatureStore:
    """Return a store as the rank of a part sees it, which asks for no other ranks.

    Raises
    ------
    ValueError
        If the store is in memory, where no other rank finds it.
    """
    if store.path is None:
        raise ValueError(
            f"store={store!r}: ranks meet in a folder that all of them see, not in the "
            "memory of one process."
        )
    other = object.__new__(type(store))
    other.__dict__.update(vars(store), opened=store.opened.of_part(part))
    return other


def _folder(path: str | Path) -> Path:
    if _ADDRESS.match(str(path)):
        raise ValueError(
            f"path={str(path)!r} is an address; a feature store is a folder, whose "
            "files are memory-mapped. Copy it to a disk first (with 'aws s3 sync', "
            "'gsutil rsync' or 'rclone copy') and back afterwards: its files never "
            "change once they are there; or mount it, and give the folder."
        )
    return user_path(path).absolute()


_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")
"""What no path begins with; drives of Windows have one letter."""


def _check_number(name: str, value: Any, kind: type, least: int) -> None:
    is_number = isinstance(value, kind) and not isinstance(value, bool)
    if not is_number or value < least:
        wanted = "a whole number" if kind is Integral else "a number"
        raise ValueError(f"{name}={value!r}: wanted is {wanted} from {least}.")
