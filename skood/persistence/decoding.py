"""From text and arrays to an estimator: values are put in place, nothing is called."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils import Bunch

from skood.persistence.arrays import array_of, shape_of
from skood.persistence.compiled import compiled_of
from skood.persistence.errors import LoadError
from skood.persistence.leaves import LEAVES
from skood.persistence.names import MEMORY, Names, is_namedtuple
from skood.persistence.randomness import generator_of, random_state_of
from skood.persistence.tensors import Tensor

__all__ = ["Decoder", "names_in"]


def names_in(node: Any) -> Iterator[str]:
    """Yield the names of all classes and functions in a tree of nodes."""
    left = [node]
    while left:
        one = left.pop()
        if isinstance(one, list):
            left += one
        elif isinstance(one, dict) and len(one) == 1:
            [(kind, body)] = one.items()
            if kind in READERS:
                yield from READERS[kind].names(body)
                left += READERS[kind].nodes(body)


class Decoder:
    """Turns nodes into values, the opposite of an ``Encoder``.

    Parameters
    ----------
    names : Names
        What classes and functions the nodes may name.
    tensors : mapping of str to Tensor
        The file of the arrays.
    networks : sequence
        The networks, by number.
    copy : bool
        Whether arrays are read into memory, not mapped.
    """

    def __init__(
        self,
        names: Names,
        tensors: Mapping[str, Tensor],
        networks: list[Any],
        *,
        copy: bool,
    ) -> None:
        self.names, self.tensors = names, tensors
        self.networks, self.copy = networks, copy
        self._arrays: dict[str, Any] = {}
        self._open: list[Any] = []

    def value(self, node: Any, where: str) -> Any:
        """Return the value of a node.

        Parameters
        ----------
        node : object
            As parsed from JSON.
        where : str
            Its place, for messages.

        Raises
        ------
        LoadError
            If the node is not one that an ``Encoder`` makes.
        """
        if isinstance(node, list):
            return [self.value(one, f"{where}[{n}]") for n, one in enumerate(node)]
        if not isinstance(node, dict):
            return node
        if len(node) != 1:
            raise LoadError(f"{where} is of no kind: it has the entries {list(node)}.")
        [(kind, body)] = node.items()
        try:
            if kind in LEAVES:
                return LEAVES[kind].value(body)
            return READERS[kind].value(self, body, where)
        except (LoadError, Warning):
            raise
        except Exception as error:
            raise LoadError(
                f"{where} cannot be read as {kind!r}: {type(error).__name__}: {error}"
            ) from error

    def _items(self, body: Any, where: str) -> list[Any]:
        if not isinstance(body, list):
            raise LoadError(f"{where} has no list of items.")
        return [self.value(one, f"{where}[{n}]") for n, one in enumerate(body)]

    def _attributes(self, body: Any, where: str) -> dict[str, Any]:
        return {k: self.value(v, f"{where}.{k}") for k, v in body.items()}

    def _tuple(self, body: Any, where: str) -> Any:
        return tuple(self._items(body, where))

    def _set(self, body: Any, where: str) -> Any:
        return set(self._items(body, where))

    def _frozenset(self, body: Any, where: str) -> Any:
        return frozenset(self._items(body, where))

    def _slice(self, body: Any, where: str) -> Any:
        start, stop, step = self._items(body, where)
        return slice(start, stop, step)

    def _ordered(self, body: Any, where: str) -> Any:
        return OrderedDict(self._pairs(body, where))

    def _bunch(self, body: Any, where: str) -> Any:
        made = Bunch()
        made.update(self.value(body, where))
        return made

    def _partial(self, body: Any, where: str) -> Any:
        name = body["func"]["name"]
        if not self.names.trusts(name):
            raise LoadError(f"{where} is a call of {name!r}, which is not trusted.")
        func, args = self.names.referred(name), self._items(body["args"], where)
        return partial(func, *args, **self._attributes(body["keywords"], where))

    def _pairs(self, body: Any, where: str) -> Any:
        read = [(self.value(k, where), self.value(v, where)) for k, v in body]
        made = dict(read)
        if len(made) < len(read):
            raise LoadError(f"{where} has a key twice.")
        return made

    def _array(self, body: Any, where: str) -> Any:
        # The same array in two places is one array again.
        name = body["name"]
        if name not in self._arrays:
            made = array_of(body, self.tensors, copy=self.copy)
            self._arrays[name] = (body, made)
        known, made = self._arrays[name]
        if known != body:
            raise LoadError(f"{where} has the array {name!r} in another form.")
        return made

    def _objects(self, body: Any, where: str) -> Any:
        items, shape = self._items(body["items"], where), shape_of(body["shape"])
        made = np.empty(len(items), dtype=object)
        for number, item in enumerate(items):  # NumPy would look into lists
            made[number] = item
        return made.reshape(shape)

    def _masked(self, body: Any, where: str) -> Any:
        data, mask, fill = self._items(body, where)
        return np.ma.MaskedArray(data, mask, fill_value=fill)

    def _random_state(self, body: Any, where: str) -> Any:
        return random_state_of(self._attributes(body, where))

    def _generator(self, body: Any, where: str) -> Any:
        return generator_of(self._attributes(body, where))

    def _network(self, body: Any, where: str) -> Any:
        if type(body) is not int or not 0 <= body < len(self.networks):
            raise LoadError(f"{where} is network {body!r}, which there is not.")
        return self.networks[body]

    def _name(self, body: Any, where: str) -> Any:
        return self.names.referred(body)

    def _around(self, body: Any, where: str) -> Any:
        """Return one of the objects that this lies in, from the outermost."""
        if type(body) is not int or not 0 <= body < len(self._open):
            raise LoadError(f"{where} lies in no object {body!r}.")
        return self._open[body]

    def _compiled(self, body: Any, where: str) -> Any:
        return compiled_of(body["class"], self._attributes(body["state"], where))

    def _namedtuple(self, body: Any, where: str) -> Any:
        cls: Any = self.names.restored(body["class"])
        values = self._items(body["values"], where)
        if not is_namedtuple(cls) or len(values) != len(cls._fields):
            raise LoadError(f"{where}: {body['class']!r} has other fields.")
        return tuple.__new__(cls, values)

    def _object(self, body: Any, where: str) -> Any:
        cls: Any = self.names.restored(body["class"])
        made = object.__new__(cls)
        self._open.append(made)
        state = self._attributes(body["state"], where)
        if issubclass(cls, BaseEstimator) and state.get(MEMORY) is not None:
            raise LoadError(f"{where}.{MEMORY} names a folder of pickles: not loaded.")
        if hasattr(cls, "__setstate__"):
            cls.__setstate__(made, state)
        else:
            made.__dict__.update(state)
        slots = {
            name for base in cls.__mro__ for name in vars(base).get("__slots__", ())
        }
        for name, value in self._attributes(body.get("slots", {}), where).items():
            if name not in slots:
                raise LoadError(f"{where}: {body['class']!r} has no slot {name!r}.")
            object.__setattr__(made, name, value)
        self._open.pop()
        return made


class Reader(NamedTuple):
    """How nodes of a kind are read.

    Parameters
    ----------
    value : callable
        From a ``Decoder``, what a node says, and its place, to the value.
    nodes : callable
        From what a node says, of whatever form, to the nodes within it.
    names : callable
        From the same to the names of classes and functions.
    """

    value: Callable[[Decoder, Any, str], Any]
    nodes: Callable[[Any], list[Any]]
    names: Callable[[Any], list[str]] = lambda body: []


def _none(body: Any) -> list[Any]:
    return []


def _one(body: Any) -> list[Any]:
    return [body]


def _each(body: Any) -> list[Any]:
    return list(body.values()) if isinstance(body, dict) else []


def _parts(body: Any) -> list[Any]:
    """Return the nodes among the entries, of which some are nodes by name."""
    if not isinstance(body, dict):
        return []
    named = [_each(body.get(entry)) for entry in ("state", "slots", "keywords")]
    others = [body.get(entry) for entry in ("items", "values", "func", "args")]
    return [*others, *(node for nodes in named for node in nodes)]


def _class(body: Any) -> list[str]:
    return [str(body.get("class"))] if isinstance(body, dict) else []


READERS = {
    "tuple": Reader(Decoder._tuple, _one),
    "set": Reader(Decoder._set, _one),
    "frozenset": Reader(Decoder._frozenset, _one),
    "slice": Reader(Decoder._slice, _one),
    "dict": Reader(Decoder._attributes, _each),
    "pairs": Reader(Decoder._pairs, _one),
    "OrderedDict": Reader(Decoder._ordered, _one),
    "Bunch": Reader(Decoder._bunch, _one),
    "partial": Reader(Decoder._partial, _parts),
    "array": Reader(Decoder._array, _none),
    "objects": Reader(Decoder._objects, _parts),
    "masked": Reader(Decoder._masked, _one),
    "RandomState": Reader(Decoder._random_state, _each),
    "Generator": Reader(Decoder._generator, _each),
    "network": Reader(Decoder._network, _none),
    "around": Reader(Decoder._around, _none),
    "name": Reader(Decoder._name, _none, lambda body: [str(body)]),
    "compiled": Reader(Decoder._compiled, _parts),
    "namedtuple": Reader(Decoder._namedtuple, _parts, _class),
    "object": Reader(Decoder._object, _parts, _class),
}
"""Kinds of nodes; what has none among these or ``LEAVES`` is not read."""
