"""Ranks: what it costs to join their parts, to begin one, and to look at a folder.

    python benchmarks/ranks.py                     # 10^6 rows in 8 parts
    python benchmarks/ranks.py --rows 10000000

The store holds random features of a few columns, so that the figures are those of its
index: rows known by 16 bytes each. Seconds are the processor's, which other work on the
machine disturbs less than the clock; memory is the growth of a new process's peak.

The last table is an extraction by a network of next to no cost, plain and as a rank,
and what an image costs before it: a JPEG of 500 x 375 pixels decoded and resized to
224 x 224, and the digest by which it is known.
"""

from __future__ import annotations

import argparse
import io
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image

from skood import FeatureStore, LayerFeatureTransformer
from skood.store.feature_store import store_of_part
from skood.store.identity.source import Source
from skood.store.listing import Listing
from skood.store.listings import add_listing
from skood.store.parts import Part, data_digest
from skood.store.row_keys import row_keys

COLUMNS = 4


def filled(folder: Path, n_rows: int, n_ranks: int, shard_rows: int) -> None:
    """Write a store as ranks leave it."""
    rng = np.random.default_rng(n_rows)
    keys = rng.integers(0, 256, (n_rows, 16), dtype=np.uint8)
    source = Source({"benchmark": 1}, "random numbers")
    for rank in range(n_ranks):
        part = Part(rank, n_ranks, n_rows, 256, data_digest(keys))
        opened = store_of_part(FeatureStore(folder), part).opened
        for start in range(part.rows.start, part.rows.stop, shard_rows):
            own = keys[start : min(start + shard_rows, part.rows.stop)]
            features = rng.random((len(own), COLUMNS), dtype=np.float32)
            arrays = {"keys": own, "avg/layer": features}
            opened.add("features", arrays, source.about())
        own = keys[part.rows.start : part.rows.stop]
        add_listing(opened, source, Listing(own, np.zeros(len(own), np.int64)))


def measured(work: Callable[..., None], *args: object) -> tuple[float, float]:
    """Return the processor's seconds, and the megabytes, that work takes elsewhere."""
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    process = context.Process(target=_told, args=(queue, work, args))
    process.start()
    result = queue.get()
    process.join()
    return result


def _told(queue: multiprocessing.Queue, work: Callable[..., None], args: tuple) -> None:
    before, start = peak_mb(), time.process_time()
    work(*args)
    seconds = time.process_time() - start
    queue.put((seconds, peak_mb() - before))


def peak_mb() -> float:
    """Return the peak of this process's memory; Linux tells it without its parent's."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def joined(folder: Path, n_rows: int) -> None:
    """Ask for all rows, as whoever fits a detector does."""
    assert len(FeatureStore(folder).features()) == n_rows


def begun(folder: Path, n_rows: int) -> None:
    """Look at a store as a rank that is started again does."""
    part = Part(0, 8, n_rows, 256, "")
    store_of_part(FeatureStore(folder), part).opened.refresh()


def look_ms(n_files: int) -> float:
    """Return what it takes to read the names of so many files."""
    with tempfile.TemporaryDirectory() as folder:
        for number in range(n_files):
            Path(folder, f"{number:032x}.safetensors").touch()
        seconds = []
        for _ in range(5):
            start = time.process_time()
            with os.scandir(folder) as entries:
                assert len({entry.name for entry in entries}) == n_files
            seconds.append(time.process_time() - start)
    return 1000 * float(np.median(seconds))


def extraction_us(shard: tuple[int, int] | None, X: np.ndarray) -> float:
    """Return microseconds a row of an extraction by a network of no cost."""
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(X[0].size, 8))
    transformer = LayerFeatureTransformer(network, ["logits"]).fit(X)
    with tempfile.TemporaryDirectory() as folder:
        start = time.process_time()
        transformer.extract_to(folder, X, shard=shard, progress=False)
        return 1e6 * (time.process_time() - start) / len(X)


def image_us() -> dict[str, float]:
    """Return microseconds that the input side takes for an image."""
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((500, 375), Image.Resampling.BICUBIC), dtype=int)
    noisy = (smooth + rng.integers(-12, 13, smooth.shape)).clip(0, 255)
    file = io.BytesIO()
    Image.fromarray(noisy.astype(np.uint8)).save(file, "JPEG", quality=90)

    def decoded() -> np.ndarray:
        image = Image.open(io.BytesIO(file.getvalue())).convert("RGB")
        return np.asarray(image.resize((224, 224), Image.Resampling.BILINEAR))

    small = decoded()[None]
    floats = small.astype(np.float32) / 255
    return {
        f"decode {len(file.getvalue())} bytes": best_us(decoded),
        "digest, uint8": best_us(partial(row_keys, small)),
        "digest, float32": best_us(partial(row_keys, floats)),
    }


def best_us(work: Callable[[], object], repeats: int = 100) -> float:
    """Return microseconds of a call, the least of five rounds."""
    rounds = []
    for _ in range(5):
        start = time.process_time()
        for _ in range(repeats):
            work()
        rounds.append(1e6 * (time.process_time() - start) / repeats)
    return min(rounds)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--ranks", type=int, default=8)
    parser.add_argument("--shard-rows", type=int, default=16_384)
    arguments = parser.parse_args()
    n_rows, table = arguments.rows, {}
    with tempfile.TemporaryDirectory() as folder:
        start = time.process_time()
        store = Path(folder, "store")
        filled(store, n_rows, arguments.ranks, arguments.shard_rows)
        table["write"] = (time.process_time() - start, float("nan"))
        for work in (joined, begun):
            table[work.__name__] = measured(work, store, n_rows)
        filled(store, n_rows // 2, arguments.ranks, arguments.shard_rows)
        table["joined, two data sets"] = measured(joined, store, n_rows + n_rows // 2)
    frame = pd.DataFrame(table, index=["seconds", "MB"]).T
    frame["us a row"] = 1e6 * frame["seconds"] / n_rows
    frame["bytes a row"] = frame["MB"] * 2**20 / n_rows
    print(frame.round(2).to_string(), end="\n\n")
    looks = {n: look_ms(n) for n in (1_000, 10_000, 60_000)}
    print(pd.Series(looks, name="ms").round(2).rename_axis("files").to_string())
    torch.set_num_threads(1)
    X = np.random.default_rng(0).random((20_000, 3, 32, 32), dtype=np.float32)
    rounds = {
        name: [extraction_us(shard, X) for _ in range(5)]
        for name, shard in {"plain": None, "a rank": (0, 1)}.items()
    }
    medians = {name: float(np.median(times)) for name, times in rounds.items()}
    print(pd.Series({**medians, **image_us()}, name="us a row").round(1).to_string())


if __name__ == "__main__":
    main()
