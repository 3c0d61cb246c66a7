"""What is wrong with a store, told apart from what is wrong with inputs."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["NotAStoreError", "StoreTroubleError", "names_store"]


class NotAStoreError(ValueError):
    """A path is of something else, or of a store that this version cannot read."""


class StoreTroubleError(OSError):
    """A store can be neither read nor written, or is full."""


@contextmanager
def names_store(store: Any) -> Iterator[None]:
    """Name the store, or its folder, in errors of the disk that happen inside.

    Raises
    ------
    StoreTroubleError
        In place of any other ``OSError``.
    """
    try:
        yield
    except StoreTroubleError:
        raise
    except OSError as error:
        number = error.errno or errno.EIO
        text = f"{error.strerror or error} ({store})"
        raise StoreTroubleError(number, text) from error
