"""All benchmarks in one go, quality and speed: what ``make benchmark`` runs.

    python benchmarks/run.py --out benchmark_output [--quick] [--only knn detection/...]

Each step is a script of this folder in a process of its own. What it prints goes to a
text file, and its tables, when it has ended well, to ``pages``, named as in
``docs/benchmarks``, which ``--pages docs/benchmarks`` renews. ``runs.json`` says with
which command, versions and machine a step ran, when, and how long it took;
``runs.csv`` is its table. A step that is done is not run again, so that a run that was
killed goes on; features are kept in ``cache`` below the folder. Steps that need the
data sets of the folder SKOOD_DATA are left out, and named, where that is absent.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import platform
import shlex
import shutil
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
    *("faiss-cpu", "pytorch-ood", "oodeel", "transformers"),
)

ENVIRONMENTS = "environments.csv"
SHOWN = ("torch", "numpy", "scikit-learn", "pytorch-ood", "oodeel", "faiss-cpu")


class Step(NamedTuple):
    """A script with its arguments, in full and quick, and whether it needs the data."""

    name: str
    full: str
    quick: str
    needs_data: bool = False


SMALL = ("mnist_convnet",)
"""The networks of a quick run, which calls every script, not every network."""


def detection(network: str, rows: str = "") -> Step:
    """Return the step that measures all detectors on the pairs of a network."""
    arguments = (
        f"detection.py --network {network} --cache {{cache}} --out {{pages}}/detection"
    )
    quick = f"{arguments} --train-rows 500 --test-rows 200" if network in SMALL else ""
    return Step(f"detection/{network}", f"{arguments} {rows}", quick, True)


def auto(network: str, rows: str = "") -> Step:
    """Return the step that combines detectors on the pairs of a network."""
    arguments = (
        f"auto.py --network {network} --cache {{cache}}/auto --out {{root}}/auto"
    )
    few = "--train-rows 500 --held-out 200 --test-rows 200 --seeds 1"
    quick = f"{arguments} {few}" if network in SMALL else ""
    return Step(f"auto/{network}", f"{arguments} {rows}", quick, True)


def posthoc(network: str) -> Step:
    """Return the step that measures the registry on the pairs of a network."""
    arguments = (
        f"posthoc_quality.py --network {network} --cache {{cache}}/posthoc "
        "--out {pages}/posthoc_quality"
    )
    return Step(f"posthoc_quality/{network}", arguments, "", True)


def paper(name: str, quick: str) -> Step:
    """Return the step that makes the tables beside a paper's."""
    arguments = (
        f"paper_{name}.py --cache {{cache}}/posthoc --out {{pages}}/papers/{name}"
    )
    few = f"--only {quick} --train-rows 500 --held-out 200 --test-rows 200 --seeds 1"
    return Step(f"papers/{name}", arguments, f"{arguments} {few}", True)


def speed(name: str, full: str, quick: str, table: str = "") -> Step:
    """Return a step with one table on the page about speed."""
    csv = f"--csv {{pages}}/speed/{table or name}.csv"
    return Step(
        f"speed/{table or name}", f"{name}.py {full} {csv}", f"{name}.py {quick} {csv}"
    )


def mixtures(covariance: str) -> Step:
    """Return the step that times expectation maximisation."""
    command = f"lsgm.py --cov {covariance} --out {{pages}}/speed/lsgm"
    quick = f"{command} --n 2000 --d 16 --k 8 --queries 200 --rounds 1"
    return Step(
        f"speed/lsgm/{covariance}",
        f"{command} --threads 1",
        quick if covariance == "diag" else "",
    )


def soak(what: str, calls: int) -> Step:
    """Return the step that looks whether calls leave something behind."""
    command = f"soak.py --what {what} --output {{pages}}/soak_{what}.csv"
    return Step(
        f"soak/{what}",
        f"{command} --calls {calls} --seconds 1200",
        "",
    )


CELLS = "false_alarms.py --cells {pages}/false_alarms.jsonl --out {pages}"
NETWORKS = ("mnist_convnet", "resnet20", "densenet_mahalanobis", "densenet_dice")
FEWER = "--train-rows 3000 --held-out 600 --test-rows 600"
TEXTS = "--held-out 600 --test-rows 600"

