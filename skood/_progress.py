"""Progress of what takes long: one bar, the same everywhere."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sized
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

from tqdm.auto import tqdm

__all__ = ["Bar", "Meter", "is_shown", "progress", "tracked"]

T = TypeVar("T")

_SHOWN: ContextVar[bool] = ContextVar("shown", default=False)


@contextmanager
def progress() -> Iterator[None]:
    """Show bars for all that takes long inside: fits, scores, training, extraction.

    For this thread and what it calls; the steps of a search have scikit-learn's
    ``verbose``. Without it nothing is shown, but where a ``verbose`` asks for it.

    Examples
    --------
    >>> import numpy as np
    >>> from skood import LSGM, progress
    >>> X = np.random.default_rng(0).normal(size=(100, 2))
    >>> with progress():
    ...     detector = LSGM(3, random_state=0).fit(X)
    """
    token = _SHOWN.set(True)
    try:
        yield
    finally:
        _SHOWN.reset(token)


def is_shown() -> bool:
    """Return whether :func:`progress` has asked for bars."""
    return _SHOWN.get()


class Meter:
    """How long it takes to read inputs, apart from what is then done with them."""

    def __init__(self) -> None:
        self.seconds, self.rows = 0.0, 0

    @contextmanager
    def reading(self, rows: int) -> Iterator[None]:
        """Count the time inside, and some rows, as read."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds += time.perf_counter() - start
            self.rows += rows

    @property
    def rate(self) -> float | None:
        """Rows read in a second, None before there are any."""
        return self.rows / self.seconds if self.rows and self.seconds else None


class Bar:
    """A progress bar, which is also a context manager.

    Parameters
    ----------
    total : int, optional
        How many units there are, if that is known.
    title : str
        What is done.
    shown : bool, default=False
        Whether to show it in any case; :func:`progress` shows all.
    unit : str, default="rows"
        What is counted.
    meter : Meter, optional
        Measures the input side; its rate is shown beside that of the whole, so that
        one sees which of the two the other waits for.

    Examples
    --------
    >>> from skood._progress import Bar
    >>> with Bar(10, "extract", shown=False) as bar:
    ...     bar.update(10)
    """

    def __init__(
        self,
        total: int | None,
        title: str,
        shown: bool = False,
        unit: str = "rows",
        meter: Meter | None = None,
    ) -> None:
        self._meter = meter
        self._bar: Any = None
        if shown or is_shown():
            self._bar = tqdm(total=total, unit=f" {unit}", desc=title)

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *_: Any) -> None:
        if self._bar is not None:
            self._bar.close()

    def update(self, count: int = 1, note: str | None = None) -> None:
        """Count some units as done, and note down how it stands."""
        if self._bar is None:
            return
        if note is not None:
            self._bar.set_postfix_str(note, refresh=False)
        rate = None if self._meter is None else self._meter.rate
        if rate is not None:
            self._bar.set_postfix_str(f"input {rate:.3g} rows/s", refresh=False)
        self._bar.update(count)


def tracked(
    items: Iterable[T],
    title: str,
    shown: bool = False,
    total: int | None = None,
    unit: str = "steps",
) -> Iterator[T]:
    """Yield some items, with a bar that counts them.

    Parameters
    ----------
    items : iterable
        What is gone through.
    title : str
        What is done.
    shown : bool, default=False
        Whether to show it in any case; :func:`progress` shows all.
    total : int, optional
        How many there are; by default their ``len``, if they have one.
    unit : str, default="steps"
        What is counted.

    Examples
    --------
    >>> from skood._progress import tracked
    >>> [*tracked([1, 2], "fit", shown=False)]
    [1, 2]
    """
    if total is None and isinstance(items, Sized):
        total = len(items)
    with Bar(total, title, shown, unit) as bar:
        for item in items:
            yield item
            bar.update()
