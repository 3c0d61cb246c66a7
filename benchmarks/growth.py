"""How time and memory grow with rows, columns, classes and components: exponents.

    python benchmarks/growth.py --csv growth.csv --plot growth.svg --sizes-csv sizes.csv
    python benchmarks/growth.py --csv growth.csv --sizes-csv sizes.csv --tall 10000000
    python benchmarks/growth.py --only KNN NAP LSGM --seconds 10

Each detector of the registry is fitted and scored at sizes a factor of four apart,
along one axis at a time, as long as the next size is expected to stay below
``--seconds``; rows go up to a million. An exponent is the slope of the logarithms over
the last three sizes: 1 is proportional, 0 does not depend. ``fit`` gets rows for the
threshold, so that it learns once. Times are those of the processor, of one thread, the
best of a few runs of small sizes. Memory is the peak of what a fit takes beside the
features, and the size of what is kept, pickled. At ten million rows, ``memory.py``
measures.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import pickle
import time
import tracemalloc
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from skood import LayerFeatures, LinearHead
from skood.detectors.registry import REGISTRY

BASE = {"n": 4096, "d": 64, "C": 10, "K": 10}
SIZES = {
    "n": [1024 * 4**power for power in range(1, 6)],
    "d": [16 * 4**power for power in range(5)],
    "C": [10 * 4**power for power in range(4)],
    "K": [5 * 4**power for power in range(4)],
}
COMPONENTS = {
    "KNN": "n_neighbors",
    "LSGM": "n_components",
    "KPCA": "n_random_features",
    "NNGuide": "n_neighbors",
    "WeiPer": "n_copies",
}
"""What K is, of those that have it; of the others nothing grows with it."""

ONE_LAYER = {"layers": "penultimate"}
OPTIONS: dict[str, dict[str, Any]] = {
    "ConceptMatching": ONE_LAYER,
    "FeatureNorm": ONE_LAYER,
    "Gram": {"layers": ["penultimate"]},
    "KPCA": {"kernel": "cosine_rbf"},
    "LSGM": {"max_iter": 5, "tol": 1e-12, "random_state": 0},
}
LEFT_OUT = ("AMP", "PyODDetector")
"""They train a network, or are somebody else's."""

SCORED = 2048
FIGURES = ("fit s", "score s", "fit MB", "kept MB")


def made(n: int, d: int, C: int, K: int) -> tuple[LayerFeatures, np.ndarray]:
    """Return rows behind a ReLU around class means, what is made of them, labels."""
    rng = np.random.default_rng(0)
    means = rng.exponential(size=(C, d)) * (rng.random((C, d)) < 0.5)
    centred = means - means.mean(axis=0)
    squares = np.square(centred).sum(axis=1, keepdims=True) + 1e-9
    head = LinearHead((centred * (12 / squares)).astype(np.float32), np.zeros(C))
    y = rng.permutation(np.arange(n) % C)
    rows = 0.4 * rng.standard_normal((n, d), dtype=np.float32)
    rows += means[y].astype(np.float32)
    np.maximum(rows, 0, out=rows)
    total = rows.sum(axis=1, keepdims=True)
    blocks = {("penultimate", name): rows for name in ("avg", "max", "l2")}
    blocks |= {("penultimate", "lse"): total, ("penultimate", "gram"): rows * total}
    blocks["logits", "logits"] = rows @ head.weight.T
    return LayerFeatures(blocks, head=head), y


def detector_of(name: str, K: int) -> Any:
    options = OPTIONS.get(name, {})
    if name in COMPONENTS:
        options = options | {COMPONENTS[name]: K}
    return REGISTRY[name].detector(**options)


def seconds(call: Any) -> float:
    """Return the processor time of a call, the best of some if it is short."""
    best, spent, rounds = np.inf, 0.0, 0
    while rounds < 1 or (spent < 0.1 and rounds < 5):
        start = time.process_time()
        call()
        took = time.process_time() - start
        best, spent, rounds = min(best, took), spent + took, rounds + 1
    return best


def figures(name: str, features: LayerFeatures, y: np.ndarray, K: int) -> list[float]:
    """Return the times of fit and score, and the memory, in the order of FIGURES."""
    scored = features[:SCORED]

    def fitted() -> Any:
        return detector_of(name, K).fit(features, y, threshold_data=features[:100])

    fit_seconds = seconds(fitted)
    detector = fitted()
    score_seconds = seconds(lambda: detector.score_samples(scored))
    kept = len(pickle.dumps(detector))
    tracemalloc.start()
    fitted()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return [fit_seconds, score_seconds, peak / 1e6, kept / 1e6]


def measured(name: str, axis: str, most: float) -> Iterator[dict[str, Any]]:
    """Yield the figures at one size after another, while they take less than most."""
    before: list[float] = []
    figures(name, *made(**BASE | {"n": 512}), 5)  # what is loaded once
    for size in SIZES[axis]:
        sizes = BASE | {axis: size}
        start = time.process_time()
        try:
            found = figures(name, *made(**sizes), sizes["K"])
        except ValueError as error:  # NuSA: as many classes as columns
            print(f"{name}, {axis} = {size}: {error}")
            return
        yield {"detector": name, "axis": axis, "size": size} | dict(
            zip(FIGURES, found, strict=True)
        )
        longest = max(found[:2])
        growth = longest / before[-1] if before else 4.0
        before.append(longest)
        if max(growth, 1.0) * longest > most or time.process_time() - start > 6 * most:
            return


