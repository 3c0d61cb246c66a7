"""Which classes and functions a folder may name; nothing else is imported."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from importlib import import_module
from types import FunctionType
from typing import Any

import skops.io

from skood._sklearn_compat import loss_names
from skood._trusted import trusted_types
from skood.persistence.archive import STORED, checked_archive, name_of
from skood.persistence.errors import LoadError

__all__ = ["allowed_names", "found", "trusted_names"]

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
def _own_types() -> frozenset[str]:
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


def allowed_names(
    data: bytes, trusted: dict[str, Any], factories: Iterable[str]
) -> set[str]:
    """Return the names in a skops file, if all of them may be there.

    Parameters
    ----------
    data : bytes
        The file.
    trusted : dict of str
        From :func:`trusted_names`.
    factories : iterable of str
        Names beside the file.

    Raises
    ------
    LoadError
        If one is not trusted, or the file is none of ours.
    """
    try:
        names, called = checked_archive(data)
        unknown = {*skops.io.get_untrusted_types(data=data), *factories}
    except Exception as error:
        raise LoadError(
            f"estimator.skops is not as skood.save writes it: {error}"
        ) from error
    unknown = (unknown | names & COMPILED) - {*_own_types(), *trusted}
    if unknown:
        raise LoadError(
            f"it names what is neither skood's nor an estimator of scikit-learn: "
            f"{', '.join(sorted(unknown))}. If you trust all of these, and want their "
            f"code to run, give trusted={sorted(unknown)!r}."
        )
    for name in called - {STORED, *loss_names()}:
        if not (name in trusted and isinstance(found(name, trusted), type)):
            raise LoadError(f"{name!r} is not read as what is called.")
    return names & {*_own_types(), *trusted}


def found(name: str, trusted: dict[str, Any]) -> Any:
    """Return what the caller trusts under a name.

    Raises
    ------
    LoadError
        If there is no such thing here.
    """
    if trusted[name] is not None:
        return trusted[name]
    module, _, attribute = name.rpartition(".")
    try:
        return getattr(import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise LoadError(f"{name!r} is not found here: {error}") from error