STEPS = [
    detection("mnist_convnet", "--train-rows 10000"),
    detection("resnet20", "--test-rows 5000"),
    detection("densenet_mahalanobis", "--test-rows 3000"),
    detection("densenet_dice", "--test-rows 3000"),
    Step(
        "detection/clinc150",
        "detection_text.py --inliers clinc150 --cache {cache} --out {pages}/detection",
        "",
        True,
    ),
    *map(posthoc, NETWORKS),
    Step(
        "posthoc_quality",
        "posthoc_quality.py --summary --out {docs}/posthoc_quality",
        "",
        True,
    ),
    auto("mnist_convnet"),
    auto("resnet20"),
    auto("densenet_mahalanobis", FEWER),
    auto("densenet_dice", FEWER),
    auto("minilm_clinc150", TEXTS),
    auto("minilm_banking77", TEXTS),
    Step("auto/summary", "auto.py --summary {root}/auto --out {pages}/auto", "", True),
    Step(
        "auto/false_alarms",
        "auto_false_alarms.py --cache {cache}/auto --out {pages}/auto/false_alarms.csv",
        "",
        True,
    ),
    Step("auto/tables", "auto_tables.py --out {pages}/auto/tables.csv", "", True),
    paper("lsgm", "resnet"),
    paper("nap", "mnist_convnet"),
    paper("feature_norm", "mnist_convnet"),
    paper("layer_energy", "mnist_convnet"),
    Step(
        "trained",
        "amp.py --train-rows 3000 --epochs 6 --test-rows 500 --ablation "
        "--out {pages}/papers/amp/rows.csv",
        "",
        True,
    ),
    Step(
        "papers/trained",
        "paper_trained.py --rows {docs}/papers/amp/rows.csv --out {pages}/papers",
        "",
        True,
    ),
    Step(
        "tuning/digits",
        "tuning.py --data digits --out {pages}/tuning",
        "tuning.py --data digits --rows 60 --out {pages}/tuning",
    ),
    Step("tuning/fashion", "tuning.py --data fashion --out {pages}/tuning", "", True),
    Step(
        "false_alarms",
        f"{CELLS} --seconds 1",
        f"{CELLS} --rows 30 100 --columns 5 --seconds 0.05 --repetitions 3",
    ),
    Step(
        "guarantees",
        "conformal_coverage.py --csv {pages}/coverage.csv",
        "conformal_coverage.py --csv {pages}/coverage.csv --repetitions 20",
    ),
    Step("numerics", "numerics.py --out {pages}/numerics.csv", ""),
    Step(
        "numerics/covariances",
        "covariances.py --cache {cache}/posthoc --csv {pages}/covariances.csv",
        "",
        True,
    ),
    Step(
        "posthoc/512",
        "posthoc.py --rounds 2 --csv {pages}/posthoc_512.csv",
        "posthoc.py --n 2000 --d 64 --rounds 1 --csv {pages}/posthoc_64.csv",
    ),
    Step(
        "posthoc/2048",
        "posthoc.py --d 2048 --classes 1000 --csv {pages}/posthoc_2048.csv",
        "",
    ),
    Step(
        "posthoc/libraries",
        "libraries.py --csv {pages}/libraries.csv",
        "libraries.py --n 1000 --rounds 1 --only Energy --csv {pages}/libraries.csv",
    ),
    speed("mahalanobis", "--rounds 9", "--n 2000 --d 32 --rounds 1"),
    Step(
        "speed/mahalanobis_2048",
        "mahalanobis.py --d 2048 --classes 1000 --rounds 1 "
        "--csv {pages}/speed/mahalanobis_2048.csv",
        "",
    ),
    Step(
        "speed/mahalanobis_classes",
        "mahalanobis.py --classes 10000 --queries 2000 --rounds 1 "
        "--csv {pages}/speed/mahalanobis_classes.csv",
        "",
    ),
    speed("knn", "", "--n 2000 --d 32 --queries 200 --rounds 1"),
    *map(mixtures, ("full", "tied", "diag")),
    speed("nap", "--bits 512", "--n 2000 --queries 200 --rounds 1", "nap_512"),
    speed("nap", "--bits 2048", "--n 2000 --queries 200 --rounds 1", "nap_2048"),
    speed("extraction", "", "--images 16 --rounds 1"),
    speed(
        "feeding",
        "--images 1536 --rounds 5",
        "--images 64 --workers 0 --rounds 1",
    ),
    Step(
        "store",
        "store.py --csv {pages}/store_rates.csv",
        "store.py --mb 16 --images 16 --rounds 1 --csv {pages}/store_rates.csv",
    ),
    Step("store/fits", "store_fits.py --csv {pages}/store_fits.csv", ""),
    Step(
        "serving",
        "serving.py --fastapi --csv {pages}/serving_calls.csv",
        "serving.py --rounds 5 --csv {pages}/serving_calls.csv",
    ),
    Step(
        "serving/overhead",
        "serving.py --overhead --csv {pages}/serving_overhead.csv",
        "",
    ),
    Step(
        "export_matrix",
        "export_matrix.py --out {pages}/export_matrix",
        "export_matrix.py --out {pages}/export_matrix --kinds arrays "
        "--detectors KNN Energy",
    ),
    Step(
        "scale/memory",
        "memory.py --csv {out}/memory.csv --table {pages}/scale_memory.csv",
        "",
    ),
    Step(
        "scale/growth",
        "growth.py --sizes-csv {out}/sizes.csv --csv {pages}/scale_growth.csv",
        "",
    ),
    Step(
        "scale/growth_tall",
        "growth.py --sizes-csv {root}/scale/growth/sizes.csv --tall 10000000 "
        "--csv {pages}/scale_growth.csv --plot {pages}/scale_growth.svg",
        "",
    ),
    Step(
        "scale/searches",
        "searches.py --csv {pages}/scale_searches.csv",
        "searches.py --n 5000 --d 32 --csv {pages}/scale_searches.csv",
    ),
    Step(
        "scale/searches_64",
        "searches.py --inner 64 --csv {pages}/scale_searches_64.csv",
        "",
    ),
    Step(
        "scale/workers",
        "distributed.py --csv {pages}/scale_workers.csv",
        "",
    ),
    soak("detectors", 1_000_000),
    soak("served", 100_000),
    soak("pipeline", 100_000),
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
        "revision": _revision(),
    }


