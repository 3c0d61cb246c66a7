"""Several threads ask the same fitted estimator, and it is copied meanwhile."""

from __future__ import annotations

import pickle
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from copy import deepcopy

import joblib
import numpy as np
import pytest
import torch
from hard_rows import mapped
from sklearn.base import clone
from sklearn.pipeline import make_pipeline
from torch import nn

from skood import (
    KNN,
    LSGM,
    NAP,
    AutoOOD,
    ConformalDetector,
    DetectorEnsemble,
    Energy,
    LayerEnsemble,
    LayerFeatureTransformer,
    Mahalanobis,
    TargetRateThreshold,
    load,
    save,
)
from skood.detectors.registry import REGISTRY
from skood.estimator_checks import synthetic_features

THREADS = 8

TOGETHER = [
    DetectorEnsemble([("energy", Energy()), ("knn", KNN(5))]),
    LayerEnsemble(KNN(5), combine="lda", calibration=0.4),
    AutoOOD(),
    TargetRateThreshold(KNN(5), 0.3, cv=0.5),
    ConformalDetector(KNN(5), 0.3, cv=0.5),
]

DETECTORS = [
    entry.detector(**entry.on_features[0])
    for entry in REGISTRY.values()
    if entry.on_features and entry.name != "AMP"  # it trains for seconds
] + TOGETHER


def known():
    return synthetic_features(90, 0)


def new():
    return synthetic_features(40, 24, random_state=1)[0]


def at_once(call, arguments):
    """Call in as many threads as there are arguments, all beginning together."""
    barrier = threading.Barrier(len(arguments))

    def begun(argument):
        barrier.wait()
        return call(argument)

    with ThreadPoolExecutor(len(arguments)) as threads:
        return list(threads.map(begun, arguments))


@pytest.mark.parametrize("detector", DETECTORS, ids=lambda d: type(d).__name__)
def test_threads_score_as_one_does(detector):
    features, y = known()
    fitted = clone(detector).fit(features, y)
    expected = deepcopy(fitted).score_samples(new())
    # The first call may prepare something: it is made by all at once.
    parts = [slice(start, None, THREADS) for start in range(THREADS)]
    for _ in range(2):
        found = at_once(lambda part: fitted.score_samples(new()[part]), parts)
        for part, scores in zip(parts, found, strict=True):
            np.testing.assert_allclose(scores, expected[part], rtol=1e-12)
    whole = at_once(fitted.score_samples, [new()] * THREADS)
    for scores in whole:
        np.testing.assert_array_equal(scores, expected)


def test_threads_fit_copies_of_one_detector():
    features, y = known()
    for detector in (Mahalanobis(), LSGM(3, random_state=0), NAP()):
        expected = clone(detector).fit(features, y).score_samples(new())

        def scores(_, detector=detector):
            return clone(detector).fit(features, y).score_samples(new())

        for found in at_once(scores, range(4)):
            np.testing.assert_allclose(found, expected, rtol=1e-10)


def small_network():
    return nn.Sequential(
        nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 3)
    )


@pytest.fixture(scope="module")
def pipeline():
    torch.manual_seed(0)
    network = small_network()
    X = np.random.default_rng(0).normal(size=(120, 6)).astype(np.float32)
    extractor = LayerFeatureTransformer(network, ["2", "logits"], batch_size=16)
    return make_pipeline(extractor, Mahalanobis("2")).fit(X), X


@contextmanager
def scored_meanwhile(estimator, rows, expected, tolerance=1e-12):
    """Score in threads until the block ends; raise what went wrong in them."""
    stop, wrong, counts = threading.Event(), [], []

    def ask():
        count = 0
        while not stop.is_set():
            try:
                np.testing.assert_allclose(
                    estimator.score_samples(rows), expected, rtol=tolerance
                )
            except BaseException as error:
                wrong.append(error)
                break
            count += 1
        counts.append(count)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert wrong == []
    assert min(counts) > 0


def copies(estimator, folder, **how):
    """Yield copies of an estimator by every way that keeps what was learned."""
    yield deepcopy(estimator)
    yield pickle.loads(pickle.dumps(estimator))
    joblib.dump(estimator, folder / "file.joblib")
    yield joblib.load(folder / "file.joblib")
    save(estimator, folder / "saved")
    yield load(folder / "saved", **how)


MADE = [Mahalanobis(), KNN(5), NAP(), LSGM(3, random_state=0), *TOGETHER[::3]]


@pytest.mark.parametrize("detector", MADE, ids=lambda d: type(d).__name__)
def test_copies_are_made_while_rows_are_scored(detector, tmp_path):
    features, y = known()
    fitted = clone(detector).fit(features, y)
    expected = deepcopy(fitted).score_samples(new())
    with scored_meanwhile(fitted, new(), expected):
        for copy in copies(fitted, tmp_path):
            np.testing.assert_array_equal(copy.score_samples(new()), expected)
        assert not hasattr(clone(fitted), "offset_")


def test_threads_ask_one_pipeline(pipeline):
    alarm, X = pipeline
    network = alarm[0].network
    before = {k: v.clone() for k, v in network.state_dict().items()}
    expected = alarm.score_samples(X)
    parts = [slice(start, None, THREADS) for start in range(THREADS)]
    for _ in range(5):
        found = at_once(lambda part: alarm.score_samples(X[part]), parts)
        for part, scores in zip(parts, found, strict=True):
            np.testing.assert_allclose(scores, expected[part], rtol=1e-4, atol=1e-4)
    assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())
    assert not any(m._forward_hooks for m in network.modules())
    assert all(m.training for m in network.modules())


def test_a_pipeline_is_copied_while_rows_are_scored(pipeline, tmp_path):
    alarm, X = pipeline
    expected = alarm.score_samples(X)
    with scored_meanwhile(alarm, X, expected, 1e-4):
        for copy in copies(alarm, tmp_path, network=small_network()):
            found = copy.score_samples(X)
            np.testing.assert_allclose(found, expected, rtol=1e-4)
            assert not any(m._forward_hooks for m in copy[0].network.modules())
    assert not any(m._forward_hooks for m in alarm[0].network.modules())


def test_threads_of_several_types_of_rows():
    features, y = known()
    fitted = KNN(5).fit(features, y)
    kinds = [np.float64, np.float32, np.float16, np.float64] * 2
    rows = [mapped(new(), lambda b, k=kind: b.astype(k)) for kind in kinds]
    expected = [deepcopy(fitted).score_samples(part) for part in rows]
    for scores, one in zip(at_once(fitted.score_samples, rows), expected, strict=True):
        np.testing.assert_array_equal(scores, one)
