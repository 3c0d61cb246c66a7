"""What users name: networks, functions and detectors, and their parameters."""

from __future__ import annotations

import os
import sys
from ast import literal_eval
from collections.abc import Sequence
from difflib import get_close_matches
from importlib import import_module
from inspect import signature
from operator import attrgetter
from typing import Any

import skood
from skood.detectors.registry import REGISTRY

__all__ = ["DETECTORS", "imported", "made_detector", "made_network", "settings_of"]

DETECTORS = sorted(
    {
        *(name for name, entry in REGISTRY.items() if entry.family != "wrapped"),
        "AutoOOD",
    }
)
"""Those that are made by their name alone."""


def imported(name: str, option: str) -> Any:
    """Return what a text like ``package.module:name`` stands for.

    Parameters
    ----------
    name : str
        The text.
    option : str
        What it was given as, for messages.

    Raises
    ------
    ValueError
        If it is no such text, or there is nothing of that name.
    """
    module, colon, attribute = name.partition(":")
    if not (module and colon and attribute):
        raise ValueError(f"{option} is {name!r}: wanted is package.module:name.")
    if os.getcwd() not in sys.path and "" not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        return attrgetter(attribute)(import_module(module))
    except (ImportError, AttributeError) as error:
        raise ValueError(
            f"{option} is {name!r}, which is not found: {error}. Modules are "
            "looked for in the current folder and where Python is installed."
        ) from error


def made_network(name: str | None) -> Any:
    """Return the network of a name, made if it is a function; None of None."""
    if name is None:
        return None
    found = imported(name, "the network")
    # A module can be called too, and is no function that makes one.
    is_network = hasattr(found, "state_dict") or hasattr(found, "module_")
    if is_network and not isinstance(found, type):
        return found
    _check_called(found, f"the network is {name!r}", {})
    return found()


def _check_called(found: Any, what: str, given: dict[str, Any]) -> None:
    """Raise ValueError if something cannot be called, or not with such arguments."""
    if not callable(found):
        raise ValueError(
            f"{what}, a {type(found).__name__}: wanted is a class or a function that "
            "makes one."
        )
    try:
        signature(found).bind(**given)
    except TypeError as error:
        raise ValueError(f"{what}, which cannot be called so: {error}.") from error
    except ValueError:  # some functions of C do not say what they take
        return


def settings_of(texts: Sequence[str]) -> dict[str, Any]:
    """Return parameters by name, of texts like ``n_neighbors=10``.

    Values are read as Python's literals where they are any, and are texts otherwise.

    Raises
    ------
    ValueError
        If one has no ``=``, or a name comes twice.

    Examples
    --------
    >>> from skood.cli.objects import settings_of
    >>> settings_of(["layers=['a', 'b']", "statistic=max", "reg_covar=1e-3"])
    {'layers': ['a', 'b'], 'statistic': 'max', 'reg_covar': 0.001}
    """
    found: dict[str, Any] = {}
    for text in texts:
        name, sign, value = text.partition("=")
        if not sign:
            raise ValueError(f"--set got {text!r}: wanted is name=value.")
        if name in found:
            raise ValueError(f"--set got {name!r} twice: give it once.")
        found[name] = _literal(value)
    return found


def _literal(text: str) -> Any:
    try:
        return literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def made_detector(name: str, settings: dict[str, Any]) -> Any:
    """Return an unfitted detector.

    Parameters
    ----------
    name : str
        One of :data:`DETECTORS`, or ``package.module:name`` of a class or function.
    settings : dict
        Its parameters.

    Raises
    ------
    ValueError
        If there is no such detector, or it has no such parameter.
    """
    kind = _kind_of(name)
    if ":" in name:
        _check_called(kind, f"the detector is {name!r}", settings)
    else:
        _check_parameters(kind, settings)
    made = kind(**settings)
    if not hasattr(made, "fit"):
        raise ValueError(
            f"the detector is {name!r}, which made a {type(made).__name__}: wanted is "
            "something with fit."
        )
    return made


def _kind_of(name: str) -> Any:
    if ":" in name:
        return imported(name, "the detector")
    if name in DETECTORS:
        return getattr(skood, name)
    near = get_close_matches(name, DETECTORS, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else "see `skood fit --help`"
    raise ValueError(f"there is no detector {name!r}: {hint}")


def _check_parameters(kind: Any, settings: dict[str, Any]) -> None:
    known = [*signature(kind).parameters]
    unknown = [setting for setting in settings if setting not in known]
    if unknown:
        raise ValueError(
            f"{kind.__name__} has no parameter {unknown[0]!r}; it has "
            f"{', '.join(known)}."
        )