def _revision() -> str:
    if shutil.which("git") is None:
        return ""
    described = subprocess.run(
        ["git", "-C", HERE, "describe", "--always", "--dirty"],
        capture_output=True,
        text=True,
        check=False,
    )
    return described.stdout.strip()


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


def done(
    step: Step, command: str, out: Path, pages: Path, about: dict[str, Any]
) -> dict[str, Any]:
    """Run a step and return what is to be said of it."""
    folder = out / step.name
    folder.mkdir(parents=True, exist_ok=True)
    tables = folder / "pages"
    tables.mkdir(exist_ok=True)
    places = {
        **{"root": out, "out": folder, "cache": out / "cache"},
        **{"pages": tables, "docs": pages},
    }
    script, *arguments = [part.format(**places) for part in command.split()]
    words = [sys.executable, str(HERE / script), *arguments]
    started, clock = time.strftime("%Y-%m-%dT%H:%M:%S%z"), time.perf_counter()
    with (folder / "output.txt").open("w", encoding="utf-8") as output:
        code = subprocess.run(
            words, stdout=output, stderr=subprocess.STDOUT, check=False
        ).returncode
    if code == 0:
        shutil.copytree(tables, pages, dirs_exist_ok=True)
    return {
        "command": shlex.join(["python", f"benchmarks/{script}", *arguments]),
        "code": code,
        "started": started,
        "seconds": round(time.perf_counter() - clock, 1),
        **about,
    }


def write_runs(runs: dict[str, Any], folder: Path) -> None:
    """Write what the documentation says of each step's last run.

    ``runs.csv`` has a row a step, ``environments.csv`` what each of its letters means.
    """
    rows = {row["step"]: row for row in _rows_of(folder / "runs.csv")}
    letters = {e["machine and versions"]: e for e in _rows_of(folder / ENVIRONMENTS)}
    for name, run in runs.items():
        if run["code"] == 0:
            packages = run["packages"]
            versions = (f"{p} {packages[p]}" for p in SHOWN if p in packages)
            cores = f"{run['processor']}, {run['cores']} cores"
            text = ", ".join([cores, f"Python {run['python']}", *versions])
            letter = chr(ord("A") + len(letters))
            new = {"environment": letter, "machine and versions": text}
            rows[name] = {
                "step": name,
                "day": run["started"][:10],
                "minutes": f"{run['seconds'] / 60:.1f}",
                "revision": run.get("revision", ""),
                "environment": letters.setdefault(text, new)["environment"],
            }
    _write_rows([rows[s.name] for s in STEPS if s.name in rows], folder / "runs.csv")
    _write_rows([*letters.values()], folder / ENVIRONMENTS)


def _rows_of(file: Path) -> list[dict[str, str]]:
    if not file.exists():
        return []
    with file.open(newline="", encoding="utf-8") as old:
        return [*csv.DictReader(old)]


def _write_rows(rows: list[dict[str, str]], file: Path) -> None:
    if rows:
        with file.open("w", newline="", encoding="utf-8") as new:
            writer = csv.DictWriter(new, [*rows[0]], lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)


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
    parser.add_argument(
        "--pages", type=Path, help="docs/benchmarks, to renew the tables there"
    )
    parser.add_argument("--quick", action="store_true", help="minutes, not hours")
    parser.add_argument("--only", nargs="+", choices=[step.name for step in STEPS])
    options = parser.parse_args(arguments)
    log = options.out / ("runs-quick.json" if options.quick else "runs.json")
    runs = json.loads(log.read_text()) if log.exists() else {}
    about = machine()
    pages = options.pages or options.out / "pages"
    pages.mkdir(parents=True, exist_ok=True)
    failed = []
    for step, command in wanted(options.quick, options.only):
        if runs.get(step.name, {}).get("code") == 0:
            print(f"{step.name}: done before", flush=True)
            continue
        print(f"{step.name}: {command}", flush=True)
        found = runs[step.name] = done(step, command, options.out, pages, about)
        unfinished = log.with_suffix(".unfinished")
        unfinished.write_text(json.dumps(runs, indent=1))
        unfinished.replace(log)
        write_runs(runs, pages)
        if found["code"]:
            failed.append(step.name)
            print(f"  failed, see {options.out / step.name / 'output.txt'}")
        else:
            print(f"  {found['seconds']} s", flush=True)
    print(f"failed: {', '.join(failed)}" if failed else f"all done, see {options.out}")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
