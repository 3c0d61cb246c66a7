"""Every post-hoc detector: fit and score time and peak memory, beside pytorch-ood.

All detectors of the registry that read penultimate features, their peaks, logits and
the head run on the same made-up rows; pytorch-ood's counterpart, where it has one that
takes arrays, runs beside in the same rounds. ``fit`` gets rows for the threshold, so
that it learns once, as pytorch-ood does. Times are those of the processor, of one
thread; memory is the growth of the peak beyond the data; a rank correlation of the two
scores says whether they mean the same. With ``--csv``, detectors that are in the table
are not run again, so that a run that was broken off goes on.

    python benchmarks/posthoc.py --d 512 --classes 10 --csv wide.csv
    python benchmarks/posthoc.py --d 2048 --classes 1000 --data rows --csv large.csv
    python benchmarks/posthoc.py --n 5000 --d 64 --only GEN ReAct SCALE --rounds 1
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import contextlib
import tempfile
import time
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import posthoc_rivals
from harness import NotInstalled, Peer, compare
from pytorch_ood_alone import pytorch_ood_detectors
from scipy.stats import spearmanr

from skood import LayerFeatures, LinearHead
from skood.detectors.entry import Entry
from skood.detectors.registry import REGISTRY

AVAILABLE = {"logits", "head", "labels", "max"}
"""What the made-up features have, of all that an entry may need."""

PEERS = ("skood", "pytorch-ood")

VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "LTS": ("SCALE", {"transform": "square"}),
    "RelativeMahalanobis": ("Mahalanobis", {"relative": True}),
}
"""Other methods of the same class."""

PENULTIMATE = {"layers": ("penultimate",)}

PARAMETERS: dict[str, dict[str, Any]] = {
    "ConceptMatching": {"layers": "penultimate"},
    "NCI": {"alpha": 0.0},  # pytorch-ood has no norm, whose weight takes a pass
    "NAC": {"alpha": 100.0},  # as pytorch-ood's; ours by default takes a pass
    "Mahalanobis": PENULTIMATE,
    "KNN": PENULTIMATE | {"n_neighbors": 50},
    "GaussianMixtureDetector": PENULTIMATE,
    "LSGM": PENULTIMATE | {"random_state": 0},
}

PART = {
    "ActSub": 20,
    "DICE": 20,
    "GradNorm": 20,
    "KNN": 10,
    "NNGuide": 5,
    "OpenMax": 50,
    "RelationGraph": 20,
    "WeiPer": 50,
}
"""Of whose queries one in so many is scored, and the time multiplied.

They compare with many rows, or pytorch-ood's makes a gradient or an array of the size
of the weights for each row, or takes them one by one.
"""

LARGE = 100_000
SMALLER_PART = {"KNN": 100, "LSGM": 10, "Mahalanobis": 100, "RelativeMahalanobis": 100}
"""The same, where weights have more than so many numbers."""

TOO_LARGE = {"GaussianMixtureDetector": 200_000_000}
"""The most numbers, C d², of detectors with a covariance a class."""


def write_data(folder: Path, n: int, d: int, classes: int) -> None:
    """Write rows behind a ReLU around class means, a head that reads them, queries.

    A folder that has them is left as it is.
    """
    if any(folder.glob("*.npy")):
        return
    rng = np.random.default_rng(0)
    means = rng.exponential(size=(classes, d)) * (rng.random((classes, d)) < 0.2)
    centred = (means - means.mean(axis=0)).astype(np.float32)
    weight = centred * (12 / np.square(centred).sum(axis=1, keepdims=True))
    y = rng.permutation(np.arange(n) % classes)
    spread = 0.4 * rng.standard_normal((2 * n, d), dtype=np.float32)
    centres = np.concatenate([means[y], means[rng.integers(0, classes, n)] * 0.7])
    rows = np.maximum(centres.astype(np.float32) + spread, 0)
    peaks = rows * (2 + rng.random((2 * n, 1), dtype=np.float32))
    logits = rows @ weight.T
    arrays = {"rows": rows, "peaks": peaks, "logits": logits, "weight": weight, "y": y}
    for name, array in arrays.items():
        np.save(folder / name, array)


@cache
def data_of(folder: Path) -> tuple[LayerFeatures, LayerFeatures, np.ndarray]:
    """Return the training rows, the queries and the labels, from the files."""
    arrays = {p.stem: np.load(p) for p in folder.glob("*.npy")}
    head = LinearHead(arrays["weight"], np.zeros(len(arrays["weight"]), np.float32))
    blocks = {
        ("penultimate", "avg"): arrays["rows"],
        ("penultimate", "max"): arrays["peaks"],
        ("logits", "logits"): arrays["logits"],
    }
    features = LayerFeatures(blocks, head=head)
    n = len(arrays["y"])
    return features[:n], features[n:], arrays["y"]


def load_what_is_shared(folder: Path) -> None:
    """Load the data and both libraries, so that no process has to."""
    data_of(folder)
    with contextlib.suppress(ImportError):
        pytorch_ood_detectors()
    for entry in REGISTRY.values():
        if entry.family not in ("trained", "wrapped"):
            _ = entry.detector


def part_of(name: str, d: int, classes: int) -> int:
    """Return of how many queries one is scored."""
    smaller = SMALLER_PART if classes * d > LARGE else {}
    return smaller.get(name, PART.get(name, 1))


def queries_of(new: LayerFeatures, part: int) -> LayerFeatures:
    """Return the first of so many parts of the queries."""
    return new[: -(-len(new) // part)]


def ours(folder: Path, name: str, part: int) -> Peer:
    """Return the detector of the registry."""
    known, new, y = data_of(folder)
    queries = queries_of(new, part)
    base, parameters = VARIANTS.get(name, (name, {}))
    detector = REGISTRY[base].detector(**PARAMETERS.get(base, {}), **parameters)
    found: dict[str, Any] = {}

    def fit() -> None:
        detector.fit(known, y, threshold_data=new[:100])

    def score() -> None:
        found["scores"] = detector.score_samples(queries)

    stages = {"fit": fit, "score": score}
    return Peer(stages, lambda: found["scores"], {"score": part})


def theirs(folder: Path, name: str, part: int) -> Peer:
    """Return pytorch-ood's counterpart."""
    try:
        import torch

        rivals = pytorch_ood_detectors()
    except ImportError as error:
        raise NotInstalled(str(error)) from error
    known, new, y = data_of(folder)
    arrays = posthoc_rivals.Arrays(
        torch.tensor(known.block("penultimate", "avg")),
        torch.tensor(known.block("logits")),
        torch.tensor(y),
        torch.tensor(known.head.weight),
        torch.tensor(known.head.bias),
    )
    rival = posthoc_rivals.MAKERS[name](rivals, arrays)
    block = ("penultimate", "avg") if rival.source == "h" else ("logits", "logits")
    queries = torch.tensor(queries_of(new, part).block(*block))
    found: dict[str, Any] = {}
    graph = torch.enable_grad if name in ("GradNorm", "NAC") else torch.no_grad

    def fit() -> None:
        if name == "TemperatureScaledMSP":
            rival.fit()
        else:
            with graph():
                rival.fit()

    def score() -> None:
        with graph():
            found["scores"] = rival.scores(queries)

    stages = {"fit": fit, "score": score}
    return Peer(stages, lambda: found["scores"].detach().numpy(), {"score": part})


