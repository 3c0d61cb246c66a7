"""Realised false alarms of every detector: n, d, kinds of data, rates asked.

    python benchmarks/false_alarms.py --cells cells.jsonl [--only KNN] [--seconds 20]
    python benchmarks/false_alarms.py --cells cells.jsonl --seconds 0 --out FOLDER

Each repetition draws training rows and 2,000 new rows of the same kind; a cell has as
many as the seconds allow, up to 200. What is measured goes to the file of cells, a line
at a time: a run that is killed, or repeated with more seconds, goes on from there.

The table compares the mean rate of a cell with the one that the n + 1 rule gives,
k / (n + 1), within four standard errors.
"""

from __future__ import annotations

import argparse
import csv
import json
import time
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from skood import LayerFeatures, LinearHead
from skood.detectors.registry import REGISTRY, Entry
from skood.detectors.threshold import threshold_for
from skood.estimator_checks.synthetic import gram_of_one_position
from skood.numerics.ranks import rank_for_rate

ROWS = (30, 100, 1_000, 10_000)
COLUMNS = (5, 50, 512)
RATES = (0.01, 0.05, 0.2)
KINDS = ("gaussian", "heavy-tailed", "clustered", "imbalanced")
NEW_ROWS = 2_000
N_CLASSES = 4

Cell = tuple[str, str, int, int]


@dataclass
class Measured:
    """What the repetitions of one cell gave: counts, means and squared deviations."""

    times: int = 0
    n_scores: int = 0
    mean: list[float] = field(default_factory=lambda: [0.0] * len(RATES))
    squares: list[float] = field(default_factory=lambda: [0.0] * len(RATES))
    tied: list[float] = field(default_factory=list)
    told: str = ""

    def add(self, n_scores: int, rates: list[float]) -> None:
        """Add one repetition (Welford's update)."""
        self.times += 1
        self.n_scores = n_scores
        for i, rate in enumerate(rates):
            off = rate - self.mean[i]
            self.mean[i] += off / self.times
            self.squares[i] += off * (rate - self.mean[i])

    def merged(self, other: Measured) -> Measured:
        """Return both, as if measured at once."""
        times = self.times + other.times
        if not times or not other.times:
            return other if not times else self
        share = self.times * other.times / times
        pairs = [*zip(self.mean, other.mean, strict=True)]
        return Measured(
            times,
            other.n_scores,
            [a + (b - a) * other.times / times for a, b in pairs],
            [
                s + t + (b - a) ** 2 * share
                for s, t, (a, b) in zip(self.squares, other.squares, pairs, strict=True)
            ],
            sorted({*self.tied, *other.tied}),
        )

    def error(self, i: int) -> float:
        """Return four standard errors of a mean.

        Of few repetitions the deviation is hardly known: it is not taken to be below
        that of a threshold on independent scores, a beta variable's, and of a share of
        the new rows.
        """
        share = max(self.mean[i], 1 / (self.n_scores + 1))
        least = share * (1 - share) * (1 / (self.n_scores + 2) + 1 / NEW_ROWS)
        variance = self.squares[i] / max(self.times - 1, 1)
        return 4 * (max(variance, least) / self.times) ** 0.5


