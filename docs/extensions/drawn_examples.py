"""Pictures in the pages of displays: what the example of each class draws."""

from __future__ import annotations

from typing import Any

from sphinx.application import Sphinx

ROOM = "skood.plotting."


def with_picture(
    app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]
) -> None:
    """Append a plot directive to a display's documentation: its example once more."""
    if what != "class" or not name.startswith(ROOM) or "Examples" not in lines:
        return
    start = lines.index("Examples") + 2
    code = [line for line in lines[start:] if line.startswith((">>>", "..."))]
    picture = [".. plot::", "   :include-source: false", ""]
    lines[start:start] = [*picture, *(f"   {line}" for line in code), ""]


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the addition, before numpydoc reads the sections."""
    app.connect("autodoc-process-docstring", with_picture, priority=400)
    return {"parallel_read_safe": True}
