"""Calls on chunks of rows, made wherever joblib's backend makes them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager, nullcontext
from contextvars import ContextVar
from itertools import islice
from typing import Any, Generic, TypeVar

import numpy as np
from joblib import Parallel, delayed, effective_n_jobs, parallel_config
from joblib.parallel import get_active_backend
from numpy.typing import NDArray
from sklearn import config_context, get_config

from skood.numerics.device import auto_device, resolved_device
from skood.numerics.threads import one_thread

try:
    import cloudpickle
except ImportError:  # joblib 1.5 brings its own
    from joblib.externals import cloudpickle

__all__ = ["called_in_order", "workers"]

WAVE = 4
"""Tasks of each worker before all wait for the last: no more results are held."""

R = TypeVar("R")
Arguments = tuple[Any, ...]


class _Workers:
    """The workers of the backend that is active, started when there is work."""

    def __init__(self) -> None:
        self.backend = get_active_backend()[0]
        self._parallel: Parallel | None = None

    def outputs(self, tasks: Iterator[Any]) -> Iterator[Any]:
        """Yield the results of tasks in their order, as they come where that can be."""
        if self._parallel is None:
            self._parallel = _started().__enter__()
        try:
            yield from _outputs(self._parallel, tasks)
        except BaseException:
            # What was begun when it failed would come out among the next results.
            self.close()
            raise

    def close(self) -> None:
        """Let the workers go; others are started when there is work again."""
        parallel, self._parallel = self._parallel, None
        if parallel is not None:
            parallel.__exit__(None, None, None)


_OPEN: ContextVar[_Workers | None] = ContextVar("open", default=None)


@contextmanager
def workers() -> Iterator[None]:
    """Keep the same workers for all that is called inside.

    Some take seconds to start (processes of Ray, say), and a fit makes many passes. It
    is for the backend that is active where it is entered
    (:func:`joblib.parallel_config`); another one that is chosen inside starts its own.

    Examples
    --------
    >>> import numpy as np
    >>> from joblib import parallel_config
    >>> from skood import Mahalanobis
    >>> from skood.features.workers import workers
    >>> X = np.random.default_rng(0).normal(size=(100, 2))
    >>> with parallel_config(backend="threading", n_jobs=2), workers():
    ...     scores = Mahalanobis().fit(X).score_samples(X)
    """
    if effective_n_jobs(None) == 1 or _opened() is not None:
        yield
        return
    opened = _Workers()
    token = _OPEN.set(opened)
    try:
        yield
    finally:
        _OPEN.reset(token)
        opened.close()


def called_in_order(
    call: Callable[..., R], arguments: Iterable[Arguments], at_once: int = 1
) -> Iterator[R]:
    """Yield what a callable returns for each of some arguments, in their order.

    With one worker, which is joblib's default, they are plain calls. With several, the
    callable may be anything that cloudpickle takes, lambdas and closures too, and BLAS,
    OpenMP and torch have one thread in each call.

    Parameters
    ----------
    call : callable
        Without effects: it may run in another process.
    arguments : iterable of tuple
        Those of one call after another. Four calls a worker are begun at a time, so
        that memory does not depend on how many there are.
    at_once : int, default=1
        The calls that a worker gets in one go, with one copy of the callable.
    """
    if effective_n_jobs(None) == 1:
        yield from (call(*some) for some in arguments)
        return
    shipped = _Shipped(call)
    tasks = (delayed(_results)(shipped, part) for part in _parts(arguments, at_once))
    opened = _opened()
    with nullcontext(opened) if opened else closing(_Workers()) as found:
        for results in found.outputs(tasks):
            yield from results


def _opened() -> _Workers | None:
    """Return the workers that are there for the active backend."""
    opened = _OPEN.get()
    return opened if opened and opened.backend is get_active_backend()[0] else None


def _started() -> Parallel:
    """Return workers whose results come one by one, where the backend can do that."""
    try:
        return Parallel(return_as="generator")
    except ValueError:  # multiprocessing, Ray
        return Parallel()


def _outputs(parallel: Parallel, tasks: Iterator[Any]) -> Iterator[Any]:
    # joblib goes on while nobody takes what there is: in waves, it stays a few results.
    wave = WAVE * effective_n_jobs(None)
    while some := list(islice(tasks, wave)):
        yield from parallel(some)


def _parts(arguments: Iterable[Arguments], size: int) -> Iterator[list[Arguments]]:
    remaining = iter(arguments)
    while part := list(islice(remaining, size)):
        yield part


def _results(shipped: _Shipped[R], part: list[Arguments]) -> list[R]:
    # What is called may have chunks of its own: a worker has no workers.
    with shipped.circumstances(), one_thread(), parallel_config(backend="sequential"):
        return [shipped.call(*some) for some in part]


class _Shipped(Generic[R]):
    """A callable on its way to another process, and what it has to find there.

    Parameters
    ----------
    call : callable
        It is pickled once, whatever it is. Its arrays travel beside it, so that joblib
        hands large ones over as memory maps, once for all calls.
    """

    def __init__(self, call: Callable[..., R]) -> None:
        self.call = call
        self._auto = resolved_device("auto")
        self._config = get_config()
        self._packed: tuple[bytes, list[NDArray[np.uint8]]] | None = None

    @contextmanager
    def circumstances(self) -> Iterator[None]:
        """Set scikit-learn and ``device="auto"`` as they are where it comes from."""
        with config_context(**self._config), auto_device(self._auto):
            yield

    def __reduce__(self) -> tuple[Any, ...]:
        return _arrived, (*self._in_parts(), self._auto, self._config)

    def __sizeof__(self) -> int:
        # By which joblib sees that Dask's workers should get it once, not in each task.
        text, buffers = self._in_parts()
        return object.__sizeof__(self) + len(text) + sum(b.nbytes for b in buffers)

    def _in_parts(self) -> tuple[bytes, list[NDArray[np.uint8]]]:
        """Return the pickle and the arrays that travel beside it."""
        if self._packed is None:
            found: list[Any] = []
            text = cloudpickle.dumps(
                self.call, protocol=5, buffer_callback=found.append
            )
            self._packed = text, [np.frombuffer(b.raw(), np.uint8) for b in found]
        return self._packed


def _arrived(
    text: bytes, buffers: list[NDArray[np.uint8]], auto: str, config: dict[str, Any]
) -> _Shipped[Any]:
    shipped: _Shipped[Any] = object.__new__(_Shipped)
    shipped.call = cloudpickle.loads(text, buffers=buffers)
    shipped._auto, shipped._config, shipped._packed = auto, config, (text, buffers)
    return shipped
