"""What goes wrong when a folder is loaded."""

from __future__ import annotations

__all__ = ["LoadError"]


class LoadError(ValueError):
    """A folder cannot be loaded: damaged, forged, too new, or naming what it may not.

    It is a :class:`ValueError`. No Python code of the folder was run.
    """
