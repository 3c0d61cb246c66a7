"""What the documentation is made with: outside addresses, texts for programs."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

import skood

DOCS = Path(__file__).parents[1] / "docs"


@pytest.fixture
def docs_modules(monkeypatch):
    """Let the modules beside the configuration be imported, as Sphinx does."""
    monkeypatch.syspath_prepend(str(DOCS))
    yield
    for name in ("api_reference", "extensions.outside_links", "extensions.plain_text"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize(
    ("name", "page"),
    [
        (
            "sklearn.pipeline.Pipeline",
            "https://scikit-learn.org/stable/modules/generated/sklearn.pipeline.Pipeline.html",
        ),
        (
            "skorch.classifier.NeuralNetClassifier",
            "https://skorch.readthedocs.io/en/stable/classifier.html#skorch.classifier.NeuralNetClassifier",
        ),
        ("elsewhere.Thing", None),
        ("sklearn", None),
    ],
)
def test_names_of_other_libraries_have_an_address(docs_modules, name, page):
    from extensions.outside_links import address

    assert address(name) == page


def test_the_text_for_programs_has_every_public_name_with_its_signature(docs_modules):
    from extensions.plain_text import api

    text = api()
    for name in set(skood.__all__) - {"__version__"}:
        assert re.search(rf"^- {name}\b", text, re.M), name
    assert "- KNN(n_neighbors=" in text
    assert "  - .predict(X): " in text


def test_displays_show_what_their_example_draws(docs_modules):
    from extensions.drawn_examples import with_picture

    lines = ["Scores.", "", "Examples", "--------", ">>> display = draw()", "'text'"]
    with_picture(None, "class", "skood.plotting.RocDisplay", None, None, lines)
    picture = lines.index(".. plot::")
    assert picture == 4
    assert "   >>> display = draw()" in lines[picture:]
    assert lines[-2:] == [">>> display = draw()", "'text'"]
