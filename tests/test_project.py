"""What the project's own files promise each other."""

from __future__ import annotations

import ast
import re
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]


def test_the_readme_links_to_nothing_that_a_package_index_lacks():
    text = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)]+)\)", text)
    assert [link for link in links if not link.startswith(("https://", "#"))] == []


def test_plots_know_what_they_show_by_its_attributes():
    # Monitors have a method `plot`: an import the other way would close a circle.
    for path in (REPOSITORY / "skood" / "plotting").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom):
                assert not str(node.module).startswith("skood.calibration"), path.name
