"""Networks of an estimator: weights in a file, code with the user."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from skood.persistence.errors import LoadError
from skood.persistence.given import Given
from skood.persistence.names import TRANSFORMER, Names
from skood.persistence.naming import name_of
from skood.persistence.tensors import Tensor

__all__ = [
    "StoredNetworks",
    "described_networks",
    "factory_names",
    "given_networks",
    "is_network",
    "networks_of",
]


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
        self._known: list[Any] = []

    def parameter_of(self, value: Any) -> str | None:
        """Return the name of the parameter that is a network, whatever it holds."""
        names = [f"{base.__module__}:{base.__name__}" for base in type(value).__mro__]
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
        kept = self._weights and transformer.store_network
        if is_network(network) or hasattr(network, "module_"):
            number = self._add(as_module(network), where, weights=kept)
            if digest not in (None, self.about[number]["digest"]):
                raise ValueError(
                    f"{where}: its weights are not those seen in fit, which the "
                    "estimator is for: fit again, then save."
                )
            return number
        if network is None and digest is not None and kept:
            raise ValueError(
                f"{where} is None, so that its weights cannot be saved: load with "
                "network=..., or set store_network=False or weights=False to save "
                "without them."
            )
        return self._add_unread(network, digest, where)

    def _add(self, module: Any, where: str, *, weights: bool) -> int:
        number = self._number(module)
        if number is None:
            number = self._new(module, _described(module, where))
        about = self.about[number]
        about["places"].append(where)
        if weights and not about["weights"]:
            self._keep(module, number, where)
        return number

    def _add_unread(self, factory: Any, digest: str | None, where: str) -> int:
        """Return the number of what makes a network, or of None."""
        # A search holds the same one twice: as it was given, and fitted.
        number = self._number(factory, digest)
        if number is None:
            about: dict[str, Any] = {**_NOTHING, "digest": digest, "places": []}
            if factory is not None:
                about["factory"] = _factory_name(factory, where)
            number = self._new(factory, about)
        known = self.about[number]
        known["digest"] = known["digest"] or digest
        known["places"].append(where)
        return number

    def _number(self, network: Any, digest: str | None = None) -> int | None:
        for number, (known, about) in enumerate(
            zip(self._known, self.about, strict=True)
        ):
            same = None in (digest, about["digest"]) or digest == about["digest"]
            if known is network and same:
                return number
        return None

    def _new(self, network: Any, about: dict[str, Any]) -> int:
        self._known.append(network)
        self.about.append(about)
        return len(self.about) - 1

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


_NOTHING = {"class": None, "weights": False, "needed": False, "buffers": None}


def _described(module: Any, where: str) -> dict[str, Any]:
    from skood.persistence.weights import buffers_digest
    from skood.store.identity.weights import weights_digest

    kind = f"{type(module).__module__}.{type(module).__qualname__}"
    try:
        digest, beside = weights_digest(module, fresh=True), buffers_digest(module)
    except (NotImplementedError, RuntimeError, ValueError) as error:
        raise TypeError(
            f"{where} is a {kind}, whose weights cannot be read: {error}"
        ) from error
    about = {"class": kind, "digest": digest, "buffers": beside, "places": []}
    return {**_NOTHING, **about}


def is_network(value: Any) -> bool:
    """Return whether a value is a torch module."""
    # Only where torch is loaded can there be one.
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.nn.Module)


def _factory_name(factory: Any, where: str) -> str:
    try:
        return name_of(factory)
    except LookupError as error:
        raise TypeError(
            f"{where} is {factory!r}, which cannot be found again by its name: define "
            "the function that makes the network in a module."
        ) from error


_FORM: dict[str, Any] = {
    "aliases": dict,
    "buffers": (str, type(None)),
    "class": (str, type(None)),
    "digest": (str, type(None)),
    "factory": str,
    "needed": bool,
    "places": list,
    "weights": bool,
}
"""What may be said of a network."""


def described_networks(about: Any) -> list[dict[str, Any]]:
    """Return what a folder says of its networks.

    Raises
    ------
    LoadError
        If it has not the form that :class:`StoredNetworks` gives it.
    """
    entries = about if isinstance(about, list) else [about]
    for one in entries:
        if not (
            isinstance(one, dict)
            and {*_NOTHING, "digest", "places"} <= set(one) <= set(_FORM)
            and all(isinstance(value, _FORM[name]) for name, value in one.items())
            and ("aliases" in one) == one["weights"]
            and all(isinstance(of, str) for of in one.get("aliases", {}).values())
        ):
            raise LoadError(f"its networks are not as they are written: {one!r:.200}")
    return entries


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
        made = not (is_network(one) or hasattr(one, "module_")) and callable(one)
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
        places = "; ".join(", ".join(map(str, one["places"])) for one in about)
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
            f"{', '.join(map(str, about['places']))} is a network, a "
            f"{about['class']}, whose code is not in the folder: give network=..., a "
            "network of this kind."
        )
    return None


def _own(tensors: Mapping[str, Tensor], number: int) -> dict[str, Tensor]:
    start = f"{number}/"
    return {n[len(start) :]: t for n, t in tensors.items() if n.startswith(start)}
