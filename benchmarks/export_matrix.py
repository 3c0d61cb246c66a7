"""Every detector, exported in every way, over every kind of network.

    python benchmarks/export_matrix.py --out folder [--kinds CNN ViT text arrays]
        [--detectors KNN Energy ...] [--backend inductor]

Each detector of the registry, and ensembles and what sets thresholds, is fitted behind
a small network (or on plain arrays), made one module by ``to_module``, and compared
with the pipeline on new rows: the module as it is, what ``torch.export`` and
``torch.compile`` make of it, and its file of ONNX in onnxruntime. ``KIND.csv`` of the
folder gets a line for each detector and way, or the reason why there is none. A run
goes on where one before it has ended: detectors that have their lines are left out.
All kinds are read together with ``--summary``:

    python benchmarks/export_matrix.py --out folder --summary
"""

from __future__ import annotations

import argparse
import tempfile
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.pipeline import Pipeline
from torch import Tensor, nn
from torch.export import Dim

from skood import (
    KNN,
    AutoOOD,
    ConformalDetector,
    DetectorEnsemble,
    LayerEnsemble,
    LayerFeatureTransformer,
    Mahalanobis,
    TargetRateThreshold,
    to_module,
)
from skood.detectors.registry import REGISTRY
from skood.export import export
from skood.export.inputs import calls
from skood.export.onnx import ByPosition
from skood.export.parity import RTOL, Judgement, Parity, run_module

WAYS = ("module", "torch.export", "torch.compile", "onnxruntime")
STATISTICS = ["avg", "max", "l2", "lse", "gram"]
LAYERS = ["layer1", "layer2", "penultimate", "logits"]
N_CLASSES, WIDTH = 3, 24

# Networks of one shape of features: 8, 8 and 24 units, three logits -----------------


def spread(*layers: Any) -> None:
    """Start layers so that rows differ behind them, as behind trained ones.

    By torch's default, features of all rows were the same to four digits.
    """
    for layer in layers:
        nn.init.kaiming_normal_(layer.weight)


class Convolutions(nn.Module):
    """Three of them; the activation works in place on what was captured."""

    def __init__(self) -> None:
        super().__init__()
        self.layer1, self.layer2 = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3)
        self.last, self.act = nn.Conv2d(8, WIDTH, 3), nn.ReLU(inplace=True)
        self.head = nn.Linear(WIDTH, N_CLASSES)
        spread(self.layer1, self.layer2, self.last)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.layer2(self.act(self.layer1(x))))
        return self.head(self.act(self.last(x).mean(dim=(2, 3))))


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm, self.mix = nn.LayerNorm(8), nn.Linear(8, 24)
        self.out = nn.Linear(8, 8)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        query, key, value = self.mix(self.norm(x)).chunk(3, dim=-1)
        weights = query @ key.transpose(1, 2) / 8**0.5
        if mask is not None:
            weights = weights.masked_fill(~mask[:, None, :], -1e9)
        return x + self.out(torch.softmax(weights, dim=-1) @ value)


class Patches(nn.Module):
    """A vision transformer of two blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Conv2d(3, 8, 4, stride=4)
        self.start = nn.Parameter(torch.zeros(1, 1, 8))
        self.layer1, self.layer2 = Attention(), Attention()
        self.last, self.head = nn.Linear(8, WIDTH), nn.Linear(WIDTH, N_CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.start.expand(x.shape[0], -1, -1), x], dim=1)
        x = self.layer2(self.layer1(x))
        return self.head(torch.relu(self.last(x[:, 0])))


class Texts(nn.Module):
    """An encoder that is called with named tensors, and pools under its mask."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(20, 8)
        self.layer1, self.layer2 = Attention(), Attention()
        self.last, self.head = nn.Linear(8, WIDTH), nn.Linear(WIDTH, N_CLASSES)
        spread(self.last)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> dict[str, Tensor]:
        mask = attention_mask.bool()
        x = self.layer2(self.layer1(self.embed(input_ids), mask), mask)
        kept = x * mask[:, :, None]
        pooled = kept.sum(dim=1) / mask.sum(dim=1, keepdim=True)
        return {"logits": self.head(torch.relu(self.last(pooled)))}


NETWORKS = {"CNN": Convolutions, "ViT": Patches, "text": Texts}
KINDS = (*NETWORKS, "arrays")


def inputs(kind: str, n: int, seed: int) -> Any:
    """Return rows of a kind: images, texts or vectors."""
    rng = np.random.default_rng(seed)
    if kind == "text":
        letters = [*"abcdefghijklmnopqrs"]
        return ["".join(rng.choice(letters, rng.integers(3, 20))) for _ in range(n)]
    if kind == "arrays":
        return rng.normal(size=(n, 6))
    return rng.normal(size=(n, 3, 12, 12)).astype(np.float32)


