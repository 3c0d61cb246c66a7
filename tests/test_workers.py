"""Fits and scores do not depend on who makes them, to the last bit."""

from __future__ import annotations

import os
import pickle
import signal
import sys
from functools import cache
from threading import current_thread

import joblib
import numpy as np
import pytest
import torch
from backends import BACKENDS, backend, small_chunks, tiny_features
from sklearn import config_context, get_config
from sklearn.base import clone
from threadpoolctl import threadpool_info, threadpool_limits

from skood import KNN, LSGM, LayerFeatures, Mahalanobis, progress
from skood.detectors.registry import REGISTRY
from skood.features import chunks
from skood.features.workers import _Shipped, called_in_order
from skood.numerics.device import auto_device, resolved_device
from skood.numerics.moments import ClassMoments
from skood.numerics.threads import one_thread, threads_for

FEWER_PASSES = {"LSGM": {"max_iter": 4}}

DETECTORS = [
    entry.detector(**entry.on_features[0], **FEWER_PASSES.get(entry.name, {}))
    for entry in REGISTRY.values()
    if entry.on_features
]

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    # of Ray and of dask, about themselves
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]


@pytest.fixture(scope="module", params=BACKENDS)
def parallel(request):
    with backend(request.param):
        yield request.param


def fitted(number, light):
    """A detector, fitted; where passes are dear, with no rows held out of it."""
    features, y = tiny_features()
    new = features[y >= 0][::5] if light else None
    return clone(DETECTORS[number]).fit(features, y, threshold_data=new)


@cache
def serial(number, light):
    with small_chunks():
        detector = fitted(number, light)
        return detector.offset_, detector.score_samples(tiny_features()[0])


@pytest.mark.parametrize("number", range(len(DETECTORS)), ids=map(repr, DETECTORS))
def test_fit_and_score_are_those_of_one_process(parallel, number):
    light = parallel in ("dask", "ray")
    # Before, so that it is in this process, whatever the backend is.
    with joblib.parallel_config(backend="sequential"):
        offset, scores = serial(number, light)
    with small_chunks():
        detector = fitted(number, light)
        assert detector.offset_ == offset
        found = detector.score_samples(tiny_features()[0])
    np.testing.assert_array_equal(found, scores)


def test_each_call_is_made_somewhere_and_its_result_comes_in_order(parallel):
    assert [*called_in_order(_slow_first, [(n,) for n in range(9)])] == [*range(9)]
    assert [*called_in_order(_slow_first, [(n,) for n in range(9)], 4)] == [*range(9)]
    assert [*called_in_order(_slow_first, [])] == []
    offset = 5
    found = called_in_order(lambda n: n + offset, [(1,), (2,)])
    assert [*found] == [6, 7]
    if parallel != "threading":
        assert os.getpid() not in called_in_order(os.getpid, [()] * 4)


def test_few_results_are_held_however_slowly_they_are_taken(parallel):
    taken = []

    def arguments():
        for n in range(20):
            taken.append(n)
            yield (n,)

    found = called_in_order(_slow_first, arguments())
    assert next(found) == 0
    assert len(taken) == 8
    assert [*found] == [*range(1, 20)]


def _slow_first(n):
    if n == 0:
        import time

        time.sleep(0.05)
    return n


def test_what_a_worker_finds_is_what_there_is_here(parallel):
    with config_context(assume_finite=True), auto_device("cpu:0"):
        found = [*called_in_order(_circumstances, [()] * 3)]
    assert found == [(True, "cpu:0", 1, {1})] * 3
    assert not get_config()["assume_finite"]


def _circumstances():
    blas = {pool["num_threads"] for pool in threadpool_info()}
    jobs = joblib.effective_n_jobs(None)
    return get_config()["assume_finite"], resolved_device("auto"), jobs, blas


@pytest.mark.parametrize("parallel", BACKENDS[:-1], indirect=True)  # Ray takes a while
def test_an_error_in_a_worker_is_an_error_here_and_the_workers_go_on(parallel):
    with pytest.raises(ValueError, match="row 3"):
        [*called_in_order(_raising, [(n,) for n in range(9)])]
    assert [*called_in_order(_slow_first, [(7,)])] == [7]


def _raising(n):
    if n == 3:
        raise ValueError(f"row {n}")
    return n


