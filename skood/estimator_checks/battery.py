"""Run the checks: in pytest, one by one, or as a report."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

from sklearn.base import clone

from skood.estimator_checks.checks import CHECKS

Check = Callable[[], None]


def estimator_checks_generator(estimator: Any) -> Iterator[tuple[Any, Check]]:
    """Yield the estimator with each check, ready to be called.

    Parameters
    ----------
    estimator : estimator instance
        Anything with scikit-learn's outlier contract that takes ``LayerFeatures``
        (or what ``np.asarray`` makes of them).

    Yields
    ------
    estimator, check
        ``check()`` raises AssertionError when a rule is broken.
    """
    for check in CHECKS:
        yield estimator, _named(check, clone(estimator))


def parametrize_with_checks(estimators: Sequence[Any]) -> Any:
    """Pytest decorator that runs every check on every estimator.

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
    names = [f"{estimator!r}-{check.__name__}" for estimator, check in cases]
    return pytest.mark.parametrize(("estimator", "check"), cases, ids=names)


def check_estimator(
    estimator: Any, *, on_fail: str | None = "raise"
) -> list[dict[str, Any]]:
    """Run all checks on one estimator.

    Parameters
    ----------
    estimator : estimator instance
        The detector to check.
    on_fail : {"raise", None}, default="raise"
        None collects the failures in the report.

    Returns
    -------
    list of dict
        ``check_name``, ``status`` ("passed" or "failed") and ``exception``.

    Examples
    --------
    >>> from skood import Mahalanobis
    >>> from skood.estimator_checks import check_estimator
    >>> {result["status"] for result in check_estimator(Mahalanobis())}
    {'passed'}
    """
    report = []
    for _, check in estimator_checks_generator(estimator):
        entry: dict[str, Any] = {"check_name": check.__name__, "exception": None}
        try:
            check()
        except Exception as error:
            if on_fail == "raise":
                raise
            entry["exception"] = error
        entry["status"] = "passed" if entry["exception"] is None else "failed"
        report.append(entry)
    return report


def _named(check: Callable[[Any], None], estimator: Any) -> Check:
    call = partial(check, estimator)
    call.__name__ = check.__name__  # type: ignore[attr-defined]
    return call
