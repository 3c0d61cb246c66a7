"""What skops is to read of an estimator: its tree, without arrays and networks."""

from __future__ import annotations

import copyreg
import json
import warnings
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any

import numpy as np
from numpy.lib.format import dtype_to_descr
from numpy.typing import NDArray
from sklearn.utils import Bunch

from skood._state import InPickle
from skood.files.tensors import DTYPES
from skood.persistence.archive import MOST_VALUES, Node, is_found_again, named
from skood.persistence.callers_network import is_network
from skood.persistence.networks import StoredNetworks
from skood.persistence.stored import KINDS, NOT_KEPT, PLAIN_DTYPES, forbidden, made

__all__ = ["DEPTH", "Writer"]

DEPTH = 60
"""At most so many values lie within one another."""

LONG = 1024
"""Bits from which on a whole number stands there in hexadecimal digits."""

OTHERWISE = "if it can be pickled, joblib.dump takes the estimator."


# Nodes -----------------------------------------------------------------------------


def _node(loader: str, kind: Any, **content: Any) -> Node:
    return {**named(kind), "__loader__": loader, **content}


def _scalar(value: str | float | None) -> Node:
    return _node("JsonNode", str, content=json.dumps(value))


def _sequence(kind: type, nodes: Iterable[Node]) -> Node:
    loader = "ListNode" if kind is list else "TupleNode"
    return _node(loader, kind, content=list(nodes))


def _mapping(nodes: dict[str, Node]) -> Node:
    types = _sequence(list, [named(str)] * len(nodes))
    return _node("DictNode", dict, content=nodes, key_types=types)


def _call(kind: Any, *arguments: Node) -> Node:
    content = _sequence(tuple, arguments)
    return _node("ConstructorFromReduceNode", kind, content=content)


def _made(kind: str, *parts: Node) -> Node:
    return _call(made, _scalar(kind), *parts)


# The walk --------------------------------------------------------------------------


