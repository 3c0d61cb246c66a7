"""Which classes and functions a folder may name; nothing else is imported."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import is_dataclass
from importlib import import_module
from types import FunctionType
from typing import Any

import sklearn
from sklearn import metrics
from sklearn.base import BaseEstimator
from sklearn.model_selection import BaseCrossValidator

from skood.persistence.errors import LoadError
from skood.persistence.naming import found_in, has_name, trusted_name

__all__ = [
    "MEMORY",
    "TRANSFORMER",
    "Names",
    "is_namedtuple",
    "is_restorable",
    "is_sealed",
]

MEMORY = "memory"
"""A parameter of scikit-learn's estimators: a folder of pickles, which is not kept."""

TRANSFORMER = "skood.extraction.transformer:LayerFeatureTransformer"
"""Its ``network`` is a network, whatever it holds."""

STORE = "skood.store.feature_store:FeatureStore"
"""It opens the folder that it names, so that loading it takes the caller's trust."""

SEALED = (
    "skood.estimator_checks",
    "skood.store",  # opening a store touches the folder that it names
    "skood.features.stored",
    "skood.persistence",
    "skood.plotting",
)
"""Parts of skood that no fitted state has objects of."""

PLAIN = {
    "skood.features.layer_features:LayerFeatures",
    "skood.model_selection.scorers:OODScorer",
    "sklearn.calibration:_CalibratedClassifier",
    "sklearn.metrics._scorer:_PassthroughScorer",
    "sklearn.metrics._scorer:_Scorer",
    "sklearn.utils._metadata_requests:MetadataRequest",
    "sklearn.utils._metadata_requests:MethodMetadataRequest",
}
"""Classes that are restored beside estimators, dataclasses and splitters."""

UNSEEN = ("datasets", "exceptions", "experimental", "externals")
"""Parts of scikit-learn without estimators."""

TRAINED = "skood.neural.classifier:TrainedClassifier"
"""Nets of skorch's kind, but with a state that is made of arrays."""

BLUEPRINTS = {"torch.nn.modules.module:Module", "torch.optim.optimizer:Optimizer"}
"""What a net is trained with: classes of these kinds may be named."""


def is_restorable(cls: type) -> bool:
    """Return whether objects of a class of skood or scikit-learn are restored as such.

    Their state is put in place; no code but these packages' own runs for it.
    """
    if _in(cls.__module__, SEALED) or not _in(cls.__module__, ("skood", "sklearn")):
        return False
    bases = {_home(base) for base in cls.__mro__}
    if TRAINED in bases:
        return True
    for base in cls.__mro__:
        if "__setstate__" in vars(base) and not _in(
            base.__module__, ("skood", "sklearn")
        ):
            return False  # skorch's would unpickle
    if issubclass(cls, (BaseEstimator, BaseCrossValidator)):
        return True
    own = _in(cls.__module__, ("skood",))
    return _home(cls) in PLAIN or (own and (is_dataclass(cls) or is_namedtuple(cls)))


def is_sealed(cls: type) -> bool:
    """Return whether a class is skood's or scikit-learn's, and no fitted state's.

    A store's class is not: it is saved, and restored where it is trusted.
    """
    ours = _in(cls.__module__, ("skood", "sklearn"))
    return ours and not is_restorable(cls) and _home(cls) != STORE


def is_namedtuple(cls: type) -> bool:
    """Return whether a class is a named tuple's."""
    return issubclass(cls, tuple) and hasattr(cls, "_fields")