def tokens(rows: list[str]) -> dict[str, Tensor]:
    """Return what a tokenizer makes of texts: numbers, filled up, and a mask."""
    codes = [torch.tensor([1 + (ord(c) * len(row)) % 19 for c in row]) for row in rows]
    ids = nn.utils.rnn.pad_sequence(codes, batch_first=True)
    return {"input_ids": ids, "attention_mask": (ids > 0).long()}


def features_of(kind: str) -> LayerFeatureTransformer:
    """Return the first step of a kind's pipelines, not fitted."""
    torch.manual_seed(0)
    head, network = nn.Linear(WIDTH, N_CLASSES), NETWORKS[kind]()
    network.head = head  # the same in all networks: their features can stand together
    preprocess = tokens if kind == "text" else None
    return LayerFeatureTransformer(
        network.eval(), LAYERS, STATISTICS, preprocess=preprocess
    )


# Detectors ---------------------------------------------------------------------------


def detectors(kind: str) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Yield each detector's name and a function that makes it."""
    for name, entry in REGISTRY.items():
        own = entry.on_arrays if kind == "arrays" else entry.on_features
        parameters = dict((own or ({},))[0])
        if (
            kind != "arrays"
            and entry.family == "layers"
            and not entry.negative_features
        ):
            parameters["layers"] = "penultimate"  # the only one behind a ReLU in all
        yield name, partial(_made, entry, parameters)
    yield from TOGETHER.items()


def _made(entry: Any, parameters: dict[str, Any]) -> Any:
    return entry.detector(**parameters)


def _pair() -> list[tuple[str, Any]]:
    return [("distance", Mahalanobis()), ("neighbours", KNN(3))]


TOGETHER: dict[str, Callable[[], Any]] = {
    "DetectorEnsemble": lambda: DetectorEnsemble(_pair(), combine="lda"),
    "LayerEnsemble": lambda: LayerEnsemble(KNN(3)),
    "AutoOOD": lambda: AutoOOD(_pair()),
    "ConformalDetector": lambda: ConformalDetector(Mahalanobis(), 0.2),
    "TargetRateThreshold": lambda: TargetRateThreshold(KNN(3)),
}


def labels_of(X: Any) -> np.ndarray:
    """Return classes that the logits, or an array in their place, know of."""
    z = X.block("logits", "logits") if hasattr(X, "block") else X
    return np.argmax(z - z.mean(axis=0), axis=1)


def fitted(kind: str, wanted: Any = None) -> Iterator[tuple[str, Any, str]]:
    """Yield each detector's name, its fitted pipeline, and why there is none.

    The network is run once for all of them.
    """
    X, features = inputs(kind, 150, 0), None
    if kind != "arrays":
        features = features_of(kind)
        X = features.fit_transform(X)
    y = labels_of(X)
    for name, make in detectors(kind):
        if wanted and name not in wanted:
            continue
        try:
            if (entry := REGISTRY.get(name)) is not None and entry.no_graph:
                raise TypeError(entry.no_graph)
            detector = make().fit(X, y)
        except (TypeError, ValueError) as error:
            yield name, None, f"{error}".split(". ")[0].rstrip(".")
            continue
        steps = [("features", features), ("detector", detector)]
        yield name, detector if features is None else Pipeline(steps), ""


# Ways --------------------------------------------------------------------------------


def ways_of(
    kind: str, pipeline: Any, new: Any, backend: str
) -> dict[str, Callable[[], Parity]]:
    """Return how alike a pipeline and its export are on new rows, for each way."""
    module = to_module(pipeline)
    features = None if kind == "arrays" else pipeline[0]
    called = [*calls(new, module.blocks, features)]
    wanted = Judgement.by_pipeline(pipeline, new)
    detector = pipeline if kind == "arrays" else pipeline[-1]

    def parity(run: Any) -> Parity:
        found = Judgement.by_graph(run, called)
        return Parity.of(wanted, found, float(detector.offset_))

    def in_onnxruntime() -> Parity:
        axes = (0, 1) if kind == "text" else (0,)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "detector.onnx"
            made = export(pipeline, path, new[:4], new, module=module, dynamic=axes)
        return made.parity

    return {
        "module": lambda: parity(run_module(module)),
        "torch.export": lambda: parity(exported(module, *called[0])),
        "torch.compile": lambda: parity(run_module(compiled(module, backend))),
        "onnxruntime": in_onnxruntime,
    }


def compiled(module: nn.Module, backend: str) -> Any:
    """Return what ``torch.compile`` makes of a whole module."""
    torch._dynamo.reset()
    return torch.compile(module, backend=backend, fullgraph=True, dynamic=True)


