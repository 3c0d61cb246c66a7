"""Both batteries over every detector, and what all of them promise."""

from __future__ import annotations

import pickle
from collections import Counter

import numpy as np
import pytest
from instances import OOD_BATTERY, SKLEARN_BATTERY
from sklearn.base import clone, is_outlier_detector
from sklearn.ensemble import IsolationForest
from sklearn.utils.estimator_checks import check_estimator

from skood import KNN, Gram, LayerFeatures, Mahalanobis, OpenMax
from skood.detectors.logits.openmax import Tails
from skood.detectors.registry import REGISTRY
from skood.estimator_checks import (
    check_estimator as check_detector,
)
from skood.estimator_checks import (
    parametrize_with_checks,
    synthetic_features,
)
from skood.estimator_checks.checks import CHECKS, check_chunks_equal_whole
from skood.model_selection import OutliersIgnored

SKLEARN_CHECKS = 46
"""Checks of scikit-learn 1.9 for a novelty detector; one needs SCIPY_ARRAY_API."""


@pytest.mark.filterwarnings("ignore:contamination=0.05 takes 19 in-distribution rows")
@pytest.mark.filterwarnings("ignore:classes with one row only")
@pytest.mark.filterwarnings("ignore:.*partial_fit begins anew")
@pytest.mark.parametrize("detector", SKLEARN_BATTERY, ids=repr)
def test_battery_of_scikit_learn(detector, capsys):
    report = check_estimator(detector, on_skip=None, on_fail=None)
    failed = {
        r["check_name"]: r["exception"] for r in report if r["status"] == "failed"
    }
    assert not failed
    count = Counter(result["status"] for result in report)
    with capsys.disabled():
        print(f"\n{detector!r}: {len(report)} checks, {dict(count)}", end=" ")
    assert len(report) >= SKLEARN_CHECKS - 2  # older versions have two fewer
    assert count["passed"] >= len(report) - 1
    assert not any(result["expected_to_fail"] for result in report)


@parametrize_with_checks(OOD_BATTERY)
def test_battery_for_detectors(estimator, check):
    check()


def test_the_battery_is_not_empty():
    assert len(CHECKS) == 15
    report = check_detector(Mahalanobis(), on_fail=None)
    count = Counter(result["battery"] for result in report)
    assert count["skood"] == len(CHECKS)
    assert count["scikit-learn"] >= SKLEARN_CHECKS - 2


def test_the_battery_takes_detectors_of_others():
    report = check_detector(
        OutliersIgnored(IsolationForest(n_estimators=20, random_state=0)), on_fail=None
    )
    failed = [result["check_name"] for result in report if result["status"] == "failed"]
    # A forest draws its rows: chunks are no matter to it, but its training scores set
    # the threshold, and its container is an array.
    assert set(failed) <= {
        "check_false_alarms_on_new_rows",
        "check_false_alarms_on_hard_data",
    }


class Flipped(Mahalanobis):
    def _score(self, chunk):
        return -super()._score(chunk)


class FittedOnOutliers(Mahalanobis):
    def _read_labels(self, features, y):
        return super()._read_labels(features, np.maximum(y, 0))


class DependsOnItsBatch(KNN):
    def _score(self, chunk):
        return super()._score(chunk) / len(chunk)


class ForgetsItsThreshold(KNN):
    def __getstate__(self):
        return {**super().__getstate__(), "offset_": 0.0}


@pytest.mark.parametrize(
    ("broken", "check"),
    [
        (Flipped(), "check_outliers_score_lower"),
        (FittedOnOutliers(), "check_outlier_rows_are_not_fitted"),
        (DependsOnItsBatch(5), "check_batch_size_is_no_matter"),
        (ForgetsItsThreshold(5), "check_files"),
    ],
    ids=lambda case: type(case).__name__ if not isinstance(case, str) else case,
)
def test_the_battery_catches_what_is_broken(broken, check):
    report = check_detector(broken, on_fail=None)
    failed = {r["check_name"] for r in report if isinstance(r["exception"], Exception)}
    assert check in failed


class FirstTails(Tails):
    def merge(self, other):
        return self


class KeepsItsFirstChunk(OpenMax):
    def _tails(self, z, classes, number):
        return FirstTails(super()._tails(z, classes, number).distances)


