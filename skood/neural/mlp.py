"""The small network that stands in where none is given."""

from __future__ import annotations

from torch import nn

__all__ = ["MLP"]


class MLP(nn.Sequential):
    """Linear layers with ReLUs between them, from columns to logits.

    Parameters
    ----------
    n_features : int
        Columns.
    n_classes : int
        Logits.
    width : int, default=64
        Units of a hidden layer.
    depth : int, default=2
        Hidden layers.

    Examples
    --------
    >>> from skood.neural import MLP
    >>> MLP(10, 3, width=5, depth=1)
    MLP(
      (0): Linear(in_features=10, out_features=5, bias=True)
      (1): ReLU()
      (2): Linear(in_features=5, out_features=3, bias=True)
    )
    """

    def __init__(
        self, n_features: int, n_classes: int, width: int = 64, depth: int = 2
    ) -> None:
        layers: list[nn.Module] = []
        for n_in in [n_features, *[width] * (depth - 1)][:depth]:
            layers += [nn.Linear(n_in, width), nn.ReLU()]
        last = width if depth else n_features
        super().__init__(*layers, nn.Linear(last, n_classes))
