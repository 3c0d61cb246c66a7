"""The command line: the public API over files."""

from __future__ import annotations

from skood.cli.main import main, make_parser

__all__ = ["main", "make_parser"]
