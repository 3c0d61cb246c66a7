"""Hooks that answer to one pass: to the forwards that it runs, and to no others."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from functools import wraps
from typing import Any

__all__ = ["Pass", "hooked"]

_current: ContextVar[Pass | None] = ContextVar("skood_pass", default=None)


class Pass:
    """A user of hooks.

    A hook belongs to a module, not to who set it: forwards of the same network in
    other threads run it too, and so do those that ``preprocess`` or the user makes
    between two batches. They must not notice.
    """

    @contextmanager
    def running(self) -> Iterator[None]:
        """Say that the forward that runs inside is this pass's own."""
        token = _current.set(self)
        try:
            yield
        finally:
            _current.reset(token)

    def own(self, hook: Callable[..., Any]) -> Callable[..., Any]:
        """Return a hook that does nothing in other forwards."""

        @wraps(hook, assigned=(), updated=())
        def guarded(*args: Any, **kwargs: Any) -> Any:
            return hook(*args, **kwargs) if _current.get() is self else None

        return guarded


@contextmanager
def hooked(hooks: Iterable[tuple[Callable[..., Any], Any]]) -> Iterator[Pass]:
    """Register hooks, given as (register method, hook), and remove them at the end.

    They answer only inside ``with Pass.running()`` of the pass that is yielded.
    """
    own = Pass()
    with ExitStack() as handles:
        for register, hook in hooks:
            handles.callback(register(own.own(hook)).remove)
        yield own
