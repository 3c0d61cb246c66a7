"""Rows of many requests in one call of the model."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

Answer = dict[str, np.ndarray]
"""Some arrays, each with an entry a row."""


class Batcher:
    """Gathers requests for a moment, and answers them together.

    Parameters
    ----------
    answer : callable
        From rows to an Answer; called in a thread of its own.
    max_rows : int, default=64
        A batch is not filled further; a request of more rows is one of its own.
    wait : float, default=0.005
        Seconds that the first request of a batch waits for others.
    """

    def __init__(
        self,
        answer: Callable[[np.ndarray], Answer],
        max_rows: int = 64,
        wait: float = 0.005,
    ) -> None:
        self._answer, self._max_rows, self._wait = answer, max_rows, wait
        self._requests: asyncio.Queue = asyncio.Queue()
        self._thread = ThreadPoolExecutor(1)
        self.batches = 0

    async def answer(self, rows: np.ndarray) -> Answer:
        """Return what the model says of some rows."""
        answered = asyncio.get_running_loop().create_future()
        self._requests.put_nowait((rows, answered))
        return await answered

    async def run(self) -> None:
        """Answer requests until cancelled."""
        while True:
            batch = [await self._requests.get()]
            if self._requests.empty():
                await asyncio.sleep(self._wait)
            while self._size(batch) < self._max_rows and not self._requests.empty():
                batch.append(self._requests.get_nowait())
            await self._answer_all(batch)

    @staticmethod
    def _size(batch: list) -> int:
        return sum(len(rows) for rows, _ in batch)

    async def _answer_all(self, batch: list) -> None:
        loop = asyncio.get_running_loop()
        together = np.concatenate([rows for rows, _ in batch])
        try:
            found = await loop.run_in_executor(self._thread, self._answer, together)
        except Exception as error:
            await self._answer_apart(batch, error)
            return
        self.batches += 1
        start = 0
        for rows, answered in batch:
            part = slice(start, start := start + len(rows))
            if not answered.done():  # its client may have gone
                answered.set_result({name: own[part] for name, own in found.items()})

    async def _answer_apart(self, batch: list, error: Exception) -> None:
        """One request's rows must not fail those of the others."""
        if len(batch) > 1:
            for request in batch:
                await self._answer_all([request])
        elif not batch[0][1].done():
            batch[0][1].set_exception(error)
