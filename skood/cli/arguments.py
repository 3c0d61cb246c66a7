"""Arguments that several commands have."""

from __future__ import annotations

import argparse
import math
from typing import Any

from skood.cli.objects import imported, made_network

__all__ = ["add_images", "add_layers", "share", "transformer_of"]


def share(text: str) -> float:
    """Return the number of a text, from 0 to 1, for argparse."""
    try:
        found = float(text)
    except ValueError:
        found = math.nan
    if not 0 <= found <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 0 to 1")
    return found


def pixels(text: str) -> int:
    """Return the positive number of a text, for argparse."""
    if not (text.isdecimal() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of pixels")
    return int(text)


def add_images(parser: argparse.ArgumentParser) -> None:
    """Add how images of a folder are read, and rows become the network's input."""
    group = parser.add_argument_group("inputs of a network")
    group.add_argument(
        "--image-size",
        type=pixels,
        metavar="PIXELS",
        help="width and height that images of a folder are resized to",
    )
    group.add_argument(
        "--transform",
        metavar="MODULE:NAME",
        help="from a Pillow image to an array or tensor; by default its colours",
    )


def add_layers(parser: argparse.ArgumentParser, *, required: bool) -> None:
    """Add what is read of a network, and how."""
    group = parser.add_argument_group("features")
    group.add_argument(
        "--layers",
        nargs="+",
        required=required,
        metavar="LAYER",
        help="names as `skood layers` shows them",
    )
    group.add_argument(
        "--statistics",
        nargs="+",
        default=["avg"],
        metavar="STATISTIC",
        help="avg, max, std, l2, lse, first, last, gram or flatten; default: avg",
    )
    group.add_argument(
        "--preprocess",
        metavar="MODULE:NAME",
        help="from some rows to the network's input",
    )
    group.add_argument("--batch-size", type=int, default=256, metavar="ROWS")
    group.add_argument("--device", default="auto", help="cpu, cuda, ...; default: auto")
    group.add_argument(
        "--workers",
        type=int,
        default=0,
        metavar="PROCESSES",
        help="that decode images while the network runs",
    )


def transformer_of(arguments: argparse.Namespace) -> Any:
    """Return the transformer that the arguments describe."""
    from skood import LayerFeatureTransformer

    named = arguments.preprocess
    return LayerFeatureTransformer(
        made_network(arguments.network),
        arguments.layers,
        arguments.statistics,
        preprocess=None if named is None else imported(named, "--preprocess"),
        batch_size=arguments.batch_size,
        device=arguments.device,
        num_workers=arguments.workers,
    )
