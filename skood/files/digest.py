"""The digest of bytes, against damage."""

from __future__ import annotations

import hashlib
from typing import Any

__all__ = ["digest_of"]


def digest_of(data: Any) -> str:
    """Return a digest of bytes, or of what lends its bytes, such as an array.

    Parameters
    ----------
    data : bytes-like
        Contiguous.

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
    return hashlib.sha256(data).hexdigest()
