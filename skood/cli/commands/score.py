"""``skood score``."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

import numpy as np

import skood
from skood.cli.arguments import add_images, share
from skood.cli.data import Data, read
from skood.cli.exits import DONE, FAILED
from skood.cli.models import add_reading, read_model
from skood.cli.output import check_table_place, show, write_table

if TYPE_CHECKING:
    import pandas as pd

NAME = "score"
SUMMARY = "score rows, and flag outliers"
DESCRIPTION = """\
Score rows by a fitted detector. Without --out a line a row is printed: its number or
name, the score (the higher, the more in-distribution), what it is above the threshold,
a p-value if the model has them, and whether it is taken for in-distribution."""
EPILOG = """\
examples:
  skood score detector new.npy > scores.csv
  skood score detector images/ --network nets:resnet --out scores.csv \\
      --fail-above 0.1"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add those of this command."""
    add_reading(parser)
    parser.add_argument("data", help="the rows, of the kind that it was fitted on")
    parser.add_argument(
        "--out", metavar="FILE", help="a .csv, .parquet or .npz file for the rows"
    )
    parser.add_argument(
        "--fail-above",
        type=share,
        metavar="RATE",
        help="exit with code 3 if more than this share of the rows is flagged",
    )
    add_images(parser)


def run(arguments: argparse.Namespace) -> int:
    """Score the rows."""
    check_table_place(arguments.out)
    model = read_model(arguments)
    data = read(arguments.data, arguments)
    table = _scored(model, data)
    flagged = int(np.sum(~table["is_inlier"]))
    rate = flagged / len(table)
    result: dict[str, Any] = {"rows": len(table), "flagged": flagged, "rate": rate}
    if arguments.out is not None:
        write_table(table, arguments.out)
        show(arguments, {**result, "out": arguments.out})
    elif arguments.json:
        columns = table.reset_index().to_dict("list")
        show(arguments, {**result, **columns})
    else:
        table.to_csv(sys.stdout)
    limit = arguments.fail_above
    if limit is None or rate <= limit:
        return DONE
    print(
        f"skood score: {flagged} of {len(table)} rows are flagged, {rate:.4g}: more "
        f"than --fail-above {limit}",
        file=sys.stderr,
    )
    return FAILED


def _scored(model: Any, data: Data) -> pd.DataFrame:
    import pandas as pd

    features = data.X
    if hasattr(model, "steps"):  # one pass of the network, whatever is asked for
        features, model = model[:-1].transform(features), model[-1]
    scored = skood.score_and_predict(model, features)
    columns = {"score": scored.scores, "decision": scored.decision}
    if hasattr(model, "p_values"):
        columns["p_value"] = model.p_values(features)
    names = range(len(scored.flags)) if data.ids is None else data.ids
    index = pd.Index(names, name="row")
    return pd.DataFrame({**columns, "is_inlier": scored.flags == 1}, index=index)
