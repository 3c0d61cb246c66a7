"""A detector behind HTTP: /score, /health and /metrics.

SERVED=served uvicorn fastapi_service.service:app
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import numpy as np
from fastapi import FastAPI, HTTPException
from fastapi.responses import PlainTextResponse
from fastapi_service.batching import Batcher
from fastapi_service.watch import Watch
from make_model import DigitsNetwork
from pydantic import BaseModel

import skood

SHAPE = (1, 8, 8)
"""Of an input."""

MOST_ROWS = 1024
"""In one request."""


class Rows(BaseModel):
    """What /score takes."""

    inputs: list


def checked_rows(inputs: list) -> np.ndarray:
    """Return the rows of a request; what is wrong with them is the client's fault."""
    try:
        rows = np.asarray(inputs, dtype=np.float32)
    except (ValueError, TypeError) as error:
        raise HTTPException(422, f"inputs are no array of numbers: {error}") from error
    if rows.shape[1:] != SHAPE or not len(rows):
        wanted = ("n", *SHAPE)
        raise HTTPException(422, f"inputs have shape {rows.shape}: wanted is {wanted}")
    if len(rows) > MOST_ROWS:
        raise HTTPException(413, f"{len(rows)} rows: at most {MOST_ROWS} in a request")
    if not np.isfinite(rows).all():
        raise HTTPException(422, "inputs have NaN or infinite entries")
    return rows


def create_app(served: Path) -> FastAPI:
    """Return the service of a folder that `make_model.py` has made."""
    counts: Counter = Counter()

    @asynccontextmanager
    async def lifespan(app: FastAPI):
        pipeline = skood.load(served / "detector", network=DigitsNetwork)
        watch = Watch(served / "watch", np.load(served / "reference.npz"))

        def answer(rows: np.ndarray) -> dict[str, np.ndarray]:
            start = time.perf_counter()
            features = pipeline[:-1].transform(rows)
            scored = pipeline[-1].score_and_predict(features)
            watch.update(scored.scores, scored.flags)
            counts["rows"] += len(rows)
            counts["flagged"] += int((scored.flags == -1).sum())
            counts["seconds"] += time.perf_counter() - start
            return {
                "score": scored.scores,
                "p_value": pipeline[-1].p_values(features),
                "is_inlier": scored.flags == 1,
            }

        app.state.batcher, app.state.watch = Batcher(answer), watch
        with pipeline[0].frozen():
            task = asyncio.create_task(app.state.batcher.run())
            yield
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        watch.save()

    app = FastAPI(title="skood", lifespan=lifespan)

    @app.post("/score")
    async def score(rows: Rows) -> dict[str, list]:
        counts["requests"] += 1
        found = await app.state.batcher.answer(checked_rows(rows.inputs))
        return {name: values.tolist() for name, values in found.items()}

    @app.get("/health")
    async def health() -> dict[str, object]:
        said = app.state.watch.said()
        alarms = [name for name in ("shift_alarm", "rate_alarm") if said[name]]
        return {"status": "ok", "skood": skood.__version__, "alarms": alarms}

    @app.get("/metrics", response_class=PlainTextResponse)
    async def metrics() -> str:
        counters = {**counts, "batches": app.state.batcher.batches}
        lines = [f"skood_{name}_total {counters[name]}" for name in sorted(counters)]
        said = app.state.watch.said()
        return "\n".join([*lines, *(f"skood_{n} {v:.6g}" for n, v in said.items()), ""])

    return app


app = create_app(Path(os.environ.get("SERVED", "served")))
