"""Configuration of Sphinx; the API's tables are written before it starts."""

from __future__ import annotations

import logging
import sys
import warnings
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
    "sphinx.ext.viewcode",
    "matplotlib.sphinxext.plot_directive",
    "numpydoc",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
    "extensions.drawn_examples",
    "extensions.outside_links",
    "extensions.plain_text",
]
templates_path = ["_templates"]
exclude_patterns = [
    "_build",
    "_api_tables.rst",
    "_command_line.rst",
    "_detectors.rst",
    "gallery/*.py",
    "sg_execution_times.rst",
    "gallery/sg_execution_times.rst",
]

html_theme = "pydata_sphinx_theme"
html_title = "skood"
html_static_path = ["_static"]
html_css_files = ["skood.css"]
html_show_sourcelink = False
html_theme_options = {
    "show_toc_level": 2,
    "navbar_align": "left",
    # What is on a page; pages of wide tables and of pictures take all the room.
    "secondary_sidebar_items": {
        "user_guide/*": ["page-toc"],
        "generated/*": ["page-toc"],
    },
}
html_sidebars = {"index": []}

# Formulas are drawn by a copy of KaTeX in _static, which needs no network.
mathjax_path = "katex/render.js"
mathjax_options = {"defer": "defer"}

autodoc_member_order = "bysource"
autodoc_typehints = "none"  # the docstrings say more, and shorter
autosummary_generate = ["api.rst", "_api_tables.rst"]
numpydoc_show_class_members = False

copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

plot_formats = [("png", 120)]
plot_html_show_formats = False
plot_html_show_source_link = False
plot_rcparams = {"figure.figsize": (6.4, 3.6), "figure.constrained_layout.use": True}
plot_apply_rcparams = True


def before_each_example(gallery_conf: dict[str, Any], fname: str) -> None:
    """Give every example the same figures; what warns is no example."""
    import matplotlib.pyplot as plt

    plt.rcParams.update(plot_rcparams)
    warnings.simplefilter("error", UserWarning)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # what is not installed


sphinx_gallery_conf = {
    "examples_dirs": "../examples/gallery",
    "gallery_dirs": "gallery",
    "within_subsection_order": "FileNameSortKey",
    "backreferences_dir": "generated/examples_of",
    "doc_module": ("skood",),
    "reset_modules": ("matplotlib", "conf.before_each_example"),
    "capture_repr": ("_repr_html_",),
    "download_all_examples": False,
    "show_signature": False,
    "write_computation_times": False,
    "thumbnail_size": (400, 240),
}


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
    """Leave out what other libraries document, in ways of their own."""
    module = getattr(obj, "__module__", None) or ""
    made = name.startswith("set_") and name.endswith("_request")  # by scikit-learn
    others = ("sklearn", "skorch", "torch", "pyod")
    return True if made or module.partition(".")[0] in others else None


def setup(app: Any) -> None:
    app.connect("autodoc-skip-member", skip_inherited_from_others)


write_api_tables()
