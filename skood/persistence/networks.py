"""Networks of an estimator: what is said of them, and which are given back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from skood.persistence.archive import is_found_again, name_of
from skood.persistence.callers_network import CallersNetwork, is_network
from skood.persistence.errors import LoadError

__all__ = [
    "StoredNetworks",
    "described_networks",
    "factory_names",
    "networks_of",
]

TRANSFORMER = "skood.extraction.transformer.LayerFeatureTransformer"
"""Its ``network`` is a network, whatever it holds."""


# Those to be written ---------------------------------------------------------------


class StoredNetworks:
    """The networks to be written, each once however often it is met.

    Parameters
    ----------
    weights : bool
        Whether their weights are written too.
    """

    def __init__(self, *, weights: bool) -> None:
        self.about: list[dict[str, Any]] = []
        self.tensors: dict[str, Any] = {}
        self.known: list[Any] = []
        self._weights = weights

    def parameter_of(self, value: Any) -> str | None:
        """Return the name of the parameter that is a network, whatever it holds."""
        names = [f"{base.__module__}.{base.__name__}" for base in type(value).__mro__]
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
        elif network is None and digest is not None and kept:
            raise ValueError(
                f"{where} is None, so that its weights cannot be saved: load with "
                "network=..., or set store_network=False or weights=False to save "
                "without them."
            )
        else:
            number = self._add_unread(network, digest, where)
        layers = transformer.layers
        names = [layers] if isinstance(layers, str) else layers
        self.about[number]["layers"] += [
            str(name) for name in names if str(name) not in self.about[number]["layers"]
        ]
        return number

    def _add(self, module: Any, where: str, *, weights: bool) -> int:
        from skood.persistence.weights import described, tensors_of

        number = self._number(module, None, lambda: described(module, where))
        if weights and not self.about[number]["weights"]:
            kept, aliases = tensors_of(module, where)
            self.tensors.update({f"{number}/{name}": t for name, t in kept.items()})
            self.about[number].update(weights=True, aliases=aliases)
        self.about[number]["places"].append(where)
        return number

    def _add_unread(self, factory: Any, digest: str | None, where: str) -> int:
        """Return the number of what makes a network, or of None."""
        # A search holds the same one twice: as it was given, and fitted.
        name = None if factory is None else _factory_name(factory, where)
        about = {"digest": digest, "factory": name}
        number = self._number(factory, digest, lambda: about)
        self.about[number]["digest"] = self.about[number]["digest"] or digest
        self.about[number]["places"].append(where)
        return number

    def _number(
        self, network: Any, digest: str | None, describe: Callable[[], dict[str, Any]]
    ) -> int:
        for number, about in enumerate(self.about):
            same = None in (digest, about["digest"]) or digest == about["digest"]
            if self.known[number] is network and same:
                return number
        self.about.append({**_fresh(), **describe()})
        self.known.append(network)
        return len(self.known) - 1


def _factory_name(factory: Any, where: str) -> str:
    if not (hasattr(factory, "__name__") and is_found_again(factory)):
        raise TypeError(
            f"{where} is {factory!r}, which cannot be found again by its name: define "
            "the function that makes the network in a module."
        )
    return name_of(factory)


# Those of a folder -----------------------------------------------------------------


def _fresh() -> dict[str, Any]:
    """Return what is said of a network of which nothing is known."""
    flags: dict[str, Any] = {"weights": False, "needed": False}
    unknown = dict.fromkeys(("class", "digest", "buffers", "factory"))
    return {**flags, **unknown, "places": [], "layers": [], "aliases": {}}


def described_networks(about: Any) -> list[dict[str, Any]]:
    """Return what a folder says of its networks.

    Raises
    ------
    LoadError
        If it has not the form that :class:`StoredNetworks` gives it.
    """
    form = {k: (str, type(None)) if v is None else type(v) for k, v in _fresh().items()}
    entries = about if isinstance(about, list) else [about]
    for one in entries:
        if not (
            isinstance(one, dict)
            and set(one) == set(form)
            and all(isinstance(value, form[name]) for name, value in one.items())
            and all(isinstance(of, str) for of in one["aliases"].values())
        ):
            raise LoadError(f"its networks are not as they are written: {one!r:.200}")
    return entries


def factory_names(about: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the names of the functions that make the networks of a folder."""
    return [one["factory"] for one in about if one["factory"]]


def networks_of(
    given: list[CallersNetwork] | None,
    about: Sequence[Mapping[str, Any]],
    tensors: Callable[[], Mapping[str, Any]],
    factory: Callable[[str], Any],
) -> list[Any]:
    """Return the networks of a folder, in order.

    Parameters
    ----------
    given : list of CallersNetwork or None
        The caller's.
    about : sequence of mapping
        What the folder says of them.
    tensors : callable
        Reads their weights.
    factory : callable
        From a name to the function that makes a network.

    Raises
    ------
    LoadError
        If there are others than wanted, or other ones than those saved.
    """
    if given is None:
        return [_without_caller(one, factory) for one in about]
    from skood.persistence.weights import network_like

    if not about and given:
        raise LoadError("network was given, but the folder has none: leave it out.")
    if len(given) != len(about):
        places = "; ".join(", ".join(map(str, one["places"])) for one in about)
        raise LoadError(
            f"network has {len(given)} networks, but the folder has {len(about)}"
            f"{f' ({places})' if places else ''}: give one for each, in this order."
        )
    held = tensors() if any(one["weights"] for one in about) else {}
    return [
        _without_caller(one, factory)
        if own.module is None
        else network_like(own, one, _own(held, number))
        for number, (own, one) in enumerate(zip(given, about, strict=True))
    ]


def _without_caller(about: Mapping[str, Any], factory: Callable[[str], Any]) -> Any:
    """Return what stands for a network that the caller has not given."""
    if about["factory"]:
        return factory(about["factory"])
    if about["needed"]:
        raise LoadError(
            f"{', '.join(map(str, about['places']))} is a network, a "
            f"{about['class']}, whose code is not in the folder: give network=..., a "
            "network of this kind."
        )
    return None


def _own(tensors: Mapping[str, Any], number: int) -> dict[str, Any]:
    start = f"{number}/"
    return {n[len(start) :]: t for n, t in tensors.items() if n.startswith(start)}
