"""Folders of a few files, which appear on the disk whole or not at all."""

from __future__ import annotations

import os
import shutil
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial, reduce
from operator import and_
from pathlib import Path
from uuid import uuid4

from skood.files.atomic import UNFINISHED, naming_target, permissions, sync_folder

__all__ = ["replacing_folder", "write_folder"]

REPLACED = ".old"
"""How the name of a folder ends whose place another one takes."""

ABANDONED_S = 3600.0
"""Whoever has not written for so long has been killed."""


def write_folder(target: Path, files: Mapping[str, Callable[[Path], object]]) -> None:
    """Write a folder, which takes its name once it is safely on the disk.

    A folder with files takes no folder's place in one step, so that between two
    renames there is none at the place. What is replaced leaves its permissions to what
    comes. Unfinished folders of the same name, left by whoever was killed, are deleted
    when nobody has written to them for an hour.

    Parameters
    ----------
    target : Path
        Nothing, or a folder with no other files than those of these names.
    files : mapping of str to callable
        By name, what writes a file to the path it is given. They are called in order.

    Raises
    ------
    FileExistsError
        If somebody else writes there at the same time.
    """
    mode = _strictest(target)
    remove = partial(_remove_files, names=list(files))
    with replacing_folder(target, remove) as folder:
        # A new folder has been made under the user's mask.
        mode = (permissions(folder) or 0) & 0o666 if mode is None else mode
        for name, write in files.items():
            write(folder / name)
            (folder / name).chmod(permissions(target / name) or mode)


def _strictest(folder: Path) -> int | None:
    """Return the permissions that all files of a folder give, None if it has none."""
    found = [m for m in map(permissions, _entries(folder)) if m is not None]
    return reduce(and_, found) if found else None


def _entries(folder: Path) -> list[Path]:
    return list(folder.iterdir()) if folder.is_dir() else []


@contextmanager
def replacing_folder(
    target: Path, remove: Callable[[Path], object] = shutil.rmtree
) -> Iterator[Path]:
    """Give a new folder to fill; put it in the place of ``target`` if all went well.

    Parameters
    ----------
    target : Path
        Nothing, or the folder to be replaced.
    remove : callable, optional
        Deletes a folder of ours; it may leave one that holds anything else.
    """
    replaces = os.path.lexists(target)
    token = uuid4().hex
    fresh = target.with_name(f".{target.name}.{token}{UNFINISHED}")
    old = target.with_name(f".{target.name}.{token}{REPLACED}")
    # As private as the one that was there, but to be written.
    mode = permissions(target) if replaces else None
    fresh.mkdir((0o777 if mode is None else mode) | stat.S_IRWXU)
    try:
        with naming_target(target):
            yield fresh
            _sync(fresh)
        if replaces:
            with suppress(FileNotFoundError):  # another writer's turn
                os.rename(target, old)
                os.utime(old)
        _rename(fresh, target, old, remove)
        sync_folder(target.parent)
    except BaseException:
        _remove(fresh, remove)
        raise
    _remove(old, remove)
    _sweep(target, remove)


def _sync(folder: Path) -> None:
    """Wait until all that is in a folder is on the disk."""
    # Windows wants to write to what is waited for; others may not.
    flags = os.O_RDWR if os.name == "nt" else os.O_RDONLY
    for path in [p for p in sorted(folder.rglob("*")) if p.is_file()]:
        descriptor = os.open(path, flags)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    for path in [p for p in folder.rglob("*") if p.is_dir()]:
        sync_folder(path)
    sync_folder(folder)


def _rename(
    fresh: Path, target: Path, old: Path, remove: Callable[[Path], object]
) -> None:
    """Put a folder in its place, or the old one back."""
    try:
        os.rename(fresh, target)
    except BaseException as error:
        if not os.path.lexists(target):
            with suppress(OSError):
                os.rename(old, target)
            raise
        _remove(old, remove)  # its place is taken
        raise FileExistsError(
            f"{target} was written by somebody else at the same time: that is left as "
            "it is, and nothing is saved."
        ) from error


def _remove(folder: Path, remove: Callable[[Path], object]) -> None:
    with suppress(OSError):
        remove(folder)


def _remove_files(folder: Path, names: list[str]) -> None:
    """Delete a folder of ours; one that holds something else stays."""
    # The library writes to a file of another name first.
    for path in [folder / n for n in names] + list(folder.glob(".tmp*")):
        with suppress(OSError):
            path.unlink()
    with suppress(OSError):
        folder.rmdir()


def _sweep(target: Path, remove: Callable[[Path], object]) -> None:
    """Delete what writers to a place have left that were killed."""
    for end in (UNFINISHED, REPLACED):
        pattern = f".{_escaped(target.name)}.{'[0-9a-f]' * 32}{end}"
        for left in target.parent.glob(pattern):
            with suppress(OSError):
                times = [p.stat().st_mtime for p in [left, *left.rglob("*")]]
                if max(times) < time.time() - ABANDONED_S:
                    _remove(left, remove)


def _escaped(name: str) -> str:
    return "".join(f"[{c}]" if c in "*?[" else c for c in name)
