"""Which classes and functions a folder may name; nothing else is imported."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from importlib import import_module
from types import FunctionType
from typing import Any

from skood._sklearn_compat import loss_names
from skood._trusted import trusted_types
from skood.persistence.archive import STORED, name_of

__all__ = ["COMPILED", "own_types", "trusted_names"]

PLAIN = (
    STORED,
    "skood.extraction.perturbation.InputPerturbation",  # in no file of skops alone
    "sklearn.calibration._CalibratedClassifier",
    "sklearn.calibration._SigmoidCalibration",
    "sklearn.metrics._scorer._MultimetricScorer",
    "sklearn.metrics._scorer._PassthroughScorer",
    "sklearn.metrics._scorer._Scorer",
    "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
    "sklearn.neural_network._stochastic_optimizers.SGDOptimizer",
    "sklearn.utils._metadata_requests.MetadataRequest",
    "sklearn.utils._metadata_requests.MethodMetadataRequest",
)
"""Classes of values, which run nothing, beside skood's and what skops knows."""

COMPILED = {"sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor"}
"""Tables of numbers that compiled code follows anywhere; old versions of skops trust
them."""

FAMILIES: dict[str, Any] = {
    "sklearn.gaussian_process.kernels": type,
    "sklearn.metrics": FunctionType,
    "sklearn.model_selection": type,
}
"""Parts of scikit-learn of which what is public and of a kind may be named."""


@cache
def own_types() -> frozenset[str]:
    """Return what is loaded without the caller's trust, beside what skops knows."""
    names = {
        f"{value.__module__}.{value.__name__}"
        for family, kind in FAMILIES.items()
        for name, value in vars(import_module(family)).items()
        if isinstance(value, kind)
        and value.__module__.startswith(family)
        and not name.startswith("_")
    }
    return frozenset({*trusted_types(), *PLAIN, *loss_names(), *names})


def trusted_names(trusted: Iterable[Any]) -> dict[str, Any]:
    """Return what the caller trusts by name.

    Parameters
    ----------
    trusted : iterable of str, class or function
        Of a name, None stands for what it is.

    Raises
    ------
    TypeError
        If it is something else.
    """
    if isinstance(trusted, str) or callable(trusted):
        trusted = [trusted]
    if not isinstance(trusted, Iterable):
        raise _no_names(trusted)
    found: dict[str, Any] = {}
    for one in trusted:
        if isinstance(one, str):
            found[one.replace(":", ".")] = None
            continue
        if not (callable(one) and isinstance(getattr(one, "__name__", None), str)):
            raise _no_names(one)
        try:
            found[name_of(one)] = one
        except Exception as error:
            raise _no_names(one) from error
    return found


def _no_names(value: Any) -> TypeError:
    return TypeError(
        f"trusted has {value!r:.200}; wanted are names ('mypackage.MyScaler'), classes "
        "or functions."
    )
