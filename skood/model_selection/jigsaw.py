"""Images cut in tiles and put together in a random order."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True)
class Jigsaw:
    """Shuffle the tiles of each image: its parts stay, its whole is lost.

    The image is cut in `grid` x `grid` tiles of side ``floor(side / grid)``, which are
    put back in a uniformly random order (the identity may come up); rows and columns
    that remain at the bottom and right are zero. NormRatio compares a layer's norm on
    images with that on such copies.

    The order for a row depends on `random_state` and the row's number alone, so that
    it does not matter in which batch a row comes.

    Parameters
    ----------
    grid : int, default=3
        Tiles per side, at least 2.
    random_state : int, default=0
        Seeds the orders.

    References
    ----------
    Yu, Shin, Lee, Jun, Lee. Block selection method for using feature norm in
    out-of-distribution detection. CVPR 2023.

    Examples
    --------
    >>> import numpy as np
    >>> from skood.model_selection.jigsaw import Jigsaw
    >>> image = np.arange(1, 26).reshape(1, 5, 5)
    >>> Jigsaw(grid=2)(image, rows=[0])[0]
    array([[11, 12,  1,  2,  0],
           [16, 17,  6,  7,  0],
           [ 3,  4, 13, 14,  0],
           [ 8,  9, 18, 19,  0],
           [ 0,  0,  0,  0,  0]])
    """

    grid: int = 3
    random_state: int = 0

    def __call__(self, batch: Any, rows: ArrayLike) -> Any:
        """Return the shuffled images.

        Parameters
        ----------
        batch : ndarray or torch.Tensor of shape (n, ..., height, width)
            Images, channels (if any) before height. Left as it is.
        rows : array-like of int, shape (n,)
            The number of each image in the whole data.

        Returns
        -------
        ndarray or torch.Tensor
            Of the same kind, shape, dtype and device.

        Raises
        ------
        ValueError
            If `grid` or `random_state` is out of range, the batch holds no images, one
            is smaller than the grid, or the number of rows differs.
        """
        self._check(batch, rows)
        high, wide = (side // self.grid for side in batch.shape[-2:])
        flat = batch.reshape(len(batch), prod(batch.shape[1:-2]), *batch.shape[-2:])
        tiles = _tiles(flat[..., : self.grid * high, : self.grid * wide], self.grid)
        each = np.arange(len(batch))[:, None]
        # the two index arrays are apart, so the tiles' axis comes before the channels'
        shuffled = tiles[each, :, self.orders(rows)].swapaxes(1, 2)
        out = flat.clone() if hasattr(flat, "clone") else flat.copy()
        out[...] = 0
        out[..., : self.grid * high, : self.grid * wide] = _whole(shuffled, self.grid)
        return out.reshape(batch.shape)

    def orders(self, rows: ArrayLike) -> NDArray[np.intp]:
        """Return the order of the tiles of each row.

        Parameters
        ----------
        rows : array-like of int, shape (n_samples,)
            The number of each image in the whole data.

        Returns
        -------
        ndarray of int, shape (n_samples, grid * grid)
            Entry k is the tile, counted row by row, that comes to place k.
        """
        orders = np.empty((len(np.asarray(rows)), self.grid**2), dtype=np.intp)
        for order, row in zip(orders, np.asarray(rows).tolist(), strict=True):
            rng = np.random.default_rng([self.random_state, row])
            order[:] = rng.permutation(self.grid**2)
        return orders

    def _check(self, batch: Any, rows: ArrayLike) -> None:
        for name, least in (("grid", 2), ("random_state", 0)):
            value = getattr(self, name)
            if not isinstance(value, (int, np.integer)) or value < least:
                raise ValueError(
                    f"{name} must be an integer >= {least}; got {value!r}. (Each batch "
                    "must find the same orders again.)"
                )
        if len(batch.shape) < 3 or min(batch.shape[-2:]) < self.grid:
            raise ValueError(
                "batch must hold images of shape (n, ..., height, width), at least "
                f"{self.grid} pixels a side for grid={self.grid}; got shape "
                f"{tuple(batch.shape)}."
            )
        n_rows = len(np.asarray(rows))
        if n_rows != len(batch):
            raise ValueError(
                f"rows has {n_rows} entries for a batch of {len(batch)}; give the "
                "number of each image."
            )


def _tiles(images: Any, grid: int) -> Any:
    """Return (n, c, h, w) as (n, c, tiles, h / grid, w / grid)."""
    n, c, h, w = images.shape
    cut = images.reshape(n, c, grid, h // grid, grid, w // grid).swapaxes(3, 4)
    return cut.reshape(n, c, grid**2, h // grid, w // grid)


def _whole(tiles: Any, grid: int) -> Any:
    """Return (n, c, tiles, h, w) as (n, c, h * grid, w * grid)."""
    n, c, _, h, w = tiles.shape
    put = tiles.reshape(n, c, grid, grid, h, w).swapaxes(3, 4)
    return put.reshape(n, c, grid * h, grid * w)