def test_detectors_of_few_columns_are_cut_into_chunks_too():
    with pytest.raises(AssertionError):
        check_chunks_equal_whole(KeepsItsFirstChunk())


@pytest.mark.parametrize("detector", OOD_BATTERY, ids=repr)
def test_what_every_detector_promises(detector):
    assert is_outlier_detector(detector)
    assert not hasattr(detector, "fit_predict")
    features, y = synthetic_features(60, 0)
    fitted = clone(detector).fit(features, y)
    state = pickle.loads(pickle.dumps(fitted)).__getstate__()
    assert state["_skood_version"]
    with pytest.raises(ValueError, match="newer than"):
        clone(detector).__setstate__({**state, "_skood_version": "99.0"})


NOT_DEFAULT = {"layers", "n_copies"}
"""Parameters that a class needs here, or that save time."""

POST_HOC = [
    entry for entry in REGISTRY.values() if entry.family not in ("trained", "wrapped")
]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("entry", POST_HOC, ids=lambda entry: entry.name)
def test_labels_matter_where_the_registry_says_so(entry):
    features, y = synthetic_features()
    given = entry.on_features[0]
    detector = entry.detector(**{k: given[k] for k in NOT_DEFAULT & {*given}})
    known = features[np.flatnonzero(y >= 0)]
    mostly = y[y >= 0].copy()
    mostly[::5] = (mostly[::5] + 1) % 3
    kinds = [y[y >= 0], mostly] + [None] * ("labels" not in entry.needs)
    scores = [
        clone(detector).fit(known, labels).score_samples(known) for labels in kinds
    ]
    differ = not all(np.array_equal(scores[0], others) for others in scores[1:])
    assert differ == entry.uses_labels


@pytest.mark.parametrize("entry", POST_HOC, ids=lambda entry: entry.name)
def test_what_a_detector_lacks_is_named_with_the_mend(entry):
    features, y = synthetic_features(60, 0)
    bare = features.without_company()
    for need in {*entry.needs} & {"head", "logits", "max", "l2", "lse", "gram"}:
        gone = "logits" if need == "head" else need
        lacking = bare.select_blocks([n for n in bare.block_names if gone not in n])
        with pytest.raises(ValueError, match=r"LayerFeatureTransformer|give head="):
            entry.detector().fit(lacking, y)


def test_a_wrong_layer_is_named_with_its_neighbours():
    features, y = synthetic_features(60, 0)
    with pytest.raises(ValueError, match=r"no layer 'layer3'.*Did you mean 'layer"):
        Mahalanobis("layer3").fit(features, y)
    with pytest.raises(ValueError, match="no layer has the statistic 'cls'"):
        Mahalanobis(statistic="cls").fit(features, y)
    with pytest.raises(ValueError, match="X is a plain array, which has no named"):
        Mahalanobis("layer1").fit(np.zeros((5, 2)))
    with pytest.raises(ValueError, match="and Gram reads several blocks"):
        Gram().fit(np.zeros((5, 2)))


def test_other_features_than_in_fit_are_refused():
    features, y = synthetic_features(60, 0)
    detector = Mahalanobis("layer1").fit(features, y)
    other = LayerFeatures({"layer1": np.zeros((3, 4))})
    with pytest.raises(ValueError, match=r"layer1/avg \(4\).*layer1/avg \(12\)"):
        detector.predict(other)
    wide = Mahalanobis().fit(np.random.default_rng(0).normal(size=(20, 3)))
    with pytest.raises(ValueError, match="4 features, but Mahalanobis is expecting 3"):
        wide.predict(np.zeros((2, 4)))
    with pytest.raises(ValueError, match="was fitted on array/avg"):
        wide.predict(features)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"contamination": 0.7}, "contamination"),
        ({"contamination": 0.0}, "contamination"),
        ({"statistic": 3}, "statistic"),
        ({"layers": 7}, "layers"),
        ({"device": "abacus"}, "device='abacus' is not available"),
    ],
)
def test_parameters_are_validated_in_fit(change, text):
    with pytest.raises(ValueError, match=text):
        Mahalanobis().set_params(**change).fit(
            np.random.default_rng(0).normal(size=(9, 2))
        )
