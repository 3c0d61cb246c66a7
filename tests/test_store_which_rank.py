"""Which rank a process is, what has none, and ranks that are killed."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from ranks import HERE, Counted, N, assert_equal, extract, transformer
from torch.utils.data import IterableDataset

from skood import FeatureStore
from skood.extraction.ranks import Rank, rank_of


@pytest.fixture(autouse=True)
def counting(monkeypatch):
    monkeypatch.setattr(Counted, "rows", 0)
    monkeypatch.setattr(Counted, "most", np.inf)
    for name in os.environ:
        if name.startswith("SLURM_") or name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
            monkeypatch.delenv(name)


@pytest.fixture(scope="module")
def X():
    return np.random.default_rng(0).normal(size=(N, 1, 6, 6)).astype(np.float32)


@pytest.fixture(scope="module")
def expected(X, tmp_path_factory):
    """What one process gives."""
    folder = tmp_path_factory.mktemp("one")
    return transformer().extract_to(folder, X, progress=False)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "store"


# Which rank ------------------------------------------------------------------------

ARRAY = {
    "SLURM_ARRAY_TASK_ID": "5",
    "SLURM_ARRAY_TASK_COUNT": "4",
    "SLURM_ARRAY_TASK_MIN": "3",
    "SLURM_ARRAY_TASK_MAX": "6",
    "SLURM_ARRAY_TASK_STEP": "1",
}


@pytest.mark.parametrize(
    ("environment", "rank"),
    [
        ({}, Rank(0, 1)),
        ({"RANK": "3", "WORLD_SIZE": "8"}, Rank(3, 8)),
        ({"RANK": "3", "WORLD_SIZE": "8", "LOCAL_RANK": "1"}, Rank(3, 8, 1)),
        ({"RANK": "0", "WORLD_SIZE": "1", **ARRAY}, Rank(0, 1)),
        (ARRAY, Rank(2, 4)),
        ({**ARRAY, "SLURM_PROCID": "0", "SLURM_NTASKS": "1"}, Rank(2, 4)),
        (
            {
                "SLURM_ARRAY_TASK_ID": "9",
                "SLURM_ARRAY_TASK_COUNT": "3",
                "SLURM_ARRAY_TASK_MIN": "1",
                "SLURM_ARRAY_TASK_MAX": "9",
                "SLURM_ARRAY_TASK_STEP": "4",
            },
            Rank(2, 3),
        ),
        ({"SLURM_PROCID": "7", "SLURM_NTASKS": "8"}, Rank(7, 8)),
        (
            {"SLURM_PROCID": "7", "SLURM_NTASKS": "8", "SLURM_LOCALID": "3"},
            Rank(7, 8, 3),
        ),
        ({"SLURM_PROCID": "0"}, Rank(0, 1)),
    ],
)
def test_launchers_say_which_rank_it_is(environment, rank):
    assert rank_of("auto", environment) == rank


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"RANK": "3"}, "the environment has RANK, but WORLD_SIZE is not set"),
        ({"WORLD_SIZE": "3"}, "has WORLD_SIZE, but RANK is not set"),
        ({"RANK": "x", "WORLD_SIZE": "8"}, "RANK is 'x', no whole number"),
        ({"RANK": "-1", "WORLD_SIZE": "8"}, "RANK is '-1', no whole number"),
        ({"RANK": "٣", "WORLD_SIZE": "8"}, "no whole number"),
        ({"RANK": "8", "WORLD_SIZE": "8"}, "RANK=8 and WORLD_SIZE=8: .*0 <= rank < w"),
        ({"RANK": "0", "WORLD_SIZE": "0"}, "RANK=0 and WORLD_SIZE=0"),
        ({"SLURM_ARRAY_TASK_ID": "1"}, "SLURM_ARRAY_TASK_COUNT is not set"),
        ({**ARRAY, "SLURM_ARRAY_TASK_MIN": "6"}, "do not follow each other"),
        ({**ARRAY, "SLURM_ARRAY_TASK_MAX": "9"}, "do not follow each other, so that"),
        ({**ARRAY, "SLURM_ARRAY_TASK_ID": "7"}, "SLURM_ARRAY_TASK_ID=7.*0 <= rank"),
        ({**ARRAY, "SLURM_ARRAY_TASK_STEP": "0x1"}, "STEP is '0x1'"),
        ({**ARRAY, "SLURM_NTASKS": "4"}, "SLURM_NTASKS=4: both a job array and"),
    ],
)
def test_an_environment_that_contradicts_itself_is_refused(environment, message):
    with pytest.raises(ValueError, match=message):
        rank_of("auto", environment)


@pytest.mark.parametrize(
    ("shard", "error"),
    [
        ((3, 3), ValueError),
        ((-1, 3), ValueError),
        ((0, 0), ValueError),
        ((0, 10**7), ValueError),
        ((0.0, 2), TypeError),
        ((True, 2), TypeError),
        ((0, 1, 2), TypeError),
        (3, TypeError),
        ("0/3", TypeError),
        (b"auto", TypeError),
    ],
)
def test_what_is_no_rank_is_refused(folder, X, shard, error):
    with pytest.raises(error, match=r"shard=.*wanted is 'auto' or \(rank, world\)"):
        extract(folder, X, shard)
    assert not folder.exists()


def test_the_environment_is_asked(folder, X, expected, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    for rank in "01":
        monkeypatch.setenv("RANK", rank)
        extract(folder, X, "auto")
    assert_equal(FeatureStore(folder).features(), expected)


def test_each_rank_of_a_machine_has_a_device(monkeypatch):
    chosen = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "device", chosen.append)
    for local in (0, 1, 5):
        Rank(9, 16, local).own_device()
    assert chosen == [0, 1, 1]
    Rank(9, 16).own_device()  # as it was given: the user chooses
    assert chosen == [0, 1, 1]


# Refused ---------------------------------------------------------------------------


class Endless(IterableDataset):
    def __iter__(self):
        raise AssertionError("not even looked at")


@pytest.mark.parametrize("keys", [None, str])
def test_a_stream_has_no_ranges(folder, keys):
    with pytest.raises(
        TypeError, match=r"shard=\(0, 2\): X is a Endless, which has no"
    ):
        extract(folder, Endless(), (0, 2), keys=keys)


def test_ranks_do_not_meet_in_memory(X):
    with pytest.raises(ValueError, match="ranks meet in a folder that all of them see"):
        transformer().extract_to("memory", X, shard=(0, 2))


@pytest.mark.parametrize("shard", [None, (0, 2)])
def test_parameters_are_checked_first(folder, X, shard):
    with pytest.raises(ValueError, match=r"'batch_size' parameter .* must be an int"):
        extract(folder, X, shard, estimator=transformer(batch_size=0))


@pytest.mark.parametrize("name", ["y", "ids"])
def test_labels_are_those_of_all_rows(folder, X, name):
    short = np.zeros(48)
    with pytest.raises(ValueError, match=f"{name} has 48 entries for 100 rows of X"):
        transformer().extract_to(folder, X, shard=(0, 2), **{name: short})


# Killed ----------------------------------------------------------------------------


def run(*command, **environment):
    done = subprocess.run(
        [sys.executable, *map(str, command)],
        env={**os.environ, "PYTHONPATH": str(HERE.parent), **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_two_of_four_ranks_are_killed(tmp_path):
    # Each takes seconds: `make test` has two, and SKOOD_ROUNDS=20 as many as one likes.
    rounds = int(os.environ.get("SKOOD_ROUNDS", "2"))
    program = "-m", "tests.store_ranks", tmp_path, "--rounds", rounds
    told = json.loads(run(*program, "--seed", os.getpid()))
    assert len(told) == rounds
    assert all(len(one["killed"]) == 2 for one in told)


SCRIPT = """
import numpy as np
from tests.ranks import extract, transformer
X = np.random.default_rng(0).normal(size=(100, 1, 6, 6)).astype(np.float32)
extract({folder!r}, X, "auto")
"""


@pytest.mark.slow
def test_torchrun(tmp_path, folder, expected):
    (tmp_path / "extract.py").write_text(SCRIPT.format(folder=str(folder)))
    launcher = "-m", "torch.distributed.run", "--nproc-per-node", 3, "--standalone"
    run(*launcher, tmp_path / "extract.py", OMP_NUM_THREADS="1")
    assert_equal(FeatureStore(folder).features(), expected)
