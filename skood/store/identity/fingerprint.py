"""Fingerprints of what turns an input into features: functions and networks."""

from __future__ import annotations

from typing import Any

from torch import nn

from skood._turn import turn
from skood.store.identity.content import Digest, UnknownContentError

__all__ = ["callable_fingerprint", "structure_fingerprint"]


def callable_fingerprint(function: Any, role: str = "preprocess") -> str:
    """Return a digest that changes when a callable becomes another one.

    It takes in the code of Python functions with their defaults, the values that they
    close over and those that they read from their module by name; and what an object
    and its class hold. What installed packages have counts by its name when it is
    read from there.

    Parameters
    ----------
    function : callable or None
        An attribute ``cache_key``, if it has one, is used instead of all that.
    role : str, default="preprocess"
        The parameter's name, for messages.

    Returns
    -------
    str
        32 hexadecimal digits.

    Raises
    ------
    TypeError
        If it holds something whose content cannot be read.

    Examples
    --------
    >>> from skood.store.identity.fingerprint import callable_fingerprint
    >>> half = callable_fingerprint(lambda x: x / 2)
    >>> half == callable_fingerprint(lambda x: x / 2)
    True
    >>> half == callable_fingerprint(lambda x: x / 3)
    False
    """
    digest = Digest()
    try:
        digest.add(function)
    except UnknownContentError as error:
        raise TypeError(
            f"{role}={function!r} holds a {error}, whose content cannot be read, so "
            "that a cache could not tell when it changes. Give the function an "
            "attribute cache_key: a text that you change whenever its result does."
        ) from None
    return digest.hexdigest()


def structure_fingerprint(module: nn.Module) -> str:
    """Return a digest of a network's parts, settings and code, without its weights.

    Parameters
    ----------
    module : nn.Module
        Taken in are its parts' classes with their code, whatever is among their
        attributes that is no weight, the buffers that its state has not, and the
        user's hooks that run with a forward. Of a part that has an attribute
        ``cache_key`` that is taken instead of all that.

    Returns
    -------
    str
        32 hexadecimal digits.

    Warns
    -----
    UserWarning
        Once for each attribute that holds something whose content cannot be read.
    """
    digest = Digest()
    with turn:  # while another thread runs the network, its modes and hooks are ours
        digest.network(module)
    return digest.hexdigest()
