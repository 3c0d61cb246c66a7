"""The feature store: its rates beside other formats, and what it costs an extraction.

    python benchmarks/store.py

Rates: the same float32 rows are written in pieces of 64 MB, each safely on the disk
before the next, and read back in pieces of 32 MB, first when the system has them no
longer in memory ("cold", where the store compares every digest), then again, then every
second row. The extraction runs with and without the cache in turns, on the same images;
the table has the median ratio by the processors' time, which other work on the machine
disturbs less than the clock, and by the clock. A hit is a second extraction.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from harness import NotInstalled, Peer, compare, write_table

PIECE = 1 << 26
CHUNK = 1 << 25
WIDTH = 512


def pieces_of(X: np.ndarray, size: int) -> Iterator[slice]:
    """Slices of rows of so many bytes."""
    step = size // X[:1].nbytes
    for start in range(0, len(X), step):
        yield slice(start, min(start + step, len(X)))


def on_disk(path: Path) -> None:
    """Wait until a file is safely on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)


def forgotten(folder: Path) -> None:
    """Have the system drop what it keeps of files in memory."""
    for path in folder.rglob("*"):
        if path.is_file():
            descriptor = os.open(path, os.O_RDONLY)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(descriptor)


# Formats ---------------------------------------------------------------------------


class Format(ABC):
    """Writes pieces of rows, and gives them back."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @abstractmethod
    def write(self, number: int, rows: np.ndarray) -> None:
        """Write a piece of rows, safely on the disk."""

    @abstractmethod
    def opened(self) -> Any:
        """Something that gives rows for a slice or an array of numbers."""


class PieceFormat(Format):
    """A file or folder for each piece, called by its number."""

    def opened(self) -> Any:
        return Pieces([self.piece(p) for p in sorted(self.folder.glob("[0-9]*"))])

    @abstractmethod
    def piece(self, path: Path) -> Any:
        """Return the rows of a piece."""


class Pieces:
    """Arrays one after another."""

    def __init__(self, arrays: list[Any]) -> None:
        self.arrays = arrays
        self.ends = np.cumsum([len(array) for array in arrays])

    def __getitem__(self, rows: Any) -> np.ndarray:
        if isinstance(rows, slice):
            rows = np.arange(*rows.indices(self.ends[-1]))
        piece = np.searchsorted(self.ends, rows, side="right")
        parts = []
        for number in np.unique(piece):
            own = rows[piece == number] - (self.ends[number - 1] if number else 0)
            is_slice = own[-1] - own[0] == len(own) - 1
            parts.append(
                self.arrays[number][slice(own[0], own[-1] + 1) if is_slice else own]
            )
        return parts[0] if len(parts) == 1 else np.concatenate(parts)


class Npy(PieceFormat):
    def write(self, number, rows):
        np.save(self.folder / f"{number}.npy", rows)
        on_disk(self.folder / f"{number}.npy")

    def piece(self, path):
        return np.load(path, mmap_mode="r")


class Safetensors(PieceFormat):
    def write(self, number, rows):
        from safetensors.numpy import save_file

        save_file({"a": rows}, self.folder / f"{number}.safetensors")
        on_disk(self.folder / f"{number}.safetensors")

    def piece(self, path):
        from safetensors import safe_open

        with safe_open(path, framework="np") as file:
            return file.get_tensor("a")


class Arrow(PieceFormat):
    def write(self, number, rows):
        import pyarrow as pa

        values = pa.FixedSizeListArray.from_arrays(rows.ravel(), rows.shape[1])
        table = pa.table({"a": values})
        path = str(self.folder / f"{number}.arrow")
        with pa.OSFile(path, "wb") as sink, pa.ipc.new_file(sink, table.schema) as file:
            file.write_table(table)
        on_disk(Path(path))

    def piece(self, path):
        import pyarrow as pa

        column = pa.ipc.open_file(pa.memory_map(str(path))).read_all()["a"].chunk(0)
        return column.values.to_numpy().reshape(len(column), -1)


class Zarr(PieceFormat):
    compressed = False

    def write(self, number, rows):
        import zarr

        options = {} if self.compressed else {"compressors": None}
        array = zarr.create_array(
            self.folder / f"{number}.zarr",
            shape=rows.shape,
            dtype="f4",
            chunks=(4096, rows.shape[1]),
            **options,
        )
        array[:] = rows
        for path in (self.folder / f"{number}.zarr").rglob("*"):
            if path.is_file():
                on_disk(path)

    def piece(self, path):
        import zarr

        return Selectable(zarr.open_array(path, mode="r"))


class ZarrZstd(Zarr):
    compressed = True


class Selectable:
    """A Zarr array that takes an array of row numbers as NumPy does."""

    def __init__(self, array: Any) -> None:
        self.array = array

    def __len__(self) -> int:
        return self.array.shape[0]

    def __getitem__(self, rows: Any) -> np.ndarray:
        if isinstance(rows, slice):
            return self.array[rows]
        return self.array.oindex[rows]


class Skood(Format):
    """The store, each piece with its rows' keys and digest."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        from skood import FeatureStore

        self.store = FeatureStore(folder / "store")

    def write(self, number, rows):
        from skood.store.row_keys import row_keys

        numbers = np.arange(len(rows)) + number * PIECE
        arrays = {"keys": row_keys(numbers), "avg/layer": rows}
        about = {"source": "random", "description": "random numbers"}
        self.store.opened.add("features", arrays, about)

    def opened(self):
        from skood.store.shard import reader

        reader.__init__()  # as a new process
        return self.store.features()._blocks[("layer", "avg")]


