"""Change the code in one place at a time, and see whether the tests notice.

``python tests/mutants.py logits --number 20`` copies the project to a folder of its
own, draws 20 places of the room's formulas by the seed, and shows each changed module
(a mutant) to its own examples, to the tests that ROOMS names, and, where these see
nothing in a detector, to the battery. What no test notices is either a change that
nobody can see or a missing test; docs/reliability.rst says which.
"""

from __future__ import annotations

import argparse
import ast
import csv
import os
import random
import resource
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import NamedTuple

REPOSITORY = Path(__file__).resolve().parents[1]
REFERENCES = "tests/test_references.py"
BATTERY = "tests/test_common.py"

ROOMS = {
    "metrics": ("metrics/*.py", ["tests/test_metrics.py"]),
    "p_values": (
        "calibration/{p_values,_schemes,_held_out,conformal,false_discovery,e_values,"
        "betting}.py",
        [
            "tests/test_calibration_p_values.py",
            "tests/test_calibration_conformal.py",
            "tests/test_e_values.py",
        ],
    ),
    "thresholds": (
        "calibration/{threshold,probability}.py",
        [
            "tests/test_calibration_probability.py",
            "tests/test_calibration_threshold.py",
            "tests/test_threshold_data.py",
        ],
    ),
    "streams": (
        "calibration/{monitor,alarm_rate,covariate_shift}.py",
        [
            "tests/test_monitor.py",
            "tests/test_alarm_rate.py",
            "tests/test_covariate_shift.py",
        ],
    ),
    "bases": (
        "detectors/{threshold,thresholded,base,held_out,as_if_new,incremental,"
        "class_means,norm_ratio,training,label_columns}.py",
        [
            "tests/test_score_and_predict.py",
            "tests/test_held_out.py",
            "tests/test_threshold_data.py",
            "tests/test_parameters.py",
            "tests/test_partial_fit.py",
            "tests/test_features.py",
            "tests/test_feature_norm.py",
            "tests/test_refits.py",
            "tests/test_frames_labels.py",
            "tests/test_outliers_ignored.py",
            REFERENCES,
        ],
    ),
    "logits": (
        "detectors/logits/*.py",
        [
            REFERENCES,
            "tests/test_logits.py",
            "tests/test_logits_learned.py",
            "tests/test_posthoc_kernels.py",
        ],
    ),
    "head": (
        "detectors/head/*.py",
        [
            REFERENCES,
            "tests/test_head.py",
            "tests/test_head_labels.py",
            "tests/test_head_banks.py",
            "tests/test_head_subspaces.py",
            "tests/test_posthoc_kernels.py",
        ],
    ),
    "shaping": (
        "detectors/shaping/*.py",
        [REFERENCES, "tests/test_shaping.py", "tests/test_posthoc_kernels.py"],
    ),
    "layers": (
        "detectors/layers/{activation_prior,concept_matching,feature_norm,gram,knn,"
        "gaussian_mixture,layer_energy,mahalanobis}.py",
        [
            REFERENCES,
            "tests/test_layers_room.py",
            "tests/test_energy.py",
            "tests/test_feature_norm.py",
            "tests/test_knn.py",
            "tests/test_mahalanobis.py",
            "tests/test_mixtures.py",
        ],
    ),
    "nap": (
        "detectors/layers/nap/*.py",
        [
            "tests/test_nap.py",
            "tests/test_nap_auto.py",
            "tests/test_nap_layers.py",
            "tests/test_nap_patterns.py",
        ],
    ),
    "mixtures": (
        "mixtures/*.py",
        ["tests/test_mixtures.py", "tests/test_lsgm.py", REFERENCES],
    ),
}
"""By name: the modules of skood/ that are changed, and the tests that look at them."""

UNSEEN = {0, 5}
"""What pytest returns when all tests pass, and when there is none."""

NO_FORMULAS = {"entries.py", "__init__.py"}
"""Modules of tables alone."""

OTHER = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.Pow: ast.Mult,
    ast.MatMult: ast.Mult,
    ast.And: ast.Or,
    ast.Or: ast.And,
}
"""What stands in an operator's place."""

