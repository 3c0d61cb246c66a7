"""The version of skood, and its stamp on what goes into files."""

from __future__ import annotations

import re
from typing import Any

__version__ = "0.1.0.dev0"


def is_newer(version: str) -> bool:
    """Return whether a version, as a file's stamp has it, is newer than this one."""
    return _release(version) > _release(__version__)


class Stamped:
    """Mixin of estimators: their files bear the version, newer ones are refused."""

    def __getstate__(self) -> dict[str, Any]:
        state: Any = super().__getstate__()  # type: ignore[misc]
        return {**state, "_skood_version": __version__}

    def __setstate__(self, state: dict[str, Any]) -> None:
        state = dict(state)
        stamp = state.pop("_skood_version", "0")
        if is_newer(stamp):
            raise ValueError(
                f"this {type(self).__name__} was saved by skood {stamp}, newer than "
                f"{__version__}: update skood to load it."
            )
        super().__setstate__(state)  # type: ignore[misc]


def _release(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version.split(".dev")[0]))
