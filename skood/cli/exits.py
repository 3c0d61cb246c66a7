"""What the exit codes say."""

from __future__ import annotations

__all__ = ["DONE", "EXITS", "FAILED", "INTERRUPTED", "WRONG"]

DONE = 0
WRONG = 1
FAILED = 3
INTERRUPTED = 130
"""128 and the number of the signal, as shells have it."""

EXITS = """\
  0  done
  1  something is wrong with a file, a name or a value: one line says what
  2  the arguments cannot be read
  3  a check that was asked for has failed (--fail-above, --fail-below)
  130  interrupted
"""
