"""Without any extra: the package can be looked at, and says what is missing."""

from __future__ import annotations

import subprocess
import sys
from textwrap import dedent

import skood
from skood.detectors.registry import REGISTRY

EXTRAS = ["dask", "faiss", "matplotlib", "pyod", "skorch", "transformers"]

HIDE = f"""
import sys
from importlib.machinery import PathFinder

class Hiding(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name.split(".")[0] in {EXTRAS!r}:
            return None
        return PathFinder.find_spec(name, path, target)

sys.meta_path[sys.meta_path.index(PathFinder)] = Hiding
"""


def run(code):
    """Run code in a process that finds no extra; return what it prints."""
    done = subprocess.run(
        [sys.executable, "-c", HIDE + dedent(code)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_package_can_be_looked_at():
    printed = run(
        """
        import pydoc, skood
        assert "Mahalanobis" in dir(skood) and "AMP" not in dir(skood)
        shown = pydoc.render_doc(skood, renderer=pydoc.plaintext)
        assert "class Mahalanobis" in shown and "class AMP" not in shown
        for name in dir(skood):
            getattr(skood, name)
        found = {}
        exec("from skood import *", found)
        print(len(set(found) & set(skood.__all__)), len(skood.__all__))
        """
    )
    found, wanted = printed.split()
    assert found == wanted
    assert int(wanted) > 40


def test_a_name_whose_extra_is_missing_raises_when_it_is_used():
    printed = run(
        """
        import skood
        for name in ("AMP", "AnchoredClassifier", "EnergyRegularizedClassifier",
                     "PyODDetector", "to_pyod"):
            try:
                getattr(skood, name)
            except ImportError as error:
                print(name, error)
        """
    ).splitlines()
    assert len(printed) == 5
    assert all("pip install 'skood[neural]'" in line for line in printed[:3])
    assert all("pip install 'skood[pyod]'" in line for line in printed[3:])


def test_the_table_of_detectors_is_whole():
    printed = run(
        """
        import skood
        table = skood.all_detectors()
        print(*table.index)
        print(*table.index[table["parameters"].isna()])
        """
    ).splitlines()
    assert printed[0].split() == list(REGISTRY)
    assert "AMP" in printed[1]
    assert "PyODDetector" in printed[1]


def test_the_checks_run():
    printed = run(
        """
        from skood import MSP
        from skood.estimator_checks import check_estimator
        print({result["status"] for result in check_estimator(MSP())} - {"skipped"})
        """
    )
    assert printed.strip() == "{'passed'}"


def test_with_all_extras_all_names_are_there():
    assert {"AMP", "PyODDetector", "Mahalanobis"} <= set(dir(skood))
    found = {}
    exec("from skood import *", found)
    assert set(skood.__all__) <= set(found)
