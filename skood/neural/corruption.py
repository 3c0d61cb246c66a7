"""Corruptions of anchors: each row of a batch is changed by a draw of its own.

The draws come from torch's global generator, which :class:`~skood.AnchoredClassifier`
seeds for the length of a fit, so that transforms of other libraries can stand in.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["Corruption", "ImageCorruption", "VectorCorruption"]

Corruption: TypeAlias = Callable[[Tensor], Tensor]
"""From a batch to a batch of the same shape."""

LUMA = (0.299, 0.587, 0.114)
BLUR_RADIUS = 4


@dataclass(frozen=True)
class ImageCorruption:
    """Random resized crop, flip, colour jitter, blur and grayscale, image by image.

    The composition of AMP's reference code, with two differences: every image gets its
    own crop, factor and width of the blur instead of one for the whole batch; and
    brightness does not clip to [0, 1], so that images may be standardised.

    Parameters
    ----------
    scale : (float, float) or None, default=(0.6, 1.0)
        Share of the area that a crop keeps, uniform; its ratio of sides is up to 4:3
        either way, and it is resized to the whole. None: no crop.
    flip : float, default=0.5
        Probability of a mirrored image.
    jitter : float, default=0.8
        Probability of colour jitter and blur together.
    brightness : float, default=0.5
        The image is multiplied by a factor uniform in 1 +- brightness.
    contrast : float, default=0.0
        The same for its difference to its mean.
    saturation : float, default=0.0
        The same for its difference to its grey version.
    sigma : (float, float) or None, default=(0.1, 5.0)
        Width of the Gaussian blur in pixels, uniform; the kernel is 9 by 9. None: no
        blur.
    grayscale : float, default=0.2
        Probability that all channels become their luma (three channels) or mean.

    References
    ----------
    Anirudh and Thiagarajan, "Out of distribution detection via neural network
    anchoring", ACML 2022: section 3.1 and table 8.

    Examples
    --------
    >>> import torch
    >>> from skood.neural import ImageCorruption
    >>> images = torch.rand(4, 3, 8, 8)
    >>> ImageCorruption()(images).shape
    torch.Size([4, 3, 8, 8])
    >>> nothing = ImageCorruption(scale=None, flip=0.0, jitter=0.0, grayscale=0.0)
    >>> bool((nothing(images) == images).all())
    True
    """

    scale: tuple[float, float] | None = (0.6, 1.0)
    flip: float = 0.5
    jitter: float = 0.8
    brightness: float = 0.5
    contrast: float = 0.0
    saturation: float = 0.0
    sigma: tuple[float, float] | None = (0.1, 5.0)
    grayscale: float = 0.2

    def __call__(self, images: Tensor) -> Tensor:
        """Return the images, changed.

        Parameters
        ----------
        images : Tensor of shape (n, channels, height, width)
            Left as they are.

        Returns
        -------
        Tensor
            Of the same shape, type and device.

        Raises
        ------
        ValueError
            If the batch does not hold images.
        """
        if images.ndim != 4:
            raise ValueError(
                f"ImageCorruption got a batch of shape {tuple(images.shape)}: images "
                "are (n, channels, height, width). Use VectorCorruption for others."
            )
        if self.scale is not None:
            images = cropped(images, *self.scale)
        images = torch.where(_chosen(images, self.flip), images.flip(-1), images)
        if self.jitter > 0:
            chosen = _chosen(images, self.jitter)
            images = torch.where(chosen, self._jittered(images), images)
        return torch.where(_chosen(images, self.grayscale), grey(images), images)

    def _jittered(self, images: Tensor) -> Tensor:
        images = images * _factor(images, self.brightness)
        if self.contrast > 0:
            mean = grey(images).mean(dim=(1, 2, 3), keepdim=True)
            images = torch.lerp(mean, images, _factor(images, self.contrast))
        if self.saturation > 0:
            images = torch.lerp(grey(images), images, _factor(images, self.saturation))
        return images if self.sigma is None else blurred(images, *self.sigma)


@dataclass(frozen=True)
class VectorCorruption:
    """Noise and dropout, entry by entry.

    The paper corrupts images only; this is skood's own for vectors. Both are relative
    to the batch, so that the units of a feature do not matter.

    Parameters
    ----------
    noise : float, default=0.1
        Gaussian noise, in standard deviations of each feature in the batch.
    dropout : float, default=0.1
        Probability that an entry becomes the feature's mean in the batch.

    Examples
    --------
    >>> import torch
    >>> from skood.neural import VectorCorruption
    >>> rows = torch.tensor([[1.0, 2.0], [3.0, 6.0]])
    >>> VectorCorruption(noise=0.0, dropout=1.0)(rows)
    tensor([[2., 4.],
            [2., 4.]])
    """

    noise: float = 0.1
    dropout: float = 0.1

    def __call__(self, rows: Tensor) -> Tensor:
        """Return the rows, changed.

        Parameters
        ----------
        rows : Tensor of shape (n, ...)
            Left as they are.

        Returns
        -------
        Tensor
            Of the same shape, type and device.
        """
        mean = rows.mean(dim=0, keepdim=True)
        spread = rows.std(dim=0, keepdim=True, correction=0)
        noisy = rows + self.noise * spread * torch.randn_like(rows)
        return torch.where(torch.rand_like(rows) < self.dropout, mean, noisy)


def cropped(images: Tensor, low: float, high: float) -> Tensor:
    """Return a random part of each image, resized to the whole by interpolation.

    Parameters
    ----------
    images : Tensor of shape (n, channels, height, width)
        The images.
    low, high : float
        Bounds of the share of the area that is kept.

    Returns
    -------
    Tensor
        Of the same shape.
    """
    n = len(images)
    area = _uniform(n, low, high)
    ratio = _uniform(n, -math.log(4 / 3), math.log(4 / 3)).exp()
    sides = torch.stack([area * ratio, area / ratio], dim=1).sqrt().clip(max=1)
    theta = torch.zeros(n, 2, 3)
    theta[:, [0, 1], [0, 1]] = sides
    theta[:, :, 2] = (1 - sides) * (2 * torch.rand(n, 2) - 1)
    grid = F.affine_grid(theta.to(images), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)


def blurred(images: Tensor, low: float, high: float) -> Tensor:
    """Return each image under a Gaussian blur of its own width.

    Parameters
    ----------
    images : Tensor of shape (n, channels, height, width)
        The images; their borders go on beyond the edge.
    low, high : float
        Bounds of the standard deviation, in pixels.

    Returns
    -------
    Tensor
        Of the same shape.
    """
    offsets = torch.arange(-BLUR_RADIUS, BLUR_RADIUS + 1)
    sigma = _uniform(len(images), low, high)[:, None]
    weights = torch.softmax(-(offsets**2) / (2 * sigma**2), dim=1).to(images)
    return _smoothed(_smoothed(images, weights, axis=2), weights, axis=3)


def _smoothed(images: Tensor, weights: Tensor, axis: int) -> Tensor:
    size = images.shape[axis]
    r = BLUR_RADIUS
    sides = [0, 0, r, r] if axis == 2 else [r, r, 0, 0]
    padded = F.pad(images, sides, mode="replicate")
    parts = (
        weights[:, k, None, None, None] * padded.narrow(axis, k, size)
        for k in range(2 * r + 1)
    )
    return sum(parts, start=torch.zeros_like(images))


def grey(images: Tensor) -> Tensor:
    """Return images whose channels are all their luma, or their mean.

    Parameters
    ----------
    images : Tensor of shape (n, channels, height, width)
        Three channels are red, green and blue.

    Returns
    -------
    Tensor
        Of the same shape.
    """
    channels = images.shape[1]
    weights = LUMA if channels == 3 else [1 / channels] * channels
    mixed = torch.einsum("nchw,c->nhw", images, images.new_tensor(weights))
    return mixed[:, None].expand_as(images)


def _uniform(n: int, low: float, high: float) -> Tensor:
    return low + (high - low) * torch.rand(n)


def _factor(images: Tensor, strength: float) -> Tensor:
    factor = _uniform(len(images), 1 - strength, 1 + strength)
    return factor.to(images)[:, None, None, None]


def _chosen(images: Tensor, probability: float) -> Tensor:
    chosen = torch.rand(len(images)) < probability
    return chosen.to(images.device)[:, None, None, None]
