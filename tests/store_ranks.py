"""Four ranks fill a store, two of them are killed at random; is anything wrong?

Run as a program, so that processes can be forked before torch has threads::

    python -m tests.store_ranks FOLDER --rounds 20

It prints what it did as JSON, and fails if the joined features were ever others than
those of one process, or an incomplete store did not name what it lacks.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import signal
import sys
import time
import traceback
import warnings
from functools import partial
from pathlib import Path

import numpy as np
import torch

from skood import FeatureStore, LayerFeatureTransformer
from skood.store.parts import Part
from tests.store_faults import BLOCKS, Slow, inputs, network, noted, store_at

WORLD = 4


def extracted(store, X, shard, seconds):
    """Return what a call leaves: whoever resumes an extraction calls the same."""
    Slow.seconds = seconds
    transformer = LayerFeatureTransformer(
        network(), ["0", "logits"], ["avg", "max"], batch_size=8
    )
    return transformer.extract_to(
        store, X, np.arange(len(X)), shard=shard, progress=False
    )


def started(folder, X, rank, seconds):
    """Return the process of a rank."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            warnings.showwarning = partial(noted, folder)
            store = store_at(folder)
            extracted(store, X, (rank, WORLD), seconds)
            (folder.parent / f"computed-{rank}").write_text(
                str(store.stats()["misses"])
            )
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)
    return child


def completed(folder, expected, children, kills):
    """Read the store all the while, kill who is to die, and return who completed."""
    begun, codes = time.monotonic(), {}
    while len(codes) < len(children):
        for rank in children.keys() - codes.keys():
            if time.monotonic() - begun > kills.get(rank, np.inf):
                os.kill(children[rank], signal.SIGKILL)
            pid, status = os.waitpid(children[rank], os.WNOHANG)
            if pid:
                codes[rank] = os.waitstatus_to_exitcode(status)
        missing_ranks(folder, expected)
        time.sleep(0.05)
    done = {rank for rank, code in codes.items() if code == 0}
    assert done >= children.keys() - kills.keys(), codes
    return done


def missing_ranks(folder, expected):
    """Return the ranks that the store says it lacks; without any, compare all bits."""
    try:
        store = FeatureStore(folder)
        features = store.features()
    except ValueError as error:
        if "holds no features yet" in str(error):
            return set(range(WORLD))
        if "is not complete" not in str(error):
            raise
        return {int(rank) for rank in re.findall(r"shard=\((\d), 4\)", str(error))}
    for name in BLOCKS:
        np.testing.assert_array_equal(features.block(*name), expected[name])
    assert np.array_equal(store.labels, np.arange(len(features)))
    return set()


def kept_rows(folder):
    """Return the keys of the rows that are there.

    Whichever rank is the first to look at the network keeps the first rows of all.
    """
    store = FeatureStore(folder)
    store.opened.refresh()
    shards = store.opened.catalogue.of_kind("features")
    return {key.tobytes() for shard in shards for key in shard.array("keys")}


def resumed(folder, X, rank):
    """Return how many rows a rank computes that is started once more."""
    child = started(folder, X, rank, 0.0)
    assert os.waitpid(child, 0)[1] == 0
    return int((folder.parent / f"computed-{rank}").read_text())


def one_round(folder, X, expected, names, rng, seconds):
    """Kill two ranks, ask what is missing, resume them; return what happened."""
    kills = {rank: rng.uniform(0, 0.8) for rank in rng.sample(range(WORLD), 2)}
    children = {rank: started(folder, X, rank, seconds) for rank in range(WORLD)}
    done = completed(folder, expected, children, kills)
    missing = missing_ranks(folder, expected)
    # A rank may have been killed when its list was written already.
    assert missing <= kills.keys() - done
    computed = {}
    for rank in sorted(missing):
        lost = names[rank] - kept_rows(folder)
        computed[rank] = resumed(folder, X, rank)
        # The first rows of the data set, which tell about the network, may be more.
        assert len(lost) <= computed[rank] <= len(lost) + 2
    assert missing_ranks(folder, expected) == set()
    assert FeatureStore(folder).verify() == []
    assert {path.name for path in folder.iterdir()} == {"store.json", "shards"}
    return {"killed": sorted(kills), "missing": sorted(missing), "resumed": computed}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--rows", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=0.03)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rng, X = random.Random(arguments.seed), inputs(arguments.rows)
    arguments.folder.mkdir(parents=True, exist_ok=True)
    whole = store_at(arguments.folder / "whole")
    features = extracted(whole, X, None, 0.0)
    expected = {name: np.array(features.block(*name)) for name in BLOCKS}
    keys = [key.tobytes() for key in whole.listing().keys]
    parts = [Part(rank, WORLD, len(X), 8, "") for rank in range(WORLD)]
    names = [set(keys[part.rows.start : part.rows.stop]) for part in parts]
    rounds = [
        one_round(
            arguments.folder / str(number) / "store",
            X,
            expected,
            names,
            rng,
            arguments.seconds,
        )
        for number in range(arguments.rounds)
    ]
    told = [p.read_text() for p in arguments.folder.glob("*/told")]
    assert not any("damaged" in text for text in told), told
    print(json.dumps(rounds))


if __name__ == "__main__":
    main()
