"""``skood evaluate``."""

from __future__ import annotations

import argparse
import sys
from typing import Any

import numpy as np

import skood
from skood.cli.arguments import add_images, share
from skood.cli.data import read, read_sets
from skood.cli.exits import DONE, FAILED
from skood.cli.models import add_reading, read_model
from skood.cli.output import show_table

NAME = "evaluate"
SUMMARY = "measure a fitted detector on known outliers"
DESCRIPTION = """\
Measure how well a fitted detector tells in-distribution rows from outliers, a line a
set of outliers: AUROC, FPR95, AUPR of either side, with bootstrap intervals."""
EPILOG = """\
example:
  skood evaluate detector test.npy --outliers near/8=eights.npy far/x=noise.npy \\
      --fail-below 0.9"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add those of this command."""
    add_reading(parser)
    parser.add_argument("data", help="in-distribution rows that it was not fitted on")
    add_outliers(parser)
    parser.add_argument(
        "--bootstrap",
        type=int,
        default=1000,
        metavar="N",
        help="resamples for the intervals; 0 leaves them out",
    )
    parser.add_argument(
        "--fail-below",
        type=share,
        metavar="AUROC",
        help="exit with code 3 if the AUROC, the mean of all sets, is less",
    )
    add_images(parser)


def add_outliers(parser: argparse.ArgumentParser) -> None:
    """Add the sets of outliers."""
    parser.add_argument(
        "--outliers",
        nargs="+",
        required=True,
        metavar="NAME=DATA",
        help="sets of outliers; NAME may be group/name",
    )


def run(arguments: argparse.Namespace) -> int:
    """Print the table."""
    model = read_model(arguments)
    known = read(arguments.data, arguments).X
    sets = {"": known, **read_sets(arguments.outliers, arguments)}
    scores = {name: _scores(model, rows) for name, rows in sets.items()}
    names = np.repeat([*scores], [len(own) for own in scores.values()])
    groups: dict[Any, Any] = {n: n.partition("/")[0] for n in sets if "/" in n}
    table = skood.ood_report(
        np.where(names == "", 0, -1),
        np.concatenate([*scores.values()]),
        sources=names,
        groups=groups,
        n_bootstrap=arguments.bootstrap,
    )
    show_table(arguments, table)
    least, found = arguments.fail_below, float(table["auroc"].iloc[-1])
    if least is None or found >= least:
        return DONE
    print(
        f"skood evaluate: the AUROC is {found:.4g}: less than --fail-below {least}",
        file=sys.stderr,
    )
    return FAILED


def _scores(model: Any, rows: Any) -> Any:
    return skood.score_and_predict(model, rows).scores
