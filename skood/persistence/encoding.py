"""From an estimator to text and arrays."""

from __future__ import annotations

import copyreg
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from skood._state import InPickle
from skood.persistence.arrays import StoredArrays
from skood.persistence.compiled import compiled_kind, compiled_state
from skood.persistence.leaves import LEAVES, leaf_of
from skood.persistence.names import is_namedtuple, is_restorable, name_of
from skood.persistence.networks import StoredNetworks
from skood.persistence.randomness import generator_state, is_generator

__all__ = ["DEPTH", "MEMORY", "Encoder"]

DEPTH = 64
"""At most so many values lie within one another."""

MEMORY = "memory"
"""A parameter of scikit-learn's estimators: a folder of pickles, which is not kept."""


class Encoder:
    """Turns values into nodes: what JSON can hold.

    None, bools, ints, finite floats, strings and lists stand for themselves; anything
    else is an object of one entry, from its kind to what there is to say about it.

    Parameters
    ----------
    arrays : StoredArrays
        Takes the arrays.
    networks : StoredNetworks
        Takes the networks.
    """

    def __init__(self, arrays: StoredArrays, networks: StoredNetworks) -> None:
        self.arrays, self.networks = arrays, networks
        self._around: list[int] = []
        self._objects: list[int] = []

    def node(self, value: Any, where: str) -> Any:
        """Return the node of a value.

        Parameters
        ----------
        value : object
            The value.
        where : str
            Its place, for messages: ``"detector.banks_"``.

        Raises
        ------
        TypeError
            If it is of a kind that is not saved, or holds itself.
        """
        if isinstance(value, InPickle):
            value = value.value
        if value is None or type(value) in (bool, int, str):
            return value
        if type(value) is float and np.isfinite(value):
            return value
        kind = leaf_of(value)
        if kind is not None:
            return {kind: LEAVES[kind].text(value)}
        if id(value) in self._objects:
            return {"around": self._objects.index(id(value))}
        with self._within(value, where):
            return self._parted(value, where)

    @contextmanager
    def _within(self, value: Any, where: str) -> Iterator[None]:
        if id(value) in self._around or len(self._around) == DEPTH:
            raise TypeError(f"{where} lies within itself, or too deep: {_OTHERWISE}")
        self._around.append(id(value))
        try:
            yield
        finally:
            self._around.pop()

    def _parted(self, value: Any, where: str) -> Any:
        for fits, node in self._kinds():
            if fits(value):
                return node(value, where)
        return self._object(value, where)

    def _kinds(self) -> list[tuple[Callable[[Any], bool], Callable[[Any, str], Any]]]:
        return [
            (lambda v: type(v) is list, self._items),
            (lambda v: type(v) in _GROUPS, self._group),
            (lambda v: type(v) is slice, self._slice),
            (lambda v: type(v) is dict, self._dict),
            (lambda v: isinstance(v, np.ndarray), self._array),
            (is_generator, self._generator),
            (self.networks.is_network, self._network),
            (lambda v: isinstance(v, _NAMED), self._name),
            (lambda v: is_namedtuple(type(v)), self._namedtuple),
            (lambda v: compiled_kind(v) is not None, self._compiled),
        ]

    def _items(self, values: Any, where: str) -> list[Any]:
        return [self.node(value, f"{where}[{n}]") for n, value in enumerate(values)]

    def _group(self, values: Any, where: str) -> dict[str, Any]:
        nodes = self._items(values, where)
        if not isinstance(values, tuple):
            nodes.sort(key=repr)  # so that the same set is the same text
        return {type(values).__name__: nodes}

    def _slice(self, value: slice, where: str) -> dict[str, Any]:
        return {"slice": self._items((value.start, value.stop, value.step), where)}

    def _dict(self, values: dict[Any, Any], where: str) -> dict[str, Any]:
        if all(type(key) is str for key in values):
            nodes = {k: self.node(v, f"{where}[{k!r}]") for k, v in values.items()}
            return {"dict": nodes}
        pairs = [
            [self.node(k, f"{where} (a key)"), self.node(v, f"{where}[{k!r}]")]
            for k, v in values.items()
        ]
        return {"pairs": pairs}

    def _attributes(self, values: dict[str, Any], where: str) -> dict[str, Any]:
        return {k: self.node(v, f"{where}.{k}") for k, v in values.items()}

    def _array(self, array: Any, where: str) -> dict[str, Any]:
        if type(array) is np.ma.MaskedArray:
            parts = (np.asarray(array.data), np.ma.getmaskarray(array))
            fill = array.fill_value
            return {"masked": [*self._items(parts, where), self.node(fill, where)]}
        if type(array) not in (np.ndarray, np.memmap) or array.dtype.names:
            raise _refusal(array, where)
        if array.dtype.hasobject:
            items = self._items(array.reshape(-1).tolist(), where)
            return {"objects": {"shape": list(array.shape), "items": items}}
        return {"array": self.arrays.node(array)}

    def _generator(self, value: Any, where: str) -> dict[str, Any]:
        state = self._attributes(generator_state(value), where)
        return {type(value).__name__: state}

    def _network(self, value: Any, where: str) -> dict[str, Any]:
        return {"network": self.networks.add(value, where)}

    def _name(self, value: Any, where: str) -> dict[str, Any]:
        try:
            return {"name": name_of(value)}
        except LookupError as error:
            raise TypeError(
                f"{where} is {value!r}, which cannot be found again by its name: "
                f"define it in a module, or {_OTHERWISE}"
            ) from error

    def _namedtuple(self, value: Any, where: str) -> dict[str, Any]:
        name = self._name(type(value), where)["name"]
        return {"namedtuple": {"class": name, "values": self._items(value, where)}}

    def _compiled(self, value: Any, where: str) -> dict[str, Any]:
        state = compiled_state(value)
        if state is None:
            raise _refusal(value, where)
        return {
            "compiled": {"class": compiled_kind(value), **self._nodes(state, where)}
        }

    def _nodes(self, state: dict[str, Any], where: str) -> dict[str, Any]:
        return {"state": self._attributes(state, where)}

    # Objects -------------------------------------------------------------------------

    def _object(self, value: Any, where: str) -> dict[str, Any]:
        try:
            name = name_of(type(value))
        except LookupError as error:
            raise _refusal(value, where) from error
        network = self.networks.parameter_of(value)
        bare = value if network is None else _without(value, network)
        state, slots = _state(bare, where)
        if hasattr(value, "get_params") and state.get(MEMORY) is not None:
            state = {**state, MEMORY: None}
        self._objects.append(id(value))
        nodes = self._nodes(state, where)
        if network is not None:
            number = self.networks.add_parameter(value, f"{where}.{network}")
            nodes["state"][network] = {"network": number}
        if slots:
            nodes["slots"] = self._attributes(slots, where)
        self._objects.pop()
        return {"object": {"class": name, **nodes}}


