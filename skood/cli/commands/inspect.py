"""``skood inspect``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

import skood
from skood.cli.data import Data, kind_of, read
from skood.cli.exits import DONE
from skood.cli.models import PICKLES, add_reading, read_model
from skood.cli.output import show
from skood.files.paths import user_path

NAME = "inspect"
SUMMARY = "say what a model, a store or a file of data holds"
DESCRIPTION = """\
Say what a path holds: a model, with its parameters, its threshold, the versions that
it was written by and the networks that it needs; or a store, a folder or a file of
data."""
EPILOG = """\
examples:
  skood inspect detector
  skood inspect features/ --json"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add those of this command."""
    add_reading(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print what is there."""
    path = user_path(arguments.model.partition("::")[0], "model")
    kind = kind_of(path)
    if kind == "model":
        found = {"kind": "model", **_written(path)}
        if not found["networks"] or arguments.network is not None:
            found |= _fitted(read_model(arguments))
    elif kind == ".onnx":
        found = {"kind": "ONNX", **_certified(path)}
    elif kind in PICKLES:
        found = {"kind": "model", **_fitted(read_model(arguments))}
    else:
        found = {"kind": kind, **_rows(read(arguments.model))}
        if kind == "store":
            found |= _stored(path)
    show(arguments, found)
    return DONE


def _written(path: Path) -> dict[str, Any]:
    """Return what a model says of itself, without being made."""
    from skood.persistence.folder import read_folder

    about, files = read_folder(path)
    networks = [
        {name: one[name] for name in ("class", "layers", "weights", "digest")}
        for one in about["networks"]
    ]
    sizes = {name: len(content) for name, content in files.items()}
    return {"versions": about["versions"], "bytes": sizes, "networks": networks}


def _certified(path: Path) -> dict[str, Any]:
    """Return what the certificate beside a file says."""
    from skood.cli.commands.export import said
    from skood.export import Certificate

    text = path.with_name(f"{path.name}.json").read_text(encoding="utf-8")
    return said(str(path), Certificate.read(text))


def _fitted(model: Any) -> dict[str, Any]:
    last = model[-1] if hasattr(model, "steps") else model
    found = {"estimator": str(model)}
    for name in ("offset_", "false_alarm_bound_", "class_labels_", "n_features_in_"):
        value = getattr(last, name, None)
        if value is not None:
            found[name] = value.tolist() if isinstance(value, np.ndarray) else value
    return found


def _rows(data: Data) -> dict[str, Any]:
    found: dict[str, Any] = {"rows": len(data.X)}
    if isinstance(data.X, skood.LayerFeatures):
        found["columns"] = {"/".join(n): width for n, width in data.X.widths.items()}
    elif hasattr(data.X, "shape"):
        found["shape"] = [*data.X.shape]
        found["type"] = str(getattr(data.X, "dtype", "columns of a frame"))
    if data.y is not None:
        labels, counts = np.unique(data.y, return_counts=True)
        named = zip(labels.tolist(), counts.tolist(), strict=True)
        found["labels"] = {str(label): count for label, count in named}
    return found


def _stored(path: Path) -> dict[str, Any]:
    store = skood.FeatureStore(path)
    sizes = {name: store.stats()[name] for name in ("bytes", "shards")}
    return {**sizes, "sources": store.sources}
