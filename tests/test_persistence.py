"""Every detector through every format, and what its files are made of."""

from __future__ import annotations

import io
import os
import pickle
import subprocess
import sys
from pathlib import Path

import joblib
import numpy as np
import pytest
import torch
from persisted import (
    ESTIMATORS,
    READERS,
    data_of,
    fitted,
    scores_of,
    written,
)

import skood
from skood import KNN, LSGM, NAP, Mahalanobis

KINDS = list(ESTIMATORS)


@pytest.fixture(scope="module")
def estimators():
    return {kind: fitted(kind) for kind in KINDS}


def with_numbers(estimators):
    return [
        (k, n, e) for k, of_kind in estimators.items() for n, e in enumerate(of_kind)
    ]


# The formats -------------------------------------------------------------------------


def said_in_a_fresh_process(folder, **environment):
    script = Path(__file__).with_name("persisted.py")
    done = subprocess.run(
        [sys.executable, "-W", "error", str(script), str(folder)],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    with np.load(folder / "scores.npz") as file:
        return dict(file)


def test_scores_are_the_same_in_a_fresh_process(estimators, tmp_path):
    written(estimators, tmp_path)
    found = said_in_a_fresh_process(tmp_path)
    for kind, number, estimator in with_numbers(estimators):
        expected = scores_of(estimator, kind)
        for way in READERS:
            name = f"{kind}/{number}/{way}"
            same = np.array_equal(found.pop(name), expected)
            assert same, f"{name}: {estimator!r}"
    assert not found


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA")
def test_files_of_an_accelerator_open_without_one(estimators, tmp_path):
    written(estimators, tmp_path)
    found = said_in_a_fresh_process(tmp_path, CUDA_VISIBLE_DEVICES="")
    assert len(found) == len(READERS) * len(with_numbers(estimators))
    for kind, number, estimator in with_numbers(estimators):
        expected = scores_of(estimator, kind)[0]
        for way in READERS:
            scores = found[f"{kind}/{number}/{way}"][0]
            np.testing.assert_allclose(scores, expected, rtol=1e-5, atol=1e-7)


def test_the_table_is_whole():
    kinds = {type(e).__name__ for of_kind in ESTIMATORS.values() for e in of_kind}
    classes = [getattr(skood, name) for name in skood.__all__]
    detectors = {
        c.__name__ for c in classes if hasattr(c, "fit") and hasattr(c, "score_samples")
    }
    assert kinds >= detectors - {"BaseDetector"}  # others derive from it
    assert list(ESTIMATORS) == ["ndarray", "LayerFeatures", "DataFrame"]
    count = sum(map(len, ESTIMATORS.values()))
    assert set(READERS) == {"joblib", "joblib, mapped", "pickle", "skops", "save"}
    assert len(READERS) * count >= 340


# Mapped files ------------------------------------------------------------------------


def arrays_within(value, seen=None):
    """Yield the numbers that an object of skood or scikit-learn holds."""
    seen = {} if seen is None else seen
    if id(value) in seen or isinstance(value, type):
        return
    seen[id(value)] = value
    if isinstance(value, np.ndarray):
        if value.size and value.dtype.kind in "biuf":
            yield value
        return
    if isinstance(value, dict):
        parts = list(value.values())
    elif isinstance(value, (list, tuple)):
        parts = list(value)
    elif type(value).__module__.startswith(("skood.", "sklearn.")):
        # A network is made again of the arrays in the file.
        parts = [v for n, v in vars(value).items() if n != "module_"]
    else:
        return
    for part in parts:
        yield from arrays_within(part, seen)


def test_loaded_arrays_are_maps(estimators, tmp_path):
    n_arrays = 0
    for kind, number, estimator in with_numbers(estimators):
        file = tmp_path / f"{kind}{number}.joblib"
        joblib.dump(estimator, file)
        mapped = joblib.load(file, mmap_mode="r")
        held = list(arrays_within(mapped))
        assert all(isinstance(array, np.memmap) for array in held), repr(estimator)
        assert not any(array.flags.writeable for array in held)
        expected = scores_of(estimator, kind)
        np.testing.assert_array_equal(scores_of(mapped, kind), expected)
        # Scoring has put no copies in their place; what it prepares stands beside.
        after = {id(array) for array in arrays_within(mapped)}
        assert all(id(array) in after for array in held), repr(estimator)
        n_arrays += len(held)
    assert n_arrays > 300


@pytest.mark.parametrize(
    "detector",
    [
        KNN(5),
        Mahalanobis(relative=True),
        LSGM(9, random_state=0),
        LSGM(2, covariance_type="full", random_state=0),
        LSGM(2, covariance_type="tied", random_state=0),
        NAP(per_class=False),
    ],
    ids=repr,
)
def test_a_file_holds_each_array_once(detector):
    rng = np.random.default_rng(0)
    y = np.arange(500) % 2
    detector.fit(rng.normal(size=(500, 200)) + y[:, None], y)
    again = pickle.loads(pickle.dumps(detector))  # without what is worked out
    file = io.BytesIO()
    joblib.dump(detector, file)
    n_bytes = sum(array.nbytes for array in arrays_within(again))
    assert n_bytes > 10_000
    assert len(file.getvalue()) < 1.2 * n_bytes + 5000


# What is in a file -------------------------------------------------------------------


class Names(pickle.Unpickler):
    """Notes every class and function that a pickle names."""

    def __init__(self, file):
        super().__init__(file)
        self.found = set()

    def find_class(self, module, name):
        self.found.add(f"{module}.{name}")
        return super().find_class(module, name)


def names_in(estimator):
    names = Names(io.BytesIO(pickle.dumps(estimator)))
    names.load()
    return names.found


def test_no_tensor_and_no_net_is_in_a_file(estimators):
    for _, _, estimator in with_numbers(estimators):
        found = names_in(estimator)
        assert not [n for n in found if n.startswith(("torch.", "skorch."))]


def test_files_do_not_grow_with_use(estimators):
    for kind, _, estimator in with_numbers(estimators):
        before = pickle.dumps(pickle.loads(pickle.dumps(estimator)))
        again = pickle.loads(before)
        scores_of(again, kind)
        assert len(pickle.dumps(again)) == len(before), repr(estimator)


def test_what_comes_in_portions_goes_on_from_a_file():
    X, y = data_of("LayerFeatures")
    whole = Mahalanobis().partial_fit(X[:40], y[:40])
    parts = pickle.loads(pickle.dumps(whole))
    expected = whole.partial_fit(X[40:], y[40:]).decision_function(X)
    found = parts.partial_fit(X[40:], y[40:]).decision_function(X)
    np.testing.assert_array_equal(found, expected)
