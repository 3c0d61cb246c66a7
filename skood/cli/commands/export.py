"""``skood export``."""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np

from skood.cli.arguments import add_images
from skood.cli.data import Data, read
from skood.cli.exits import DONE
from skood.cli.models import add_reading, read_model
from skood.cli.output import show
from skood.files.paths import user_path

NAME = "export"
SUMMARY = "write a model as an ONNX file with a certificate"
DESCRIPTION = """\
Write a model, its network, threshold and p-values as one ONNX file, and beside it a
certificate: how far its scores are from the model's on the rows of DATA. Nothing is
written if they differ."""
EPILOG = """\
examples:
  skood export detector detector.onnx test.npy
  skood export whole whole.onnx images/ --network nets:resnet --image-size 224
  skood export detector detector.onnx test.npy --verify"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add those of this command."""
    add_reading(parser)
    parser.add_argument("file", help="the .onnx file")
    parser.add_argument("data", help="rows that neither network nor detector has seen")
    parser.add_argument(
        "--verify",
        action="store_true",
        help="write nothing: hold a file that is there against the model once more",
    )
    add_images(parser)


def run(arguments: argparse.Namespace) -> int:
    """Write the file, or look at it again."""
    from skood.export import export, verify

    if user_path(arguments.file).suffix.lower() != ".onnx":
        raise ValueError(
            f"{arguments.file}: wanted is a file whose name ends in .onnx."
        )
    model = read_model(arguments)
    rows = _in_memory(read(arguments.data, arguments))
    if arguments.verify:
        certificate = verify(arguments.file, rows, model)
    else:
        certificate = export(model, arguments.file, rows[:2], rows)
    show(arguments, said(arguments.file, certificate))
    return DONE


def said(file: str, certificate: Any) -> dict[str, Any]:
    """Return what a certificate says, for people."""
    parity = certificate.parity
    return {
        "file": file,
        "detector": certificate.detector,
        "threshold": certificate.threshold,
        "layers": ["/".join(block) for block in certificate.layers],
        "preprocess": certificate.preprocess or "nothing",
        "inputs": {i["name"]: f"{i['type']} {i['shape']}" for i in certificate.inputs},
        "parity": {**vars(parity)},
        "versions": certificate.versions,
    }


def _in_memory(data: Data) -> Any:
    if hasattr(data.X, "names"):  # images, which a graph does not decode
        return np.stack([np.asarray(data.X[n]) for n in range(len(data.X))])
    return data.X
