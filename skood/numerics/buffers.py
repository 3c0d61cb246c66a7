"""NumPy's buffers, which are to be no longer than a row."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

__all__ = ["short_buffers"]

BUFFER = 512
"""Numbers of a buffer: shorter ones make conversions slow, longer ones wide rows."""


@contextmanager
def short_buffers() -> Iterator[None]:
    """Let NumPy compute with each row as it lies, inside.

    What all entries of a row, or all rows, are combined with (the row's largest entry,
    a mean) is else written out until it fills a buffer, 8,192 numbers by default, as
    long as rows are shorter than that. It takes twice the time of the subtraction.

    Examples
    --------
    >>> import numpy as np
    >>> from skood.numerics.buffers import short_buffers
    >>> with short_buffers():
    ...     np.getbufsize()
    512
    """
    with np.errstate():  # the end of which takes the size back
        np.setbufsize(BUFFER)
        yield
