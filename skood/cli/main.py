"""From a line of arguments to an exit code."""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

from skood import __version__
from skood.cli import completion
from skood.cli.commands import (
    compare,
    evaluate,
    export,
    extract,
    fit,
    inspect,
    layers,
    score,
)
from skood.cli.exits import DONE, EXITS, INTERRUPTED, WRONG

__all__ = ["main", "make_parser"]

COMMANDS = (layers, extract, fit, score, evaluate, compare, export, inspect, completion)

USERS_FAULT = (
    *(ValueError, TypeError, OSError, ImportError, AttributeError),
    RuntimeError,  # a network's, of inputs that it does not take
)
"""What a wrong file, name or value raises; all else is ours, and is shown whole."""

LONGEST = 900
"""Characters of a line that says what is wrong."""

DESCRIPTION = """\
Out-of-distribution detection over files: look at a network's layers, extract their
features, fit a detector, score and evaluate. `skood COMMAND --help` says how, with an
example for each."""

EPILOG = f"""\
data:
  a .npy, .npz, .safetensors or .parquet file, a store of `skood extract`, a folder of
  LayerFeatures.save, or a folder of images. FILE::NAME takes one array or column of a
  file. In a file of several arrays, `y` or `labels` are the labels and every other one
  is the block of a layer; -1 labels an outlier.

networks:
  package.module:name, a network or a function without arguments that makes one. The
  current folder is looked in first.

exit codes:
{EXITS}"""


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands.

    Returns
    -------
    argparse.ArgumentParser

    Examples
    --------
    >>> from skood.cli import make_parser
    >>> make_parser().parse_args(["fit", "KNN", "train.npy", "detector"]).detector
    'KNN'
    """
    parser = argparse.ArgumentParser(
        prog="skood",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"skood {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", dest="command", required=True)
    for command in COMMANDS:
        own = commands.add_parser(
            command.NAME,
            help=command.SUMMARY,
            description=command.DESCRIPTION,
            epilog=command.EPILOG,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        own.set_defaults(run=command.run, parser=parser)
        command.add_arguments(own)
        _add_common(own)
    return parser


def _add_common(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("output")
    group.add_argument("--json", action="store_true", help="print JSON to the output")
    group.add_argument(
        "--progress",
        action=argparse.BooleanOptionalAction,
        help="show bars of what takes long; by default on a terminal",
    )
    group.add_argument(
        "--traceback", action="store_true", help="show where an error comes from"
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Parameters
    ----------
    argv : sequence of str, optional
        Its arguments; by default those of the process.

    Returns
    -------
    int
        The exit code: 0, or 1 for what is wrong with the user's files or values, of
        which one line is then on the standard error, 3 for a check that failed, or 130
        if it was interrupted.

    Raises
    ------
    SystemExit
        With code 2, by argparse, for arguments that it cannot read.

    Examples
    --------
    >>> from skood.cli import main
    >>> main(["inspect", "nowhere.npy"])
    1
    """
    arguments = make_parser().parse_args(argv)
    title = f"skood {arguments.command}"
    with _warnings_in_a_line(title), _bars(arguments):
        try:
            code: int = arguments.run(arguments)
        except BrokenPipeError:  # whoever read the output has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return DONE
        except KeyboardInterrupt:
            print(f"{title}: interrupted", file=sys.stderr)
            return INTERRUPTED
        except USERS_FAULT as error:
            if arguments.traceback:
                raise
            print(f"{title}: error: {_in_a_line(error)}", file=sys.stderr)
            return WRONG
    return code


def _in_a_line(error: BaseException) -> str:
    notes = getattr(error, "__notes__", [])
    text = " ".join(" ".join([str(error), *notes]).split()) or type(error).__name__
    # Some print the array that they do not like.
    return text if len(text) <= LONGEST else f"{text[:500]} ... {text[-150:]}"


@contextmanager
def _warnings_in_a_line(title: str) -> Iterator[None]:
    def shown(message: Any, *_: Any, **__: Any) -> None:
        text = " ".join(str(message).split())
        print(f"{title}: warning: {text}", file=sys.stderr)

    with warnings.catch_warnings():
        warnings.showwarning = shown
        yield


def _bars(arguments: argparse.Namespace) -> Any:
    if arguments.progress is None:
        arguments.progress = sys.stderr.isatty()
    if not arguments.progress:
        return nullcontext()
    from skood import progress

    return progress()
