"""The lock that whoever works with a user's network holds."""

from __future__ import annotations

from threading import RLock

__all__ = ["turn"]

turn = RLock()
"""Held by the thread that works with a network: one at a time in a process."""
