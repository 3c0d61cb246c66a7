"""Fits of more features than there may be memory: the peak of each detector's process.

    python benchmarks/memory.py                                 # all, one after another
    python benchmarks/memory.py --only KNN NAP --gigabytes 5 --csv memory.csv

The features are of 20 GB, and of no bytes on the disk: a block is made of a small file
of noise, memory-mapped, when its rows are read, and no two rows are the same. A fit
runs in a process of its own, in which the system refuses to give more than ``--limit``
gigabytes of memory for data (``RLIMIT_DATA``; pages of mapped files do not count), and
in which its anonymous memory is read twenty times a second. Afterwards a detector that
was fitted on the first rows, chunk by chunk, is compared with one of the same rows in
memory: all that they have learned, and scores, to the last bit. Detectors that the
table ``--csv`` names have already, for the same size, are left out.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from harness import write_table
from joblib import parallel_config

from skood import KNN, LSGM, NAP, AutoOOD, FeatureNorm, LayerFeatures, Mahalanobis, ViM
from skood.features import LinearHead

WIDTH, CLASSES, TILE = 512, 10, 1 << 16
COMPARED = 2 * 16384 + 1000
"""Rows in memory beside which a state is looked at: three chunks of one block."""


class Repeated:
    """Rows that are made when they are read: a class's centre and noise, above zero.

    Parameters
    ----------
    noise : Path
        A ``.npy`` file of shape (m, d), whose columns are moved by one place for every
        m rows, so that all rows are different.
    n_rows : int
    seed : int
        Of the classes' centres.
    """

    ndim, dtype, pickles_as_path = 2, np.dtype(np.float32), True

    def __init__(self, noise: Path, n_rows: int, seed: int) -> None:
        self.noise = np.load(noise, mmap_mode="r")
        self.shape = n_rows, self.noise.shape[1]
        rng = np.random.default_rng(seed)
        self.centres = rng.uniform(0, 1.5, (CLASSES, WIDTH)).astype(np.float32)
        self.centres = self.centres[:, : self.shape[1]]

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> np.ndarray:
        if isinstance(key, slice):
            rows = np.arange(*key.indices(len(self)))
        else:
            rows = np.asarray(key)
            rows = np.flatnonzero(rows) if rows.dtype == bool else rows
        turns, places = np.divmod(rows, len(self.noise))
        values = np.take(self.centres, rows % CLASSES, axis=0)
        for start, stop, turn in _runs(turns):
            drawn, shift = self.noise[places[start:stop]], turn % self.shape[1]
            values[start:stop, shift:] += drawn[:, : self.shape[1] - shift]
            values[start:stop, :shift] += drawn[:, self.shape[1] - shift :]
        return np.maximum(values, 0, out=values)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self[:], dtype=dtype)


def _runs(turns: np.ndarray) -> list[tuple[int, int, int]]:
    """Return where equal entries that follow one another begin and end."""
    begins = np.flatnonzero(np.diff(turns, prepend=-1)).tolist()
    ends = [*begins[1:], len(turns)]
    return [(a, b, int(turns[a])) for a, b in zip(begins, ends, strict=True)]


def pooled(folder: Path, n_rows: int) -> LayerFeatures:
    """Return one layer, and the head."""
    rng = np.random.default_rng(1)
    block = Repeated(folder / "noise.npy", n_rows, 0)
    weight = block.centres - block.centres.mean(axis=0)
    bias = 3 + rng.normal(size=CLASSES).astype(np.float32)
    head = LinearHead(weight.astype(np.float32), bias, "penultimate")
    return LayerFeatures({"penultimate": block}, head)


def two_layers(folder: Path, n_rows: int) -> LayerFeatures:
    """Return two layers of half the width."""
    blocks = [Repeated(folder / "half.npy", n_rows, seed) for seed in (0, 1)]
    return LayerFeatures({"layer1": blocks[0], "layer2": blocks[1]})


def norms(folder: Path, n_rows: int) -> LayerFeatures:
    """Return two layers of half the width, and as much again of views."""
    blocks = [Repeated(folder / "half.npy", n_rows, seed) for seed in range(4)]
    views = LayerFeatures({("layer1", "l2"): blocks[2], ("layer2", "l2"): blocks[3]})
    return LayerFeatures(
        {("layer1", "l2"): blocks[0], ("layer2", "l2"): blocks[1]},
        views={"jigsaw": views},
    )


Made = tuple[Callable[[Path, int], LayerFeatures], Callable[[], Any]]
DETECTORS: dict[str, Made] = {
    "Mahalanobis": (pooled, Mahalanobis),
    "LSGM": (two_layers, lambda: LSGM(10, max_iter=3, random_state=0)),
    "NAP": (pooled, lambda: NAP(statistic="avg", max_rows=50_000)),
    "KNN": (pooled, lambda: KNN(50, max_rows=50_000)),
    "FeatureNorm": (norms, FeatureNorm),
    "ViM": (pooled, ViM),
    "KNN by codes": (pooled, lambda: KNN(50, backend="pq")),
    "AutoOOD": (pooled, lambda: AutoOOD(random_state=0)),
}


class Watch:
    """The largest anonymous memory of this process while something runs."""

    def __init__(self) -> None:
        self.peak = 0.0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._done.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._done.wait(0.05):
            self.peak = max(self.peak, anonymous_gigabytes())


def anonymous_gigabytes() -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) / (1 << 20)
    raise OSError("this system does not say RssAnon")


def labels(n_rows: int) -> np.ndarray:
    return np.arange(n_rows) % CLASSES


def in_memory(features: LayerFeatures) -> LayerFeatures:
    blocks = {name: features.block(*name) for name in features.block_names}
    views = {name: in_memory(view) for name, view in features.views.items()}
    return LayerFeatures(blocks, features.head, views)


def is_same(one: Any, other: Any) -> bool:
    """Return whether two states are the same to the last bit; times do not count."""
    if isinstance(one, np.ndarray):
        return np.array_equal(one, other, equal_nan=one.dtype.kind == "f")
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(
            is_same(value, other[key])
            for key, value in one.items()
            if "seconds" not in str(key)
        )
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(is_same, one, other))
    if hasattr(one, "__dict__") and not isinstance(one, type):
        return type(one) is type(other) and is_same(_state(one), _state(other))
    return bool(one == other or (one != one and other != other))


def _state(thing: Any) -> Any:
    """Return what a pickle would hold: not what is only prepared for a search."""
    state = getattr(thing, "__getstate__", lambda: None)()
    return state if isinstance(state, dict) else vars(thing)


def equal_on_a_part(name: str, folder: Path) -> bool:
    """Return whether rows that are read in chunks make what rows in memory do."""
    make_features, make = DETECTORS[name]
    read = make_features(folder, COMPARED)
    there, y = in_memory(read), labels(COMPARED)
    one, other = make().fit(read, y), make().fit(there, y)
    some = there[::50]
    return is_same(one, other) and np.array_equal(
        one.score_samples(some), other.score_samples(some)
    )


def child(
    name: str, folder: Path, gigabytes: float, limit: float, workers: int
) -> None:
    """Fit one detector within a limit, and print what it took."""
    make_features, make = DETECTORS[name]
    n_rows = int(gigabytes * 1e9) // (4 * WIDTH)
    features, y = make_features(folder, n_rows), labels(n_rows)
    most = int(limit * (1 << 30))
    resource.setrlimit(resource.RLIMIT_DATA, (most, most))
    start, used = time.perf_counter(), time.process_time()
    threads = parallel_config(backend="threading", n_jobs=workers)
    with Watch() as watch, threads:
        detector = make().fit(features, y)
    took = time.perf_counter() - start, time.process_time() - used
    detector.predict(features[:: n_rows // 5000])
    drift = getattr(detector, "drift_", {})
    del detector, features, y
    values = [name, gigabytes, n_rows, watch.peak, *took]
    values += [drift.get("rank_correlation"), drift.get("shift")]
    print(",".join(map(str, [*values, equal_on_a_part(name, folder)])))


COLUMNS = (
    *("detector", "GB", "rows", "peak GiB", "wall s", "CPU s"),
    *("rank correlation", "shift", "equal in memory"),
)


def write_noise(folder: Path) -> None:
    rng = np.random.default_rng(0)
    for name, width in {"noise": WIDTH, "half": WIDTH // 2}.items():
        values = rng.normal(0, 0.5, (TILE, width)).astype(np.float32)
        np.save(folder / f"{name}.npy", values)


def known(path: Path | None, gigabytes: float) -> pd.DataFrame:
    if path is None or not path.exists():
        return pd.DataFrame(columns=COLUMNS)
    table = pd.read_csv(path)
    return table[table["GB"] == gigabytes]


def for_the_docs(table: pd.DataFrame) -> pd.DataFrame:
    """Return the table as it is shown."""
    table = table.drop(columns="wall s").assign(
        **{
            "rows": table["rows"].map("{:,}".format),
            "equal in memory": table["equal in memory"].map({True: "yes", False: "no"}),
        }
    )
    return table.rename(columns={"peak GiB": "peak, GiB", "CPU s": "processor, s"})


def measured(name: str, folder: Path, chosen: argparse.Namespace) -> list[str]:
    """Run the child, and return the values that it printed."""
    values = name, folder, chosen.gigabytes, chosen.limit, chosen.workers
    given = map(str, values)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    run = subprocess.run(
        [sys.executable, __file__, "--child", *given],
        env=environment,
        check=False,
        capture_output=True,
        text=True,
    )
    if run.returncode:
        raise SystemExit(f"{name} failed under {chosen.limit} GiB:\n{run.stderr}")
    return run.stdout.strip().splitlines()[-1].split(",")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--only", nargs="+", default=[*DETECTORS])
    parser.add_argument("--gigabytes", type=float, default=20.0)
    parser.add_argument("--limit", type=float, default=2.0, help="GiB")
    parser.add_argument("--workers", type=int, default=1, help="threads")
    parser.add_argument("--csv", type=Path, help="what was measured; goes on from it")
    parser.add_argument("--table", type=Path, help="the same for the documentation")
    parser.add_argument("--child", nargs=5, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.child:
        name, folder, gigabytes, limit, workers = chosen.child
        child(name, Path(folder), float(gigabytes), float(limit), int(workers))
        return
    done = set(known(chosen.csv, chosen.gigabytes)["detector"])
    with tempfile.TemporaryDirectory() as folder:
        write_noise(Path(folder))
        for name in (n for n in chosen.only if n not in done):
            row = pd.DataFrame([measured(name, Path(folder), chosen)], columns=COLUMNS)
            print(row.to_string(index=False), flush=True)
            if chosen.csv:
                new = not chosen.csv.exists()
                row.to_csv(chosen.csv, mode="a", header=new, index=False)
    if chosen.csv and chosen.table:
        write_table(for_the_docs(pd.read_csv(chosen.csv)), chosen.table)


if __name__ == "__main__":
    main()