def tall(
    names: list[str], rows: int, known: pd.DataFrame, most: float
) -> Iterator[dict[str, Any]]:
    """Yield the figures at one more number of rows, which are made once.

    Of detectors that the sizes known so far say take less than most seconds.
    """
    sizes = BASE | {"n": rows}
    features, y = made(**sizes)
    of_rows = known[known["axis"] == "n"]
    for name in names:
        last = of_rows[of_rows["detector"] == name].tail(1)
        if len(last) and last["size"].iloc[0] < rows:
            longest = last[["fit s", "score s"]].max(axis=None)
            if longest * rows / last["size"].iloc[0] < most:
                found = figures(name, features, y, sizes["K"])
                yield {"detector": name, "axis": "n", "size": rows} | dict(
                    zip(FIGURES, found, strict=True)
                )


def exponents(table: pd.DataFrame) -> pd.DataFrame:
    """Return the slopes over the last three sizes, and the last figures."""
    rows = []
    for (name, axis), part in table.groupby(["detector", "axis"], sort=False):
        last = part.sort_values("size").tail(3)
        if len(last) < 2:
            continue
        row = {"detector": name, "axis": axis, "largest": last["size"].iloc[-1]}
        for figure in FIGURES:
            values = np.log(np.maximum(last[figure].to_numpy(), 1e-7))
            slope = np.polyfit(np.log(last["size"].to_numpy()), values, 1)[0]
            row[figure] = float(f"{last[figure].iloc[-1]:.3g}")
            row[f"{figure.split()[0]} exponent {figure.split()[1]}"] = round(slope, 2)
        rows.append(row)
    return pd.DataFrame(rows)


def draw(table: pd.DataFrame, path: Path) -> None:
    """Draw the exponents of the times, a row a detector and a panel an axis."""
    import matplotlib as mpl
    import matplotlib.pyplot as plt

    mpl.rcParams["svg.fonttype"] = "none"
    names = list(dict.fromkeys(table["detector"]))[::-1]
    figure, panels = plt.subplots(
        1, 3, sharey=True, figsize=(8, 0.17 * len(names) + 1), layout="constrained"
    )
    for panel, axis in zip(panels, "ndC", strict=True):
        part = table[table["axis"] == axis].set_index("detector")
        places = [names.index(name) for name in part.index]
        for stage, colour, fill in (("fit", "C0", "C0"), ("score", "C1", "none")):
            x = part[f"{stage} exponent s"]
            panel.scatter(x, places, 14, facecolor=fill, edgecolor=colour, label=stage)
        panel.set_title(f"exponent of {axis}", fontsize=8)
        panel.grid(alpha=0.3)
        panel.set_xlim(-0.4, 3.4)
        panel.tick_params(labelsize=6)
    panels[0].set_yticks(range(len(names)), names)
    panels[-1].legend(fontsize=6, loc="lower right")
    figure.savefig(path)


def all_measured(
    names: list[str], known: pd.DataFrame, chosen: argparse.Namespace
) -> Iterator[pd.DataFrame]:
    """Yield the figures that are not known yet."""
    done = set(zip(known["detector"], known["axis"], strict=True))
    for name in names:
        axes = [a for a in chosen.axes if a != "K" or name in COMPONENTS]
        for axis in (a for a in axes if (name, a) not in done):
            yield pd.DataFrame(measured(name, axis, chosen.seconds))
    if chosen.tall:
        for row in tall(names, chosen.tall, known, 15 * chosen.seconds):
            yield pd.DataFrame([row])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--only", nargs="+", help="names of detectors")
    parser.add_argument("--axes", nargs="+", default=[*SIZES])
    parser.add_argument("--seconds", type=float, default=2.0, help="of a size, at most")
    parser.add_argument(
        "--tall", type=int, help="one more number of rows, for what --sizes-csv knows"
    )
    parser.add_argument("--csv", type=Path, help="where to write exponents and figures")
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--sizes-csv", type=Path, help="every size; goes on from there")
    chosen = parser.parse_args()
    warnings.filterwarnings("ignore")
    path, known = chosen.sizes_csv, pd.DataFrame(columns=["detector", "axis"])
    if path and path.exists():
        known = pd.read_csv(path)
    found = [known] if len(known) else []
    names = chosen.only or [n for n in REGISTRY if n not in LEFT_OUT]
    for rows in all_measured(names, known, chosen):
        print(rows.round(4).to_string(index=False), flush=True)
        found.append(rows)
        if path:
            rows.to_csv(path, mode="a", header=not path.exists(), index=False)
    write_outputs(exponents(pd.concat(found)), chosen)


def write_outputs(table: pd.DataFrame, chosen: argparse.Namespace) -> None:
    print(table.to_string(index=False))
    if chosen.csv:
        table.to_csv(chosen.csv, index=False)
    if chosen.plot:
        draw(table, chosen.plot)


if __name__ == "__main__":
    main()
