"""Layer features whose blocks are tensors of an unknown number of rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from skood.features.head import LinearHead
from skood.features.layer_features import LayerFeatures
from skood.features.names import Key

__all__ = ["TensorFeatures"]


class TensorFeatures(LayerFeatures):
    """What :class:`LayerFeatures` is to arrays, for kernels that become a graph.

    Parameters
    ----------
    blocks : mapping of (layer, statistic) to tensor of shape (n, d)
        In order; n is the same for all.
    head : LinearHead, optional
        The network's last linear map.
    """

    def __init__(
        self, blocks: Mapping[Key, Any], head: LinearHead | None = None
    ) -> None:
        self._blocks = dict(blocks)
        self._rows = range(0)  # how many there are is not known
        self.head = head
        self.views = {}

    @property
    def shape(self) -> tuple[Any, int]:
        """Rows, a symbol perhaps, and columns of all blocks together."""
        return next(iter(self._blocks.values())).shape[0], sum(self.widths.values())

    def __getitem__(self, rows: Any) -> TensorFeatures:
        if rows != slice(None):
            raise TypeError(f"features[{rows!r}]: in a graph there are all rows only.")
        return self

    def iter_chunks(self, rows: int) -> Iterator[LayerFeatures]:
        """Yield all rows, whatever the number asked for."""
        yield self

    def _read(self, block: Any) -> Any:
        return block
