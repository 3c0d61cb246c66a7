"""All benchmarks in one go, quality and speed: what ``make benchmark`` runs.

    python benchmarks/run.py --out benchmark_output [--quick] [--only knn detection/...]

Each step is a script of this folder in a process of its own. What it prints goes to a
text file, its tables lie beside, and ``runs.json`` says with which command, versions
and machine, when, and how long it took. A step that is done is not run again, so that a
run that was killed goes on; features are kept in ``cache`` below the folder. Steps that
need the data sets of the folder SKOOD_DATA are left out, and named, where that is
absent.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

from data import data_folder

HERE = Path(__file__).parent
PACKAGES = (
    *("skood", "torch", "numpy", "scipy", "scikit-learn", "pyod", "skorch"),
    *("faiss-cpu", "pytorch-ood", "transformers"),
)


class Step(NamedTuple):
    """A script with its arguments, in full and quick, and whether it needs the data."""

    name: str
    full: str
    quick: str
    needs_data: bool = False


def detection(network: str, rows: str = "") -> Step:
    """Return the step that measures all detectors on the pairs of a network."""
    arguments = f"detection.py --network {network} --cache {{cache}} --out {{out}}"
    quick = "--train-rows 500 --test-rows 200"
    return Step(
        f"detection/{network}", f"{arguments} {rows}", f"{arguments} {quick}", True
    )


def auto(network: str) -> Step:
    """Return the step that combines detectors on the pairs of a network."""
    arguments = f"auto.py --network {network} --cache {{cache}} --out {{out}}"
    quick = "--train-rows 500 --held-out 200 --test-rows 200 --seeds 1"
    return Step(f"auto/{network}", arguments, f"{arguments} {quick}", True)


def paper(name: str, quick: str) -> Step:
    """Return the step that makes the tables beside a paper's."""
    arguments = f"paper_{name}.py --cache {{cache}}/papers --out {{out}}"
    few = f"--only {quick} --train-rows 500 --held-out 200 --test-rows 200 --seeds 1"
    return Step(f"papers/{name}", arguments, f"{arguments} {few}", True)


CELLS = "false_alarms.py --cells {out}/cells.jsonl --table {out}/false_alarms.csv"

STEPS = [
    detection("mnist_convnet", "--train-rows 10000"),
    detection("resnet20", "--test-rows 5000"),
    detection("densenet_mahalanobis", "--test-rows 3000"),
    detection("densenet_dice", "--test-rows 3000"),
    Step(
        "detection/clinc150",
        "detection_text.py --inliers clinc150 --cache {cache} --out {out}",
        "",
        True,
    ),
    auto("mnist_convnet"),
    auto("resnet20"),
    auto("densenet_mahalanobis"),
    auto("densenet_dice"),
    auto("minilm_clinc150")._replace(quick=""),
    auto("minilm_banking77")._replace(quick=""),
    Step(
        "auto/false_alarms",
        "auto_false_alarms.py --cache {cache} --out {out}/false_alarms.csv",
        "",
        True,
    ),
    Step("auto/tables", "auto_tables.py --out {out}/tables.csv", "", True),
    paper("lsgm", "resnet"),
    paper("nap", "mnist_convnet"),
    paper("feature_norm", "mnist_convnet"),
    paper("layer_energy", "mnist_convnet"),
    Step(
        "trained",
        "amp.py --train-rows 3000 --epochs 6 --test-rows 500 --ablation "
        "--out {out}/rows.csv",
        "",
        True,
    ),
    Step(
        "papers/trained",
        "paper_trained.py --rows {root}/trained/rows.csv --out {out}",
        "",
        True,
    ),
    Step("tuning", "tuning.py --data digits", "tuning.py --data digits --rows 60"),
    Step(
        "false_alarms",
        CELLS,
        f"{CELLS} --rows 30 100 --columns 5 --seconds 0.05 --repetitions 3",
    ),
    Step(
        "guarantees",
        "conformal_coverage.py",
        "conformal_coverage.py --repetitions 20",
    ),
    Step("numerics", "numerics.py --out {out}/numerics.csv", ""),
    Step(
        "posthoc/512",
        "posthoc.py --csv {out}/512.csv",
        "posthoc.py --n 2000 --d 64 --rounds 1 --csv {out}/64.csv",
    ),
    Step("posthoc/2048", "posthoc.py --d 2048 --classes 1000 --csv {out}/2048.csv", ""),
    Step("mahalanobis", "mahalanobis.py", "mahalanobis.py --n 2000 --d 32 --rounds 1"),
    Step("knn", "knn.py", "knn.py --n 2000 --d 32 --queries 200 --rounds 1"),
    Step("lsgm", "lsgm.py", "lsgm.py --n 2000 --d 16 --k 8 --queries 200 --rounds 1"),
    Step("nap", "nap.py", "nap.py --n 2000 --queries 200 --rounds 1"),
    Step("extraction", "extraction.py", "extraction.py --images 16 --rounds 1"),
    Step(
        "feeding",
        "feeding.py",
        "feeding.py --images 64 --workers 0 --rounds 1",
    ),
    Step("store", "store.py", "store.py --mb 16 --images 16 --rounds 1"),
    Step("serving", "serving.py --fastapi", "serving.py --rounds 5"),
    Step("serving/overhead", "serving.py --overhead --csv {out}/overhead.csv", ""),
    Step(
        "export_matrix",
        "export_matrix.py --out {out}",
        "export_matrix.py --out {out} --kinds arrays --detectors KNN Energy",
    ),
]
"""A step without quick arguments is a long one, and left out of a quick run."""


