"""Realised false alarms of AutoOOD on images that the network was not trained on.

    python benchmarks/auto_false_alarms.py --network resnet20 --cache FOLDER
        [--combine auto mean fisher] [--resamples 200] [--out FILE]

Each resample draws anew which images fit the members, which of the unseen images
calibrate, and which of these are new rows: given the images, resamples are independent.
With k = floor(rate (n + 1)) of n scores the threshold has the rate k / (n + 1), and the
false alarms of a resample among its new rows are beta-binomial; the bounds are those of
the sum over resamples, at 99 %. The p-values of one row a resample are compared with
the uniform distribution (Kolmogorov and Smirnov's test).
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pandas as pd
from auto_data import NAMES, DataSets, Sizes, extracted
from numpy.typing import NDArray
from scipy.stats import betabinom, kstest, norm

import skood
from skood import LayerFeatures
from skood.numerics.ranks import rank_for_rate

RATES = (0.01, 0.05, 0.1)


def p_values_of(
    auto: Any, sets: DataSets, sizes: Sizes, seed: int
) -> tuple[int, NDArray[np.float64]]:
    """Return the number of rows that set the threshold, and p-values of new rows."""
    rng = np.random.default_rng(seed)
    fitted = rng.permutation(len(sets.train))[: sizes.train]
    order = rng.permutation(len(sets.calibration))
    held_out, new = np.split(order[: sizes.held_out + sizes.test], [sizes.held_out])
    auto.set_params(random_state=seed).fit(
        sets.train[fitted],
        sets.labels[fitted],
        threshold_data=sets.calibration[held_out],
    )
    known = sets.calibration[new]
    blocks: Any = {name: known.block(*name) for name in known.block_names}
    p = auto.p_values(LayerFeatures(blocks, known.head))
    return len(auto.calibration_scores_), p


def row_of(rule: str, n: int, p: NDArray[np.float64]) -> dict[str, str]:
    """Return rates with what is expected of them, and how uniform p-values are."""
    resamples, m = p.shape
    row = {"rule": rule}
    for rate in RATES:
        k = rank_for_rate(n, rate)
        law = betabinom(m, k, n + 1 - k)
        width = norm.ppf(0.995) * np.sqrt(law.var() / resamples) / m
        found, expected = (p <= rate).mean(), law.mean() / m
        sign = "" if abs(found - expected) <= width else " (out)"
        row[f"{rate:.0%} asked"] = f"{found:.2%}{sign}"
        row[f"{rate:.0%}, bounds"] = f"{expected - width:.2%} to {expected + width:.2%}"
    row["uniform, p"] = f"{kstest(p[:, 0], 'uniform').pvalue:.2f}"
    return row


def main() -> None:
    """Print the table, and write it as CSV."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--network", choices=NAMES, default="resnet20")
    parser.add_argument("--combine", nargs="*", default=["auto", "mean", "fisher"])
    parser.add_argument("--resamples", type=int, default=200)
    parser.add_argument("--cache", type=Path, help="folder where features are kept")
    parser.add_argument("--out", type=Path, help="the table's file")
    options = parser.parse_args()
    sets = extracted(options.network, Sizes(4000, 1000, 1000), options.cache)
    sizes = Sizes(1000, 600, 400)
    rows = []
    for rule in options.combine:
        auto = skood.AutoOOD(combine=rule)
        found = [
            p_values_of(auto, sets, sizes, seed) for seed in range(options.resamples)
        ]
        n_scores = found[0][0]
        rows.append(row_of(rule, n_scores, np.stack([p for _, p in found])))
        print(n_scores, rows[-1], flush=True)
    if options.out:
        pd.DataFrame(rows).to_csv(options.out, index=False)


if __name__ == "__main__":
    main()