def rows_of(
    kind: str, n: int, d: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Rows of one kind and their classes."""
    fixed = np.random.default_rng(d)
    shares = [0.9, 0.07, 0.02, 0.01] if kind == "imbalanced" else [0.25] * N_CLASSES
    y = rng.choice(N_CLASSES, size=n, p=shares)
    noise = rng.normal(size=(n, d))
    if kind == "heavy-tailed":
        noise = rng.standard_t(3, (n, d))
    means = fixed.normal(size=(N_CLASSES, d)) * (0 if kind == "gaussian" else 2)
    if kind == "clustered":
        clusters = 2 * fixed.normal(size=(20, d))
        noise = 0.5 * noise + clusters[rng.integers(0, 20, n)]
    return noise + means[y], y


def features_of(x: np.ndarray, entry: Entry) -> LayerFeatures:
    """The rows as penultimate features with a head, and as all that is needed."""
    d = x.shape[1]
    x = x if entry.negative_features else np.maximum(x, 0)
    head = LinearHead(
        np.random.default_rng(d).normal(size=(N_CLASSES, d)) / d**0.5,  # the means'
        np.arange(N_CLASSES) / 10,
    )
    made = {
        "max": lambda: x,
        "l2": lambda: np.abs(x),
        "lse": lambda: np.logaddexp.reduce(x / 10, axis=1, keepdims=True),
        "gram": lambda: gram_of_one_position(x),
    }
    blocks: dict[Any, np.ndarray] = {("penultimate", "avg"): x}
    blocks |= {("penultimate", s): made[s]() for s in entry.needs if s in made}
    blocks["logits", "logits"] = head.logits(x)
    views = {"jigsaw": LayerFeatures(blocks)} if "jigsaw views" in entry.needs else None
    return LayerFeatures(blocks, head=head, views=views)


def detector_of(entry: Entry, d: int) -> Any:
    """The detector with its defaults, and what it cannot be made without."""
    seeded = "random_state" in entry.parameters()
    parameters: dict[str, Any] = {"random_state": 0} if seeded else {}
    if entry.name == "ConceptMatching":
        texts = np.random.default_rng(d).normal(size=(N_CLASSES, d))
        parameters |= {"text_embeddings": texts, "layers": "penultimate"}
    if entry.name == "PyODDetector":
        from pyod.models.ecod import ECOD

        parameters |= {"pyod_model": ECOD()}
    return entry.detector(**parameters)


def realised(
    entry: Entry, kind: str, n: int, d: int, repetitions: range, seconds: float
) -> Iterator[tuple[int, list[float]]]:
    """The scores held out and the rates, one repetition after the other."""
    start = time.process_time()
    for repetition in repetitions:
        rng = np.random.default_rng([repetition, n, d, KINDS.index(kind)])
        x, y = rows_of(kind, n, d, rng)
        z, _ = rows_of(kind, NEW_ROWS, d, rng)
        detector = detector_of(entry, d)
        found: list[np.ndarray] = []
        # One fit serves all rates: the threshold alone depends on them.
        detector._set_threshold = lambda scores, features, f=found: f.append(scores)
        detector.fit(features_of(x, entry), y)
        scores = detector.score_samples(features_of(z, entry))
        below = [float(np.mean(scores < threshold_for(found[0], r))) for r in RATES]
        yield len(found[0]), below
        if time.process_time() - start > seconds and repetition >= 2:
            return


def measured(cell: Cell, known: Measured, limits: argparse.Namespace) -> Measured:
    """More repetitions of a cell, from where those that are known end."""
    name, kind, n, d = cell
    new = Measured()
    repetitions = range(known.times, limits.repetitions)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            for n_scores, rates in realised(
                REGISTRY[name], kind, n, d, repetitions, limits.seconds
            ):
                new.add(n_scores, rates)
        except ValueError as error:
            new.told = str(error)[:70]
    new.tied = [r for r in RATES if any(f"={r}: " in str(w.message) for w in caught)]
    return new


def cells_of(path: Path) -> dict[Cell, Measured]:
    """What a file of cells holds; the last line may have been cut off by a kill."""
    cells: dict[Cell, Measured] = {}
    for line in path.read_text().splitlines() if path.exists() else ():
        try:
            found = json.loads(line)
        except json.JSONDecodeError:
            continue
        cell: Cell = tuple(found.pop("cell"))
        cells[cell] = cells.get(cell, Measured()).merged(Measured(**found))
    return cells


def table_row(cell: Cell, found: Measured) -> list[str]:
    """One row of the table; a rate out of its bounds is marked."""
    name, kind, n, d = cell
    first = [name, kind, f"{n:,}", str(d), str(found.times)]
    if not found.times:
        return [*first, found.told, "", ""]
    cells = []
    for i, rate in enumerate(RATES):
        k = rank_for_rate(found.n_scores, rate)
        wanted = max(k, 1) / (found.n_scores + 1)
        mean, error = found.mean[i], found.error(i)
        tied = rate in found.tied
        mark = ("" if k else " (few)") + (" (ties)" if tied else "")
        if mean > wanted + error:
            mark += " **over**"
        elif mean < 0.7 * wanted - error and not tied:
            mark += " *under*"
        cells.append(f"{100 * mean:.2f} ± {100 * error:.2f}{mark}")
    return [*first, *cells]


def write_tables(cells: dict[Cell, Measured], folder: Path) -> None:
    """Write what the documentation shows, a table a number of rows."""
    folder.mkdir(parents=True, exist_ok=True)
    asked = [f"{100 * rate:g} % asked" for rate in RATES]
    for n in sorted({n for _, _, n, _ in cells}):
        order = product(REGISTRY, KINDS, [n], COLUMNS)
        path = folder / f"false_alarms_{n}.csv"
        with path.open("w", newline="", encoding="utf-8") as file:
            table = csv.writer(file, lineterminator="\n")
            table.writerow(["Detector", "Data", "n", "d", "times", *asked])
            table.writerows(table_row(c, cells[c]) for c in order if c in cells)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="*", help="detectors; all without")
    parser.add_argument("--rows", nargs="*", type=int, default=ROWS)
    parser.add_argument("--columns", nargs="*", type=int, default=COLUMNS)
    parser.add_argument("--repetitions", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=20.0, help="a cell, at most")
    parser.add_argument("--cells", type=Path, required=True, help="what was measured")
    parser.add_argument("--out", type=Path, help="a folder for the tables")
    limits = parser.parse_args()
    cells = cells_of(limits.cells)
    names = limits.only or REGISTRY
    wanted = [*product(limits.rows, limits.columns, names, KINDS)]
    for n, d, name, kind in wanted if limits.seconds else ():
        cell = (name, kind, n, d)
        known = cells.get(cell, Measured())
        if known.times >= limits.repetitions or known.told:
            continue
        new = measured(cell, known, limits)
        with limits.cells.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"cell": cell, **asdict(new)}) + "\n")
        cells[cell] = known.merged(new)
        print(*table_row(cell, cells[cell]), sep="  ", flush=True)
    if limits.out:
        write_tables(cells, limits.out)


if __name__ == "__main__":
    main()