def missing(entry: Entry, d: int, classes: int) -> str:
    """Return why a detector cannot run on the made-up features, if it cannot."""
    lacking = set(entry.needs) - AVAILABLE - {"text embeddings"}
    if lacking or entry.family in ("trained", "wrapped"):
        return f"needs {', '.join(lacking) or 'training'}"
    if entry.name in TOO_LARGE and classes * d**2 > TOO_LARGE[entry.name]:
        return "a covariance a class does not fit"
    return ""


def row_of(folder: Path, name: str, rounds: int, part: int) -> dict[str, Any]:
    """Return the figures of a detector and its counterpart."""
    peers = {"skood": partial(ours, folder, name, part)}
    if name in posthoc_rivals.MAKERS:
        peers["pytorch-ood"] = partial(theirs, folder, name, part)
    times, answers = compare(
        peers, rounds=rounds, clock=time.process_time, start="fork"
    )
    row: dict[str, Any] = {"detector": name}
    for peer, figures in times.iterrows():
        for figure, value in figures.items():
            row[f"{peer} {figure}"] = round(value, 4 if figure.endswith("_s") else 1)
    both = [found for found in answers.values() if isinstance(found, np.ndarray)]
    if len(both) == 2:
        row["rank correlation"] = round(float(spearmanr(*both).statistic), 6)
    return row


def with_ratios(table: pd.DataFrame) -> pd.DataFrame:
    """Return the table with the peer's time over ours, of fit and score together.

    Where the peer has nothing to fit, ours does no more in ``fit`` than to set a
    threshold, which is not compared.
    """
    figures = [f"{peer} {stage}_s" for peer in PEERS for stage in ("fit", "score")]
    table = table.reindex(columns=[*dict.fromkeys([*table.columns, *figures])])
    fits = np.array([name not in posthoc_rivals.NOTHING_TO_FIT for name in table.index])
    sums = {
        peer: table[f"{peer} fit_s"] * fits + table[f"{peer} score_s"] for peer in PEERS
    }
    return table.assign(times=(sums["pytorch-ood"] / sums["skood"]).round(2))


def summary(table: pd.DataFrame) -> str:
    """Return what the sums over the common detectors are, and who is slower."""
    both = table.dropna(subset=["times"])
    sums = {
        peer: both[[f"{peer} fit_s", f"{peer} score_s"]].to_numpy().sum()
        for peer in PEERS
    }
    slower = ", ".join(both.index[both["times"] < 1])
    middle = np.exp(np.log(both["times"]).mean())
    return (
        f"{len(both)} in both: {sums['skood']:.1f} s beside {sums['pytorch-ood']:.1f} "
        f"s, geometric mean of the ratios {middle:.1f}; slower: {slower or 'none'}"
    )


def main() -> None:
    """Print the table, and write it where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=50_000, help="rows to fit and score")
    parser.add_argument("--d", type=int, default=512)
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="+", help="names of detectors")
    parser.add_argument("--csv", type=Path, help="the table; what is in it is not run")
    parser.add_argument("--data", type=Path, help="folder that keeps the made-up rows")
    given = parser.parse_args()
    known = given.csv is not None and given.csv.exists()
    table = pd.read_csv(given.csv, index_col="detector") if known else pd.DataFrame()
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.data or Path(temporary)
        folder.mkdir(exist_ok=True)
        write_data(folder, given.n, given.d, given.classes)
        load_what_is_shared(folder)
        for name in given.only or [*REGISTRY, *VARIANTS]:
            entry = REGISTRY[VARIANTS.get(name, (name, {}))[0]]
            reason = missing(entry, given.d, given.classes)
            if name in table.index or reason:
                print(f"{name}: {reason or 'is there'}")
                continue
            part = part_of(name, given.d, given.classes)
            row = row_of(folder, name, given.rounds, part)
            print(row, flush=True)
            one = pd.DataFrame([row]).set_index("detector")
            table = with_ratios(pd.concat([table, one]))
            if given.csv:
                table.to_csv(given.csv)
    print(f"{table.to_string()}\n{summary(table)}")


if __name__ == "__main__":
    main()
