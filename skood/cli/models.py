"""Fitted detectors, to files and from them."""

from __future__ import annotations

import argparse
from typing import Any

import skood
from skood.cli.objects import made_network
from skood.files.atomic import replacing
from skood.files.paths import user_path

__all__ = ["add_reading", "read_model", "write_model"]

PICKLES = {".joblib", ".pickle", ".pkl"}


def add_reading(parser: argparse.ArgumentParser) -> None:
    """Add the model, and what it may take to read it."""
    parser.add_argument("model", help="what `skood fit` has written")
    group = parser.add_argument_group("reading the model")
    group.add_argument(
        "--network",
        metavar="MODULE:NAME",
        help="the network of a pipeline, of the same architecture: the weights are in "
        "the model",
    )
    group.add_argument(
        "--trust",
        nargs="+",
        default=[],
        metavar="NAME",
        help="classes and functions of others that the model names, and that may run",
    )
    group.add_argument(
        "--trust-pickle",
        action="store_true",
        help="read a .joblib file, which can run anything: only from whom you trust",
    )


def read_model(arguments: argparse.Namespace) -> Any:
    """Return the fitted estimator of ``arguments.model``.

    Raises
    ------
    ValueError
        If it is a pickle that is not trusted, or a pipeline without its network.
    """
    path = user_path(arguments.model, "model")
    if path.suffix.lower() in PICKLES and path.is_file():
        if not arguments.trust_pickle:
            raise ValueError(
                f"{path} is a pickle, which can run anything when it is read: give "
                "--trust-pickle if you trust who wrote it. (A model that is written to "
                "a folder needs no trust.)"
            )
        import joblib

        return joblib.load(path)
    network = made_network(arguments.network)
    model = skood.load(path, network=network, trusted=arguments.trust)
    for _, step in getattr(model, "steps", []):
        if getattr(step, "network", step) is None:
            raise ValueError(
                f"{path} is a pipeline over a network, whose code is not in the model: "
                "give --network package.module:name."
            )
    return model


def write_model(estimator: Any, name: str, *, overwrite: bool) -> None:
    """Write an estimator to a folder without pickle, or to a .joblib file.

    Raises
    ------
    FileExistsError
        If there is something, and it may not be replaced.
    """
    path = user_path(name, "model")
    if path.suffix.lower() not in PICKLES:
        skood.save(estimator, path, overwrite=overwrite)
        return
    if path.exists() and not overwrite:
        raise FileExistsError(f"{path} exists: give --overwrite to replace it.")
    import joblib

    with replacing(path) as file:
        joblib.dump(estimator, file)