_GROUPS = (tuple, set, frozenset)
_NAMED = (type, types.FunctionType, types.BuiltinFunctionType, np.ufunc)
_OTHERWISE = "use joblib.dump, or skops.io.dump, for this estimator."


def _state(value: Any, where: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what an object keeps in its attributes and in its slots."""
    ours = type(value).__module__.partition(".")[0] in ("skood", "sklearn")
    if ours and not is_restorable(type(value)) and not _is_store(value):
        raise _refusal(value, where)
    try:
        make, made_of, state, *rest = (*value.__reduce_ex__(2), None, None, None)[:5]
    except Exception as error:
        raise _refusal(value, where) from error
    if make is not copyreg.__newobj__ or made_of != (type(value),) or any(rest):  # type: ignore[attr-defined]
        raise _refusal(value, where)
    attributes, slots = state if isinstance(state, tuple) else (state, None)
    attributes, slots = attributes or {}, slots or {}
    if not (_has_names(attributes) and _has_names(slots)):
        raise _refusal(value, where)
    return attributes, slots


def _is_store(value: Any) -> bool:
    # It opens the folder that it names, so that loading it takes the caller's trust.
    return type(value).__module__ == "skood.extraction.store.feature_store"


def _has_names(state: Any) -> bool:
    return type(state) is dict and all(type(name) is str for name in state)


def _without(value: Any, attribute: str) -> Any:
    """Return the same object but for one attribute, which is None."""
    bare = object.__new__(type(value))
    bare.__dict__.update(value.__dict__, **{attribute: None})
    return bare


def _refusal(value: Any, where: str) -> TypeError:
    kind = f"{type(value).__module__}.{type(value).__qualname__}"
    return TypeError(
        f"{where} is a {kind}, which is not saved without pickle: " + _OTHERWISE
    )
