"""What the tests of workers share: the backends, each started once, and small data."""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack, contextmanager
from functools import cache
from unittest import mock

import numpy as np
import pytest
from joblib import parallel_config

from skood import AMP, LayerFeatures
from skood.estimator_checks import synthetic_features
from skood.features import chunks
from skood.features.workers import workers

BACKENDS = ["threading", "loky", "multiprocessing", "dask", "ray"]

CHUNK_ROWS = 64
"""Rows of a chunk in the tests, of which workers hear by the chunks they get."""


@contextmanager
def small_chunks():
    """Cut into small chunks here, hold rows out once, not ten times, train briefly."""
    with (
        mock.patch.object(chunks, "chunk_rows", return_value=CHUNK_ROWS),
        mock.patch("skood.detectors.as_if_new.held_out_scores", once_held_out),
        mock.patch.object(AMP, "_fresh_classifier", briefly_trained),
    ):
        yield


def briefly_trained(*given, made=AMP._fresh_classifier):
    return made(*given).set_params(max_epochs=2)


def once_held_out(scores_of, n_rows, n_columns, classes):
    rows = np.arange(n_rows)
    held_out = rows[rows % 4 == 0]
    return held_out, scores_of(rows[rows % 4 > 0], held_out)


@cache
def tiny_features() -> tuple[LayerFeatures, np.ndarray]:
    features, y = synthetic_features(150, 20)
    return features, y


@contextmanager
def backend(name: str):
    """Start a backend with two workers, and make it joblib's."""
    with ExitStack() as stack:
        options = stack.enter_context(STARTED[name]())
        stack.enter_context(parallel_config(backend=name, **options))
        stack.enter_context(workers())
        yield


@contextmanager
def _threads():
    yield {"n_jobs": 2}


@contextmanager
def _processes():
    yield {"n_jobs": 2, "max_nbytes": 500}  # as if all arrays were large


@contextmanager
def _dask():
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            dashboard_address=":0",  # any port: other processes have clusters, too
            host="127.0.0.1",
        ) as cluster,
        distributed.Client(cluster),
    ):
        yield {}


@contextmanager
def _ray():
    start_ray()
    from ray.util.joblib import register_ray

    register_ray()
    yield {"n_jobs": 2}


def start_ray():
    """Start Ray on this machine, once: it goes on until this process ends."""
    ray = pytest.importorskip("ray", reason="Ray is not installed")
    if ray.is_initialized():
        return
    # Its processes find the modules of the tests as this one does.
    with mock.patch.dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path)):
        ray.init(
            num_cpus=2,
            include_dashboard=False,
            object_store_memory=80 << 20,
            log_to_driver=False,
            logging_level="error",
        )


STARTED = {
    "threading": _threads,
    "loky": _processes,
    "multiprocessing": _processes,
    "dask": _dask,
    "ray": _ray,
}