SWAPPED = {"min": "max", "minimum": "maximum", "any": "all", "argmin": "argmax"}
SWAPPED |= {"mean": "sum", "ceil": "floor", "zeros": "ones", "left": "right"}
SWAPPED |= {other: name for name, other in SWAPPED.items()}
"""What stands in a function's or an option's place."""

LEFT_ALONE = (ast.Raise, ast.JoinedStr, ast.Import, ast.ImportFrom, ast.arguments)
CONSTRAINTS = "_parameter_constraints"


class Mutant(NamedTuple):
    """A module with one change."""

    path: Path
    line: int
    before: str
    after: str
    source: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.before}  ->  {self.after}"


def formula_nodes(node: ast.AST) -> Iterator[ast.AST]:
    """All below ``node`` that a computation may hang on; no annotation, no message."""
    for field, below in ast.iter_fields(node):
        if field in {"annotation", "returns", "decorator_list"}:
            continue
        for child in below if isinstance(below, list) else [below]:
            if not isinstance(child, ast.AST) or isinstance(child, LEFT_ALONE):
                continue
            if isinstance(child, ast.AnnAssign | ast.Assign | ast.Expr) and (
                CONSTRAINTS in ast.unparse(child) or is_text(child)
            ):
                continue
            yield child
            yield from formula_nodes(child)


def is_text(node: ast.AST) -> bool:
    """Whether it is a docstring."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def changed(node: ast.AST) -> ast.AST | None:  # noqa: C901 - one kind of change a case
    """The node with its one change, or None where there is nothing to change."""
    new = deepcopy(node)
    match new:
        case ast.Compare(ops=[op]) if type(op) in OTHER:
            new.ops = [OTHER[type(op)]()]
        case ast.BinOp(op=op) | ast.BoolOp(op=op) if type(op) in OTHER:
            new.op = OTHER[type(op)]()
        case ast.UnaryOp(op=ast.USub() | ast.Not()):
            return new.operand
        case ast.If(test=test) | ast.IfExp(test=test) if not isinstance(
            test, ast.Compare | ast.BoolOp | ast.UnaryOp
        ):
            new.test = ast.UnaryOp(ast.Not(), test)
        case ast.Constant(value=bool(value)):
            new.value = not value
        case ast.Constant(value=int(value)):
            new.value = value + 1
        case ast.Constant(value=float(value)):
            new.value = 2 * value or 1.0
        case ast.Constant(value=str(value)) if value in SWAPPED:
            new.value = SWAPPED[value]
        case ast.Attribute(attr=name) if name in SWAPPED:
            new.attr = SWAPPED[name]
        case ast.Name(id=name) if name in SWAPPED:
            new.id = SWAPPED[name]
        case _:
            return None
    return new


class Replaced(ast.NodeTransformer):
    """A tree with one node in another's place."""

    def __init__(self, old: ast.AST, new: ast.AST) -> None:
        self.old, self.new = old, new

    def visit(self, node: ast.AST) -> ast.AST:
        if node is self.old:
            return self.new
        return self.generic_visit(node)


def first_line(node: ast.AST) -> str:
    """A node's code, of a block its condition."""
    return ast.unparse(node).splitlines()[0]


def mutants_of(path: Path) -> list[Mutant]:
    """Every change of a module."""
    source = (REPOSITORY / path).read_text()
    tree = ast.parse(source)
    mutants = []
    for number, node in enumerate(formula_nodes(tree)):
        new = changed(node)
        if new is None:
            continue
        fresh = ast.parse(source)  # a transformer changes the tree it walks through
        old = next(n for i, n in enumerate(formula_nodes(fresh)) if i == number)
        text = ast.unparse(ast.fix_missing_locations(Replaced(old, new).visit(fresh)))
        mutants.append(
            Mutant(path, node.lineno, first_line(node), first_line(new), text)
        )
    return mutants


def modules_of(pattern: str) -> list[Path]:
    """The modules that a pattern names; {a,b} stands for a or b."""
    before, _, rest = pattern.partition("{")
    names, _, after = rest.partition("}")
    patterns = [before + name + after for name in names.split(",")]
    found = [path for one in patterns for path in (REPOSITORY / "skood").glob(one)]
    return sorted(
        path.relative_to(REPOSITORY) for path in found if path.name not in NO_FORMULAS
    )


