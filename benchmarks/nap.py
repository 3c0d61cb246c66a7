"""NAP's search: the nearest of n binary patterns in Hamming distance, and that alone.

Beside it faiss's flat binary index; once over the whole bank, and once over the
patterns of each query's class. The distances are asserted to be the same. The backends
of skood are those of ``skood.hamming.nearest_hamming``; "auto" without faiss is what
it chooses where faiss is not installed.

    python benchmarks/nap.py --n 50000 --queries 10000 --bits 512
    python benchmarks/nap.py --n 50000 --queries 10000 --bits 2048
"""

from __future__ import annotations

import argparse
import os
import tempfile
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd
from harness import NotInstalled, Peer, compare, write_table

FLIPPED = (0.10, 0.12)
"""Shares of its class's bits by which a stored pattern and a query differ."""


def write_data(folder: Path, n: int, queries: int, bits: int, classes: int) -> None:
    """Write patterns that are noisy copies of their class's, and their labels."""
    rng = np.random.default_rng(0)
    centres = rng.random((classes, bits)) < 0.3
    for name, rows, share in zip("XQ", (n, queries), FLIPPED, strict=True):
        labels = rng.integers(0, classes, rows)
        noise = rng.random((rows, bits), dtype=np.float32) < share
        np.save(folder / f"{name}.npy", np.packbits(centres[labels] ^ noise, axis=1))
        np.save(folder / f"{name}_labels.npy", labels)


def read_data(folder: Path, per_class: bool) -> list[np.ndarray]:
    """Return stored patterns, their groups, queries and theirs; one group in all."""
    files = ("X", "X_labels", "Q", "Q_labels")
    X, groups, Q, asked = (np.load(folder / f"{name}.npy") for name in files)
    return [X, groups, Q, asked] if per_class else [X, 0 * groups, Q, 0 * asked]


def faiss_peer(folder: Path, bits: int, per_class: bool) -> Peer:
    if find_spec("faiss") is None:
        raise NotInstalled("faiss is not installed (pip install faiss-cpu)")
    import faiss

    X, groups, Q, asked = read_data(folder, per_class)
    indices, out = {}, np.empty(len(Q), dtype=np.int32)

    def fit() -> None:
        for group in range(groups.max() + 1):
            indices[group] = faiss.IndexBinaryFlat(bits)
            indices[group].add(X[groups == group])

    def search() -> None:
        for group, index in indices.items():
            rows = np.flatnonzero(asked == group)
            out[rows] = index.search(Q[rows], 1)[0][:, 0]

    return Peer({"fit": fit, "search": search}, lambda: out)


def skood_peer(
    folder: Path, bits: int, per_class: bool, backend: str, faiss: bool
) -> Peer:
    from skood.hamming import PatternBank, check_backend, search

    if not faiss:
        search.find_spec = lambda name: None
    try:
        check_backend(backend)
    except ImportError as error:
        raise NotInstalled(str(error)) from error
    X, groups, Q, asked = read_data(folder, per_class)
    state = {}

    def fit() -> None:
        state["bank"] = PatternBank.of(X, groups, int(groups.max()) + 1, bits)

    def find() -> None:
        state["out"] = state["bank"].nearest(Q, asked, backend=backend)

    return Peer({"fit": fit, "search": find}, lambda: state["out"])


def peers_of(folder: Path, bits: int, per_class: bool) -> dict[str, partial]:
    ours = partial(skood_peer, folder, bits, per_class)
    return {
        "faiss IndexBinaryFlat": partial(faiss_peer, folder, bits, per_class),
        "skood auto": partial(ours, "auto", True),
        "skood auto without faiss": partial(ours, "auto", False),
        "skood product": partial(ours, "product", True),
        "skood popcount": partial(ours, "popcount", True),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=50_000)
    parser.add_argument("--queries", type=int, default=10_000)
    parser.add_argument("--bits", type=int, default=512, help="a multiple of 64")
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--csv", type=Path, help="a file for the table")
    args = parser.parse_args()
    if args.bits % 64:
        parser.error("--bits is a multiple of 64")
    for library in ("OMP", "OPENBLAS", "MKL"):
        os.environ[f"{library}_NUM_THREADS"] = str(args.threads)
    print(
        f"n={args.n} queries={args.queries} bits={args.bits} classes={args.classes} "
        f"threads={args.threads}; slower: times the first one's search"
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_data(folder, args.n, args.queries, args.bits, args.classes)
        tables = {}
        for per_class in (False, True):
            peers = peers_of(folder, args.bits, per_class)
            table, answers = compare(peers, rounds=args.rounds)
            first = table.index[0]
            for peer in table.index:
                np.testing.assert_array_equal(answers[peer], answers[first])
            table["queries_per_s"] = (args.queries / table["search_s"]).round()
            table["slower"] = table["search_s"] / table["search_s"].iloc[0]
            title = "own class" if per_class else "whole bank"
            tables |= {f"{title}, s": table["search_s"]}
            tables |= {f"{title}, slower": table["slower"]}
            print(f"\n{title}")
            print(table.to_string(float_format="{:.3g}".format))
    write_table(pd.DataFrame(tables), args.csv, index="peer")


if __name__ == "__main__":
    main()
