"""What an object is in a file: plain values, which every format can hold."""

from __future__ import annotations

from typing import Any, NoReturn

__all__ = ["InPickle", "itself", "plain", "restored"]

KEYS = "_block_keys"


def plain(state: dict[str, Any]) -> dict[str, Any]:
    """Return a state in which no dict has tuples for keys.

    A dict by (layer, statistic) becomes the list of its values; the keys of all such
    dicts stand beside.

    Parameters
    ----------
    state : dict of str
        An object's attributes.

    Returns
    -------
    dict of str

    Examples
    --------
    >>> from skood._state import plain
    >>> plain({"means": {("layer1", "avg"): 0.5}, "n": 3})
    {'means': [0.5], 'n': 3, '_block_keys': {'means': [('layer1', 'avg')]}}
    """
    keyed = {name: value for name, value in state.items() if _has_tuple_keys(value)}
    if not keyed:
        return state
    values = {name: list(value.values()) for name, value in keyed.items()}
    return {
        **state,
        **values,
        KEYS: {name: list(value) for name, value in keyed.items()},
    }


def restored(state: dict[str, Any]) -> dict[str, Any]:
    """Return the state that :func:`plain` was given."""
    state = dict(state)
    for name, keys in state.pop(KEYS, {}).items():
        state[name] = dict(zip(keys, state[name], strict=True))
    return state


class InPickle:
    """A value that only a pickle can hold, such as a network.

    Unpickled, it is the value itself. A format that wants plain state, like skops',
    asks for ``__reduce__`` or ``__getstate__`` and is told what to do instead.

    Parameters
    ----------
    value : object
        Picklable.
    mend : str
        What to do instead, the end of the error's message.
    """

    def __init__(self, value: Any, mend: str) -> None:
        self.value, self.mend = value, mend

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        return itself, (self.value,)

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            f"a {type(self.value).__name__} runs code when it is loaded, so that only "
            f"pickle and joblib keep it: {self.mend}"
        )

    def __getstate__(self) -> NoReturn:
        self.__reduce__()


def itself(value: Any) -> Any:
    """Return what is given: files name this function, so it stays."""
    return value


def _has_tuple_keys(value: Any) -> bool:
    return type(value) is dict and any(isinstance(key, tuple) for key in value)
