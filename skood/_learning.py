"""What is learned, kept apart from parameters: one fit leaves nothing to the next."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

from sklearn.utils.validation import check_is_fitted

__all__ = ["Learning"]

EXECUTION = ("device", "n_jobs", "random_state", "verbose")
"""Parameters that change nothing of a fitted estimator: they count as they are now."""

Self = TypeVar("Self", bound="Learning")


class Learning:
    """Mixin of estimators that learn inside ``with self._learning():``.

    ``fit`` begins with nothing of an earlier ``fit``, and one that fails leaves
    nothing. Parameters set after ``fit`` change nothing until the next: methods that
    read parameters go by those of ``_as_fitted()``.
    """

    @contextmanager
    def _learning(self) -> Iterator[None]:
        """Begin with nothing learned; after an error, nothing is."""
        for name in self.__dict__.pop("_learned", ()):
            self.__dict__.pop(name, None)
        before = set(vars(self))  # parameters, and what scikit-learn keeps here
        try:
            yield
        except BaseException:
            for name in set(vars(self)) - before:
                delattr(self, name)
            raise
        self._learned = sorted(set(vars(self)) - before)

    def _remember_parameters(self) -> None:
        """Keep the parameters that ``fit`` had: scores go by them from now on."""
        names = type(self)._get_param_names()  # type: ignore[attr-defined]
        values = {name: getattr(self, name) for name in names}
        self._fitted_with = {
            name: value
            for name, value in values.items()
            if name not in EXECUTION and not hasattr(value, "fit")
        }

    def _as_fitted(self: Self) -> Self:
        """Return this estimator with the parameters that it was fitted with."""
        if "_fitted_with" not in vars(self):  # sklearn's own look takes a while
            check_is_fitted(self)
        fitted_with = getattr(self, "_fitted_with", {})  # absent from early files
        if all(vars(self).get(name) is fitted_with[name] for name in fitted_with):
            return self
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__ | fitted_with)
        return other
