"""What the project's own files promise each other."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from sklearn.base import BaseEstimator

import skood.plotting

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

REPOSITORY = Path(__file__).parents[1]


def test_the_readme_links_to_nothing_that_a_package_index_lacks():
    text = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    links = re.findall(r"(?<!!)\[[^]]*\]\(([^)]+)\)", text)
    assert [link for link in links if not link.startswith(("https://", "#"))] == []


def test_the_readme_shows_pictures_that_are_there_and_says_what_they_show():
    # A package index lacks them, and prints the words in their place.
    text = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    pictures = re.findall(r"!\[([^]]*)\]\(([^)]+)\)", text)
    assert pictures
    for words, path in pictures:
        assert len(words) > 40
        assert (REPOSITORY / path).stat().st_size < 120_000


def test_plots_know_what_they_show_by_its_attributes():
    # Monitors have a method `plot`: an import the other way would close a circle.
    for path in (REPOSITORY / "skood" / "plotting").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom):
                assert not str(node.module).startswith("skood.calibration"), path.name


def declared(*left_out):
    """Yield every dependency of the package and its extras, but for some extras."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    kept = [lines for extra, lines in extras.items() if extra not in left_out]
    for line in [*project["dependencies"], *(line for lines in kept for line in lines)]:
        if not line.startswith("skood["):
            yield Requirement(line)


def pinned(name):
    lines = (REPOSITORY / name).read_text().splitlines()
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


def test_the_oldest_environment_is_the_one_that_is_declared():
    bounds = {r.name: next(iter(r.specifier)) for r in declared("docs")}
    oldest = {r.name: next(iter(r.specifier)) for r in pinned("constraints-oldest.txt")}
    assert {*bounds} <= {*oldest}
    for name, bound in bounds.items():
        assert bound.operator == ">=", f"{name} needs a lower bound, and that alone"
        first_of_series = Requirement(f"{name}=={bound.version}.*").specifier
        assert oldest[name].version in first_of_series, name


def test_a_full_install_is_pinned_within_the_bounds():
    exact = pinned("constraints.txt")
    for wanted in declared():
        versions = [r.specifier for r in exact if r.name == wanted.name]
        assert versions, f"{wanted.name} is not in constraints.txt"
        for version in versions:
            assert next(iter(version)).version in wanted.specifier


def public_estimators():
    for name in skood.__all__:
        value = getattr(skood, name)
        if isinstance(value, type) and issubclass(value, BaseEstimator):
            yield pytest.param(value, id=name)


@pytest.mark.parametrize("estimator", [*public_estimators()])
def test_what_an_estimator_sends_its_reader_to_is_there(estimator):
    document = estimator.__doc__ or ""
    _, _, section = document.partition("    See Also\n    --------\n")
    listed = re.findall(r"^    ([\w.]+) : ", section.partition("\n\n")[0], re.M)
    for name in listed:
        value = skood
        for part in name.removeprefix("skood.").split("."):
            value = getattr(value, part)


def test_a_source_distribution_has_what_its_tests_need():
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    included = project["tool"]["hatch"]["build"]["targets"]["sdist"]["include"]
    # These hatchling adds by itself; the rest is git's and continuous integration's.
    by_itself = {"README.md", "LICENSE", "pyproject.toml"}
    kept = {
        path.name
        for path in REPOSITORY.iterdir()
        if not path.name.startswith((".", "_")) and path.suffix != ".egg-info"
    }
    made = {"demo_output", "benchmark_output", "build", "dist", "PKG-INFO"}
    listed = {name.removeprefix("/") for name in included}
    assert kept - made - by_itself <= listed
    assert listed <= kept
