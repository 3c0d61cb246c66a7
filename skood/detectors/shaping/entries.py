"""The detectors that reshape penultimate features."""

from __future__ import annotations

from typing import Any

from skood.detectors.entry import Entry

_SHAPING: dict[str, Any] = {
    "family": "shaping",
    "needs": ("head",),
    "tasks": ("classification",),
    "cost": "C d",
    "on_arrays": (),
}

ENTRIES: tuple[Entry, ...] = (
    Entry(
        "ReAct",
        "skood.detectors.shaping.react",
        summary="activations cut off at a percentile of all",
        paper="ReAct: Out-of-distribution detection with rectified activations",
        venue="NeurIPS",
        year=2021,
        code="deeplearning-wisc/react",
        on_features=({}, {"percentile": 80}),
        **_SHAPING,
    ),
    Entry(
        "SCALE",
        "skood.detectors.shaping.scale",
        summary="features scaled by the share of their most active units",
        paper="Scaling for training time and post-hoc out-of-distribution detection "
        "enhancement",
        venue="ICLR",
        year=2024,
        code="kai422/SCALE",
        on_features=(
            {"percentile": 70},
            {"percentile": 60, "transform": "square"},
            {},
        ),
        **_SHAPING,
    ),
)
