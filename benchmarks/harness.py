"""Time several implementations side by side, each in a process of its own.

The rounds are interleaved, so that a busy moment of the machine hits all of them, and
the figures are medians; memory is the growth of the process's peak.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import resource
import statistics
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

SETTLED = 0.3
"""Seconds until the threads of one peer, which look out for work, leave the cores."""


@dataclass
class Peer:
    """What one implementation does: named stages in order, and its answer.

    Parameters
    ----------
    stages : dict of str to callable
        Timed one after another in every round.
    answer : callable, optional
        Returns what the stages computed, to be compared; not timed.
    scale : dict of str to float
        Stages that did a part of the work only: their time is multiplied.
    """

    stages: dict[str, Callable[[], Any]]
    answer: Callable[[], Any] | None = None
    scale: dict[str, float] = field(default_factory=dict)


class NotInstalled(Exception):
    """A peer that this environment lacks: it is left out with a note."""


def compare(
    peers: Mapping[str, Callable[[], Peer]],
    *,
    rounds: int = 3,
    max_seconds: float = 60.0,
    clock: Callable[[], float] = time.perf_counter,
    start: str = "spawn",
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Return the peers' times and memory, and their answers.

    Parameters
    ----------
    peers : mapping of str to callable
        Each returns a Peer; picklable, since it runs in a new process.
    rounds : int, default=3
        Timed rounds after one that warms up; of none, that one counts.
    max_seconds : float, default=60
        A peer whose first round takes longer is not repeated.
    clock : callable, default=time.perf_counter
        ``time.process_time`` leaves out what other processes take, and adds up threads.
    start : {"spawn", "fork"}, default="spawn"
        How processes begin: empty, or with the modules and data that are here already,
        which is quick, and safe as long as there is one thread.

    Returns
    -------
    times : DataFrame
        One row a peer: ``<stage>_s``, ``<stage>_mb`` (peak growth in the first round).
    answers : dict of str to object
        What each peer's ``answer`` returned.
    """
    context = multiprocessing.get_context(start)
    workers = {
        name: _Worker(context, name, make, clock) for name, make in peers.items()
    }
    runs: dict[str, list[dict[str, float]]] = {}
    memory: dict[str, dict[str, float]] = {}
    answers: dict[str, Any] = {}
    for name, worker in workers.items():
        first = worker.ask("first")
        if isinstance(first, str):
            print(f"{name}: left out, {first}")
            continue
        seconds, memory[name], answers[name] = first
        slow = rounds == 0 or sum(seconds.values()) > max_seconds
        runs[name] = [seconds] if slow else []
        worker.done = slow
    for _ in range(rounds):
        for name in runs:
            if not workers[name].done:
                time.sleep(SETTLED)
                runs[name].append(workers[name].ask("again"))
    for worker in workers.values():
        worker.close()
    rows = {
        name: {f"{s}_s": statistics.median(r[s] for r in done) for s in done[0]}
        | {f"{s}_mb": megabytes for s, megabytes in memory[name].items()}
        for name, done in runs.items()
    }
    return pd.DataFrame.from_dict(rows, orient="index"), answers


def shown(value: Any) -> Any:
    """Return a figure as the documentation shows it: to three digits."""
    if not isinstance(value, float):
        return value
    if value != value:
        return ""
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e6 else f"{value:.3g}"


def write_table(table: pd.DataFrame, path: Path | None, *, index: str = "") -> None:
    """Print a table, and write it for the documentation if a file is given."""
    print(table.to_string(index=bool(index), float_format="{:.3g}".format), flush=True)
    if path:
        path.parent.mkdir(parents=True, exist_ok=True)
        table.rename(columns=_title).map(shown).to_csv(
            path, index=bool(index), index_label=index or None
        )


def _title(column: str) -> str:
    """Return the heading that the documentation has for a column."""
    for ending, unit in (("_s", ", s"), ("_mb", ", MB")):
        column = column.removesuffix(ending) + unit * column.endswith(ending)
    return column.replace("_", " ")


def relative_error(values: Any, exact: Any) -> float:
    """Return the largest relative difference, over the rows that both have."""
    values, exact = np.asarray(values, float), np.asarray(exact, float)
    exact = exact[: len(values)]
    return float(np.max(np.abs(values - exact) / np.maximum(np.abs(exact), 1e-300)))


class _Worker:
    def __init__(
        self,
        context: Any,
        name: str,
        make: Callable[[], Peer],
        clock: Callable[[], float],
    ) -> None:
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(
            target=_serve, args=(theirs, make, clock), name=name
        )
        self._process.start()
        self.done = False

    def ask(self, what: str) -> Any:
        self._pipe.send(what)
        return self._pipe.recv()

    def close(self) -> None:
        with contextlib.suppress(BrokenPipeError):  # it may have ended by itself
            self._pipe.send("stop")
        self._process.join()


def _serve(pipe: Any, make: Callable[[], Peer], clock: Callable[[], float]) -> None:
    try:
        pipe.recv()
        peer = make()
        seconds, megabytes = {}, {}
        for name, stage in peer.stages.items():
            _reset_peak()
            before = _peak_megabytes()
            seconds[name] = _seconds(stage, clock) * peer.scale.get(name, 1.0)
            megabytes[name] = _peak_megabytes() - before
        pipe.send((seconds, megabytes, peer.answer() if peer.answer else None))
        while pipe.recv() == "again":
            pipe.send(
                {
                    name: _seconds(stage, clock) * peer.scale.get(name, 1.0)
                    for name, stage in peer.stages.items()
                }
            )
    except NotInstalled as error:
        pipe.send(str(error))
    except Exception:
        pipe.send(traceback.format_exc())


def _seconds(stage: Callable[[], Any], clock: Callable[[], float]) -> float:
    start = clock()
    stage()
    return clock() - start


def _reset_peak() -> None:
    """Forget the process's peak memory, where the system can (Linux)."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _peak_megabytes() -> float:
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
