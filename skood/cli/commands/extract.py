"""``skood extract``."""

from __future__ import annotations

import argparse
from typing import Any

from skood.cli.arguments import add_images, add_layers, transformer_of
from skood.cli.data import read, read_labels
from skood.cli.exits import DONE
from skood.cli.output import show

NAME = "extract"
SUMMARY = "write the features of a network's layers to a store"
DESCRIPTION = """\
Run a network over data and write the features of its layers to a store, a folder.
What is in the store already is not computed again, so that a run that was ended is
resumed by the same command."""
EPILOG = """\
examples:
  skood extract mypackage.nets:resnet images/ features/ --image-size 224 \\
      --layers layer3 layer4 logits --workers 4
  torchrun --nproc-per-node 8 -m skood extract nets:resnet images/ features/ \\
      --layers layer4 --shard auto"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add those of this command."""
    parser.add_argument("network", help="package.module:name")
    parser.add_argument("inputs", help="data that the network takes")
    parser.add_argument("store", help="the folder to write to")
    parser.add_argument(
        "--labels", metavar="FILE", help="a label a row, -1 for an outlier"
    )
    parser.add_argument(
        "--shard",
        metavar="RANK/NUMBER",
        help="extract a part of the rows: 0/4 to 3/4 for four processes, or auto under "
        "torchrun or SLURM",
    )
    add_layers(parser, required=True)
    add_images(parser)


def run(arguments: argparse.Namespace) -> int:
    """Fill the store."""
    data = read(arguments.inputs, arguments)
    features = transformer_of(arguments).extract_to(
        arguments.store,
        data.X,
        read_labels(arguments.labels, data),
        ids=data.ids,
        shard=_shard(arguments.shard),
        progress=arguments.progress,
    )
    widths = {"/".join(name): width for name, width in features.widths.items()}
    result = {"store": arguments.store, "rows": len(features), "columns": widths}
    show(arguments, result)
    return DONE


def _shard(text: str | None) -> Any:
    """Return what ``extract_to`` takes as its shard."""
    if text is None or text == "auto":
        return text
    rank, slash, number = text.partition("/")
    if not (slash and rank.isdecimal() and number.isdecimal()):
        raise ValueError(f"--shard is {text!r}: wanted is 0/4, say, or auto.")
    return int(rank), int(number)
