"""The digest of bytes, against damage."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

__all__ = ["digest_of", "file_digest"]


def digest_of(*parts: Any) -> str:
    """Return a digest of bytes, or of what lends its bytes, such as an array.

    Parameters
    ----------
    *parts : bytes-like
        Contiguous; they count as one after another.

    Returns
    -------
    str
        SHA-256, 64 hexadecimal digits.

    Examples
    --------
    >>> from skood.files.digest import digest_of
    >>> digest_of(b"abc")[:16]
    'ba7816bf8f01cfea'
    """
    # SHA-256 has instructions of its own on most processors, and then is twice as
    # fast as BLAKE2b.
    state = hashlib.sha256()
    for part in parts:
        state.update(part)
    return state.hexdigest()


def file_digest(path: Path) -> str:
    """Return the digest of a file's bytes, which are read in portions."""
    state = hashlib.sha256()
    with path.open("rb") as file:
        while part := file.read(1 << 20):
            state.update(part)
    return state.hexdigest()
