"""Ranks: which of several processes this one is, as given or as launchers say."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import torch

from skood.store.parts import MOST_RANKS

__all__ = ["Rank", "rank_of"]

TORCHRUN = "RANK", "WORLD_SIZE"
ARRAY = "SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_COUNT"
ARRAY_MIN, ARRAY_MAX = "SLURM_ARRAY_TASK_MIN", "SLURM_ARRAY_TASK_MAX"
ARRAY_STEP = "SLURM_ARRAY_TASK_STEP"
TASKS = "SLURM_PROCID", "SLURM_NTASKS"
LOCAL = {TORCHRUN: "LOCAL_RANK", TASKS: "SLURM_LOCALID"}

_WANTED = (
    "wanted is 'auto' or (rank, world): the number of this process, from 0, and how "
    "many there are"
)


@dataclass(frozen=True)
class Rank:
    """A process among several.

    Parameters
    ----------
    number, world : int
        Its number, from 0, and how many there are.
    local : int, optional
        Its number on its own machine, if a launcher says so.
    """

    number: int
    world: int
    local: int | None = None

    def __str__(self) -> str:
        return f"({self.number}, {self.world})"

    def own_device(self) -> AbstractContextManager[Any]:
        """Make an accelerator of this process's own the one that "cuda" means.

        Launchers that show each process a single device, as SLURM may, are right too.
        """
        if self.local is None or not torch.cuda.is_available():
            return nullcontext()
        return torch.cuda.device(self.local % torch.cuda.device_count())


def rank_of(shard: Any, environment: Mapping[str, str] | None = None) -> Rank:
    """Return which rank is meant.

    Parameters
    ----------
    shard : "auto" or (int, int)
        ``"auto"`` asks the environment: torchrun, then a job array of SLURM, then the
        tasks of a SLURM step. Where there is none of these there is one rank.
    environment : mapping of str to str, optional
        By default that of the process.

    Returns
    -------
    Rank

    Raises
    ------
    TypeError, ValueError
        If it is no rank of so many, or the environment contradicts itself.

    Examples
    --------
    >>> from skood.extraction.ranks import rank_of
    >>> print(rank_of((2, 8)), rank_of("auto", {"RANK": "1", "WORLD_SIZE": "4"}))
    (2, 8) (1, 4)
    """
    if isinstance(shard, str) and shard == "auto":
        return _of_environment(os.environ if environment is None else environment)
    if not isinstance(shard, (tuple, list)) or len(shard) != 2:
        raise TypeError(f"shard={shard!r}: {_WANTED}.")
    if not all(isinstance(n, Integral) and not isinstance(n, bool) for n in shard):
        raise TypeError(f"shard={shard!r}: {_WANTED}.")
    return _checked(int(shard[0]), int(shard[1]), f"shard={shard!r}")


def _checked(number: int, world: int, said: str, local: int | None = None) -> Rank:
    if not 0 <= number < world <= MOST_RANKS:
        raise ValueError(
            f"{said}: {_WANTED}, so that 0 <= rank < world <= {MOST_RANKS}."
        )
    return Rank(number, world, local)


def _of_environment(environment: Mapping[str, str]) -> Rank:
    if any(name in environment for name in TORCHRUN):
        return _of_pair(environment, TORCHRUN)
    if ARRAY[0] in environment:
        return _of_array(environment)
    if TASKS[0] in environment and TASKS[1] in environment:
        return _of_pair(environment, TASKS)
    return Rank(0, 1)


def _of_pair(environment: Mapping[str, str], names: tuple[str, str]) -> Rank:
    number, world = (_number(environment, name) for name in names)
    said = " and ".join(f"{name}={environment[name]}" for name in names)
    local = LOCAL[names]
    own = _number(environment, local) if local in environment else None
    return _checked(number, world, said, own)


def _of_array(environment: Mapping[str, str]) -> Rank:
    """Return the rank that a task of a job array is, whose numbers follow each other.

    They need not begin with 0, and may have a step. What was submitted as a list of
    some numbers, to do these tasks again, does not say which ranks they are.
    """
    task, world = (_number(environment, name) for name in ARRAY)
    first, step = (
        _number(environment, name) if name in environment else default
        for name, default in ((ARRAY_MIN, 0), (ARRAY_STEP, 1))
    )
    last = first + (world - 1) * max(step, 1)
    if ARRAY_MAX in environment:
        last = _number(environment, ARRAY_MAX)
    said = ", ".join(
        f"{name}={environment[name]}"
        for name in (*ARRAY, ARRAY_MIN, ARRAY_MAX, ARRAY_STEP)
        if name in environment
    )
    number, rest = divmod(task - first, max(step, 1))
    if rest or last != first + (world - 1) * max(step, 1):
        raise ValueError(
            f"{said}: the numbers of this job array do not follow each other, so that "
            "they are no ranks. Give shard=(rank, world) with the rank and world that "
            "these tasks had at first."
        )
    tasks = environment.get(TASKS[1], "1")
    if tasks != "1":
        raise ValueError(
            f"{said} and {TASKS[1]}={tasks}: both a job array and the tasks in it "
            "could be the ranks. Give shard=(rank, world)."
        )
    return _checked(number, world, said)


def _number(environment: Mapping[str, str], name: str) -> int:
    """Return a whole number from the environment."""
    text = environment.get(name)
    if text is None or not (text.isascii() and text.isdigit()):
        found = "is not set" if text is None else f"is {text!r}, no whole number"
        beside = [n for n in (*TORCHRUN, *ARRAY, *TASKS) if n in environment]
        raise ValueError(
            f"shard='auto': the environment has {', '.join(beside)}, but {name} "
            f"{found}. Give shard=(rank, world)."
        )
    return int(text)
