"""Folders of three files, which appear whole or not at all."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from skood.persistence.document import HEAD, document_text, parsed_document
from skood.persistence.errors import LoadError
from skood.persistence.tensors import Tensor, tensors_in, write_tensors

__all__ = ["ARRAYS", "NETWORK", "checked_target", "read_folder", "write_folder"]

TEXT = "estimator.json"
ARRAYS = "arrays.safetensors"
NETWORK = "network.safetensors"
FILES = (ARRAYS, NETWORK, TEXT)
"""All names that there are; none is ever taken from a file."""


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
    target = Path(os.path.realpath(Path(path).expanduser()))
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
        if TEXT not in names or not names <= set(FILES):
            return False
        with (folder / TEXT).open("rb") as file:
            return file.read(len(HEAD)) == HEAD
    except OSError:
        return False


def write_folder(
    target: Path,
    content: Mapping[str, Any],
    tensors: Mapping[str, Mapping[str, Tensor]],
) -> None:
    """Write a folder, which takes its name once it is safely on the disk.

    Parameters
    ----------
    target : Path
        From :func:`checked_target`.
    content : mapping
        For the text, to which the files' digests are added.
    tensors : mapping of str to mapping of str to Tensor
        The other files: ``ARRAYS``, and ``NETWORK`` if there are weights.
    """
    with _replacing(target) as folder:
        digests = {
            name: _written(folder / name, _writer(held))
            for name, held in tensors.items()
        }
        text = document_text({**content, "files": digests})
        _written(folder / TEXT, lambda write: write(memoryview(text)))


def _writer(tensors: Mapping[str, Tensor]) -> Callable[[Any], None]:
    return lambda write: write_tensors(write, tensors)


def _written(path: Path, make: Callable[[Any], Any]) -> str:
    """Return the digest of a new file, when it is on the disk."""
    digest = hashlib.sha256()
    with path.open("xb") as file:

        def write(part: memoryview) -> None:
            digest.update(part)
            file.write(part)

        make(write)
        file.flush()
        os.fsync(file.fileno())
    return digest.hexdigest()


@contextmanager
def _replacing(target: Path) -> Iterator[Path]:
    """Give a new folder to fill; put it in the place of ``target`` if all went well.

    A folder with files takes no folder's place in one step, so that between two
    renames there is none at the place.
    """
    replaces = os.path.lexists(target)
    token = uuid4().hex
    fresh = target.with_name(f".{target.name}.{token}.part")
    old = target.with_name(f".{target.name}.{token}.old")
    # As private as the one that was there, but to be written.
    mode = stat.S_IMODE(target.stat().st_mode) if replaces else 0o777
    fresh.mkdir(mode | stat.S_IRWXU)
    try:
        yield fresh
        _synced(fresh)
        if replaces:
            with suppress(FileNotFoundError):  # another writer's turn
                os.rename(target, old)
        _renamed(fresh, target, old)
        _synced(target.parent)
    except BaseException:
        _remove(fresh)
        raise
    _remove(old)


def _renamed(fresh: Path, target: Path, old: Path) -> None:
    """Put a folder in its place, or the old one back."""
    try:
        os.rename(fresh, target)
    except BaseException as error:
        if not os.path.lexists(target):
            with suppress(OSError):
                os.rename(old, target)
            raise
        _remove(old)  # its place is taken
        raise FileExistsError(
            f"{target} was written by somebody else at the same time: that is left as "
            "it is, and nothing is saved."
        ) from error


def _remove(folder: Path) -> None:
    """Delete a folder of ours; one that holds something else stays."""
    for name in FILES:
        with suppress(OSError):
            (folder / name).unlink()
    with suppress(OSError):
        folder.rmdir()


def _synced(folder: Path) -> None:
    # Windows opens no folders; there the rename is all one can do.
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


# Reading ---------------------------------------------------------------------------


def read_folder(
    path: str | os.PathLike[str],
) -> tuple[dict[str, Any], dict[str, dict[str, Tensor]]]:
    """Return the text of a folder, and its arrays as maps, all compared with digests.

    Raises
    ------
    FileNotFoundError
        If there is no such path.
    LoadError
        If it is no saved estimator, or not as it was written.
    """
    folder = Path(path).expanduser()
    if not folder.exists():
        raise FileNotFoundError(f"path={str(path)!r}: there is no such folder.")
    content = parsed_document(_bytes_of(folder / TEXT).tobytes(), folder / TEXT)
    digests = content["files"]
    if not isinstance(digests, dict) or not set(digests) <= {ARRAYS, NETWORK}:
        raise LoadError(f"{folder / TEXT} names files that there never are.")
    tensors: dict[str, dict[str, Tensor]] = {}
    for name in (ARRAYS, NETWORK):
        if name not in digests:
            if os.path.lexists(folder / name):
                raise LoadError(f"{folder / name} does not belong to {TEXT} there.")
            tensors[name] = {}
            continue
        data = _bytes_of(folder / name)
        if hashlib.sha256(data.data).hexdigest() != digests[name]:
            raise LoadError(f"{folder / name} is damaged: it has another digest.")
        tensors[name] = tensors_in(data, folder / name)
    return content, tensors


def _bytes_of(path: Path) -> NDArray[np.uint8]:
    try:
        about = path.stat()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise LoadError(
            f"{path.parent} holds no saved estimator: there is no {path.name}."
        ) from error
    if not stat.S_ISREG(about.st_mode) or not about.st_size:
        raise LoadError(f"{path} is empty, or no file.")
    return np.memmap(path, np.uint8, "r")
