"""Configuration of Sphinx; the API's tables are written before it starts."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import api_reference  # noqa: E402 - found through the path above
import command_line  # noqa: E402

import skood  # noqa: E402

project = "skood"
author = "skood developers"
copyright = "2026, skood developers"
release = version = skood.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.doctest",
    "sphinx.ext.mathjax",
    "numpydoc",
]
templates_path = ["_templates"]
exclude_patterns = ["_build", "_api_tables.rst", "_command_line.rst", "_detectors.rst"]

html_theme = "pydata_sphinx_theme"
html_title = "skood"
html_show_sourcelink = False
html_theme_options = {"show_toc_level": 2}

autodoc_member_order = "bysource"
autodoc_typehints = "none"  # the docstrings say more, and shorter
autosummary_generate = ["api.rst", "_api_tables.rst"]
numpydoc_show_class_members = False


def write_api_tables() -> None:
    """Put the tables where pages include them and autosummary reads them."""
    forgotten = api_reference.unlisted()
    if forgotten:
        raise ValueError(
            f"public names that docs/api_reference.py does not list: {forgotten}; "
            "add each to a section"
        )
    write("_api_tables.rst", api_reference.tables())
    write("_command_line.rst", command_line.helps())
    write("_detectors.rst", api_reference.detectors())


def write(name: str, text: str) -> None:
    """Write a file. An untouched one keeps its time: its pages are not read again."""
    target = HERE / name
    if not target.exists() or target.read_text() != text:
        target.write_text(text)


def skip_inherited_from_others(
    app: Any, what: str, name: str, obj: Any, skip: bool, options: Any
) -> bool | None:
    """Leave out what scikit-learn, skorch and PyOD document, in ways of their own."""
    module = getattr(obj, "__module__", None) or ""
    made = name.startswith("set_") and name.endswith("_request")  # by scikit-learn
    others = ("sklearn", "skorch", "pyod")
    return True if made or module.partition(".")[0] in others else None


def setup(app: Any) -> None:
    app.connect("autodoc-skip-member", skip_inherited_from_others)


write_api_tables()
