"""Realised false alarms of every detector: n, d, kinds of data, rates asked.

    python benchmarks/false_alarms.py [--only KNN ViM] [--seconds 20]

Each cell draws training rows and 2,000 new rows of the same kind, as often as is asked
or the seconds allow, and compares the mean rate with the one that the n + 1 rule gives,
k / (n + 1), within four standard errors. The table is written as CSV.
"""

from __future__ import annotations

import argparse
import csv
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from skood import LayerFeatures, LinearHead
from skood.detectors.registry import REGISTRY, Entry
from skood.detectors.threshold import threshold_for
from skood.numerics.ranks import rank_for_rate

ROWS = (30, 100, 1_000, 10_000)
COLUMNS = (5, 50, 512)
RATES = (0.01, 0.05, 0.2)
KINDS = ("gaussian", "heavy-tailed", "clustered", "imbalanced")
NEW_ROWS = 2_000
N_CLASSES = 4


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


def features_of(x: np.ndarray, positive: bool) -> LayerFeatures:
    """The rows as penultimate features with a head, and as all other statistics."""
    d = x.shape[1]
    x = np.maximum(x, 0) if positive else x
    head = LinearHead(
        np.random.default_rng(d + 1).normal(size=(N_CLASSES, d)) / d**0.5,
        np.arange(N_CLASSES) / 10,
    )
    blocks = {("penultimate", s): x for s in ("avg", "max")}
    blocks["penultimate", "l2"] = np.abs(x)
    blocks["penultimate", "lse"] = np.logaddexp.reduce(x / 10, axis=1, keepdims=True)
    blocks["logits", "logits"] = head.logits(x)
    return LayerFeatures(blocks, head=head)


def realised(
    entry: Entry, kind: str, n: int, d: int, limits: argparse.Namespace
) -> Iterator[list[float]]:
    """The rates of one repetition after the other."""
    start = time.process_time()
    positive = not entry.negative_features
    seeded = "random_state" in entry.parameters()
    parameters = {"random_state": 0} if seeded else {}
    for repetition in range(limits.repetitions):
        rng = np.random.default_rng([repetition, n, d, KINDS.index(kind)])
        x, y = rows_of(kind, n, d, rng)
        z, _ = rows_of(kind, NEW_ROWS, d, rng)
        detector = entry.detector(**parameters)
        found = []
        # One fit serves all rates: the threshold alone depends on them.
        detector._set_threshold = lambda scores, features, f=found: f.append(scores)
        known, new = features_of(x, positive), features_of(z, positive)
        detector.fit(known, y)
        scores = detector.score_samples(new)
        below = [float(np.mean(scores < threshold_for(found[0], r))) for r in RATES]
        yield [len(found[0]), *below]
        if time.process_time() - start > limits.seconds and repetition >= 2:
            return


def row_of(
    entry: Entry, kind: str, n: int, d: int, limits: argparse.Namespace
) -> list[str]:
    """One row of the table; a rate out of its bounds is marked."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        rates = np.array(list(realised(entry, kind, n, d, limits)))
    tied = {r for r in RATES for w in caught if f"={r}: " in str(w.message)}
    cells = []
    n_scores = int(rates[0, 0])  # a part of the rows, if others are kept out
    for rate, values in zip(RATES, rates.T[1:], strict=True):
        k = rank_for_rate(n_scores, rate)
        wanted = max(k, 1) / (n_scores + 1)
        error = 4 * (values.std(ddof=1) / len(values) ** 0.5 + 1e-4)
        mark = ("" if k else " (few)") + (" (ties)" if rate in tied else "")
        if values.mean() > wanted + error:
            mark += " **over**"
        elif values.mean() < 0.7 * wanted - error and rate not in tied:
            mark += " *under*"
        cells.append(f"{100 * values.mean():.2f} ± {100 * error:.2f}{mark}")
    return [entry.name, kind, f"{n:,}", str(d), str(len(rates)), *cells]


def write_table(rows: list[list[str]], path: Path) -> None:
    """Write what the documentation shows."""
    asked = [f"{100 * rate:g} % asked" for rate in RATES]
    with path.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["Detector", "Data", "n", "d", "times", *asked])
        table.writerows(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="*", help="detectors; all without")
    parser.add_argument("--rows", nargs="*", type=int, default=ROWS)
    parser.add_argument("--columns", nargs="*", type=int, default=COLUMNS)
    parser.add_argument("--repetitions", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=20.0, help="a cell, at most")
    parser.add_argument("--out", type=Path, help="the table's file")
    limits = parser.parse_args()
    rows = []
    for name in limits.only or REGISTRY:
        entry = REGISTRY[name]
        if not entry.on_features:
            continue
        for kind in KINDS:
            for n in limits.rows:
                for d in limits.columns:
                    try:
                        row = row_of(entry, kind, n, d, limits)
                    except ValueError as error:
                        told = str(error)[:70]
                        row = [name, kind, f"{n:,}", str(d), "0", told, "", ""]
                    rows.append(row)
                    print(*row, sep="  ", flush=True)
    if limits.out:
        write_table(rows, limits.out)


if __name__ == "__main__":
    main()
