"""Networks of an estimator: weights in a file, code with the user."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from skood.persistence.errors import LoadError
from skood.persistence.given import Given
from skood.persistence.names import Names, name_of
from skood.persistence.tensors import Tensor

__all__ = [
    "StoredNetworks",
    "factory_names",
    "given_networks",
    "networks_of",
]

TRANSFORMER = ("skood.extraction.transformer", "LayerFeatureTransformer")


class StoredNetworks:
    """The networks to be written, each once however often it is met.

    Parameters
    ----------
    weights : bool
        Whether their weights are written too.
    """

    def __init__(self, *, weights: bool) -> None:
        self.about: list[dict[str, Any]] = []
        self.tensors: dict[str, Tensor] = {}
        self._weights = weights
        self._numbers: dict[int, int] = {}
        self._known: list[Any] = []

    def is_network(self, value: Any) -> bool:
        """Return whether a value is a torch module."""
        return _is_module(value)

    def parameter_of(self, value: Any) -> str | None:
        """Return the name of the parameter that is a network, whatever it holds."""
        names = [(base.__module__, base.__name__) for base in type(value).__mro__]
        return "network" if TRANSFORMER in names else None

    def add(self, network: Any, where: str) -> int:
        """Return the number of a network.

        Raises
        ------
        TypeError
            If its weights cannot be written.
        """
        number = self._add(network, where, weights=self._weights)
        self.about[number]["needed"] = True
        return number

    def add_parameter(self, transformer: Any, where: str) -> int:
        """Return the number of a transformer's network, which may be None."""
        from skood.extraction.network import as_module

        network = transformer.network
        digest = getattr(transformer, "network_digest_", None)
        if _is_module(network) or hasattr(network, "module_"):
            kept = self._weights and transformer.store_network
            return self._add(as_module(network), where, weights=kept)
        about = {**_NOTHING, "digest": digest, "places": [where]}
        if network is not None:
            about["factory"] = _factory_name(network, where)
        self.about.append(about)
        return len(self.about) - 1

    def _add(self, module: Any, where: str, *, weights: bool) -> int:
        if id(module) not in self._numbers:
            self._numbers[id(module)] = len(self.about)
            self._known.append(module)  # so that no other gets its id
            self.about.append(_described(module, where))
        number = self._numbers[id(module)]
        about = self.about[number]
        about["places"].append(where)
        if weights and not about["weights"]:
            self._keep(module, number, where)
        return number

    def _keep(self, module: Any, number: int, where: str) -> None:
        from skood.persistence.weights import buffers_beside, tensor_of

        state = module.state_dict()
        aliases: dict[str, str] = {}
        first: dict[Any, str] = {}
        for name, value in state.items():
            tensor = tensor_of(value, f"{where}: {name!r}")
            # Tied weights are one tensor under several names.
            same = (value.data_ptr(), value.dtype, value.shape, value.stride())
            if value.numel() and first.setdefault(same, name) != name:
                aliases[name] = first[same]
            else:
                self.tensors[f"{number}/weights/{name}"] = tensor
        buffers = buffers_beside(module, state)
        for name, value in buffers.items():
            tensor = tensor_of(value, f"{where}: {name!r}")
            self.tensors[f"{number}/buffers/{name}"] = tensor
        self.about[number].update(weights=True, aliases=aliases)


_NOTHING = {"class": None, "weights": False, "needed": False}


def _described(module: Any, where: str) -> dict[str, Any]:
    from skood.extraction.network import weights_digest

    kind = f"{type(module).__module__}.{type(module).__qualname__}"
    try:
        digest = weights_digest(module)
    except (NotImplementedError, RuntimeError, ValueError) as error:
        raise TypeError(
            f"{where} is a {kind}, whose weights cannot be read: {error}"
        ) from error
    return {**_NOTHING, "class": kind, "digest": digest, "places": []}


def _is_module(value: Any) -> bool:
    # Only where torch is loaded can there be one.
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.nn.Module)


def _factory_name(factory: Any, where: str) -> str:
    try:
        return name_of(factory)
    except (LookupError, AttributeError) as error:
        raise TypeError(
            f"{where} is {factory!r}, which cannot be found again by its name: define "
            "the function that makes the network in a module."
        ) from error


def factory_names(about: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the names of the functions that make the networks of a folder."""
    return [one["factory"] for one in about if one.get("factory") is not None]


def given_networks(network: Any) -> list[Given] | None:
    """Return the networks that a caller has given, made if they have to be.

    Raises
    ------
    TypeError
        If one is no network, and nothing that makes one.
    """
    if network is None:
        return None
    from skood.extraction.network import as_module

    networks = list(network) if isinstance(network, (list, tuple)) else [network]
    found = []
    for one in networks:
        made = not (_is_module(one) or hasattr(one, "module_")) and callable(one)
        one = one() if made else one
        found.append(Given(one, None if one is None else as_module(one), made))
    return found


def networks_of(
    given: list[Given] | None,
    about: Sequence[Mapping[str, Any]],
    tensors: Mapping[str, Tensor],
    names: Names,
) -> list[Any]:
    """Return the networks of a folder, in order.

    Parameters
    ----------
    given : list of Given or None
        The caller's.
    about : sequence of mapping
        What the folder says of them.
    tensors : mapping of str to Tensor
        Their weights.
    names : Names
        For functions that make them.

    Raises
    ------
    LoadError
        If there are others than wanted, or other ones than those saved.
    """
    if given is None:
        return [_without_caller(one, names) for one in about]
    from skood.persistence.weights import network_like

    if len(given) != len(about):
        places = "; ".join(", ".join(one["places"]) for one in about)
        raise LoadError(
            f"network has {len(given)} networks, but the folder has {len(about)}"
            f"{f' ({places})' if places else ''}: give one for each, in this order."
        )
    return [
        _without_caller(one, names)
        if own.module is None
        else network_like(own, one, _own(tensors, number))
        for number, (own, one) in enumerate(zip(given, about, strict=True))
    ]


def _without_caller(about: Mapping[str, Any], names: Names) -> Any:
    """Return what stands for a network that the caller has not given."""
    factory = about.get("factory")
    if factory is not None:
        return names.referred(factory)
    if about["needed"]:
        raise LoadError(
            f"{about['places'][0]} is a network, a {about['class']}, whose code is not "
            "in the folder: give network=..., a network of this kind."
        )
    return None


def _own(tensors: Mapping[str, Tensor], number: int) -> dict[str, Tensor]:
    start = f"{number}/"
    return {n[len(start) :]: t for n, t in tensors.items() if n.startswith(start)}
