"""What the battery says: which rule was broken, by which of both batteries."""

from __future__ import annotations

import pytest
from sklearn.ensemble import IsolationForest

from skood import Mahalanobis
from skood.estimator_checks import (
    BrokenRule,
    check_estimator,
    estimator_checks_generator,
    parametrize_with_checks,
)
from skood.estimator_checks.battery import takes_arrays
from skood.model_selection import OutliersIgnored


class Flipped(Mahalanobis):
    def _score(self, chunk):
        return -super()._score(chunk)


class OverwritesItsParameter(Mahalanobis):
    def _fit(self, training):
        super()._fit(training)
        self.normalize = "yes"


def failed(report, battery):
    return {
        r["check_name"]: r
        for r in report
        if r["status"] == "failed" and r["battery"] == battery
    }


def test_a_failing_check_says_which_rule_was_broken():
    with pytest.raises(BrokenRule, match=r"rule 'In-distribution rows score") as found:
        check_estimator(Flipped())
    assert "AssertionError: AUROC" in str(found.value)
    assert isinstance(found.value.__cause__, AssertionError)
    one = failed(check_estimator(Flipped(), on_fail=None), "skood")
    result = one["check_outliers_score_lower"]
    assert result["rule"] == "In-distribution rows score higher: no flipped sign."
    assert "is the sign flipped?" in str(result["exception"])


def test_scikit_learns_battery_runs_where_arrays_are_taken():
    report = check_estimator(OverwritesItsParameter(), on_fail=None)
    found = failed(report, "scikit-learn")
    assert "check_dont_overwrite_parameters" in found
    assert "check_estimators_overwrite_params" in found
    for result in report:
        assert result["rule"]
        assert "\n" not in result["rule"]


@pytest.mark.parametrize(
    ("estimator", "taken"),
    [
        (Mahalanobis(), True),
        (Mahalanobis("layer1"), False),
        (OutliersIgnored(IsolationForest(random_state=0)), True),
    ],
    ids=repr,
)
def test_it_does_not_run_where_they_are_not(estimator, taken):
    assert takes_arrays(estimator) is taken
    if not taken:
        batteries = {result["battery"] for result in check_estimator(estimator)}
        assert batteries == {"skood"}


def test_every_check_of_ours_has_a_rule_in_a_line():
    for _, check in estimator_checks_generator(Mahalanobis()):
        assert check.rule != check.__name__
        assert check.rule.endswith(".")


def test_names_of_checks_are_the_same_in_every_process():
    detector = Mahalanobis(device=object())
    assert "0x" in repr(detector)
    names = parametrize_with_checks([detector]).kwargs["ids"]
    assert not any("0x" in name for name in names)
    assert all("Mahalanobis" in name for name in names)
