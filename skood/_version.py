"""The version of skood, and how versions compare."""

from __future__ import annotations

import re

__version__ = "0.1.0.dev0"


def is_newer(version: str) -> bool:
    """Return whether a version, as a file's stamp has it, is newer than this one."""
    return _release(version) > _release(__version__)


def _release(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version.split(".dev")[0]))
