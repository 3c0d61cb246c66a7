"""Who computes what: processes that want the same rows share them out.

No result depends on it: without it the same rows would be computed twice, and the
first ones written would count.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4
from weakref import WeakValueDictionary

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from skood.store.index import Keys
from skood.store.trouble import names_store

__all__ = ["Claim", "Claims"]

POLL_SECONDS = 0.005


class Claim:
    """Rows that somebody is at work on, for as long as the process lives.

    Parameters
    ----------
    keys : ndarray of uint8, shape (n, 16)
        The rows.
    file : Path, optional
        Where others find it written; locked meanwhile, and the system takes the lock
        away when the process dies.
    """

    def __init__(self, keys: Keys, file: Path, lock: FileLock) -> None:
        self.file, self._lock = file, lock
        self.names = {key.tobytes() for key in keys}

    def release(self) -> None:
        """Let others have the rows."""
        _delete(self.file)
        self._lock.release()
        _delete(self.file.with_suffix(".lock"))


class Claims:
    """The claims of all processes on the rows of a store.

    Parameters
    ----------
    path : Path
        A folder for them.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._own: WeakValueDictionary[Path, Claim] = WeakValueDictionary()

    def claim(self, keys: Keys) -> tuple[Claim | None, NDArray[np.bool_]]:
        """Claim those of some rows that nobody is at work on.

        Parameters
        ----------
        keys : ndarray of uint8, shape (n, 16)
            The wanted rows.

        Returns
        -------
        claim : Claim or None
            None when all of them are taken.
        mine : ndarray of bool, shape (n,)
            The rows of the claim.
        """
        with self.alone("claims"):
            taken = set().union(*self._living())
            mine = np.array([key.tobytes() not in taken for key in keys], dtype=bool)
            if not mine.any():
                return None, mine
            file = self.path / f"{uuid4().hex}.claim"
            lock = _lock(file.with_suffix(".lock"))
            lock.acquire(poll_interval=POLL_SECONDS)
            file.write_bytes(np.ascontiguousarray(keys[mine]).tobytes())
            claim = self._own[file] = Claim(keys[mine], file, lock)
            return claim, mine

    @contextmanager
    def alone(self, task: str) -> Iterator[None]:
        """Let one thread of one process at a time through."""
        lock = _lock(self.path / f"{task}.lock")
        with names_store(self.path.parent):
            self.path.mkdir(parents=True, exist_ok=True)
            lock.acquire(poll_interval=POLL_SECONDS)
        try:
            yield
        finally:
            lock.release()

    def _living(self) -> Iterator[set[bytes]]:
        for file in self.path.glob("*.claim"):
            own = self._own.get(file)
            if own is not None:
                yield own.names
            elif self._is_alive(file):
                with suppress(FileNotFoundError):
                    yield {key.tobytes() for key in _keys_in(file)}
            else:
                _delete(file)
                _delete(file.with_suffix(".lock"))

    def _is_alive(self, file: Path) -> bool:
        try:
            with _lock(file.with_suffix(".lock")).acquire(timeout=0):
                return False
        except Timeout:
            return True


def _delete(file: Path) -> None:
    with suppress(OSError):
        file.unlink()


def _keys_in(file: Path) -> Keys:
    data = np.frombuffer(file.read_bytes(), dtype=np.uint8)
    return data[: len(data) // 16 * 16].reshape(-1, 16)


def _lock(path: Path) -> FileLock:
    return FileLock(path, thread_local=False)
