"""What is known of an exported file: where it comes from, and how alike it is."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skood._version import __version__
from skood.export.inputs import Called
from skood.export.parity import Judgement, Parity
from skood.export.steps import Steps
from skood.files.digest import digest_of
from skood.store.identity.network import callable_fingerprint

__all__ = [
    "Certificate",
    "certificate_of",
    "certificate_path",
    "described",
    "drift",
    "judgement_in",
    "reference_of",
    "rows_digest",
]

FORMAT = 1
PACKAGES = ("torch", "onnx", "onnxruntime", "onnxscript", "numpy", "scikit-learn")
LONGEST = 500
"""Characters by which an object may describe itself."""


_ONLY_BESIDE = {"file_digest": None, "reference": None}


@dataclass(frozen=True)
class Certificate:
    """How alike an exported file is to its pipeline, and what it was made of.

    It stands beside the file, as JSON, and without ``file_digest`` and ``reference``
    inside of it.

    Parameters
    ----------
    versions : dict of str to str
        Of skood and of what took part.
    detector : str
        The detector with its parameters.
    steps : list of str
        The classes of the pipeline's steps.
    layers : list of list of str
        The (layer, statistic) of the blocks that are scored.
    network_digest : str or None
        Of the network's weights; None without a network.
    threshold : float
        Scores from there on are inliers.
    preprocess : str or None
        What the pipeline does with inputs before its network, which has to be done
        outside; None where there is nothing.
    preprocess_digest : str or None
        Of its code and of the values that it uses; None where these cannot be read.
    inputs : list of dict
        Name, type and shape of each input, ``"n"`` for the rows.
    rtol, band : float
        The relative difference of scores that is let pass, and how near to the
        threshold, relative to it, a decision may differ.
    parity : Parity
        How alike the file and the pipeline are, on the rows held out.
    bank : dict or None
        Where stored training rows were bounded: ``max_bank``, and what that did to the
        scores and decisions of the rows held out.
    rows_digest : str
        Of the rows held out.
    file_digest : str or None
        Of the file.
    reference : dict or None
        What the pipeline said of the rows held out: ``score``, ``p_value`` and
        ``is_inlier``.
    """

    versions: dict[str, str]
    detector: str
    steps: list[str]
    layers: list[list[str]]
    network_digest: str | None
    threshold: float
    preprocess: str | None
    preprocess_digest: str | None
    inputs: list[dict[str, Any]]
    rtol: float
    band: float
    parity: Parity
    bank: dict[str, float] | None
    rows_digest: str
    file_digest: str | None = None
    reference: dict[str, list[Any]] | None = None

    def text(self, *, inside: bool = False) -> str:
        """Return it as JSON; without what is only beside the file if it goes inside."""
        known = self.as_json(inside=inside)
        return json.dumps(known, indent=1, sort_keys=True, allow_nan=False)

    def as_json(self, *, inside: bool = False) -> dict[str, Any]:
        """Return what the text holds."""
        known = {"format": FORMAT, **asdict(self)}
        return known | (_ONLY_BESIDE if inside else {})

    @classmethod
    def read(cls, text: str) -> Certificate:
        """Return the certificate that a text holds.

        Raises
        ------
        ValueError
            If it holds none, or one of a later kind.
        """
        try:
            known = json.loads(text)
        except ValueError as error:
            raise ValueError(f"this is no certificate of skood: {error}") from error
        if not isinstance(known, dict) or "format" not in known:
            raise ValueError("this is no certificate of skood: it has no format.")
        if known["format"] != FORMAT:
            raise ValueError(
                f"the certificate has format {known['format']}, this version reads "
                f"{FORMAT}: update skood."
            )
        found = _fields(cls, known, "the certificate")
        found["parity"] = Parity(**_fields(Parity, known["parity"], "its parity"))
        return cls(**found)


def certificate_path(path: Path) -> Path:
    """Return where the certificate of a file stands."""
    return path.with_name(f"{path.name}.json")


def certificate_of(path: Path) -> Certificate:
    """Return the certificate that stands beside a file.

    Raises
    ------
    FileNotFoundError
        If there is none.
    ValueError
        If it cannot be read.
    """
    beside = certificate_path(path)
    if not beside.is_file():
        raise FileNotFoundError(
            f"{path} has no certificate: there is no {beside}. Files and certificates "
            "go together; give the two the same name, or export again."
        )
    try:
        return Certificate.read(beside.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{beside}: {error}") from error


_JSON: dict[str, Any] = {
    "str": str,
    "int": int,
    "float": (int, float),
    "None": type(None),
    "dict": dict,
    "list": list,
    "Parity": dict,
}
"""What fields of a kind are in JSON."""


def _fields(kind: Any, known: dict[str, Any], owner: str) -> dict[str, Any]:
    """Return what JSON has for the fields of a dataclass.

    Raises
    ------
    ValueError
        If one is missing, or of another type.
    """
    names = [one.name for one in fields(kind)]
    missing = [name for name in names if name not in known]
    if missing:
        raise ValueError(f"{owner} lacks {', '.join(missing)}: export the file again.")
    for one in fields(kind):
        kinds = [part.partition("[")[0].strip() for part in str(one.type).split("|")]
        value = known[one.name]
        if not isinstance(value, tuple(_JSON[name] for name in kinds)):
            raise ValueError(
                f"{owner} has {one.name}={value!r}, which is no {' or '.join(kinds)}: "
                "export the file again."
            )
    return {name: known[name] for name in names}


def described(pipeline: Any) -> dict[str, Any]:
    """Return what a certificate says of a pipeline."""
    steps = Steps.of(pipeline)
    network = steps.features
    whole = [*([] if network is None else [network]), *steps.between, steps.detector]
    preprocess = None if network is None else network.preprocess
    return {
        "versions": _versions(),
        "detector": " ".join(repr(steps.detector).split()),
        "steps": [type(step).__name__ for step in whole],
        "layers": [list(name) for name in steps.widths],
        "network_digest": None if network is None else network.network_digest_,
        "threshold": float(steps.detector.offset_),
        "preprocess": None if preprocess is None else _name_of(preprocess),
        "preprocess_digest": _content_of(preprocess),
    }


def rows_digest(called: Iterable[Called]) -> str:
    """Return a digest of rows, as the module is called with them."""
    found = []
    for args, kwargs in called:
        tensors = [*args, *(kwargs[name] for name in sorted(kwargs))]
        parts = [np.ascontiguousarray(value.numpy()) for value in tensors]
        shapes = str([(part.dtype.str, part.shape) for part in parts])
        found.append(digest_of(shapes.encode(), *parts))
    return digest_of("".join(found).encode())


def reference_of(wanted: Judgement) -> dict[str, list[Any]]:
    """Return what a pipeline said, as JSON has it."""
    return {
        "score": _as_json(wanted.scores),
        "p_value": _as_json(wanted.p_values),
        "is_inlier": wanted.inliers.tolist(),
    }


def _as_json(values: NDArray[np.float64]) -> list[Any]:
    """Return numbers as JSON has them; what it has not, as texts."""
    return [x if np.isfinite(x) else str(x) for x in values.tolist()]


def judgement_in(reference: dict[str, list[Any]]) -> Judgement:
    """Return what a pipeline said, from a certificate."""
    return Judgement(
        np.array([float(x) for x in reference["score"]]),
        np.array([float(x) for x in reference["p_value"]]),
        np.array(reference["is_inlier"], dtype=np.bool_),
    )


def drift(full: NDArray[np.float64], bounded: NDArray[np.float64]) -> dict[str, float]:
    """Return by how much scores have moved, in standard deviations of the full ones."""
    moved = (bounded - full) / max(float(full.std()), 1e-300)
    return {
        "mean_drift": float(moved.mean()),
        "largest_drift": float(np.abs(moved).max()),
    }


def _versions() -> dict[str, str]:
    found = {"skood": __version__}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _content_of(function: Any) -> str | None:
    """Return a digest of a function's code and values, None where they are not read."""
    if function is None:
        return None
    try:
        return callable_fingerprint(function)
    except TypeError:
        return None


def _name_of(function: Any) -> str:
    """Return what a reader recognises a function by."""
    inner = getattr(function, "func", None)
    if inner is not None:  # functools.partial
        given = [*map(repr, function.args)]
        given += [f"{name}={value!r}" for name, value in function.keywords.items()]
        return f"{_name_of(inner)}({', '.join(given)})"
    if isinstance(function, str):
        return function
    if hasattr(function, "__qualname__"):
        return f"{function.__module__}.{function.__qualname__}"
    kind = type(function)
    own = " ".join(repr(function).split())
    says_what = " at 0x" not in own and len(own) <= LONGEST
    return own if says_what else f"{kind.__module__}.{kind.__qualname__}"
