"""Threads: one of BLAS for what runs beside its like; calls that share the cores."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import lru_cache
from threading import Lock
from typing import Any

from threadpoolctl import ThreadpoolController

__all__ = ["one_thread", "threads_for"]


class _Blas:
    """BLAS on one thread, while anybody is inside.

    It has one setting for the whole process: the first to come in makes it, and the
    last to leave takes it back, else a thread would restore what another has set.

    Attributes
    ----------
    torch_threads : int
        Those of torch when the first came in, which others may find at 1.
    """

    def __init__(self) -> None:
        self.torch_threads = 1
        self._lock = Lock()
        self._inside = 0
        self._before = ExitStack()

    @contextmanager
    def on_one_thread(self) -> Iterator[int]:
        """Limit BLAS, and yield how many threads it had: 1 for all but the first."""
        with self._lock:
            libraries = _libraries().select(user_api="blas")
            threads = max((b.num_threads for b in libraries.lib_controllers), default=1)
            if self._inside == 0:
                self._before.enter_context(libraries.limit(limits=1))
                torch = sys.modules.get("torch")
                self.torch_threads = 1 if torch is None else torch.get_num_threads()
            self._inside += 1
        try:
            yield threads
        finally:
            with self._lock:
                self._inside -= 1
                if self._inside == 0:
                    self._before.close()


_BLAS = _Blas()


@contextmanager
def one_thread() -> Iterator[None]:
    """Run BLAS, OpenMP and torch on one thread inside, and as before afterwards.

    Any number of threads of a process may be inside at once: OpenMP and torch have a
    setting for each of them.

    Examples
    --------
    >>> from skood.numerics.threads import one_thread
    >>> with one_thread():
    ...     pass
    """
    with (
        _BLAS.on_one_thread(),
        _torch_on_one_thread(_BLAS.torch_threads),  # left after OpenMP, which it sets
        _libraries().limit(limits=1, user_api="openmp"),
    ):
        yield


@contextmanager
def threads_for(n_calls: int) -> Iterator[Callable[..., Iterator[Any]]]:
    """Yield a ``map`` whose calls run on as many threads as BLAS has, which gets one.

    Products that each run on one thread use the cores better than one product after
    another, each on all of them. Threads of BLAS wait for work by counting, on the
    cores that the calls are to run on: so nothing that is done inside gets several,
    whatever its size, and results do not depend on how many there are. In a worker,
    where BLAS has one thread already, the calls are made here.

    Parameters
    ----------
    n_calls : int
        No more threads are started.

    Examples
    --------
    >>> from skood.numerics.threads import threads_for
    >>> with threads_for(2) as mapped:
    ...     list(mapped(abs, [-1, 2]))
    [1, 2]
    """
    with _BLAS.on_one_thread() as threads:
        n_threads = min(threads, n_calls)
        if n_threads < 2:
            yield map
            return
        with ThreadPoolExecutor(n_threads) as pool:
            yield pool.map


@contextmanager
def _torch_on_one_thread(threads: int) -> Iterator[None]:
    torch = sys.modules.get("torch")
    if torch is None or threads == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _libraries() -> ThreadpoolController:
    """Return what there is by now; it takes milliseconds after imports only."""
    return _libraries_of(len(sys.modules))


@lru_cache(maxsize=1)
def _libraries_of(n_modules: int) -> ThreadpoolController:
    return ThreadpoolController()
