"""A copy of an estimator that skops can write: arrays and networks are taken out."""

from __future__ import annotations

import copyreg
import sys
import warnings
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import Bunch

from skood._state import InPickle
from skood.files.tensors import DTYPES
from skood.persistence.callers_network import is_network
from skood.persistence.networks import StoredNetworks
from skood.persistence.stored import (
    BIT_GENERATORS,
    MOST_VALUES,
    NOT_KEPT,
    Stored,
    forbidden,
)

__all__ = ["DEPTH", "Copier"]

DEPTH = 60
"""At most so many values lie within one another."""

LONG = 1024
"""Bits from which on a whole number stands there in hexadecimal digits."""

PLAIN = (str, float, bool, bytes, slice, type(None))
OTHERWISE = "if it can be pickled, joblib.dump takes the estimator."


class Copier:
    """Copies values, but for arrays and networks, and for what skops does not hold.

    Parameters
    ----------
    networks : StoredNetworks
        Takes the networks.
    """

    def __init__(self, networks: StoredNetworks) -> None:
        self.networks = networks
        self.arrays: list[NDArray[Any]] = []
        self._stored: dict[int, tuple[Any, Stored]] = {}
        self._around: list[int] = []
        self._count = 0

    def copied(self, value: Any, where: str) -> Any:
        """Return what skops is given for a value.

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
        if type(value) in PLAIN:
            return value
        if type(value) is int:
            return value if value.bit_length() <= LONG else Stored.of("int", hex(value))
        with self._within(value, where):
            for fits, copied in _KINDS:
                if fits(value):
                    return copied(self, value, where)
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

    def _items(self, values: Any, where: str) -> list[Any]:
        return [self.copied(value, f"{where}[{n}]") for n, value in enumerate(values)]

    def _tuple(self, values: Any, where: str) -> Any:
        return tuple.__new__(type(values), self._items(values, where))

    def _set(self, values: Any, where: str) -> Stored:
        items = sorted(values, key=repr)  # so that the same set is the same text
        return Stored.of(type(values).__name__, self._items(items, where))

    def _dict(self, values: dict[Any, Any], where: str) -> Any:
        kind = type(values)
        if all(type(key) is str for key in values):
            pairs = [
                (k, self._entry(k, v, f"{where}[{k!r}]")) for k, v in values.items()
            ]
            default = [values.default_factory] if kind is defaultdict else []  # type: ignore[attr-defined]
            made = kind(*default)
            made.update(pairs)
            return made
        if kind not in (dict, OrderedDict):
            raise _refusal(values, where)
        keys = self._items(values, f"{where} (a key)")
        pairs = [
            (key, self.copied(v, f"{where}[{k!r}]"))
            for key, (k, v) in zip(keys, values.items(), strict=True)
        ]
        return Stored.of(kind.__name__, pairs)

    def _entry(self, key: str, value: Any, where: str) -> Any:
        if not forbidden(key, value is None or value is False):
            return self.copied(value, where)
        if isinstance(value, (list, tuple, np.ndarray)):
            raise TypeError(
                f"{where} are values of a parameter that is not saved, a cache of "
                "pickles or a compiler: save best_estimator_, or search without it."
            )
        return NOT_KEPT[key.rpartition("__")[2]]

    def _array(self, array: Any, where: str) -> Any:
        if type(array) is np.ma.MaskedArray:
            parts = (
                np.asarray(array.data),
                np.ma.getmaskarray(array),
                array.fill_value,
            )
            return Stored.of("masked", *self._items(parts, where))
        kinds = "biufcSUmMO" + ("V" if array.dtype.fields else "")
        known = array.dtype.kind in kinds and array.dtype.itemsize
        if type(array) not in (np.ndarray, np.memmap) or not known:
            raise _refusal(array, where)
        if array.dtype == object:
            items = self._items(array.reshape(-1).tolist(), where)
            return Stored.of("objects", items, array.shape)
        if array.dtype.hasobject:
            raise _refusal(array, where)
        if array.dtype not in DTYPES.values():
            return np.asarray(array)
        return self._once(array, self._beside)

    def _beside(self, array: NDArray[Any]) -> Stored:
        # Kept, since sums over rows and over columns differ in the last digits.
        columns_first = array.flags.f_contiguous and not array.flags.c_contiguous
        array = array.T if columns_first else array
        self.arrays.append(np.asarray(array, order="C"))
        return Stored.of("array", len(self.arrays) - 1, "F" if columns_first else "C")

    def _once(self, value: Any, stored: Callable[[Any], Stored]) -> Stored:
        if id(value) not in self._stored:
            # With the value itself, so that no other gets its id.
            self._stored[id(value)] = (value, stored(value))
        return self._stored[id(value)][1]

    def _random_state(self, value: Any, where: str) -> Stored:
        return Stored.of(
            "RandomState", self.copied(value.get_state(legacy=False), where)
        )

    def _generator(self, value: Any, where: str) -> Stored:
        state = value.bit_generator.state
        if state["bit_generator"] not in BIT_GENERATORS:
            raise _refusal(value, where)
        return Stored.of("Generator", state["bit_generator"], self.copied(state, where))

    def _network(self, value: Any, where: str) -> Stored:
        return Stored.of("network", self.networks.add(value, where))

    def _partial(self, value: Any, where: str) -> Any:
        if vars(value):
            raise _refusal(value, where)
        args = self._items(value.args, f"{where}.args")
        keywords = {
            k: self.copied(v, f"{where}.{k}") for k, v in value.keywords.items()
        }
        return partial(self._called(value.func, f"{where}.func"), *args, **keywords)

    def _called(self, function: Any, where: str) -> Any:
        # functools looks whether it can be called, which a copy of an object cannot.
        copied = self.copied(function, where)
        if not callable(copied):
            type(copied).__call__ = _itself
        return copied

    def _named(self, value: Any, where: str) -> Any:
        home, name = getattr(value, "__module__", None), value.__name__
        found = vars(sys.modules[home]).get(name) if home in sys.modules else value
        if found is not value:
            raise TypeError(
                f"{where} is {value!r}, which cannot be found again by its name, as "
                "lambdas, methods of objects and what is defined within functions: "
                "define a function in a module, which makes or loads what it needs."
            )
        if home == "__main__":
            warnings.warn(
                f"{name} is defined in __main__: the folder is loaded only where "
                f"trusted=[{name}] gives it again. Define it in a module of its own to "
                "load the folder elsewhere.",
                stacklevel=2,
            )
        return value

    # Objects -------------------------------------------------------------------------

    def _object(self, value: Any, where: str) -> Any:
        parameter = self.networks.parameter_of(value)
        bare = value if parameter is None else _without(value, parameter)
        try:
            make, args, state, *rest = (*bare.__reduce_ex__(2), None, None, None)[:5]
        except Exception as error:
            raise _refusal(value, where) from error
        cls, plain = type(value), not any(rest)
        if make is copyreg.__newobj__ and args == (cls,) and plain:  # type: ignore[attr-defined]
            copied = self._state(value, state, where)
            if parameter is not None:
                number = self.networks.add_parameter(value, f"{where}.{parameter}")
                copied[parameter] = Stored.of("network", number)
            return _stand_in(self._named(cls, where), {"__getstate__": copied})
        if cls.__module__.startswith("sklearn."):
            return value  # compiled: skops knows what to do, or refuses
        if make is not cls or state is not None or not plain:
            raise _refusal(value, where)
        items = tuple(self._items(args, where))
        return _stand_in(self._named(cls, where), {"__reduce__": items})

    def _state(self, value: Any, state: Any, where: str) -> Any:
        if type(value).__module__ == "sklearn.utils._metadata_requests":
            # It holds the estimator that holds it, for messages; a name will do.
            owner = state["owner"]
            name = owner if isinstance(owner, str) else type(owner).__name__
            state = {**state, "owner": name}
        if type(state) is dict and all(type(name) is str for name in state):
            return {k: self._entry(k, v, f"{where}.{k}") for k, v in state.items()}
        if state is not None and not hasattr(value, "__setstate__"):
            raise _refusal(value, where)  # skops sets no slots
        return self.copied(state, where)


def _stand_in(cls: type, told: dict[str, Any]) -> Any:
    """Return what skops takes for an object of a class, and what it is then told."""
    [(method, value)] = told.items()
    space: dict[str, Any] = {"__module__": cls.__module__}
    if method == "__reduce__":
        space[method] = lambda self: (type(self), value)
    else:
        space[method] = lambda self: value
    return type(cls.__name__, (), space)()


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


def _is_a(*kinds: type) -> Callable[[Any], bool]:
    return lambda value: type(value) in kinds


def _is_of(module: str, name: str) -> Callable[[Any], bool]:
    # Only where a module is loaded can there be such a value.
    return lambda value: type(value) is getattr(sys.modules.get(module), name, None)


def _is_namedtuple(value: Any) -> bool:
    return isinstance(value, tuple) and hasattr(value, "_fields")


def _is_named(value: Any) -> bool:
    """Return whether a value is a class or function, which is kept by its name."""
    if isinstance(value, (type, FunctionType, MethodType, BuiltinFunctionType)):
        return True
    return type(value).__module__.startswith("numpy") and hasattr(value, "__name__")


def _stored(kind: str, *parts: Callable[[Any], Any]) -> Callable[..., Stored]:
    return lambda copier, value, where: Stored.of(kind, *(p(value) for p in parts))


def _itself(copier: Copier, value: Any = None, where: str = "") -> Any:
    return value


_KINDS: tuple[tuple[Callable[[Any], bool], Callable[..., Any]], ...] = (
    (_is_a(list), Copier._items),
    (_is_a(tuple), Copier._tuple),
    (_is_a(set, frozenset), Copier._set),
    (_is_a(dict, OrderedDict, Bunch, defaultdict), Copier._dict),
    (lambda v: isinstance(v, np.ndarray), Copier._array),
    (lambda v: isinstance(v, np.generic) and type(v) is not np.void, _itself),
    (lambda v: isinstance(v, np.dtype) and v.kind in "biufcSUmM", _itself),
    (_is_a(complex), _stored("complex", lambda v: v.real, lambda v: v.imag)),
    (
        _is_a(range),
        _stored("range", lambda v: v.start, lambda v: v.stop, lambda v: v.step),
    ),
    (_is_a(type(Path())), _stored("path", str)),
    (_is_a(np.random.RandomState), Copier._random_state),
    (_is_a(np.random.Generator), Copier._generator),
    (_is_of("torch", "dtype"), _stored("torch.dtype", lambda v: str(v)[6:])),
    (_is_of("torch", "device"), _stored("torch.device", str)),
    (_is_of("tokenizers", "Tokenizer"), _stored("tokenizer", lambda v: v.to_str())),
    (is_network, Copier._network),
    (_is_a(partial), Copier._partial),
    (_is_named, Copier._named),
    (_is_namedtuple, Copier._tuple),
)