FORMATS: dict[str, type[Format]] = {
    "skood store": Skood,
    "npy, memory-mapped": Npy,
    "safetensors, its library": Safetensors,
    "Arrow IPC": Arrow,
    "zarr, not compressed": Zarr,
    "zarr, zstd": ZarrZstd,
}

NEEDS = {"safetensors": "safetensors", "Arrow": "pyarrow", "zarr": "zarr"}


class Rates:
    """What one format does, stage by stage."""

    def __init__(self, name: str, megabytes: int, folder: str) -> None:
        rng = np.random.default_rng(0)
        shape = megabytes * (1 << 20) // (4 * WIDTH), WIDTH
        self.X = np.maximum(rng.standard_normal(shape, dtype=np.float32), 0)
        self.name, self.folder = name, folder
        self.array: Any = None

    def write(self) -> None:
        if self.array is not None:
            self.array = None
            shutil.rmtree(self.format.folder)
        own = Path(tempfile.mkdtemp(dir=self.folder))
        self.format = FORMATS[self.name](own)
        for number, rows in enumerate(pieces_of(self.X, PIECE)):
            self.format.write(number, self.X[rows])

    def forget(self) -> None:
        os.sync()
        forgotten(self.format.folder)

    def cold(self) -> None:
        self.array = self.format.opened()
        self.again()

    def again(self) -> None:
        for rows in pieces_of(self.X, CHUNK):
            touched(self.array[rows])

    def half(self) -> None:
        numbers = np.arange(0, len(self.X), 2)
        for rows in pieces_of(self.X, 2 * CHUNK):
            touched(self.array[numbers[rows.start // 2 : rows.stop // 2]])

    def is_equal(self) -> bool:
        pieces = pieces_of(self.X, CHUNK)
        return all(np.array_equal(self.array[rows], self.X[rows]) for rows in pieces)


def rate_peer(name: str, megabytes: int, folder: str) -> Peer:
    """What one format does."""
    module = next((m for start, m in NEEDS.items() if name.startswith(start)), "numpy")
    try:
        __import__(module)
    except ImportError:
        raise NotInstalled(f"{module} is not installed") from None
    rates = Rates(name, megabytes, folder)
    stages = ("write", "forget", "cold", "again", "half")
    return Peer({stage: getattr(rates, stage) for stage in stages}, rates.is_equal)


def touched(rows: np.ndarray) -> float:
    """Read every number."""
    return float(rows.sum())


def print_rates(megabytes: int, rounds: int, folder: str, csv: Path | None) -> None:
    peers = {name: partial(rate_peer, name, megabytes, folder) for name in FORMATS}
    times, answers = compare(peers, rounds=rounds)
    gigabytes = megabytes / 1000 * 1.048576
    rates = pd.DataFrame(
        {
            "write GB/s": gigabytes / times["write_s"],
            "first read GB/s": gigabytes / times["cold_s"],
            "read again GB/s": gigabytes / times["again_s"],
            "every 2nd row GB/s": gigabytes / 2 / times["half_s"],
            "equal": pd.Series(answers),
        }
    )
    print(f"{megabytes} MB of float32, {WIDTH} columns\n")
    write_table(rates, csv, index="format")


# Extraction ------------------------------------------------------------------------


def print_extraction(images: int, size: int, rounds: int, folder: str) -> None:
    import torch
    from resnet import ResNet18

    from skood import FeatureStore, LayerFeatureTransformer

    torch.set_num_threads(1)
    network = ResNet18().eval()
    X = torch.rand(images, 3, size, size)
    layers = ["layer1", "layer2", "layer3", "layer4", "logits"]

    def transformer(cache: Any) -> Any:
        return LayerFeatureTransformer(
            network, layers, ["avg", "max"], cache=cache, batch_size=32
        )

    plain = transformer(None).fit(X)
    times: dict[str, list[tuple[float, float]]] = {}
    for number in range(rounds):
        cached = transformer(FeatureStore(Path(folder) / f"cold{number}")).fit(X)
        for name, run in {
            "without": lambda: plain.transform(X),
            "cold": partial(cached.transform, X),
            "hit": lambda cached=cached: np.asarray(cached.transform(X)),
        }.items():
            times.setdefault(name, []).append(_clocks(run))
    print(f"ResNet-18, {images} images of {size} x {size}, {rounds} rounds, one thread")
    for clock, title in enumerate(("processor time", "clock")):
        without, cold, hit = (
            np.array([t[clock] for t in times[name]])
            for name in ("without", "cold", "hit")
        )
        print(
            f"  by {title}: forward {1e3 * np.median(without) / images:.2f} ms an "
            f"image; cold extraction with cache over without "
            f"{np.median(cold / without):.3f} (best over best "
            f"{np.min(cold) / np.min(without):.3f}); a hit "
            f"{1e6 * np.median(hit) / images:.0f} us, "
            f"{np.median(hit / without):.2%} of a forward"
        )
    print()


def _clocks(run: Callable[[], Any]) -> tuple[float, float]:
    processor, clock = time.process_time(), time.perf_counter()
    run()
    return time.process_time() - processor, time.perf_counter() - clock


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--mb", type=int, default=256, help="data for the rates")
    parser.add_argument("--images", type=int, default=128)
    parser.add_argument("--size", type=int, default=32, help="of the images")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--csv", type=Path, help="a file for the table of rates")
    parser.add_argument("--folder", help="where to write; default: the temporary one")
    given = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    print(f"{platform.platform()}, Python {platform.python_version()}\n")
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        print_rates(given.mb, given.rounds, folder, given.csv)
        print_extraction(given.images, given.size, given.rounds, folder)


if __name__ == "__main__":
    main()
