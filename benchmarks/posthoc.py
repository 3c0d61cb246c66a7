"""Every post-hoc detector: fit and score time and peak memory, beside pytorch-ood.

All detectors of the registry that read penultimate features, their peaks, logits and
the head run on the same made-up rows; pytorch-ood's counterpart, where it has one that
takes arrays, runs beside in the same rounds. ``fit`` gets rows for the threshold, so
that it learns once, as pytorch-ood does. Memory is the growth of the peak beyond the
data; a rank correlation of the two scores says whether they mean the same.

    python benchmarks/posthoc.py --d 512 --classes 10
    python benchmarks/posthoc.py --d 2048 --classes 1000
    python benchmarks/posthoc.py --n 5000 --d 64 --only GEN ReAct SCALE --rounds 1
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from harness import NotInstalled, Peer, compare, let_torchvision_import
from scipy.stats import spearmanr

from skood import LayerFeatures, LinearHead
from skood.detectors.entry import Entry
from skood.detectors.registry import REGISTRY

AVAILABLE = {"logits", "head", "labels", "max"}
"""What the made-up features have, of all that an entry may need."""

PARAMETERS: dict[str, dict[str, Any]] = {
    "ConceptMatching": {"layers": "penultimate"},
    "LSGM": {"random_state": 0},
}

TOO_LARGE = {"GaussianMixtureDetector": 200_000_000}
"""The most numbers, C d², of detectors with a covariance a class."""


def write_data(folder: Path, n: int, d: int, classes: int) -> None:
    """Write rows behind a ReLU around class means, a head that reads them, queries."""
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


def ours(folder: Path, name: str) -> Peer:
    """Return the detector of the registry."""
    known, new, y = data_of(folder)
    detector = REGISTRY[name].detector(**PARAMETERS.get(name, {}))
    found: dict[str, Any] = {}

    def fit() -> None:
        detector.fit(known, y, threshold_data=new[:1000])

    def score() -> None:
        found["scores"] = detector.score_samples(new)

    return Peer({"fit": fit, "score": score}, lambda: found["scores"])


def theirs(folder: Path, name: str) -> Peer:
    """Return pytorch-ood's counterpart."""
    if name not in COUNTERPARTS:
        raise NotInstalled("no counterpart that takes arrays")
    let_torchvision_import()
    try:
        import torch
        from pytorch_ood import detector as rivals
    except ImportError as error:
        raise NotInstalled(str(error)) from error
    known, new, y = data_of(folder)
    with torch.no_grad():
        arrays = {
            "h": torch.tensor(known.block("penultimate", "avg")),
            "z": torch.tensor(known.block("logits")),
            "y": torch.tensor(y),
            "w": torch.tensor(known.head.weight),
            "b": torch.tensor(known.head.bias),
        }
        fit, score, source = COUNTERPARTS[name](rivals, arrays)
    layer = ("penultimate", "avg") if source == "h" else ("logits", "logits")
    queries = torch.tensor(new.block(*layer))
    found: dict[str, Any] = {}

    def scored() -> None:
        with torch.no_grad():
            found["scores"] = score(queries)

    return Peer({"fit": fit, "score": scored}, lambda: -found["scores"].numpy())


Rival = Callable[
    [Any, dict[str, Any]], tuple[Callable[[], Any], Callable[..., Any], str]
]


def _no_fit() -> None:
    """Do nothing."""


def _static(name: str) -> Rival:
    return lambda rivals, _: (_no_fit, getattr(rivals, name).score, "z")


def _of_logits(name: str, *given: Any) -> Rival:
    def make(rivals: Any, a: dict[str, Any]) -> Any:
        rival = getattr(rivals, name)(None, *given)
        return partial(rival.fit_logits, a["z"], a["y"]), rival.predict_logits, "z"

    return make


def _of_features(name: str, build: Callable[[Any, dict[str, Any]], Any]) -> Rival:
    def make(rivals: Any, a: dict[str, Any]) -> Any:
        rival = build(getattr(rivals, name), a)
        return partial(rival.fit_features, a["h"], a["y"]), rival.predict_features, "h"

    return make


def _linear(a: dict[str, Any]) -> Any:
    import torch

    head = torch.nn.Linear(a["w"].shape[1], a["w"].shape[0])
    head.weight.data, head.bias.data = a["w"], a["b"]
    return head


def _lts(rivals: Any, a: dict[str, Any]) -> Any:
    rival = rivals.LTS(None, _linear(a))
    return _no_fit, rival.predict_features, "h"


COUNTERPARTS: dict[str, Rival] = {
    "MSP": _static("MaxSoftmax"),
    "MaxLogit": _static("MaxLogit"),
    "Energy": _static("EnergyBased"),
    "Entropy": _static("Entropy"),
    "GEN": _static("GEN"),
    "KLMatching": _of_logits("KLMatching"),
    "TemperatureScaledMSP": _of_logits("TemperatureScaling"),
    "DICE": _of_features("DICE", lambda c, a: c(None, a["w"], a["b"], 0.9)),
    "GaussianMixtureDetector": _of_features("GMM", lambda c, a: c(None)),
    "Mahalanobis": _of_features("Mahalanobis", lambda c, a: c(None)),
    "KNN": _of_features("KNN", lambda c, a: c(None)),
    "ViM": _of_features(
        "ViM", lambda c, a: c(None, a["w"].shape[1] // 2, a["w"], a["b"])
    ),
    "LTS": _lts,
}
"""LTS is SCALE(transform="square")."""
PARAMETERS["LTS"] = {"transform": "square"}
REGISTRY["LTS"] = REGISTRY["SCALE"]


def missing(entry: Entry, d: int, classes: int) -> str:
    """Return why a detector cannot run on the made-up features, if it cannot."""
    lacking = set(entry.needs) - AVAILABLE - {"text embeddings"}
    if lacking or entry.family in ("trained", "wrapped"):
        return f"needs {', '.join(lacking) or 'training'}"
    if entry.name in TOO_LARGE and classes * d**2 > TOO_LARGE[entry.name]:
        return "a covariance a class does not fit"
    return ""


def row_of(folder: Path, name: str, rounds: int) -> dict[str, Any]:
    """Return the figures of a detector and its counterpart."""
    peers = {"skood": partial(ours, folder, name)}
    if name in COUNTERPARTS:
        peers["pytorch-ood"] = partial(theirs, folder, name)
    times, answers = compare(peers, rounds=rounds)
    row: dict[str, Any] = {"detector": name}
    for peer, figures in times.iterrows():
        for figure, value in figures.items():
            row[f"{peer} {figure}"] = round(value, 3)
    both = [found for found in answers.values() if isinstance(found, np.ndarray)]
    if len(both) == 2:
        row["rank correlation"] = round(float(spearmanr(*both).statistic), 6)
    return row


def main() -> None:
    """Print the table, and write it where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=50_000, help="rows to fit and score")
    parser.add_argument("--d", type=int, default=512)
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="+", help="names of detectors")
    parser.add_argument("--csv", type=Path, help="where to write the table")
    given = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_data(folder, given.n, given.d, given.classes)
        for name in given.only or REGISTRY:
            reason = missing(REGISTRY[name], given.d, given.classes)
            if reason:
                print(f"{name}: left out, {reason}")
                continue
            rows.append(row_of(folder, name, given.rounds))
            print(rows[-1], flush=True)
    table = pd.DataFrame(rows).set_index("detector")
    print(table.to_string())
    if given.csv:
        table.to_csv(given.csv)


if __name__ == "__main__":
    main()
