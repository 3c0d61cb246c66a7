"""``skood fit``."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from inspect import signature
from textwrap import fill
from typing import Any

import numpy as np

from skood.cli.arguments import add_images, add_layers, transformer_of
from skood.cli.data import Data, known_rows, read, read_labels
from skood.cli.exits import DONE
from skood.cli.models import check_model_place, write_model
from skood.cli.objects import DETECTORS, made_detector, settings_of
from skood.cli.output import show

NAME = "fit"
SUMMARY = "fit a detector and write it to a folder"
DESCRIPTION = """\
Fit a detector on in-distribution rows and write it: to a folder that is read without
running code of its own, or to a file whose name ends in .joblib. With --network and
--layers the model takes the network's inputs, and holds its weights."""
EPILOG = f"""\
detectors:
{fill(", ".join(DETECTORS), 84, initial_indent="  ", subsequent_indent="  ")}
  and package.module:name of a class of your own

examples:
  skood fit KNN features/ detector --set n_neighbors=10 --max-false-alarm 0.01
  skood fit Energy train/ detector --threshold-data held_out/
  skood fit Mahalanobis train.npy detector --network nets:resnet --layers layer4"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add those of this command."""
    parser.add_argument("detector", help="its name")
    parser.add_argument(
        "data", help="in-distribution rows; -1 labels others among them"
    )
    parser.add_argument("model", help="the folder, or .joblib file, to write")
    parser.add_argument("--labels", metavar="FILE", help="a label a row")
    parser.add_argument(
        "--set",
        nargs="+",
        default=[],
        metavar="NAME=VALUE",
        help="parameters of the detector",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace the model")
    _add_thresholds(parser)
    parser.add_argument(
        "--network",
        metavar="MODULE:NAME",
        help="put this network before the detector",
    )
    add_layers(parser, required=False)
    add_images(parser)


def _add_thresholds(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("threshold")
    group.add_argument(
        "--threshold-data",
        metavar="DATA",
        help="in-distribution rows that set the threshold and are not fitted on; for "
        "rows that the network was trained on, give others here",
    )
    group.add_argument(
        "--max-false-alarm",
        type=float,
        metavar="RATE",
        help="flag at most this share of new in-distribution rows, by --threshold-data "
        "or by rows held out",
    )
    group.add_argument(
        "--confidence",
        type=float,
        help="with which this threshold keeps --max-false-alarm",
    )
    group.add_argument(
        "--alpha",
        type=float,
        metavar="RATE",
        help="the same as --max-false-alarm, with a p-value for each row",
    )


def run(arguments: argparse.Namespace) -> int:
    """Fit and write."""
    _check(arguments)
    check_model_place(arguments.model, overwrite=arguments.overwrite)
    data = read(arguments.data, arguments)
    held_out = None
    if arguments.threshold_data is not None:
        held_out = known_rows(read(arguments.threshold_data, arguments))
    y = read_labels(arguments.labels, data)
    model = _fitted(arguments, data.X, y, held_out)
    said = _said(model, arguments, data, y)
    if held_out is not None:
        said["threshold_rows"] = len(held_out)
    write_model(model, arguments.model, overwrite=arguments.overwrite)
    show(arguments, said)
    return DONE


def _check(arguments: argparse.Namespace) -> None:
    if (arguments.network is None) != (arguments.layers is None):
        raise ValueError("--network and --layers go together: give both, or neither.")
    if arguments.confidence is not None and arguments.max_false_alarm is None:
        raise ValueError("--confidence is of --max-false-alarm: give that too.")
    if arguments.alpha is not None and arguments.max_false_alarm is not None:
        raise ValueError("--alpha and --max-false-alarm set one threshold: give one.")


def _fitted(arguments: argparse.Namespace, X: Any, y: Any, held_out: Any) -> Any:
    """Return the model, a pipeline if it begins with a network."""
    detector = made_detector(arguments.detector, settings_of(arguments.set))
    if arguments.network is None:
        return _fitted_detector(detector, arguments, X, y, held_out)
    from sklearn.pipeline import Pipeline

    network = transformer_of(arguments)
    features = network.fit_transform(X, y)
    new = None if held_out is None else network.transform(held_out)
    fitted = _fitted_detector(detector, arguments, features, y, new)
    return Pipeline([("features", network), ("detector", fitted)])


def _fitted_detector(
    detector: Any, arguments: argparse.Namespace, X: Any, y: Any, held_out: Any
) -> Any:
    wrapped = _wrapper(arguments)
    if held_out is None:
        return (detector if wrapped is None else wrapped(detector)).fit(X, y)
    if wrapped is not None:
        return wrapped(detector.fit(X, y), cv="prefit").fit(held_out)
    if "threshold_data" not in signature(detector.fit).parameters:
        raise ValueError(
            f"--threshold-data: {type(detector).__name__} sets its threshold by its "
            "own rows alone: give --max-false-alarm or --alpha as well."
        )
    return detector.fit(X, y, threshold_data=held_out)


def _wrapper(arguments: argparse.Namespace) -> Callable[..., Any] | None:
    """Return what sets the threshold for a rate, if one is asked for."""
    from skood import ConformalDetector, TargetRateThreshold

    if arguments.alpha is not None:
        return partial(ConformalDetector, alpha=arguments.alpha)
    if arguments.max_false_alarm is not None:
        rate, confidence = arguments.max_false_alarm, arguments.confidence
        return partial(TargetRateThreshold, max_false_alarm=rate, confidence=confidence)
    return None


def _said(
    model: Any, arguments: argparse.Namespace, data: Data, y: Any
) -> dict[str, Any]:
    last = model[-1] if arguments.network is not None else model
    outliers = 0 if y is None else int(np.sum(np.asarray(y) == -1))
    found = {
        "model": arguments.model,
        "detector": str(last),
        "rows": len(data.X) - outliers,
        "outliers": outliers,
    }
    if hasattr(last, "offset_"):  # of scikit-learn some have arrays, and some none
        found["threshold"] = float(np.ravel(last.offset_)[0])
    return found
