"""KNN's searches side by side: time, memory, and how near approximate ones come.

    python benchmarks/searches.py --n 100000 --d 256
    python benchmarks/searches.py --n 100000 --inner 64     # harder to find

Rows lie near to a space of few dimensions (``--inner``) around the means of classes, as
features of networks do; among rows without any such order, no cell is nearer than the
others. Times are those of the processor, of one thread. Memory is what is kept,
pickled.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import pickle
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from harness import write_table
from scipy.stats import spearmanr

from skood import KNN

CLASSES, NEW = 10, 5000

SEARCHES: dict[str, dict[str, Any]] = {
    "exact": {},
    "exact, faiss": {"backend": "faiss"},
    "exact, a tenth of the rows": {"max_rows": 0.1},
    "ivf": {"backend": "ivf"},
    "pq": {"backend": "pq"},
}


def drawn(rows: int, d: int, inner: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return rows behind a ReLU, near to a space around their class's mean."""
    of_all, rng = np.random.default_rng(0), np.random.default_rng(seed)
    means = of_all.uniform(0, 1.5, (CLASSES, d))
    axes = of_all.normal(0, 0.7 / np.sqrt(inner), (inner, d))
    y = rng.integers(0, CLASSES, rows)
    x = rng.normal(0, 0.1, (rows, d)) + means[y] + rng.normal(size=(rows, inner)) @ axes
    return np.maximum(x, 0).astype(np.float32), y


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--n", type=int, default=100_000)
    parser.add_argument("--d", type=int, default=256)
    parser.add_argument("--inner", type=int, default=16)
    parser.add_argument("--k", type=int, default=50)
    parser.add_argument("--csv", type=Path, help="a file for the table")
    chosen = parser.parse_args()
    X, y = drawn(chosen.n, chosen.d, chosen.inner, 1)
    new, _ = drawn(NEW, chosen.d, chosen.inner, 2)
    exact, rows = None, []
    for name, options in SEARCHES.items():
        if "max_rows" in options:
            options = {"max_rows": int(options["max_rows"] * chosen.n)}
        start = time.process_time()
        detector = KNN(chosen.k, **options).fit(X, y, threshold_data=X[:200])
        fitted = time.process_time()
        detector.score_samples(new[:10])  # what is prepared once
        prepared = time.process_time()
        scores = detector.score_samples(new)
        scored = time.process_time()
        exact = scores if exact is None else exact
        rows.append(
            {
                "search": name,
                "fit s": fitted - start,
                "score s": scored - prepared,
                "kept MB": len(pickle.dumps(detector)) / 1e6,
                "recall": next(iter(getattr(detector, "recall_", {0: 1.0}).values())),
                "rank correlation": spearmanr(scores, exact).statistic,
            }
        )
        print(pd.DataFrame(rows[-1:]).round(3).to_string(index=False), flush=True)
    print(f"n={chosen.n} d={chosen.d} inner={chosen.inner} k={chosen.k} new={NEW}")
    write_table(pd.DataFrame(rows), chosen.csv)


if __name__ == "__main__":
    main()
