"""How a transformer looks at its network and runs it, with a store or without."""

from __future__ import annotations

import warnings
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import closing
from types import MappingProxyType
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import DTypeLike
from sklearn.base import BaseEstimator
from torch import nn

from skood._progress import Bar
from skood._sklearn_compat import check_feature_names
from skood._turn import turn
from skood.extraction.again import unlike_before
from skood.extraction.cached import (
    Cache,
    note_changes,
    note_head,
    noted_probe,
    source_of,
    stored_blocks,
)
from skood.extraction.feeding import Feeding
from skood.extraction.forward import Part, Settings, View, assembled, extract, probed
from skood.extraction.head import linear_head
from skood.extraction.hooks import Probe
from skood.extraction.inputs import Inputs, Preprocess
from skood.extraction.kept import KeptTensors, remembering
from skood.extraction.masks import MaskOf
from skood.extraction.network import as_module
from skood.extraction.serving import Serving, Versions
from skood.extraction.statistics import checked_statistics
from skood.extraction.streams import Stream
from skood.extraction.wanted import checked_blocks, checked_channels
from skood.features import Key, LinearHead
from skood.store import FeatureStore
from skood.store.filling import Filling
from skood.store.identity.network import callable_fingerprint
from skood.store.identity.weights import weights_digest

__all__ = ["NetworkRuns"]

_DTYPES = ("float16", "float32", "float64")


