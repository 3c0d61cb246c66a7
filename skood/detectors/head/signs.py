"""Guards of scores that multiply or divide by a logit score, which may be negative."""

from __future__ import annotations

from typing import Any

from skood.numerics.device import array_namespace

__all__ = ["check_positive", "guarded_product"]


def check_positive(method: str, what: str, mean: float, mend: str) -> None:
    """Raise if the mean of the training rows, by which is weighed, is not positive."""
    if not mean > 0:
        raise ValueError(
            f"{what} is {mean:.3g} in the mean of the training rows, and {method} "
            f"weighs by it, which has a meaning where it is positive: {mend}."
        )


def guarded_product(logit_score: Any, factor: Any) -> Any:
    """Return the product of both where the first is positive, else the first.

    A negative logit score says outlier, and a larger factor must not lower it further.
    """
    xp = array_namespace(logit_score)
    return xp.where(logit_score > 0, logit_score * factor, logit_score)
