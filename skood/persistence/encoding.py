"""From an estimator to text and arrays."""

from __future__ import annotations

import copyreg
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
from sklearn.utils import Bunch

from skood._state import InPickle
from skood.persistence.arrays import StoredArrays
from skood.persistence.compiled import compiled_kind, compiled_state
from skood.persistence.leaves import LEAVES, leaf_of, stands_for_itself
from skood.persistence.names import MEMORY, is_namedtuple, is_sealed
from skood.persistence.naming import has_name, name_of
from skood.persistence.networks import StoredNetworks, is_network
from skood.persistence.randomness import generator_state, is_generator

__all__ = ["DEPTH", "Encoder"]

DEPTH = 64
"""At most so many values lie within one another."""


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
        if stands_for_itself(value):
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
            raise TypeError(f"{where} lies within itself, or too deep: {OTHERWISE}")
        self._around.append(id(value))
        try:
            yield
        finally:
            self._around.pop()

    def _parted(self, value: Any, where: str) -> Any:
        for fits, node in _KINDS:
            if fits(value):
                return node(self, value, where)
        return self._object(value, where)

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
        return {"pairs": self._pairs(values, where)}

    def _pairs(self, values: dict[Any, Any], where: str) -> list[Any]:
        return [
            [self.node(k, f"{where} (a key)"), self.node(v, f"{where}[{k!r}]")]
            for k, v in values.items()
        ]

    def _ordered(self, values: Any, where: str) -> dict[str, Any]:
        return {"OrderedDict": self._pairs(values, where)}

    def _bunch(self, values: Any, where: str) -> dict[str, Any]:
        return {"Bunch": self._dict(dict(values), where)}

    def _attributes(self, values: dict[str, Any], where: str) -> dict[str, Any]:
        return {k: self.node(v, f"{where}.{k}") for k, v in values.items()}

    def _array(self, array: Any, where: str) -> dict[str, Any]:
        if type(array) is np.ma.MaskedArray:
            parts = (np.asarray(array.data), np.ma.getmaskarray(array))
            fill = array.fill_value
            return {"masked": [*self._items(parts, where), self.node(fill, where)]}
        known = array.dtype.kind in "biufcSUmMO" and array.dtype.itemsize
        if type(array) not in (np.ndarray, np.memmap) or not known:
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
                f"{where} is {value!r}, which cannot be found again by its name, as "
                "lambdas, methods of objects and what is defined within functions: "
                "define a function in a module, which makes or loads what it needs."
            ) from error

    def _partial(self, value: Any, where: str) -> dict[str, Any]:
        if not has_name(value.func) or vars(value):
            raise TypeError(
                f"{where} is a functools.partial of {value.func!r:.200}: only those of "
                "functions and classes are saved. Define a function in a module, "
                "which makes or loads this object, and take that."
            )
        return {
            "partial": {
                "func": self._name(value.func, f"{where}.func"),
                "args": self._items(value.args, f"{where}.args"),
                "keywords": self._attributes(value.keywords, where),
            }
        }

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


OTHERWISE = "if it can be pickled, joblib.dump takes the estimator."


def _is_a(*kinds: type) -> Callable[[Any], bool]:
    return lambda value: type(value) in kinds


_KINDS: tuple[tuple[Callable[[Any], bool], Callable[[Encoder, Any, str], Any]], ...] = (
    (_is_a(list), Encoder._items),
    (_is_a(tuple, set, frozenset), Encoder._group),
    (_is_a(slice), Encoder._slice),
    (_is_a(dict), Encoder._dict),
    (_is_a(OrderedDict), Encoder._ordered),
    (_is_a(Bunch), Encoder._bunch),
    (_is_a(partial), Encoder._partial),
    (lambda v: isinstance(v, np.ndarray), Encoder._array),
    (is_generator, Encoder._generator),
    (is_network, Encoder._network),
    (has_name, Encoder._name),
    (lambda v: is_namedtuple(type(v)), Encoder._namedtuple),
    (lambda v: compiled_kind(v) is not None, Encoder._compiled),
)


def _state(value: Any, where: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what an object keeps in its attributes and in its slots."""
    if is_sealed(type(value)):
        raise _refusal(value, where)
    try:
        make, made_of, state, *rest = (*value.__reduce_ex__(2), None, None, None)[:5]
    except Exception as error:
        raise _refusal(value, where) from error
    if make is not copyreg.__newobj__ or made_of != (type(value),) or any(rest):  # type: ignore[attr-defined]
        raise _refusal(value, where)
    both = isinstance(state, tuple) and len(state) == 2
    attributes, slots = state if both else (state, None)
    attributes, slots = attributes or {}, slots or {}
    if not (_has_names(attributes) and _has_names(slots)):
        raise _refusal(value, where)
    return attributes, slots


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
        f"{where} is a {kind}, which is not saved without pickle: {OTHERWISE}"
    )
