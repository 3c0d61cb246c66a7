"""Do the calibrated detectors keep what they promise? Repeated draws of real features.

    python benchmarks/conformal_coverage.py [--repetitions 1000] [--only split fdr ...]

scikit-learn's digits, 16 principal components; 0 to 7 are in-distribution, 8 and 9
outliers. Every repetition draws other rows to fit, to calibrate and to test on, so that
the guarantees' own randomness is repeated. The detector is KNN(1). Printed are the
mean over repetitions, its standard error (for the alarms, which are yes or no, that is
the binomial one), the bound that is proved and, for p-values, the rate that a method
would have if its p-values were exactly uniform on their grid.
"""

from __future__ import annotations

import argparse
import platform
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA

import skood
from skood.calibration import ConformalDetector, ShiftMonitor
from skood.detectors.layers.knn import KNN
from skood.numerics.ranks import rank_for_rate

ALPHAS = (0.01, 0.05, 0.1)
N_FITTED = 200
N_TEST = 200


class Row(NamedTuple):
    """One line of the table."""

    what: str
    level: float
    bound: float
    uniform: float
    mean: float
    error: float

    def shown(self) -> dict[str, Any]:
        """Return the line as the documentation has it."""
        error = "" if np.isnan(self.error) else f" ± {self.error:.4f}"
        return {
            "what": self.what.strip(),
            "level": self.level,
            "mean": f"{self.mean:.4f}{error}" if self.mean < 1 else f"{self.mean:.0f}",
            "bound": self.bound,
            "if exactly uniform": self.uniform,
        }


