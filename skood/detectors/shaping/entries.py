"""The detectors that reshape penultimate features."""

from __future__ import annotations

from skood.detectors.entry import Entry

ENTRIES: tuple[Entry, ...] = ()