class Names:
    """What the names of a folder stand for.

    Parameters
    ----------
    trusted : iterable of str, class or function
        What the caller allows beside skood's and scikit-learn's classes.

    Raises
    ------
    TypeError
        If it is something else.
    """

    def __init__(self, trusted: Iterable[Any] = ()) -> None:
        if isinstance(trusted, str) or callable(trusted):
            trusted = [trusted]
        if not isinstance(trusted, Iterable):
            raise _no_names(trusted)
        self._trusted: dict[str, Any] = {}
        for one in trusted:
            if not (isinstance(one, str) or has_name(one)):
                raise _no_names(one)
            text = isinstance(one, str)
            name = one if text else trusted_name(one)
            self._trusted[_dotted(name)] = None if text else one

    def unknown(self, names: Iterable[str]) -> list[str]:
        """Return, of some names, those that have to be trusted and are not."""
        return sorted({_dotted(name) for name in names if not self._is_allowed(name)})

    def restored(self, name: str) -> type:
        """Return the class whose objects may be restored.

        Raises
        ------
        LoadError
            If it is not allowed, or no class.
        """
        found = self._resolved(name)
        if isinstance(found, type) and (self.trusts(name) or is_restorable(found)):
            return found
        raise LoadError(f"{name!r} is no class whose objects can be loaded.")

    def referred(self, name: str) -> Any:
        """Return the class, metric of scikit-learn's, or trusted function, of a name.

        Raises
        ------
        LoadError
            If it is not allowed.
        """
        found = self._resolved(name)
        if self.trusts(name) or _is_metric(found):
            return found
        if BLUEPRINTS & {_home(base) for base in found.__mro__}:
            return found
        raise LoadError(
            f"{_dotted(name)} is named, and is no network's or optimiser's class: give "
            f"trusted={[_dotted(name)]!r} if you trust it."
        )

    def trusts(self, name: str) -> bool:
        """Return whether the caller has listed a name."""
        return _dotted(name) in self._trusted

    def _is_allowed(self, name: str) -> bool:
        module = name.partition(":")[0]
        if self.trusts(name):
            return True
        if _in(module, ("skood",)):
            return not _in(module, SEALED)
        return _in(module, ("sklearn", "torch.nn.modules", "torch.optim"))

    def _resolved(self, name: str) -> Any:
        parts = _dotted(name).split(".")
        if name.count(":") != 1 or not all(part.isidentifier() for part in parts):
            raise LoadError(f"{name!r} is no name of a class or function.")
        if not self._is_allowed(name):
            raise LoadError(f"{_dotted(name)} is not trusted.")
        given = self._trusted.get(_dotted(name))
        if given is not None:
            return given
        module, qualname = name.split(":")
        try:
            found = found_in(self._module(name, module), qualname)
        except (ImportError, LookupError) as error:
            raise LoadError(f"{name!r} is not found here: {error}") from error
        if not self.trusts(name):
            _check_home(found, name)
        return found

    def _module(self, name: str, module: str) -> Any:
        if self.trusts(name) or _in(module, ("skood",)):
            return import_module(module)
        # Of others' packages, only what all of their users import is imported.
        import_module(_public_part(module))
        if module not in sys.modules:
            raise LookupError(f"{module} is not imported by {_public_part(module)}")
        return sys.modules[module]


def _public_part(module: str) -> str:
    package, _, rest = module.partition(".")
    part = rest.partition(".")[0]
    if package == "torch":
        return "torch"
    if part in sklearn.__all__ and part not in UNSEEN:
        return f"sklearn.{part}"
    return "sklearn"


def _check_home(found: Any, name: str) -> None:
    """Raise LoadError for what is no class, or only imported where it was found."""
    if not (isinstance(found, type) or _is_metric(found)) or _home(found) != name:
        raise LoadError(
            f"{name!r} is no class of its module. If you trust it, give "
            f"trusted={[_dotted(name)]!r}."
        )


def _home(named: Any) -> str:
    return f"{named.__module__}:{named.__qualname__}"


def _is_metric(found: Any) -> bool:
    """Return whether something is a public function of ``sklearn.metrics``."""
    if not isinstance(found, FunctionType):
        return False
    name = found.__name__
    return name in metrics.__all__ and getattr(metrics, name) is found


def _no_names(value: Any) -> TypeError:
    return TypeError(
        f"trusted has {value!r:.200}; wanted are names ('mypackage.MyScaler'), classes "
        "or functions."
    )


def _dotted(name: str) -> str:
    return name.replace(":", ".")


def _in(module: str, packages: Iterable[str]) -> bool:
    return any(module == p or module.startswith(f"{p}.") for p in packages)