class NetworkRuns(BaseEstimator):
    """What a transformer does with its network, behind its public methods.

    Parameters are those of :class:`LayerFeatureTransformer`.
    """

    network: Any
    layers: str | Sequence[str]
    statistics: str | Sequence[str]
    preprocess: Preprocess | None
    batch_size: int
    device: Any
    dtype: DTypeLike
    autocast: bool | str
    channels: str | Mapping[str, str]
    mask: MaskOf | None
    views: Mapping[str, View] | None
    num_workers: int
    prefetch_factor: int | None
    verbose: int

    blocks_: tuple[Key, ...]
    layers_: tuple[str, ...]
    statistics_: tuple[str, ...]
    head_: LinearHead | None
    network_digest_: str
    _probe: Probe
    _serving: Serving | None = None
    _memory: Mapping[str, Any] | None = None
    _first: Mapping[Key, Any] = MappingProxyType({})

    # Its network and inputs ----------------------------------------------------------

    def _inputs(self, X: Any, *, reset: bool) -> Inputs:
        """Return the rows; a frame's columns are noted, or compared with those noted.

        A ``preprocess`` takes columns by their names, so that their order and number
        are its own affair.
        """
        inputs = Inputs(X, self.preprocess)
        if self.num_workers and not inputs.is_array and len(inputs) > self.batch_size:
            pinned = torch.cuda.is_available()
            inputs.feeding = Feeding(self.num_workers, self.prefetch_factor, pinned)
        has_names = hasattr(X, "columns") or hasattr(self, "feature_names_in_")
        if reset or (self.preprocess is None and has_names):
            check_feature_names(self, X, reset=reset)
        return inputs

    def _module(self) -> nn.Module:
        if self.network is None:
            raise ValueError(
                "network is None: this transformer was saved, or loaded, without its "
                "network. Give it to skood.load(path, network=...), which fills it "
                "with the weights that were saved; or give back the very network of "
                "fit by set_params(network=...), as "
                "pipeline.set_params(features__network=...) in a pipeline."
            )
        return as_module(self.network)

    def _known_module(self) -> nn.Module:
        """Return the network, which must be the one seen in ``fit``."""
        self._validate_params()
        self._check_settings()
        module = self._module()
        if not self._knows(module):
            raise ValueError(
                "the network's weights are not those seen in fit: give the same "
                "network back by set_params(network=...), or fit again."
            )
        return module

    def _knows(self, module: nn.Module) -> bool:
        """Return whether its weights are those of ``fit``, but for its own memory.

        What a forward writes to is set back for each pass, so that a forward of the
        user's own in between changes no feature.
        """
        if weights_digest(module) == self.network_digest_:
            self._remember(module)
            return True
        if self._memory is None:
            return False
        with turn, remembering(module, self._probe.written, self._memory):
            return weights_digest(module) == self.network_digest_

    def _remember(self, module: nn.Module) -> None:
        """Keep what a forward writes to, as it is in ``fit`` or a loaded network."""
        if self._memory is None and self._probe.written:
            self._memory = KeptTensors(module, self._probe.written).values()

    def _served(self, serving: Serving) -> nn.Module:
        """Return the network in serving, whose weights must still be those of fit."""
        if not serving.versions.unchanged():
            serving.versions = Versions(self._known_module())
        return serving.module

    def _check_thawed(self) -> None:
        if self._serving is not None:
            raise ValueError(
                "this transformer is frozen for serving: leave frozen() first."
            )

    def _check_settings(self) -> None:
        if np.dtype(self.dtype).name not in _DTYPES:
            raise ValueError(f"dtype={self.dtype!r}: features are one of {_DTYPES}.")
        for name, view in (self.views or {}).items():
            if not callable(view):
                raise ValueError(
                    f"views has {name!r}: {view!r}, which cannot be called with "
                    "(batch, rows)."
                )

    # Fitting -------------------------------------------------------------------------

    def _fit(self, inputs: Inputs, cache: Cache | None) -> nn.Module:
        self._check_thawed()
        self._check_settings()
        module = self._module()
        statistics = checked_statistics(cast(Any, self.statistics))
        self.blocks_ = checked_blocks(self.layers, statistics, module)
        self.layers_ = tuple(dict.fromkeys(layer for layer, _ in self.blocks_))
        self.statistics_ = statistics
        self.network_digest_ = weights_digest(module)
        checked_channels(self.channels, self.layers_)
        self._memory, self._first = None, {}
        self._probe = self._probed(module, inputs.into(module), cache)
        self._remember(module)
        for note in self._probe.notes:
            warnings.warn(note, UserWarning, stacklevel=3)
        self.head_ = linear_head(module, self._probe.head)
        return module

    def _probed(self, module: nn.Module, inputs: Inputs, cache: Cache | None) -> Probe:
        def noted(store: FeatureStore) -> Probe:
            with self._filling(module, store, self._reading()) as filling:
                found = noted_probe(filling, module, inputs, self.channels, settings)
                head = linear_head(module, found.head)
                note_head(store, filling.source.name, head)
                return found

        settings = self._settings()
        known = None if cache is None else cache.tried(noted)
        if known is not None:
            return known
        found, self._first = probed(
            module, inputs, self.blocks_, self.channels, settings
        )
        return found

    def _compare_again(self, blocks: Mapping[Key, Any]) -> None:
        """Say if the first rows have other features now than in their first forward."""
        first, self._first = self._first, {}
        note = unlike_before(first, blocks)
        if note is not None:
            warnings.warn(note, UserWarning, stacklevel=3)

    # Running -------------------------------------------------------------------------

    def _settings(self) -> Settings:
        return Settings(
            self.batch_size, self.device, self.autocast, self.mask, self._memory
        )

    def _reading(self, found: Probe | None = None) -> str:
        """Return how outputs are read, as far as features depend on it."""
        text = str(self.channels)
        if isinstance(self.channels, Mapping):
            text = str(sorted(self.channels.items()))
        if self.mask is not None:
            text += f", mask {callable_fingerprint(self.mask, 'mask')}"
        return text if found is None else found.channels(text)

    def _blocks(
        self, module: nn.Module, inputs: Inputs, cache: Cache, view: str | None = None
    ) -> dict[Key, Any]:
        """Return the blocks of all rows, by one pass of the network."""
        if self._serving is None:
            inputs.into(module)
        else:
            inputs.takes = self._serving.takes
        title = "extract" if view is None else f"extract {view}"

        def stored(store: FeatureStore) -> dict[Key, Any]:
            bar = self._bar(inputs, title, shown=bool(self.verbose))
            channels = self._reading(self._probe)
            size, numbered = self.batch_size, view is not None
            with self._filling(module, store, channels, view) as filling, bar:
                return stored_blocks(
                    filling, inputs, size, bar.update, numbered=numbered
                )

        blocks = cache.tried(stored)
        if blocks is not None:
            return blocks
        bar = self._bar(inputs, title, shown=bool(self.verbose))
        parts = self._parts(module, inputs, self.blocks_, view)
        with closing(parts), bar:
            return assembled(parts, len(inputs), np.dtype(self.dtype), bar.update)

    def _parts(
        self, module: nn.Module, inputs: Inputs, keys: Iterable[Key], view: str | None
    ) -> Generator[Part, None, None]:
        if self._serving is not None and view is None and keys == self.blocks_:
            return self._serving.parts(inputs)
        change = None if view is None else cast(Any, self.views)[view]
        return extract(module, inputs, keys, self._probe, self._settings(), change)

    def _filling(
        self,
        module: nn.Module,
        store: FeatureStore,
        channels: str,
        view: str | None = None,
    ) -> Filling:
        known = {} if self._serving is None else self._serving.sources
        wish = store.path, channels, view
        source = known.get(wish) or source_of(
            store,
            module,
            weights=self.network_digest_,
            preprocess=self.preprocess,
            dtype=self.dtype,
            autocast=self.autocast,
            channels=channels,
            device=self.device,
            view=None if view is None else cast(Any, self.views)[view],
        )
        known[wish] = source
        return Filling(
            store,
            source,
            self.blocks_,
            lambda inputs, keys: self._parts(module, inputs, keys, view),
            np.dtype(self.dtype),
            # Of a network that serves, only the counters of its weights are looked at.
            None
            if self._serving
            else lambda: note_changes(store.opened, module, source),
        )

    def _bar(self, inputs: Inputs | Stream, title: str, shown: bool) -> Bar:
        total = len(inputs) if isinstance(inputs, Inputs) else None
        return Bar(total, title, shown, meter=inputs.meter)
