"""The version of skood, and its stamp on what goes into files."""

from __future__ import annotations

import re
from typing import Any

from skood._state import plain, restored

__version__ = "0.1.0"

STAMP = "_skood_version"


def is_newer(version: str) -> bool:
    """Return whether a version, as a file's stamp has it, is newer than this one."""
    return _release(version) > _release(__version__)


def stamped(state: dict[str, Any]) -> dict[str, Any]:
    """Return what goes into a file: the state, plain, with the version."""
    return {**plain(state), STAMP: __version__}


def unstamped(state: dict[str, Any], owner: str) -> dict[str, Any]:
    """Return the state that a file holds; one without a stamp counts as old.

    Parameters
    ----------
    state : dict of str
        What :func:`stamped` returned.
    owner : str
        Name of the class, for the message.

    Raises
    ------
    ValueError
        If a newer version wrote it.
    """
    state = restored(state)
    stamp = state.pop(STAMP, "0")
    if is_newer(stamp):
        raise ValueError(
            f"this {owner} was saved by skood {stamp}, newer than {__version__}: "
            "update skood to load it."
        )
    return state


class Stamped:
    """Mixin of estimators: their files bear the version, newer ones are refused."""

    def __getstate__(self) -> dict[str, Any]:
        state: dict[str, Any] = super().__getstate__()  # type: ignore[misc]
        return stamped(state)

    def __setstate__(self, state: dict[str, Any]) -> None:
        own = unstamped(state, type(self).__name__)
        super().__setstate__(own)  # type: ignore[misc]


def _release(version: str) -> tuple[int, ...]:
    """Return the numbers of the release that a version is of or leads to."""
    numbers = re.match(r"\d+(\.\d+)*", version)
    return tuple(map(int, numbers[0].split("."))) if numbers else (0,)
