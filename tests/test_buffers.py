"""NumPy's buffers are short wherever rows are worked on, and nowhere else."""

from __future__ import annotations

import numpy as np
import pytest
from joblib import parallel_config

from skood import LayerFeatures
from skood.features.chunks import chunk_results
from skood.numerics.buffers import BUFFER, short_buffers


def test_the_size_is_as_before_afterwards() -> None:
    before = np.getbufsize()
    with short_buffers():
        assert np.getbufsize() == BUFFER
    assert np.getbufsize() == before


@pytest.mark.parametrize("backend", ["threading", "loky"])
@pytest.mark.parametrize("n_jobs", [1, 2])
def test_chunks_get_short_ones_wherever_they_run(backend: str, n_jobs: int) -> None:
    before = np.getbufsize()
    rows = np.zeros((3000, 1 << 13), np.float16)
    features = LayerFeatures({("layer", "avg"): rows})
    with parallel_config(backend=backend, n_jobs=n_jobs):
        for size in chunk_results(lambda chunk: np.getbufsize(), features):
            assert size == BUFFER
            assert np.getbufsize() == before