def exported(module: nn.Module, args: Any, kwargs: Any) -> Callable[..., Any]:
    """Return what ``torch.export`` makes of a module, for any number of rows."""
    given = (*args, *kwargs.values())
    axes = (0, 1) if kwargs else (0,)
    some = tuple(tensor[:4] for tensor in given)
    free = tuple(dict.fromkeys(axes, Dim.DYNAMIC) for _ in some)
    by_position = ByPosition(module, [*kwargs]).eval()
    program = torch.export.export(
        by_position, some, dynamic_shapes=(free,), strict=False
    )
    own = run_module(program.module())
    return lambda args, kwargs: own((*args, *kwargs.values()), {})


def rows_of(kind: str, wanted: Any, backend: str) -> Iterator[list[dict[str, Any]]]:
    """Yield the lines of each detector: one a way, or one with the refusal."""
    new = inputs(kind, 60, 1)
    for name, pipeline, reason in fitted(kind, wanted):
        about = {"kind": kind, "detector": name}
        if pipeline is None:
            yield [{**about, "refused": reason}]
            continue
        ways = ways_of(kind, pipeline, new, backend)
        yield [{**about, "way": way, **found_in(run)} for way, run in ways.items()]


def found_in(parity_of: Callable[[], Parity]) -> dict[str, Any]:
    """Return what a way's comparison has counted, or the error it ended with."""
    try:
        parity = parity_of()
    except Exception as error:  # one way that fails is a line, and not the end
        return {"fault": f"{type(error).__name__}: {error}"}
    return {"fault": parity.faults(RTOL), **{k: getattr(parity, k) for k in COUNTED}}


COUNTED = ("rows", "score_difference", "rows_in_band", "flips_in_band", "flips")
COLUMNS = ["kind", "detector", "way", "fault", *COUNTED, "refused"]


def add(rows: list[dict[str, Any]], file: Path) -> None:
    """Append lines to a table, which is begun if it is not there."""
    table = pd.DataFrame(rows, columns=COLUMNS)
    table.to_csv(file, mode="a", header=not file.exists(), index=False)


def undone(kind: str, wanted: list[str] | None, file: Path) -> list[str]:
    """Return the detectors that a table does not have yet."""
    done = set(pd.read_csv(file)["detector"]) if file.exists() else set()
    return [n for n, _ in detectors(kind) if n not in done and n in (wanted or [n])]


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Return a line for each kind and way: what was compared, and how alike it was."""
    compared = table[table["way"].notna()]
    groups = compared.groupby(["kind", "way"], sort=False)
    found = groups.agg(
        detectors=("detector", "nunique"),
        scores=("rows", "sum"),
        largest_difference=("score_difference", "max"),
        rows_in_band=("rows_in_band", "sum"),
        flips_in_band=("flips_in_band", "sum"),
        flips=("flips", "sum"),
    )
    found["faults"] = groups["fault"].count()
    counts = ["scores", "rows_in_band", "flips_in_band", "flips"]
    return found.astype(dict.fromkeys(counts, int))


def refusals(table: pd.DataFrame) -> pd.DataFrame:
    """Return why what is not exported: a line for each reason."""
    refused = table[table["refused"].notna()]
    pairs = zip(refused["refused"], refused["detector"], strict=True)
    reasons = [reason.replace(name, "it") for reason, name in pairs]
    found = refused.assign(reason=reasons).groupby("reason", sort=False)
    joined = found[["kind", "detector"]].agg(lambda names: ", ".join(names.unique()))
    return joined.reset_index()[["kind", "detector", "reason"]]


def read(folder: Path) -> pd.DataFrame:
    """Return the matrix of all kinds that the folder has."""
    files = [folder / f"{kind}.csv" for kind in KINDS]
    return pd.concat([pd.read_csv(file) for file in files if file.exists()])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--out", type=Path, required=True, help="a folder")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--detectors", nargs="+", help="only these")
    parser.add_argument("--backend", default="eager", help="of torch.compile")
    parser.add_argument("--summary", action="store_true", help="of what is there")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    given.out.mkdir(parents=True, exist_ok=True)
    if not given.summary:
        torch.set_num_threads(1)
        for kind in given.kinds:
            file = given.out / f"{kind}.csv"
            if left := undone(kind, given.detectors, file):
                for rows in rows_of(kind, left, given.backend):
                    print(*rows, sep="\n", flush=True)
                    add(rows, file)
    table = read(given.out)
    found = summary(table)
    found.to_csv(given.out / "summary.csv", float_format="%.1e")
    refused = refusals(table)
    refused.to_csv(given.out / "refused.csv", index=False)
    print(found.to_string(float_format="%.1e"), refused.to_string(), sep="\n\n")


if __name__ == "__main__":
    main()
