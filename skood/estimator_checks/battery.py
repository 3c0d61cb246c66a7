"""Run the checks: in pytest, one by one, or as a report."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any
from unittest import SkipTest

from sklearn.base import clone
from sklearn.utils import get_tags
from sklearn.utils.estimator_checks import (
    estimator_checks_generator as checks_of_scikit_learn,
)

from skood.estimator_checks.checks import CHECKS
from skood.estimator_checks.synthetic import synthetic_features

Check = Callable[[], None]


def estimator_checks_generator(estimator: Any) -> Iterator[tuple[Any, NamedCheck]]:
    """Yield the estimator with each check, ready to be called.

    Parameters
    ----------
    estimator : estimator instance
        Anything with scikit-learn's outlier contract that takes ``LayerFeatures``
        (or what ``np.asarray`` makes of them).

    Yields
    ------
    estimator, check
        ``check()`` raises AssertionError when a rule is broken, and says which.
    """
    for check in CHECKS:
        ready = partial(check, clone(estimator))
        yield estimator, NamedCheck(ready, check.__name__, check.__doc__)


def parametrize_with_checks(estimators: Sequence[Any]) -> Any:
    """Pytest decorator that runs every check on every estimator.

    Scikit-learn's own checks have a decorator of the same name in
    :mod:`sklearn.utils.estimator_checks`; :func:`check_estimator` runs both.

    Parameters
    ----------
    estimators : sequence of estimator instances
        Detectors, of this library or of others.

    Returns
    -------
    pytest mark
        For a test function with the arguments ``estimator`` and ``check``.

    Examples
    --------
    >>> from skood import KNN
    >>> from skood.estimator_checks import parametrize_with_checks
    >>> @parametrize_with_checks([KNN(n_neighbors=3)])
    ... def test_detectors(estimator, check):
    ...     check()
    """
    import pytest

    cases = [case for est in estimators for case in estimator_checks_generator(est)]
    names = [f"{_shown(estimator)}-{check.__name__}" for estimator, check in cases]
    return pytest.mark.parametrize(("estimator", "check"), cases, ids=names)


def _shown(estimator: Any) -> str:
    """Return the repr without addresses, which are others in each process."""
    return re.sub(r" at 0x[0-9A-Fa-f]+", "", repr(estimator))


def check_estimator(
    estimator: Any, *, on_fail: str | None = "raise"
) -> list[dict[str, Any]]:
    """Run all checks on one estimator, and scikit-learn's if it takes arrays.

    Parameters
    ----------
    estimator : estimator instance
        The detector to check.
    on_fail : {"raise", None}, default="raise"
        None collects the failures in the report.

    Returns
    -------
    list of dict
        For each check ``check_name``; ``rule``, what has to hold; ``status``
        ("passed", "failed" or, where scikit-learn skips one, "skipped"); ``exception``;
        and ``battery`` ("skood" or "scikit-learn").

    Raises
    ------
    BrokenRule
        With ``on_fail="raise"``, by the first check that fails: which rule was broken,
        from the exception that showed it.

    Examples
    --------
    >>> from skood import Mahalanobis
    >>> from skood.estimator_checks import check_estimator
    >>> report = check_estimator(Mahalanobis())
    >>> sorted({result["battery"] for result in report})
    ['scikit-learn', 'skood']
    >>> [result for result in report if result["status"] == "failed"]
    []
    >>> report[0]["rule"]
    'In-distribution rows score higher: no flipped sign.'
    """
    report = [
        _result(check, "skood", on_fail)
        for _, check in estimator_checks_generator(estimator)
    ]
    if takes_arrays(estimator):
        report += _results_of_scikit_learn(estimator, on_fail)
    return report


class BrokenRule(AssertionError):
    """A rule that an estimator breaks, raised from the exception that showed it."""


class NamedCheck:
    """A check of one estimator, ready to be called, which knows what rule it checks.

    Parameters
    ----------
    check : callable
        Called without arguments; raises where the rule is broken.
    name : str
        Of the check.
    doc : str or None
        Its docstring, whose first line is the rule.
    """

    def __init__(self, check: Check, name: str, doc: str | None) -> None:
        self.check = check
        self.__name__ = name
        self.rule = (doc or name).strip().splitlines()[0]

    def __call__(self) -> None:
        """Run the check; raise BrokenRule where it fails."""
        try:
            self.check()
        except SkipTest:
            raise
        except Exception as error:
            raise BrokenRule(
                f"{self.__name__}: the rule {self.rule!r} is broken. "
                f"{type(error).__name__}: {error}"
            ) from error


def takes_arrays(estimator: Any) -> bool:
    """Return whether an estimator is for tables too, not for layer features alone."""
    if not get_tags(estimator).input_tags.two_d_array:
        return False
    features, y = synthetic_features()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            clone(estimator).fit(features.block("penultimate", "avg"), y)
        except ValueError as error:  # of other errors the checks will tell
            return "LayerFeatures" not in str(error)
    return True


def _results_of_scikit_learn(
    estimator: Any, on_fail: str | None
) -> list[dict[str, Any]]:
    report = []
    with warnings.catch_warnings():
        # On the dozen rows of most checks a warning of too few rows is as it should be.
        warnings.simplefilter("ignore", UserWarning)
        for fresh, call in checks_of_scikit_learn(estimator):
            check = call.func if isinstance(call, partial) else call
            ready = NamedCheck(partial(call, fresh), check.__name__, check.__doc__)
            report.append(_result(ready, "scikit-learn", on_fail))
    return report


def _result(check: NamedCheck, battery: str, on_fail: str | None) -> dict[str, Any]:
    found: dict[str, Any] = {
        "check_name": check.__name__,
        "rule": check.rule,
        "status": "passed",
        "exception": None,
        "battery": battery,
    }
    try:
        check()
    except SkipTest as reason:
        found.update(status="skipped", exception=reason)
    except BrokenRule as error:
        if on_fail == "raise":
            raise
        found.update(status="failed", exception=error.__cause__)
    return found
