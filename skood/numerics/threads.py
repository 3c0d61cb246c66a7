"""One thread for what runs beside its like: workers share the cores by their number."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from threading import Lock

from threadpoolctl import ThreadpoolController

__all__ = ["one_thread"]


class _Limited:
    """The libraries of this process on one thread, while anybody is inside.

    BLAS has one setting for the whole process: the first to come in makes it, and the
    last to leave takes it back, else a thread would restore what another has set.
    OpenMP and torch have one for each thread.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._inside = 0
        self._blas = ExitStack()
        self._controller: ThreadpoolController | None = None
        self._torch_threads = 1

    @contextmanager
    def here(self) -> Iterator[None]:
        """Limit this thread, and BLAS for all of them."""
        with self._lock:
            if self._inside == 0:
                self._begin()
            self._inside += 1
            controller = self._controller
        assert controller is not None
        try:
            with controller.limit(limits=1, user_api="openmp"), self._torch():
                yield
        finally:
            with self._lock:
                self._inside -= 1
                if self._inside == 0:
                    self._blas.close()

    def _begin(self) -> None:
        self._controller = ThreadpoolController()  # looks at what is loaded by now
        self._blas.enter_context(self._controller.limit(limits=1, user_api="blas"))
        torch = sys.modules.get("torch")
        self._torch_threads = 1 if torch is None else torch.get_num_threads()

    @contextmanager
    def _torch(self) -> Iterator[None]:
        torch = sys.modules.get("torch")
        if torch is None or self._torch_threads == 1:
            yield
            return
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(self._torch_threads)


_LIMITED = _Limited()


def one_thread() -> AbstractContextManager[None]:
    """Run BLAS, OpenMP and torch on one thread inside, and as before afterwards.

    Any number of threads of a process may be inside at once.

    Examples
    --------
    >>> from skood.numerics.threads import one_thread
    >>> with one_thread():
    ...     pass
    """
    return _LIMITED.here()
