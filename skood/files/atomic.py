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
