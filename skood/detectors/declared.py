"""Constructors from declarations: an annotated class attribute is a parameter."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass, field, fields
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

__all__ = ["KW_ONLY", "Declared", "field"]

T = TypeVar("T")

if TYPE_CHECKING:
    from typing_extensions import dataclass_transform
elif sys.version_info >= (3, 11):
    from typing import dataclass_transform
else:

    def dataclass_transform(**_: Any) -> Callable[[T], T]:
        """Return what tells type checkers, and does nothing else."""
        return lambda cls: cls


@dataclass_transform(kw_only_default=True, field_specifiers=(field,))
class Declared:
    """Base of estimators whose parameters are declared, not forwarded by hand.

    Every annotation in the body of a subclass is a parameter with its default, for
    keywords only; ``field(default=..., kw_only=False)`` makes it positional. The
    constructor is made by :mod:`dataclasses` and stores what it is given, as
    scikit-learn wants it. ``_parameter_constraints`` holds the class's own parameters:
    those of its bases are added.

    Examples
    --------
    >>> from sklearn.base import BaseEstimator
    >>> from skood.detectors.declared import Declared
    >>> class Base(Declared, BaseEstimator):
    ...     device: str = "cpu"
    >>> class Wide(Base):
    ...     width: int = 3
    >>> Wide(width=5).get_params()
    {'device': 'cpu', 'width': 5}
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {}

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        inherited: dict[str, Any] = {}
        for base in reversed(cls.__mro__):
            inherited |= vars(base).get("_parameter_constraints", {})
        cls._parameter_constraints = inherited
        dataclass(eq=False, repr=False, match_args=False, kw_only=True)(cls)

    @classmethod
    def _parameters(cls) -> list[str]:
        """Return the names of the parameters."""
        return [parameter.name for parameter in fields(cls)]  # type: ignore[arg-type]