@pytest.mark.parametrize("parallel", ["dask"], indirect=True)
def test_a_worker_that_dies_in_a_fit_is_replaced(parallel, tmp_path):
    features, y = tiny_features()
    with joblib.parallel_config(backend="sequential"):
        expected = Mahalanobis(layers="layer1").fit(features, y)
    with small_chunks():
        detector = Dying(layers="layer1")
        detector.__dict__["grave"] = tmp_path / "grave"
        detector.fit(features, y)
    assert (tmp_path / "grave").read_text() != str(os.getpid())
    with small_chunks(), joblib.parallel_config(backend="sequential"):
        expected = Mahalanobis(layers="layer1").fit(features, y)
        assert detector.offset_ == expected.offset_
        np.testing.assert_array_equal(
            detector.means_["layer1", "avg"], expected.means_["layer1", "avg"]
        )


class Dying(Mahalanobis):
    """The first worker that gets rows of it kills itself."""

    def _chunk_moments(self, chunk, labels):
        try:
            with self.grave.open("x") as file:
                file.write(str(os.getpid()))
        except FileExistsError:
            return super()._chunk_moments(chunk, labels)
        os.kill(os.getpid(), signal.SIGKILL)


# What is shipped -------------------------------------------------------------------


def shipped_bytes(call):
    return len(pickle.dumps(_Shipped(call)))


def test_rows_that_are_saved_travel_as_a_path_and_numbers(tmp_path, monkeypatch):
    rows = np.random.default_rng(0).normal(size=(5000, 50)).astype(np.float32)
    jigsaw = LayerFeatures({"a": rows})
    LayerFeatures({"a": rows, "b": rows}, views={"jigsaw": jigsaw}).save(tmp_path / "f")
    saved = LayerFeatures.load(tmp_path / "f")
    sent = []
    monkeypatch.setattr(
        chunks, "called_in_order", lambda call, arguments, _: sent.extend(arguments)
    )
    monkeypatch.setattr(chunks, "chunk_rows", lambda width: 1000)
    sent.clear()
    _asked(chunks.chunk_results(len, saved, np.arange(5000)))
    assert len(sent) == 5
    assert all(len(pickle.dumps(chunk)) < 1000 for chunk, _ in sent)
    np.testing.assert_array_equal(sent[3][1], np.arange(3000, 4000))
    # Rows that are chosen by number are numbers, and those in memory the rows alone.
    sent.clear()
    _asked(chunks.chunk_results(len, saved[np.arange(5000)[::-1]]))
    assert all(len(pickle.dumps(chunk)) < 10_000 for (chunk,) in sent)
    sent.clear()
    in_memory = LayerFeatures({"a": rows}, views={"jigsaw": jigsaw})
    _asked(chunks.chunk_results(len, in_memory))
    assert all(len(pickle.dumps(chunk)) < 1000 * 50 * 4 + 1000 for (chunk,) in sent)


def _asked(results):
    with pytest.raises(TypeError):  # nothing comes back
        list(results)


def test_a_detector_that_goes_to_workers_leaves_its_sample_at_home():
    X = np.random.default_rng(0).normal(size=(3000, 20))
    fitted = Mahalanobis().fit(X)
    going_on = Mahalanobis().partial_fit(X)
    assert shipped_bytes(going_on) > X.nbytes
    assert shipped_bytes(going_on._without_rows()) < shipped_bytes(fitted) + 1000
    np.testing.assert_array_equal(
        going_on._without_rows().score_samples(X), going_on.score_samples(X)
    )


def test_arrays_travel_beside_a_callable_once_for_all_calls():
    bank = np.zeros((1000, 100))
    shipped = _Shipped(lambda n: bank[n])
    function, (text, buffers, *rest) = shipped.__reduce__()
    assert len(text) < 2000
    assert np.shares_memory(buffers[0], bank)
    assert shipped.__reduce__()[1][1][0] is buffers[0]
    np.testing.assert_array_equal(function(text, buffers, *rest).call(3), bank[3])


def test_the_size_of_a_callable_counts_its_arrays():
    # joblib sends to each of Dask's workers once what is large, by this size.
    bank = np.zeros((1000, 100))
    assert sys.getsizeof(_Shipped(lambda n: bank[n])) > bank.nbytes


# Threads ---------------------------------------------------------------------------


def blas_threads():
    pools = [p for p in threadpool_info() if p["user_api"] == "blas"]
    return {pool["num_threads"] for pool in pools}


def test_one_thread_is_taken_back_when_the_last_leaves():
    with threadpool_limits(3, user_api="blas"):
        before = torch.get_num_threads()
        torch.set_num_threads(3)
        try:
            first, second = one_thread(), one_thread()
            first.__enter__()
            second.__enter__()
            assert (blas_threads(), torch.get_num_threads()) == ({1}, 1)
            first.__exit__(None, None, None)
            assert blas_threads() == {1}
            second.__exit__(None, None, None)
            assert (blas_threads(), torch.get_num_threads()) == ({3}, 3)
        finally:
            torch.set_num_threads(before)


