"""Parameters of detectors that stand in a list of pairs, by name."""

from __future__ import annotations

from typing import Any, ClassVar, TypeVar

from sklearn.base import BaseEstimator
from sklearn.utils import Tags, get_tags

from skood.ensemble.base import BaseEnsemble

__all__ = ["NestedEnsemble"]

Self = TypeVar("Self", bound="NestedEnsemble")


class NestedEnsemble(BaseEnsemble):
    """Base of ensembles of named detectors, whose parameters a search reaches.

    ``<parameter>__<name>`` is the detector of that name, and
    ``<parameter>__<name>__<its parameter>`` a parameter of it.
    """

    _pairs_in: ClassVar[str]
    """The parameter that is a list of (name, detector) pairs."""

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the parameters.

        Parameters
        ----------
        deep : bool, default=True
            With the detectors by their names, and their own parameters.

        Returns
        -------
        dict of str
        """
        found: dict[str, Any] = super().get_params(deep=False)
        for name, detector in self._pairs() if deep else ():
            prefix = f"{self._pairs_in}__{name}"
            found[prefix] = detector
            if hasattr(detector, "get_params") and not isinstance(detector, type):
                own = detector.get_params(deep=True)
                found |= {f"{prefix}__{key}": own[key] for key in own}
        return found

    def set_params(self: Self, **params: Any) -> Self:
        """Set parameters, also of a detector or its own.

        Parameters
        ----------
        **params : dict
            As :meth:`get_params` names them.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If there is no such parameter.
        """
        prefix = f"{self._pairs_in}__"
        inside = {key: v for key, v in params.items() if key.startswith(prefix)}
        super().set_params(**{k: v for k, v in params.items() if k not in inside})
        for key in sorted(inside, key=lambda key: key.count("__")):
            name, _, parameter = key.removeprefix(prefix).partition("__")
            self._set_inside(name, parameter, inside[key])
        return self

    def _pairs(self) -> list[tuple[str, Any]]:
        """Return the pairs among what the constructor was given, right or wrong."""
        given = getattr(self, self._pairs_in)
        given = given if isinstance(given, (list, tuple)) else ()
        pairs = [one for one in given if isinstance(one, (list, tuple))]
        return [(pair[0], pair[1]) for pair in pairs if len(pair) == 2]

    def _set_inside(self, name: str, parameter: str, value: Any) -> None:
        current = dict(self._pairs())
        if name not in current:
            known = ", ".join(map(repr, current))
            given = getattr(self, self._pairs_in)
            raise ValueError(
                f"{self._pairs_in} has no {name!r}; "
                f"{f'its names are {known}' if known else f'it is {given!r:.200}'}."
            )
        if not parameter:
            current[name] = value
            setattr(self, self._pairs_in, list(current.items()))
        elif hasattr(current[name], "set_params"):
            current[name].set_params(**{parameter: value})
        else:
            raise ValueError(
                f"{self._pairs_in} has {current[name]!r:.200} as {name!r}, which has "
                f"no parameter {parameter!r}."
            )

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        detectors = [d for _, d in self._pairs() if isinstance(d, BaseEstimator)]
        takes = [get_tags(d).input_tags.two_d_array for d in detectors]
        tags.input_tags.two_d_array = all(takes)
        return tags
