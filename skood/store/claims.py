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
    """Rows that a pass is at work on, for as long as the process lives.

    Others find them written in a file, which is locked meanwhile; the system takes the
    lock away when the process dies.
    """

    def __init__(self, claims: Claims) -> None:
        self.names: set[bytes] = set()
        self._claims = claims
        self._written: tuple[Path, FileLock] | None = None

    def take(self, keys: Keys) -> NDArray[np.bool_]:
        """Claim those of some rows that nobody is at work on, this pass included.

        Parameters
        ----------
        keys : ndarray of uint8, shape (n, 16)
            The wanted rows.

        Returns
        -------
        ndarray of bool, shape (n,)
            The rows that are this pass's now.
        """
        with self._claims.alone("claims"):
            living = [*self._claims.living()]
            names = [key.tobytes() for key in keys]
            free = (not any(name in taken for taken in living) for name in names)
            mine = np.fromiter(free, dtype=bool, count=len(names))
            if mine.any():
                if self._written is None:
                    self._written = self._claims.new(self)
                with self._written[0].open("ab") as file:
                    file.write(np.ascontiguousarray(keys[mine]).tobytes())
                self.names.update(key.tobytes() for key in keys[mine])
            return mine

    def release(self) -> None:
        """Let others have the rows."""
        if self._written is not None:
            file, lock = self._written
            self._written, self.names = None, set()
            _delete(file)
            lock.release()
            _delete(file.with_suffix(".lock"))


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

    def begun(self) -> Claim:
        """Return a claim that holds no rows yet."""
        return Claim(self)

    def new(self, claim: Claim) -> tuple[Path, FileLock]:
        """Return the place of a claim's rows, and its lock, which is held."""
        file = self.path / f"{uuid4().hex}.claim"
        lock = _lock(file.with_suffix(".lock"))
        lock.acquire(poll_interval=POLL_SECONDS)
        self._own[file] = claim
        return file, lock

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

    def living(self) -> Iterator[set[bytes]]:
        """Yield the rows of each claim of a process that lives."""
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
