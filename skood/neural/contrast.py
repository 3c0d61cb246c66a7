"""Pseudo outliers made from a batch, where no real ones are given.

Each kind takes a batch and its classes and returns as many rows that are of no class.
The draws come from torch's global generator, seeded for the length of a fit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import torch
from torch import Tensor

from skood.model_selection.jigsaw import Jigsaw

__all__ = ["KINDS", "kinds_for", "pseudo_outliers"]

Kind: TypeAlias = Callable[[Tensor, Tensor], Tensor]


def jigsaw(rows: Tensor, classes: Tensor) -> Tensor:
    """Return images with their tiles in another order, nine a piece."""
    numbers = torch.randint(2**62, (len(rows),)).numpy()
    shuffled: Tensor = Jigsaw(grid=3)(rows, numbers)
    return shuffled


def mixup(rows: Tensor, classes: Tensor) -> Tensor:
    """Return the means of two rows, of different classes where the batch has them."""
    others = (classes[:, None] != classes[None, :]).float().cpu() + 1e-9
    partner = torch.multinomial(others, 1)[:, 0].to(rows.device)
    return (rows + rows[partner]) / 2


def noise(rows: Tensor, classes: Tensor) -> Tensor:
    """Return normal noise with the mean and spread of each column or channel."""
    axes = (0, *range(2, rows.ndim))
    mean = rows.mean(dim=axes, keepdim=True)
    spread = rows.std(dim=axes, keepdim=True, correction=0)
    return mean + spread * torch.randn_like(rows)


def permute(rows: Tensor, classes: Tensor) -> Tensor:
    """Return rows whose columns each come from a row of their own."""
    flat = rows.flatten(1)
    source = torch.rand(flat.shape).argsort(dim=0).to(rows.device)
    return flat.gather(0, source).reshape(rows.shape)


KINDS: dict[str, Kind] = {
    "jigsaw": jigsaw,
    "mixup": mixup,
    "noise": noise,
    "permute": permute,
}


def kinds_for(rows_ndim: int) -> tuple[str, ...]:
    """Return the kinds that suit images, or else vectors."""
    if rows_ndim == 4:
        return ("jigsaw", "mixup", "noise")
    return ("permute", "mixup", "noise")


def pseudo_outliers(rows: Tensor, classes: Tensor, kinds: Sequence[str]) -> Tensor:
    """Return a batch of rows of no class, each of a kind drawn at random.

    Parameters
    ----------
    rows : Tensor of shape (n, d) or (n, channels, ...)
        In-distribution rows.
    classes : Tensor of shape (n,)
        Their classes.
    kinds : sequence of str
        Names in ``KINDS``.

    Returns
    -------
    Tensor
        Of the same shape.

    Examples
    --------
    >>> import torch
    >>> from skood.neural.contrast import pseudo_outliers
    >>> rows, classes = torch.tensor([[0.0, 0.0], [2.0, 4.0]]), torch.tensor([0, 1])
    >>> pseudo_outliers(rows, classes, ["mixup"])
    tensor([[1., 2.],
            [1., 2.]])
    """
    chosen = torch.randint(len(kinds), (len(rows),)).to(rows.device)
    made = torch.stack([KINDS[kind](rows, classes) for kind in kinds])
    return made[chosen, torch.arange(len(rows), device=rows.device)]
