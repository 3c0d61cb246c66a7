"""A folder of images as a torch data set."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch.utils.data import Dataset

__all__ = ["SUFFIXES", "ImageFolder", "image_files"]

SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"}


def image_files(folder: Path) -> list[Path]:
    """Return the images in a folder and the folders inside, in the order of names."""
    found = (file for file in folder.rglob("*") if file.suffix.lower() in SUFFIXES)
    return sorted(file for file in found if file.is_file())


class ImageFolder(Dataset[Any]):
    """Images of a folder, decoded when they are asked for.

    Parameters
    ----------
    folder : Path
        It may have a folder for each class.
    transform : callable, optional
        From a Pillow image to an array or tensor. By default red, green and blue from
        0 to 1, as float32 of shape (3, height, width).
    size : int, optional
        Without a `transform`, the width and height that images are resized to.

    Attributes
    ----------
    names : list of str
        Paths within the folder, one an image.
    labels : ndarray of int or None
        The number of each image's class, None where there are no folders inside.

    Raises
    ------
    ValueError
        If there are no images.
    """

    def __init__(
        self,
        folder: Path,
        transform: Callable[[Any], Any] | None = None,
        size: int | None = None,
    ) -> None:
        self._files = image_files(folder)
        if not self._files:
            raise ValueError(
                f"{folder} has no images ({', '.join(sorted(SUFFIXES))}), and is "
                "neither a store nor a folder of saved features."
            )
        self._transform, self._size = transform, size
        self._first: tuple[int, int] | None = None
        self.names = [file.relative_to(folder).as_posix() for file in self._files]
        self.labels = _labels([name.rpartition("/")[0] for name in self.names])

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, row: int) -> Any:
        with Image.open(self._files[row]) as image:
            if self._transform is not None:
                return self._transform(image)
            self._check_size(image, self.names[row])
            return _colours(image, self._size)

    def _check_size(self, image: Image.Image, name: str) -> None:
        self._first = self._first or image.size
        if self._size is None and image.size != self._first:
            own, others = (" x ".join(map(str, s)) for s in (image.size, self._first))
            raise ValueError(f"{name} is {own}, others {others}: give --image-size.")


def _colours(image: Image.Image, size: int | None) -> NDArray[np.float32]:
    image = image.convert("RGB")
    if size is not None:
        image = image.resize((size, size), Image.Resampling.BILINEAR)
    values = np.asarray(image, dtype=np.float32) / 255
    return np.ascontiguousarray(values.transpose(2, 0, 1))


def _labels(folders: Sequence[str]) -> NDArray[np.intp] | None:
    if not all(folders):
        return None
    return np.asarray(np.unique(folders, return_inverse=True)[1])
