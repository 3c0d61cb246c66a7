"""An extraction is killed and its store damaged, again and again; is anything wrong?

Run as a program, so that processes can be forked before torch has threads::

    python -m tests.store_faults FOLDER --kills 30

It prints what it did as JSON, and fails if a wrong byte was ever returned.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import time
import warnings
from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import nn

from skood import FeatureStore, LayerFeatureTransformer
from skood.store.row_keys import row_keys

BLOCKS = [("0", "avg"), ("0", "max"), ("logits", "logits")]


class Slow(nn.Sequential):
    """A network that takes its time, so that there is time to be killed."""

    seconds = 0.0
    cache_key = "the same features in whatever time"

    def forward(self, x):
        time.sleep(self.seconds)
        return super().forward(x)


def network():
    torch.manual_seed(0)
    return Slow(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3)).eval()


def inputs(n_rows):
    return np.random.default_rng(0).normal(size=(n_rows, 1, 6, 6)).astype(np.float32)


def extracted(store, X, seconds):
    Slow.seconds = seconds
    transformer = LayerFeatureTransformer(
        network(), ["0", "logits"], ["avg", "max"], batch_size=8
    )
    return transformer.extract_to(store, X, np.arange(len(X)), progress=False)


def store_at(folder):
    return FeatureStore(folder, shard_bytes=3000, flush_seconds=0.02)


def noted(folder, message, *_):
    with (folder.parent / "told").open("a") as file:
        file.write(f"{message}\n")


def set_aside(folder):
    return {file.stem for file in (folder / "quarantine").glob("*")}


def killed(folder, X, rng, seconds):
    """Run an extraction for a moment and kill it; return the shards it set aside.

    Death may have come before it could name them.
    """
    before = set_aside(folder)
    child = os.fork()
    if child == 0:
        try:
            warnings.showwarning = partial(noted, folder)
            extracted(store_at(folder), X, seconds)
        finally:
            os._exit(0)
    time.sleep(rng.uniform(0, 30 * seconds))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return set_aside(folder) - before


def damaged(folder, rng):
    """Do something bad to the store and return what it was."""
    shards = sorted((folder / "shards").glob("*.safetensors"))
    kinds = ["flip", "flip", "wipe", "truncate", "lengthen", "manifest", "nothing"]
    kind = rng.choice(kinds)
    if kind == "manifest":
        (folder / "store.json").unlink(missing_ok=True)
    elif not shards:
        return "nothing"
    elif kind != "nothing":
        file = shards[rng.randrange(len(shards))]
        data = bytearray(file.read_bytes())
        if kind == "flip":
            for _ in range(rng.randint(1, 3)):
                data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        elif kind == "wipe":  # a block of the disk: all keys of a shard, say
            start = rng.randrange(len(data))
            wiped = len(data[start : start + 2000])
            data[start : start + wiped] = bytes(wiped)
        elif kind == "truncate":
            del data[rng.randrange(len(data)) :]
        else:
            data += b"\0" * rng.randint(1, 100)
        file.write_bytes(data)
    return kind


def returned_rows(folder, expected):
    """Return how many rows the store gives, all of which must be right."""
    while True:
        store = store_at(folder)
        try:
            features, keys = store.features(), store.listing().keys
            blocks = {name: features.block(*name) for name in features.block_names}
        except ValueError as error:
            noted(folder, error)
            told = (
                "holds no features yet",
                "have lost their features",
                "order, labels and ids are lost",
            )
            if any(text in str(error) for text in told):
                return 0
            if "is damaged" not in str(error):
                raise
            continue  # it is set aside now; the others can be read
        for name, block in blocks.items():
            wanted = np.stack([expected[key.tobytes()][name] for key in keys])
            np.testing.assert_allclose(block, wanted, atol=1e-5)
        return len(keys)


def sound_rows(folder):
    """Return how many rows are whole, without mending anything in the folder."""
    # The last damage may be in a shard that nobody has read since, and is to stay
    # there: extraction has to find it.
    copy = folder.with_name("copy")
    shutil.copytree(folder, copy)
    store = FeatureStore(copy)
    store.verify()
    return store.stats()["rows"]


def expected_rows(X):
    Slow.seconds = 0.0
    plain = LayerFeatureTransformer(network(), ["0", "logits"], ["avg", "max"])
    features = plain.fit_transform(X)
    return {
        key.tobytes(): {name: features.block(*name)[i] for name in BLOCKS}
        for i, key in enumerate(row_keys(X))
    }


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=0.008)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rng, X = random.Random(arguments.seed), inputs(arguments.rows)
    expected, faults, rows, untold = expected_rows(X), Counter(), [], set()
    warnings.simplefilter("always")
    warnings.showwarning = partial(noted, arguments.folder)
    for _ in range(arguments.kills):
        untold |= killed(arguments.folder, X, rng, arguments.seconds)
        faults[damaged(arguments.folder, rng)] += 1
        rows.append(returned_rows(arguments.folder, expected))
    resumed = sound_rows(arguments.folder)
    before = FeatureStore(arguments.folder).stats()["misses"]
    features = extracted(store_at(arguments.folder), X, 0.0)
    computed = FeatureStore(arguments.folder).stats()["misses"] - before
    assert computed == len(X) - resumed
    assert len(features) == returned_rows(arguments.folder, expected) == len(X)
    store = FeatureStore(arguments.folder)
    assert np.array_equal(store.labels, np.arange(len(X)))
    assert store.verify() == []
    aside = set_aside(arguments.folder)
    told = arguments.folder.with_name("told")
    told = told.read_text() if told.exists() else ""
    assert all(name in told for name in aside - untold)
    about = {
        "kills": arguments.kills,
        "faults": faults,
        "rows returned after each": rows,
        "rows left to resume from": resumed,
        "set aside, each named": len(aside),
    }
    print(json.dumps(about))


if __name__ == "__main__":
    main()