def machine() -> dict[str, Any]:
    """Return what the figures depend on."""
    return {
        "system": platform.platform(),
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "packages": dict(_versions()),
    }


def _versions() -> Iterator[tuple[str, str]]:
    for package in PACKAGES:
        try:
            yield package, version(package)
        except PackageNotFoundError:
            continue


def has_data() -> bool:
    """Return whether the folder of data sets is there."""
    try:
        data_folder()
    except SystemExit:
        return False
    return True


def done(step: Step, command: str, out: Path, about: dict[str, Any]) -> dict[str, Any]:
    """Run a step and return what is to be said of it."""
    folder = out / step.name
    folder.mkdir(parents=True, exist_ok=True)
    places = {"root": out, "out": folder, "cache": out / "cache"}
    script, *arguments = [part.format(**places) for part in command.split()]
    words = [sys.executable, str(HERE / script), *arguments]
    started, clock = time.strftime("%Y-%m-%dT%H:%M:%S%z"), time.perf_counter()
    with (folder / "output.txt").open("w", encoding="utf-8") as output:
        code = subprocess.run(
            words, stdout=output, stderr=subprocess.STDOUT, check=False
        ).returncode
    return {
        "command": shlex.join(["python", f"benchmarks/{script}", *arguments]),
        "code": code,
        "started": started,
        "seconds": round(time.perf_counter() - clock, 1),
        **about,
    }


def wanted(quick: bool, only: list[str] | None) -> Iterator[tuple[Step, str]]:
    """Yield the steps of a run with their arguments, and say what is left out."""
    data_is_there = has_data()
    for step in STEPS:
        command = step.quick if quick else step.full
        if (only and step.name not in only) or not command:
            continue
        if step.needs_data and not data_is_there:
            print(f"{step.name}: left out, SKOOD_DATA names no folder of data sets")
            continue
        yield step, command


def main(arguments: list[str] | None = None) -> int:
    """Run the steps that are not done yet; return 1 if any has failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("benchmark_output"))
    parser.add_argument("--quick", action="store_true", help="minutes, not hours")
    parser.add_argument("--only", nargs="+", choices=[step.name for step in STEPS])
    options = parser.parse_args(arguments)
    log = options.out / ("runs-quick.json" if options.quick else "runs.json")
    runs = json.loads(log.read_text()) if log.exists() else {}
    about = machine()
    failed = []
    for step, command in wanted(options.quick, options.only):
        if runs.get(step.name, {}).get("code") == 0:
            print(f"{step.name}: done before", flush=True)
            continue
        print(f"{step.name}: {command}", flush=True)
        found = runs[step.name] = done(step, command, options.out, about)
        unfinished = log.with_suffix(".unfinished")
        unfinished.write_text(json.dumps(runs, indent=1))
        unfinished.replace(log)
        if found["code"]:
            failed.append(step.name)
            print(f"  failed, see {options.out / step.name / 'output.txt'}")
        else:
            print(f"  {found['seconds']} s", flush=True)
    print(f"failed: {', '.join(failed)}" if failed else f"all done, see {options.out}")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
