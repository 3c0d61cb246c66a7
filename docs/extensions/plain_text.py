"""The documentation for readers that are programs: ``llms.txt`` and ``api.txt``.

Both lie at the top of the built pages. The first lists the pages with their plain
sources, the second every public name with its signature and the first line of its
documentation, methods below their class.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import api_reference
from docutils import nodes
from sphinx.application import Sphinx

import skood

INTRODUCTION = """\
# skood

> Out-of-distribution detection from the layers of a trained PyTorch network, as
> scikit-learn estimators.

Conventions, everywhere: a higher score is more in-distribution; `predict` gives +1
(in-distribution) or -1 (outlier); in `y`, -1 marks an outlier, which is scored and
never fitted on; `contamination` is the share of new in-distribution rows that are
flagged. The recipe: fit a detector on the rows that the network was trained on, and
give rows that it has not seen to `fit(..., threshold_data=rows)`, which set the
threshold.
"""
"""What a program has to know before it writes a line of code."""


def pages(app: Sphinx) -> str:
    """Return ``llms.txt``: the pages by section, each with its first paragraph."""
    found = [INTRODUCTION, "[Every public name, with its signature](api.txt)\n"]
    for section in app.env.toctree_includes[app.config.root_doc]:
        found.append(f"## {app.env.titles[section].astext()}\n")
        found += [_page(app, name) for name in _below(app, section)]
        found.append("")
    return "\n".join(found)


def _below(app: Sphinx, name: str) -> Iterator[str]:
    """Yield a page and those under it, but for the generated ones of the API."""
    if name.startswith("generated/"):
        return
    yield name
    for child in app.env.toctree_includes.get(name, []):
        yield from _below(app, child)


def _page(app: Sphinx, name: str) -> str:
    title = app.env.titles[name].astext()
    paragraph = next(app.env.get_doctree(name).findall(nodes.paragraph), None)
    summary = "" if paragraph is None else " ".join(paragraph.astext().split())
    return f"- [{title}](_sources/{name}.rst.txt): {summary}"


def api() -> str:
    """Return ``api.txt``: signatures and summaries of all public names."""
    found = ["# Public names of skood, imported from `skood` itself\n"]
    for title, text, names in api_reference.SECTIONS:
        found.append(f"## {title}\n\n{text}\n")
        for name in names:
            found += _described(name, api_reference.public(name))
        found.append("")
    return "\n".join(found)


def _described(name: str, value: Any) -> list[str]:
    found = [f"- {name}{_signature(value)}: {_summary(value)}"]
    if inspect.isclass(value):
        found += [
            f"  - .{method}{_signature(function)}: {_summary(function)}"
            for method, function in inspect.getmembers(value, callable)
            if not method.startswith("_") and _is_ours(function)
        ]
    return found


def _is_ours(function: Any) -> bool:
    made = getattr(function, "__name__", "").endswith("_request")  # by scikit-learn
    return not made and (inspect.getmodule(function) or skood).__name__.startswith(
        "skood"
    )


def _signature(value: Any) -> str:
    try:
        signature = inspect.signature(value)
    except (TypeError, ValueError):
        return ""
    bare = [p.replace(annotation=p.empty) for p in signature.parameters.values()]
    shown = [p for p in bare if p.name != "self"]
    return str(signature.replace(parameters=shown, return_annotation=signature.empty))


def _summary(value: Any) -> str:
    paragraph = (inspect.getdoc(value) or "").partition("\n\n")[0]
    return " ".join(paragraph.split())


def write_texts(app: Sphinx, exception: Exception | None) -> None:
    """Write both files beside the pages."""
    if exception is None and app.builder.format == "html":
        folder = Path(app.outdir)
        (folder / "llms.txt").write_text(pages(app), encoding="utf-8")
        (folder / "api.txt").write_text(api(), encoding="utf-8")


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the writing."""
    app.connect("build-finished", write_texts)
    return {"parallel_read_safe": True}
