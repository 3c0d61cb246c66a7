"""What the page of the command line shows: the help of each command, as it is."""

from __future__ import annotations

import argparse
import os
from textwrap import indent
from unittest import mock

from skood.cli import make_parser

WIDTH = "84"


def helps() -> str:
    """reStructuredText with a section for each command."""
    with mock.patch.dict(os.environ, COLUMNS=WIDTH):
        return "\n".join(_section(name, own) for name, own in _commands().items())


def _commands() -> dict[str, argparse.ArgumentParser]:
    actions = make_parser()._actions
    return next(dict(a.choices) for a in actions if isinstance(a.choices, dict))


def _section(name: str, parser: argparse.ArgumentParser) -> str:
    title = f"skood {name}"
    text = indent(parser.format_help(), "   ")
    return f"{title}\n{'-' * len(title)}\n\n.. code-block:: text\n\n{text}"