def outcome(
    folder: Path, tests: list[str], seconds: int, *, keep: bool
) -> tuple[str, float]:
    """What the tests say of the project in a folder, and the processor's time.

    They run in a process of their own, which ends when it has taken too long.
    """
    child = os.fork()
    if not child:
        silent = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silent, 1)
        os.dup2(silent, 2)
        os.chdir(folder)
        sys.path.insert(0, str(folder))
        sys.dont_write_bytecode = not keep
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
        import pytest

        os._exit(int(pytest.main(["-x", "-q", "-p", "no:cacheprovider", *tests])))
    _, status, used = os.wait4(child, 0)
    if os.WIFSIGNALED(status):
        return "endless", used.ru_utime
    seen = os.WEXITSTATUS(status) not in UNSEEN
    return "killed" if seen else "survived", used.ru_utime


def battery_of(path: Path) -> list[str]:
    """The battery's tests of the detectors in a module, or of chunks in its room."""
    entries = REPOSITORY / path.parent / "entries.py"
    if not entries.exists():
        return []
    body = ast.parse((REPOSITORY / path).read_text()).body
    classes = [node.name for node in body if isinstance(node, ast.ClassDef)]
    listed = [name for name in classes if f'"{name}",' in entries.read_text()]
    return [BATTERY, "-k", " or ".join(listed) or "check_chunks_equal_whole"]


def copied_project(folder: Path) -> Path:
    """What the tests need, in another folder."""
    without = shutil.ignore_patterns("__pycache__", ".git", "_build", "generated")
    for name in ["skood", "tests", "benchmarks"]:
        shutil.copytree(REPOSITORY / name, folder / name, ignore=without)
    for name in ["conftest.py", "pyproject.toml"]:
        shutil.copy(REPOSITORY / name, folder)
    return folder


def outcomes(
    mutants: list[Mutant], tests: list[str], folder: Path
) -> Iterator[tuple[str, Mutant]]:
    """Each mutant with what the tests said of it."""
    import pytest  # noqa: F401 - once for all, as what follows
    import sklearn.utils.estimator_checks  # noqa: F401
    import torch  # noqa: F401

    said, used = outcome(folder, tests, 600, keep=True)
    if said != "survived":
        raise SystemExit("The tests fail without any change.")
    seconds = 60 + 4 * int(used)
    for mutant in mutants:
        module = folder / mutant.path
        source = module.read_text()
        for compiled in module.parent.glob(f"__pycache__/{module.stem}.*"):
            compiled.unlink()
        module.write_text(mutant.source)
        said, _ = outcome(folder, [str(mutant.path), *tests], seconds, keep=False)
        battery = battery_of(mutant.path)
        if said == "survived" and battery:
            said, _ = outcome(folder, battery, seconds, keep=False)
        yield said, mutant
        module.write_text(source)


def main() -> None:
    """Draw the mutants of the rooms that are named; say what became of each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("rooms", nargs="+", choices=list(ROOMS))
    parser.add_argument("--number", type=int, default=20, help="a room")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--table", type=Path, help="csv, to which the rows are added")
    parser.add_argument("--only", default="", help="those whose place begins with it")
    given = parser.parse_args()
    for room in given.rooms:
        pattern, tests = ROOMS[room]
        every = [m for path in modules_of(pattern) for m in mutants_of(path)]
        drawn = random.Random(given.seed).sample(every, min(given.number, len(every)))
        drawn = [m for m in sorted(drawn) if str(m).startswith(given.only)]
        counts: Counter[str] = Counter()
        with tempfile.TemporaryDirectory() as folder:
            project = copied_project(Path(folder))
            for said, mutant in outcomes(drawn, tests, project):
                counts[said] += 1
                print(f"{said:9}{mutant}", flush=True)
                if given.table:
                    with given.table.open("a", newline="") as file:
                        csv.writer(file).writerow([room, said, *mutant[:-1]])
        print(f"{room}: {dict(counts)} of {len(every)} mutants", flush=True)


if __name__ == "__main__":
    main()
