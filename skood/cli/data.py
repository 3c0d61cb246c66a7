"""Rows of whatever file or folder a user names."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import skood
from skood.cli.objects import imported
from skood.files.paths import user_path

__all__ = ["Data", "kind_of", "known_rows", "read", "read_labels", "read_sets"]

LABELS = ("y", "labels", "label")
"""Names under which files have labels."""

BLOCK = re.compile(r"(.+)__(.+)__\d+")
"""A column of ``LayerFeatures.to_frame``."""


FOLDERS = {
    "store.json": "store",
    "features.json": "features",
    "about.json": "model",
    "*.parquet": ".parquet",
}
"""The kinds of folders, by a file that is in them; others have images."""


class Data(NamedTuple):
    """Some rows.

    Parameters
    ----------
    X : array, DataFrame, LayerFeatures or Dataset
        What estimators take.
    y : ndarray of shape (n,) or None
        Their labels, if the file has any.
    ids : sequence or None
        What they are called, if they have names.
    """

    X: Any
    y: NDArray[Any] | None = None
    ids: Sequence[Any] | None = None


def kind_of(path: Path) -> str:
    """Return what a path holds: a file's suffix, or the kind of a folder.

    Raises
    ------
    FileNotFoundError
        If there is nothing.
    """
    if path.is_dir():
        found = [kind for name, kind in FOLDERS.items() if any(path.glob(name))]
        return found[0] if found else "images"
    if not path.exists():
        raise FileNotFoundError(f"there is no file {str(path)!r}.")
    return path.suffix.lower()


def read(name: str, arguments: argparse.Namespace | None = None) -> Data:
    """Return the rows of a file or folder.

    Parameters
    ----------
    name : str
        A path, or ``path::array``.
    arguments : Namespace, optional
        With ``transform`` and ``image_size``, for a folder of images.

    Raises
    ------
    ValueError
        If it cannot be read, or has several arrays that are no blocks of features.
    """
    text, _, array = name.partition("::")
    path = user_path(text)
    kind = kind_of(path)
    if kind == "images":
        return _images(path, arguments)
    if kind not in READERS:
        raise ValueError(
            f"{text} is a {kind or 'file'}; read are {', '.join(READERS)}."
        )
    try:
        return READERS[kind](path, array)
    except (ValueError, KeyError, OSError) as error:
        raise ValueError(f"{name}: {error}") from error


def read_labels(name: str | None, data: Data) -> NDArray[Any] | None:
    """Return the labels of some rows: those of a file that is named, else their own."""
    if name is None:
        return data.y
    found = read(name)
    values = np.asarray(found.X if found.y is None else found.y)
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim != 1:
        raise ValueError(f"{name} has shape {values.shape}: wanted is a label a row.")
    return values


def known_rows(data: Data) -> Any:
    """Return rows without those that their file labels as outliers."""
    if data.y is None or not np.any(data.y == -1):
        return data.X
    known = np.flatnonzero(data.y != -1)
    return data.X.iloc[known] if hasattr(data.X, "iloc") else data.X[known]


def read_sets(names: Sequence[str], arguments: argparse.Namespace) -> dict[str, Any]:
    """Return sets of rows by name, of texts like ``name=path``."""
    found = {}
    for text in names:
        name, sign, path = text.partition("=")
        name = name if sign else Path(text.partition("::")[0]).stem
        if name in found:
            raise ValueError(f"two sets are called {name!r}: give name=path.")
        found[name] = read(path if sign else text, arguments).X
    return found


def _images(path: Path, arguments: argparse.Namespace | None) -> Data:
    from skood.cli.images import ImageFolder

    wanted = getattr(arguments, "transform", None)
    transform = None if wanted is None else imported(wanted, "--transform")
    folder = ImageFolder(path, transform, getattr(arguments, "image_size", None))
    return Data(folder, folder.labels, folder.names)


def _npy(path: Path, array: str) -> Data:
    try:  # copy on write: torch warns of what it may not write to
        return Data(np.load(path, mmap_mode="c", allow_pickle=False))
    except ValueError as error:  # NumPy's own tells to trust the file
        raise ValueError("it is no file of one array without objects.") from error


def _npz(path: Path, array: str) -> Data:
    with np.load(path, allow_pickle=False) as file:
        return _of_arrays({name: file[name] for name in file.files}, array)


def _safetensors(path: Path, array: str) -> Data:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return _of_arrays(load_file(path), array)
    except SafetensorError as error:
        raise ValueError(str(error)) from error


def _parquet(path: Path, array: str) -> Data:
    from skood.features.arrow import parquet_files, read_column, schema_of

    schema = schema_of(parquet_files(path))
    lists = [field.name for field in schema if "list" in str(field.type)]
    if array in lists:
        return Data(np.asarray(skood.LayerFeatures.from_parquet(path, {"x": array})))
    if array:
        return Data(read_column(path, array))
    own = [name for name in LABELS if name in schema.names]
    y = read_column(path, own[0]) if own else None
    if lists:
        return Data(skood.LayerFeatures.from_parquet(path), y)
    return _of_columns(path, own, y)


def _of_columns(path: Path, own: list[str], y: NDArray[Any] | None) -> Data:
    """Return rows of which each number has a column, without some columns."""
    import pandas as pd

    frame = pd.read_parquet(path).drop(columns=own)
    matches = [BLOCK.fullmatch(str(column)) for column in frame.columns]
    if not all(matches):
        return Data(frame, y)
    places: dict[tuple[str, str], list[int]] = {}
    for place, match in enumerate(matches):
        assert match is not None  # all have been looked at
        places.setdefault((match[1], match[2]), []).append(place)
    blocks = {key: frame.iloc[:, own].to_numpy() for key, own in places.items()}
    return Data(skood.LayerFeatures(blocks), y)


def _of_arrays(arrays: Mapping[str, NDArray[Any]], wanted: str) -> Data:
    if wanted:
        if wanted not in arrays:
            raise KeyError(f"no array {wanted!r}; there are {', '.join(arrays)}")
        return Data(arrays[wanted])
    own = [name for name in LABELS if name in arrays]
    y = arrays[own[0]] if own else None
    rest = {name: array for name, array in arrays.items() if name not in own}
    if len(rest) == 1:
        return Data(next(iter(rest.values())), y)
    if not rest or any(array.ndim != 2 for array in rest.values()):
        shapes = ", ".join(f"{name} {array.shape}" for name, array in arrays.items())
        raise ValueError(f"it has {shapes}: say which, as FILE::NAME.")
    return Data(skood.LayerFeatures({_block(n): array for n, array in rest.items()}), y)


def _block(name: str) -> Any:
    layer, slash, statistic = name.rpartition("/")
    return (layer, statistic) if slash else name


def _store(path: Path, array: str) -> Data:
    store = skood.FeatureStore(path)
    listing = store.listing()
    return Data(store.features(), listing.labels, listing.ids)


def _features(path: Path, array: str) -> Data:
    return Data(skood.LayerFeatures.load(path))


READERS: dict[str, Callable[[Path, str], Data]] = {
    ".npy": _npy,
    ".npz": _npz,
    ".safetensors": _safetensors,
    ".parquet": _parquet,
    "store": _store,
    "features": _features,
}
"""What each kind is read by: the path, and the array wanted of it."""
