"""Paths as users write them."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["user_path"]


def user_path(path: str | os.PathLike[str], name: str = "path") -> Path:
    """Return a path, with ``~`` for the home folder.

    Parameters
    ----------
    path : str or path-like
        What the user gives.
    name : str, default="path"
        Of which parameter, for the errors.

    Raises
    ------
    ValueError
        If it is nobody's home folder, or holds a null character.

    Examples
    --------
    >>> from skood.files.paths import user_path
    >>> user_path("~/features") == user_path("~") / "features"
    True
    """
    text = os.fspath(path)
    if "\0" in text:
        raise ValueError(f"{name}={text!r} holds a null character, which no path can.")
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise ValueError(
            f"{name}={text!r}: nobody here has this name, and so no home folder. For a "
            f"folder that is called so give {'./' + text!r}."
        ) from None
