"""What scikit-learn keeps private, and what its versions do differently: only here.

The names are tested on the oldest and the newest scikit-learn that is supported; where
one of them moves, this file is all that changes.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import _fit_context as fit_context
from sklearn.utils import _safe_indexing as safe_indexing
from sklearn.utils import validation
from sklearn.utils._openmp_helpers import (
    _openmp_effective_n_threads as openmp_threads,
)
from sklearn.utils._param_validation import (
    HasMethods,
    Interval,
    StrOptions,
    validate_parameter_constraints,
)
from sklearn.utils.validation import (
    _check_feature_names_in as feature_names_in,
)
from sklearn.utils.validation import _num_samples as num_samples

__all__ = [
    "HasMethods",
    "Interval",
    "StrOptions",
    "check_feature_names",
    "feature_names_in",
    "fit_context",
    "loss_names",
    "num_samples",
    "openmp_threads",
    "safe_indexing",
    "validate_data",
    "validate_parameter_constraints",
]


@cache
def loss_names() -> frozenset[str]:
    """Return the names of compiled losses in files: ``_loss.Cy...`` before 1.8."""
    from sklearn._loss import _loss  # only here: it takes all linear models along
    from sklearn.linear_model import _sgd_fast

    return frozenset(
        f"{kind.__module__}.{kind.__name__}"
        for module in (_loss, _sgd_fast)
        for kind in vars(module).values()
        if isinstance(kind, type) and module.__name__.endswith(kind.__module__)
    )


def validate_data(estimator: Any, X: Any, **options: Any) -> Any:
    """Return X as ``sklearn.utils.validation.validate_data`` does, names compared.

    Parameters
    ----------
    estimator : estimator
        Its ``n_features_in_`` and ``feature_names_in_`` are set or compared.
    X : array-like or DataFrame of shape (n, d)
        The rows.
    **options : dict
        Of scikit-learn's function.

    Returns
    -------
    ndarray of shape (n, d), or X itself with ``skip_check_array=True``
    """
    names = _names_not_seen(X)
    if names is not None and not options.get("skip_check_array"):
        X = _Named.of(np.asarray(X), names)
    return validation.validate_data(estimator, X, **options)


def check_feature_names(estimator: Any, X: Any, *, reset: bool) -> None:
    """Note the names of a frame's columns, or compare them with those noted.

    Parameters
    ----------
    estimator : estimator
        Its ``feature_names_in_`` is set or compared.
    X : array-like or DataFrame of shape (n, d)
        What has no names goes with any, with a warning.
    reset : bool
        Whether to note rather than compare.

    Raises
    ------
    ValueError
        If the names are others, or stand in another order.
    """
    names = _names_not_seen(X)
    if names is not None:
        X = _Named.of(np.empty((0, len(names))), names)
    validation._check_feature_names(estimator, X, reset=reset)


class _Named(np.ndarray[Any, Any]):
    """An array whose columns have names, told as the interchange protocol does."""

    names: list[str]

    @classmethod
    def of(cls, values: NDArray[Any], names: list[str]) -> _Named:
        """Return the same values, with names."""
        named = values.view(cls)
        named.names = names
        return named

    def __dataframe__(self) -> _Named:
        return self

    def column_names(self) -> list[str]:
        """Return the names, of which the protocol makes a method."""
        return self.names


def _names_not_seen(X: Any) -> list[str] | None:
    """Return a frame's names where this scikit-learn does not see them.

    Before 1.9 it knows frames other than those of pandas by the interchange protocol,
    which polars has dropped since 2.0: reordered columns would be taken in silence.
    """
    columns = getattr(X, "columns", None)
    if columns is None or validation._get_feature_names(X) is not None:
        return None
    named = len(columns) and all(isinstance(name, str) for name in columns)
    return list(columns) if named else None
