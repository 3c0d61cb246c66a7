"""``skood compare``."""

from __future__ import annotations

import argparse

import skood
from skood.cli.arguments import add_images
from skood.cli.commands.evaluate import add_outliers
from skood.cli.data import read, read_labels, read_sets
from skood.cli.exits import DONE
from skood.cli.objects import made_detector
from skood.cli.output import check_table_place, show_table, write_table

NAME = "compare"
SUMMARY = "fit detectors on the same rows and measure them on the same outliers"
DESCRIPTION = """\
Fit detectors on the same rows and measure them on the same outliers: AUROC, FPR95,
false alarms on new in-distribution rows, and seconds."""
EPILOG = """\
example:
  skood compare features/ --detectors KNN Mahalanobis ViM AutoOOD \\
      --outliers near=near.npz far=far.npz"""
SHOWN = ["auroc", "fpr95", "false_alarms", "fit_seconds", "score_seconds"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add those of this command."""
    parser.add_argument("data", help="features to fit on")
    parser.add_argument(
        "--detectors",
        nargs="+",
        required=True,
        metavar="NAME",
        help="as `skood fit --help` lists them, or package.module:name",
    )
    add_outliers(parser)
    parser.add_argument(
        "--inliers",
        metavar="DATA",
        help="in-distribution rows to compare on; by default a fifth is held out",
    )
    parser.add_argument("--labels", metavar="FILE", help="a label a row")
    parser.add_argument(
        "--bootstrap",
        type=int,
        default=200,
        metavar="N",
        help="resamples for the intervals of --out and --json; 0 leaves them out",
    )
    parser.add_argument(
        "--out",
        metavar="FILE",
        help="a .csv, .parquet or .npz file for the whole table",
    )
    add_images(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print the table."""
    check_table_place(arguments.out)
    names = arguments.detectors
    if twice := {name for name in names if names.count(name) > 1}:
        raise ValueError(f"--detectors has {min(twice)!r} twice: give it once.")
    data = read(arguments.data, arguments)
    known = arguments.inliers
    found = skood.compare(
        {name: made_detector(name, {}) for name in names},
        data.X,
        read_labels(arguments.labels, data),
        outliers=read_sets(arguments.outliers, arguments),
        inliers=None if known is None else read(known, arguments).X,
        n_bootstrap=arguments.bootstrap,
    )
    if arguments.out is not None:
        write_table(found.table, arguments.out)
    show_table(arguments, found.table if arguments.json else found.table[SHOWN])
    return DONE
