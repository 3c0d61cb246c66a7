"""The files of a folder: which may be there, and how each is read."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError

from skood.files.digest import digest_of
from skood.files.paths import user_path
from skood.files.tensors import DamagedFileError, read_header
from skood.persistence.about import HEAD, parsed_about
from skood.persistence.errors import LoadError

__all__ = [
    "ABOUT",
    "ARRAYS",
    "ESTIMATOR",
    "NETWORK",
    "checked_target",
    "mapped",
    "mapped_arrays",
    "read_folder",
    "read_network",
    "write_network",
]

ABOUT = "about.json"
ARRAYS = "arrays.safetensors"
ESTIMATOR = "estimator.skops"
NETWORK = "network.safetensors"
PARTS = (ESTIMATOR, ARRAYS, NETWORK)
"""With ``ABOUT`` all names that there are; none is ever taken from a file."""


# Writing ---------------------------------------------------------------------------


def checked_target(path: str | os.PathLike[str], overwrite: bool) -> Path:
    """Return where a folder is to be.

    Raises
    ------
    FileExistsError
        If something is there, unless it is an empty folder, or a saved estimator that
        may be replaced.
    FileNotFoundError
        If the folder around it is not there.
    """
    target = Path(os.path.realpath(user_path(path)))
    if not target.parent.is_dir():
        raise FileNotFoundError(f"path={str(path)!r}: there is no {target.parent}.")
    if not os.path.lexists(target) or _is_empty(target):
        return target
    if not overwrite:
        raise FileExistsError(
            f"path={str(path)!r} exists: give another path, or overwrite=True to "
            "replace a saved estimator."
        )
    if not _is_saved_estimator(target):
        raise FileExistsError(
            f"path={str(path)!r} is not a folder with a saved estimator and nothing "
            "else: it is left as it is."
        )
    return target


def _is_empty(folder: Path) -> bool:
    return folder.is_dir() and not any(folder.iterdir())


def _is_saved_estimator(folder: Path) -> bool:
    try:
        names = {entry.name for entry in os.scandir(folder)}
        if ABOUT not in names or not names <= {ABOUT, *PARTS}:
            return False
        with (folder / ABOUT).open("rb") as file:
            return file.read(len(HEAD)) == HEAD
    except OSError:
        return False


def write_network(path: Path, tensors: Mapping[str, Any]) -> None:
    """Write the weights of networks."""
    from safetensors.torch import save_file

    save_file(dict(tensors), path)


# Reading ---------------------------------------------------------------------------


def read_folder(
    path: str | os.PathLike[str],
) -> tuple[dict[str, Any], dict[str, NDArray[np.uint8]]]:
    """Return the text of a folder, and its other files as maps that fit their digests.

    Raises
    ------
    FileNotFoundError
        If there is no such path.
    LoadError
        If it is no saved estimator, or not as it was written.
    """
    folder = user_path(path)
    if not folder.exists():
        raise FileNotFoundError(f"path={str(path)!r}: there is no such folder.")
    content = parsed_about(mapped(folder / ABOUT).tobytes(), folder / ABOUT)
    digests = content["files"]
    if not isinstance(digests, dict) or not {ESTIMATOR} <= set(digests) <= {*PARTS}:
        raise LoadError(f"{folder / ABOUT} names files that there never are.")
    for name in set(PARTS) - set(digests):
        if os.path.lexists(folder / name):
            raise LoadError(f"{folder / name} does not belong to {ABOUT} there.")
    files = {name: mapped(folder / name) for name in digests}
    for name, data in files.items():
        if digest_of(data) != digests[name]:
            raise LoadError(f"{folder / name} is damaged: it has another digest.")
    return content, files


def mapped(path: Path) -> NDArray[np.uint8]:
    """Return the bytes of a file as a map.

    Raises
    ------
    LoadError
        If there is no such file, or it is empty.
    """
    try:
        about = path.stat()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise LoadError(
            f"{path.parent} holds no saved estimator: there is no {path.name}."
        ) from error
    if not stat.S_ISREG(about.st_mode) or not about.st_size:
        raise LoadError(f"{path} is empty, or no file.")
    return np.memmap(path, np.uint8, "r")


def mapped_arrays(
    files: Mapping[str, NDArray[np.uint8]], path: str | os.PathLike[str], *, copy: bool
) -> list[NDArray[Any]]:
    """Return the arrays of a folder, by number.

    Parameters
    ----------
    files : mapping of str to ndarray
        From :func:`read_folder`.
    path : str or Path
        The folder.
    copy : bool
        Whether to read them into memory of their own.
    """
    if ARRAYS not in files:
        return []
    try:
        entries = read_header(user_path(path) / ARRAYS).entries
        found = [entries[f"{n}"].within(files[ARRAYS]) for n in range(len(entries))]
    except (DamagedFileError, KeyError, ValueError) as error:
        raise LoadError(f"{ARRAYS} is damaged: {error}") from error
    return [np.array(array) for array in found] if copy else found


def read_network(
    files: Mapping[str, NDArray[np.uint8]], path: str | os.PathLike[str]
) -> dict[str, Any]:
    """Return the tensors of a folder's networks."""
    from safetensors.torch import load_file

    if NETWORK not in files:
        return {}
    try:
        return load_file(user_path(path) / NETWORK)
    except (SafetensorError, ValueError) as error:
        raise LoadError(f"{NETWORK} is damaged: its header cannot be read.") from error
