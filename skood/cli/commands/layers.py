"""``skood layers``."""

from __future__ import annotations

import argparse

import skood
from skood.cli.arguments import add_images
from skood.cli.data import read
from skood.cli.exits import DONE
from skood.cli.objects import imported, made_network
from skood.cli.output import show, show_table

NAME = "layers"
SUMMARY = "list the layers of a network"
DESCRIPTION = """\
List the layers of a network. With some inputs each has the shape of its output, and its
share of the time of a forward."""
EPILOG = """\
example:
  skood layers mypackage.nets:resnet images/ --image-size 224"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add those of this command."""
    parser.add_argument("network", help="package.module:name")
    parser.add_argument("inputs", nargs="?", help="some rows of data to run it on")
    parser.add_argument(
        "--preprocess",
        metavar="MODULE:NAME",
        help="from some rows to the network's input",
    )
    add_images(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print the layers."""
    network = made_network(arguments.network)
    if arguments.inputs is None:
        show(arguments, {"layers": "\n".join(skood.layer_names(network))})
        return DONE
    named = arguments.preprocess
    table = skood.list_layers(
        network,
        read(arguments.inputs, arguments).X,
        preprocess=None if named is None else imported(named, "--preprocess"),
    )
    show_table(arguments, table)
    return DONE
