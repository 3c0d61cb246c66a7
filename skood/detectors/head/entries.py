"""The detectors of penultimate features and the last linear map."""

from __future__ import annotations

from skood.detectors.entry import Entry

ENTRIES: tuple[Entry, ...] = ()
