"""Files that appear on the disk whole or not at all."""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4

from safetensors import SafetensorError

__all__ = [
    "UNFINISHED",
    "check_place",
    "naming_target",
    "permissions",
    "replacing",
    "sync_folder",
    "write_text",
]

UNFINISHED = ".part"
"""How the names of files and folders end that are not yet whole."""


def write_text(path: Path, text: str) -> None:
    """Write a small file, which appears whole or not at all."""
    with replacing(path) as file:
        file.write(text.encode())


def check_place(path: Path) -> None:
    """Raise OSError if no file can be written at a path, before there is one to write.

    Parameters
    ----------
    path : Path
        Of a file, which may be there.

    Raises
    ------
    OSError
        If it is a folder, or the folder that it would be in is none, or is not to be
        written to.

    Examples
    --------
    >>> from pathlib import Path
    >>> from skood.files.atomic import check_place
    >>> check_place(Path("nowhere/scores.csv"))
    Traceback (most recent call last):
    ...
    FileNotFoundError: nowhere/scores.csv cannot be written: there is no folder nowhere.
    """
    folder, refused = path.parent, f"{path} cannot be written:"
    if path.is_dir():
        raise IsADirectoryError(f"{refused} it is a folder.")
    if not folder.exists():
        raise FileNotFoundError(f"{refused} there is no folder {folder}.")
    if not folder.is_dir():
        raise NotADirectoryError(f"{refused} {folder} is no folder.")
    if not os.access(folder, os.W_OK):
        raise PermissionError(f"{refused} {folder} is not to be written to.")


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Give a file to write; it takes its name once it is safely on the disk.

    A file that is replaced leaves its permissions to the new one.
    """
    unfinished = path.with_name(f"{uuid4().hex}{UNFINISHED}")
    mode = permissions(path)
    try:
        with naming_target(path), unfinished.open("xb") as file:
            if mode is not None:
                unfinished.chmod(mode)
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, path)
    except BaseException:
        with suppress(OSError):
            unfinished.unlink()
        raise
    sync_folder(path.parent)


@contextmanager
def naming_target(path: Path) -> Iterator[None]:
    """Name what was to be written in errors of the disk that name no file.

    Raises
    ------
    OSError
        In place of one without a name, and of what libraries make of a full disk.
    """
    try:
        yield
    except SafetensorError as error:
        number = re.search(r"\(os error (\d+)\)", str(error))
        if number is None:
            raise
        code = int(number[1])
        raise OSError(code, os.strerror(code), str(path)) from error
    except OSError as error:
        if error.filename is not None or type(error) is not OSError:
            raise
        text = error.strerror or f"{error}: is the disk full?"  # NumPy gives no reason
        raise OSError(error.errno or errno.EIO, text, str(path)) from error


def permissions(path: Path) -> int | None:
    """Return the permissions of what is at a path, None if nothing is."""
    try:
        return stat.S_IMODE(path.stat().st_mode)
    except OSError:
        return None


def sync_folder(folder: Path) -> None:
    """Wait until the names in a folder are on the disk."""
    # Windows opens no folders; there the rename is all one can do.
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