class Digits:
    """Rows of both kinds, drawn anew in every repetition."""

    def __init__(self) -> None:
        X, y = load_digits(return_X_y=True)
        X = PCA(16, random_state=0).fit_transform(X / 16.0)
        self.X, self.y, self.outliers = X[y < 8], y[y < 8], X[y >= 8]

    def drawn(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Return all in-distribution rows and labels in random order."""
        order = rng.permutation(len(self.y))
        return self.X[order], self.y[order]


def row(what: str, level: float, bound: float, uniform: float, values: list) -> Row:
    """Return the mean of one value a repetition, with its standard error."""
    error = np.std(values, ddof=1) / np.sqrt(len(values))
    return Row(what, level, bound, uniform, float(np.mean(values)), float(error))


def rates(
    what: str,
    fitted: Callable[[np.ndarray, np.ndarray], tuple[ConformalDetector, int]],
    n_repetitions: int,
    by_class: bool = False,
) -> Iterator[Row]:
    """Yield the share of in-distribution rows with p <= alpha, for each alpha."""
    digits, found = Digits(), {alpha: [] for alpha in ALPHAS}
    for seed in range(n_repetitions):
        X, y = digits.drawn(np.random.default_rng(seed))
        detector, used = fitted(X, y)
        p = detector.p_values(X[used : used + N_TEST])
        halves = y[used : used + N_TEST] >= 4
        for alpha in ALPHAS:
            flagged = p <= alpha
            found[alpha].append(
                [flagged[~halves].mean(), flagged[halves].mean()]
                if by_class
                else [flagged.mean()]
            )
    for alpha in ALPHAS:
        bound = detector._reference.false_alarm_bound(alpha)
        n = int(detector.n_calibration_.min())
        values = np.array(found[alpha])
        worst = values[:, values.mean(axis=0).argmax()]
        yield row(what, alpha, bound, rank_for_rate(n, alpha) / (n + 1), list(worst))


def split(n_repetitions: int) -> Iterator[Row]:
    """One set of 199 calibration rows."""

    def fitted(X: np.ndarray, y: np.ndarray) -> tuple[ConformalDetector, int]:
        pair = (np.arange(N_FITTED), np.arange(N_FITTED, N_FITTED + 199))
        detector = ConformalDetector(KNN(1), 0.1, cv=[pair])
        return detector.fit(X[: N_FITTED + 199], y[: N_FITTED + 199]), N_FITTED + 199

    yield from rates("false alarms, split, n=199", fitted, n_repetitions)


def cross(n_repetitions: int) -> Iterator[Row]:
    """Five folds of 199 rows."""

    def fitted(X: np.ndarray, y: np.ndarray) -> tuple[ConformalDetector, int]:
        detector = ConformalDetector(KNN(1), 0.1, "cross", cv=5)
        return detector.fit(X[:199], y[:199]), 199

    yield from rates("false alarms, cross, n=199, 5 folds", fitted, n_repetitions)


def jackknife(n_repetitions: int) -> Iterator[Row]:
    """Ninety-nine rows, each left out once."""

    def fitted(X: np.ndarray, y: np.ndarray) -> tuple[ConformalDetector, int]:
        detector = ConformalDetector(KNN(1), 0.1, "jackknife+")
        return detector.fit(X[:99], y[:99]), 99

    yield from rates("false alarms, jackknife+, n=99", fitted, n_repetitions)


def class_conditional(n_repetitions: int) -> Iterator[Row]:
    """Two classes (0 to 3, 4 to 7), 199 calibration rows each; the worse one shown."""

    def fitted(X: np.ndarray, y: np.ndarray) -> tuple[ConformalDetector, int]:
        half = y >= 4
        new = [np.flatnonzero(half[N_FITTED:] == h)[:199] + N_FITTED for h in (0, 1)]
        held_out = np.sort(np.concatenate(new))
        # Rows after the last one drawn are new and in random order.
        used = int(held_out[-1]) + 1
        detector = ConformalDetector(
            KNN(1),
            0.1,
            cv=[(np.arange(N_FITTED), held_out)],
            class_conditional=True,
        )
        return detector.fit(X[:used], half[:used].astype(int)), used

    yield from rates(
        "false alarms, class-conditional, n=199 each", fitted, n_repetitions, True
    )


ONE_SPLIT = {"cv": [(np.arange(200), np.arange(200, 1199))]}
SELECTIONS = {
    "split, bh": (ONE_SPLIT, "bh"),
    "split by class, bh": ({**ONE_SPLIT, "class_conditional": True}, "bh"),
    "split, conditional": (ONE_SPLIT, "conditional"),
    "split, by": (ONE_SPLIT, "by"),
    "cross, by": ({"method": "cross"}, "by"),
}


def fdr(n_repetitions: int) -> Iterator[Row]:
    """Batches of 40 in-distribution rows and 10 outliers, at a rate of 0.1."""
    digits = Digits()
    for name, (parameters, method) in SELECTIONS.items():
        false, found = [], []
        for seed in range(n_repetitions):
            rng = np.random.default_rng(seed)
            X, y = digits.drawn(rng)
            detector = ConformalDetector(KNN(1), 0.1, **parameters)
            detector.fit(X[:1199], (y[:1199] >= 4).astype(int))
            batch = np.vstack([X[1199:1239], rng.permutation(digits.outliers)[:10]])
            chosen = detector.select(batch, 0.1, method)
            false.append(chosen[:40].sum() / max(chosen.sum(), 1))
            found.append(chosen[40:].mean())
        bound = 0.1 if method == "conditional" else 0.08
        yield row(f"FDR of select, {name}", 0.1, bound, np.nan, false)
        yield row(f"outliers found, {name}", 0.1, np.nan, np.nan, found)


def monitor(n_repetitions: int) -> Iterator[Row]:
    """Streams of 400 rows like the 199 held out; then half outliers from row 100."""
    digits = Digits()
    for level in (0.01, 0.05):
        ever, early, delays = [], [], []
        for seed in range(n_repetitions):
            rng = np.random.default_rng(seed)
            X, y = digits.drawn(rng)
            pair = (np.arange(N_FITTED), np.arange(N_FITTED, N_FITTED + 199))
            watch = ShiftMonitor(KNN(1), level, cv=[pair], random_state=seed)
            watch.fit(X[: N_FITTED + 199], y[: N_FITTED + 199])
            ever.append(watch.update(X[-400:]))
            watch.reset().update(X[-400:-300])
            early.append(watch.alarm_)
            watch.update(_half_outliers(X[-300:], digits.outliers, rng))
            if not early[-1]:
                at = 500 if watch.alarm_at_ is None else watch.alarm_at_
                delays.append(at - 99)
        yield row("ShiftMonitor, false alarms, 400 rows", level, level, np.nan, ever)
        name = "rows until an alarm, of which half are outliers"
        yield row(f"{name}, mean", level, np.nan, np.nan, delays)
        for share in (50, 90):
            value = float(np.percentile(delays, share))
            yield Row(f"{name}, {share} %", level, np.nan, np.nan, value, np.nan)


def _half_outliers(
    X: np.ndarray, outliers: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    which = rng.random(len(X)) < 0.5
    stream = X.copy()
    stream[which] = outliers[rng.integers(len(outliers), size=which.sum())]
    return stream


EXPERIMENTS: dict[str, Callable[[int], Iterator[Row]]] = {
    "split": split,
    "cross": cross,
    "jackknife+": jackknife,
    "class": class_conditional,
    "fdr": fdr,
    "monitor": monitor,
}


def main() -> None:
    """Print the table."""
    from harness import write_table  # tests, which read this file, lack its folder

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repetitions", type=int, default=1000)
    parser.add_argument("--only", nargs="+", choices=EXPERIMENTS, default=EXPERIMENTS)
    parser.add_argument("--csv", type=Path, help="a file for the table")
    arguments = parser.parse_args()
    print(
        f"skood {skood.__version__}, numpy {np.__version__}, {platform.machine()}; "
        f"{arguments.repetitions} repetitions, seeds from 0"
    )
    lines = []
    for name in arguments.only:
        for line in EXPERIMENTS[name](arguments.repetitions):
            lines.append(line.shown())
            print(lines[-1], flush=True)
    write_table(pd.DataFrame(lines), arguments.csv)


if __name__ == "__main__":
    main()