class Writer:
    """Makes trees of values; arrays and networks are taken out.

    Parameters
    ----------
    networks : StoredNetworks
        Takes the networks.
    """

    def __init__(self, networks: StoredNetworks) -> None:
        self.networks = networks
        self.arrays: list[NDArray[Any]] = []
        self._written: dict[int, tuple[Any, Node]] = {}
        self._around: list[int] = []
        self._count = 0

    def tree(self, value: Any, where: str) -> Node:
        """Return what skops reads a value from.

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
        self._count += 1
        if self._count > MOST_VALUES:
            raise TypeError(
                f"{where}: there are over {MOST_VALUES} values: {OTHERWISE}"
            )
        if type(value) in (str, float, bool, type(None)) or _is_short(value):
            return _scalar(value)
        with self._within(value, where):
            for fits, write in _FORMS:
                if fits(value):
                    return write(self, value, where)
            for name, kind in KINDS.items():
                if kind.fits(value):
                    return _made(name, *self._nodes(kind.parts(value), where))
            return self._object(value, where)

    @contextmanager
    def _within(self, value: Any, where: str) -> Iterator[None]:
        if id(value) in self._around or len(self._around) == DEPTH:
            raise TypeError(f"{where} lies within itself, or too deep: {OTHERWISE}")
        self._around.append(id(value))
        try:
            yield
        finally:
            self._around.pop()

    def _nodes(self, values: Iterable[Any], where: str) -> Iterator[Node]:
        return (self.tree(value, where) for value in values)

    # Collections ---------------------------------------------------------------------

    def _items(self, values: Any, where: str) -> Node:
        nodes = [self.tree(value, f"{where}[{n}]") for n, value in enumerate(values)]
        return _sequence(type(values), nodes)

    def _dict(self, values: dict[Any, Any], where: str) -> Node:
        kind, entries = type(values), self._entries(values, where, "[{!r}]")
        if kind is dict and all(type(key) is str for key in values):
            return _mapping(entries)
        keys = self._nodes(values, f"{where} (a key)")
        both = zip(keys, entries.values(), strict=True)
        pairs = _sequence(list, [_sequence(tuple, pair) for pair in both])
        default = [values.default_factory] if kind is defaultdict else []  # type: ignore[attr-defined]
        return _made(kind.__name__, pairs, *self._nodes(default, where))

    def _entries(
        self, values: dict[Any, Any], where: str, place: str
    ) -> dict[Any, Node]:
        return {
            key: self._entry(key, value, where + place.format(key))
            for key, value in values.items()
        }

    def _entry(self, key: Any, value: Any, where: str) -> Node:
        if not forbidden(key, value is None or value is False):
            return self.tree(value, where)
        if isinstance(value, (list, tuple, np.ndarray)):
            raise TypeError(
                f"{where} are values of a parameter that is not saved, a cache of "
                "pickles or a compiler: save best_estimator_, or search without it."
            )
        return _scalar(NOT_KEPT[key.rpartition("__")[2]])

    # What lies beside ----------------------------------------------------------------

    def _array(self, array: NDArray[Any], where: str) -> Node:
        if id(array) not in self._written:
            # With the array itself, so that no other gets its id.
            self._written[id(array)] = (array, self._beside(array))
        return self._written[id(array)][1]

    def _beside(self, array: NDArray[Any]) -> Node:
        # Kept, since sums over rows and over columns differ in the last digits.
        columns_first = array.flags.f_contiguous and not array.flags.c_contiguous
        array = np.asarray(array.T if columns_first else array, order="C")
        parts: list[Any] = [len(self.arrays), "F" if columns_first else "C"]
        if array.dtype not in DTYPES.values():
            parts.append(dtype_to_descr(array.dtype))
            array = array.reshape(*array.shape, 1).view(np.uint8)
        self.arrays.append(array)
        return _made("array", *self._nodes(parts, ""))

    def _network(self, value: Any, where: str) -> Node:
        return _made("network", _scalar(self.networks.add(value, where)))

    # Objects and names ---------------------------------------------------------------

    def _named(self, value: Any, where: str) -> Node:
        if not is_found_again(value):
            raise TypeError(
                f"{where} is {value!r}, which cannot be found again by its name, as "
                "lambdas, methods of objects and what is defined within functions: "
                "define a function in a module, which makes or loads what it needs."
            )
        if getattr(value, "__module__", None) == "__main__":
            name = value.__name__
            warnings.warn(
                f"{name} is defined in __main__: the folder is loaded only where "
                f"trusted=[{name}] gives it again. Define it in a module of its own to "
                "load the folder elsewhere.",
                stacklevel=2,
            )
        return named(value)

    def _object(self, value: Any, where: str) -> Node:
        parameter = self.networks.parameter_of(value)
        bare = value if parameter is None else _without(value, parameter)
        try:
            make, args, state, *rest = (*bare.__reduce_ex__(2), None, None, None)[:5]
        except Exception as error:
            raise _refusal(value, where) from error
        cls = type(value)
        compiled = cls.__module__.startswith("sklearn.")  # and unpickled by a function
        if any(rest):
            raise _refusal(value, where)
        if make is cls:
            return self._called(value, args, state, where)
        if args == (cls,) and (make is copyreg.__newobj__ or compiled):  # type: ignore[attr-defined]
            content = self._state(value, state, where)
        elif args[:1] == (cls,) and compiled:
            content = self.tree(args[-1], where)
        else:
            raise _refusal(value, where)
        if parameter is not None:
            number = self.networks.add_parameter(value, f"{where}.{parameter}")
            content["content"][parameter] = _made("network", _scalar(number))
        self._named(cls, where)
        return _node("ObjectNode", cls, content=content)

    def _called(self, value: Any, args: Any, state: Any, where: str) -> Node:
        self._named(type(value), where)
        fresh = _call(type(value), *self._nodes(args, where))
        if state is None:
            return fresh
        if not hasattr(value, "__setstate__"):
            raise _refusal(value, where)
        return _made("with_state", fresh, self.tree(state, where))

    def _state(self, value: Any, state: Any, where: str) -> Node:
        if type(value).__module__ == "sklearn.utils._metadata_requests":
            # It holds the estimator that holds it, for messages; a name will do.
            owner = state["owner"]
            name = owner if isinstance(owner, str) else type(owner).__name__
            state = {**state, "owner": name}
        if type(state) is dict and all(type(name) is str for name in state):
            return _mapping(self._entries(state, where, ".{}"))
        if state is not None and not hasattr(value, "__setstate__"):
            raise _refusal(value, where)  # skops sets no slots
        return self.tree(state, where)


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


def _is_short(value: Any) -> bool:
    return type(value) is int and value.bit_length() <= LONG


def _is_array(value: Any) -> bool:
    if type(value) not in (np.ndarray, np.memmap) or value.dtype.hasobject:
        return False
    kinds = PLAIN_DTYPES + ("V" if value.dtype.fields else "")
    return value.dtype.kind in kinds and value.dtype.itemsize > 0


def _is_named(value: Any) -> bool:
    """Return whether a value is a class or function, which is kept by its name."""
    if isinstance(value, (type, FunctionType, MethodType, BuiltinFunctionType)):
        return True
    return type(value).__module__.startswith("numpy") and hasattr(value, "__name__")


_FORMS: tuple[tuple[Callable[[Any], bool], Callable[[Writer, Any, str], Node]], ...] = (
    (lambda v: type(v) in (list, tuple), Writer._items),
    (lambda v: type(v) in (dict, OrderedDict, Bunch, defaultdict), Writer._dict),
    (_is_array, Writer._array),
    (is_network, Writer._network),
    (_is_named, Writer._named),
)
"""What is written in a way of its own; the rest is in ``KINDS``, or an object."""