def test_calls_share_the_threads_that_blas_has():
    with threadpool_limits(3, user_api="blas"):
        with threads_for(8) as mapped:
            found = list(mapped(lambda _: (current_thread(), blas_threads()), range(8)))
            with threads_for(8) as inner:
                assert inner is map
        assert 1 <= len({thread for thread, _ in found} - {current_thread()}) <= 3
        assert all(threads == {1} for _, threads in found)
        with threads_for(1) as mapped:
            assert mapped is map
            assert blas_threads() == {1}
        with pytest.raises(ZeroDivisionError), threads_for(2) as mapped:
            list(mapped(lambda number: 1 / number, [1, 0]))
        assert blas_threads() == {3}
    with threadpool_limits(1, user_api="blas"), threads_for(8) as mapped:
        assert mapped is map


@pytest.mark.parametrize("width", [40, 700])
def test_moments_do_not_depend_on_the_threads(width):
    rng = np.random.default_rng(0)
    X = rng.normal(3, 1, (8_000, width)).astype(np.float32)
    classes = rng.integers(0, 3, len(X))
    found = []
    for n_threads in (1, 2, 5):
        with threadpool_limits(n_threads, user_api="blas"):
            found.append(ClassMoments.of(X, classes, 3))
    for other in found[1:]:
        np.testing.assert_array_equal(other.means, found[0].means)
        np.testing.assert_array_equal(other.scatter, found[0].scatter)
    centred = (
        X - np.array([X[classes == c].mean(0, dtype=float) for c in range(3)])[classes]
    )
    expected = centred.T @ centred
    np.testing.assert_allclose(found[0].scatter, expected, rtol=1e-10, atol=1e-8)


def test_plain_calls_keep_their_threads_and_show_their_progress(capsys):
    plain = joblib.parallel_config(backend="sequential")
    with plain, threadpool_limits(2, user_api="blas"):
        assert [*called_in_order(blas_threads, [()])] == [{2}]
    features, y = tiny_features()
    for backend_name in ("sequential", "threading"):
        with (
            small_chunks(),
            joblib.parallel_config(backend=backend_name, n_jobs=2),
            progress(),
        ):
            Mahalanobis(layers="layer1").fit(features, y).score_samples(features)
        shown = capsys.readouterr().err
        assert "3/3" in shown
        assert "170/170" in shown


# Portions ---------------------------------------------------------------------------


@pytest.mark.parametrize("detector", [KNN(5), LSGM(2, random_state=0)], ids=repr)
def test_scores_in_a_file_are_those_of_one_call(detector, tmp_path):
    features, y = tiny_features()
    with small_chunks():
        detector = clone(detector).set_params(layers=["layer1", "layer2"])
        detector.fit(features, y)
        path = tmp_path / "new" / "scores.npy"
        scores = detector.score_to(path, features)
        np.testing.assert_array_equal(scores, detector.score_samples(features))
        np.testing.assert_array_equal(np.load(path), scores)
        assert isinstance(scores, np.memmap)


def test_scores_appear_whole_or_not_at_all(tmp_path):
    X = np.random.default_rng(0).normal(size=(200, 3))
    detector = Mahalanobis().fit(X)
    damaged = X.copy()
    damaged[150] = np.nan
    with small_chunks():
        detector.score_to(tmp_path / "scores.npy", X)
        with pytest.raises(ValueError, match="NaN"):
            detector.score_to(tmp_path / "scores.npy", damaged)
        with pytest.raises(ValueError, match="NaN"):
            detector.score_to(tmp_path / "others.npy", damaged)
    assert [path.name for path in tmp_path.iterdir()] == ["scores.npy"]
    np.testing.assert_array_equal(
        np.load(tmp_path / "scores.npy"), detector.score_samples(X)
    )


def test_a_portion_is_a_whole_number_of_chunks():
    for width in (1, 2, 3, 700, 2048, 2**23, 2**24):
        assert chunks.portion_rows() % chunks.chunk_rows(width) == 0
        assert chunks.chunk_rows(width) * width <= max(chunks.CHUNK_ELEMENTS, width)


def test_a_stream_is_scored_batch_by_batch():
    X = np.random.default_rng(0).normal(size=(100, 3))
    detector = Mahalanobis().fit(X)
    read = []

    def endless():
        while True:
            read.append(len(read))
            yield X[:7]

    stream = detector.score_stream(endless())
    for _ in range(3):
        scored = next(stream)
        np.testing.assert_array_equal(scored.scores, detector.score_samples(X[:7]))
        np.testing.assert_array_equal(scored.flags, detector.predict(X[:7]))
    assert read == [0, 1, 2]
