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
    Entry(
        "ASH",
        "skood.detectors.shaping.ash",
        summary="only the most active units of each row",
        paper="Extremely simple activation shaping for out-of-distribution detection",
        venue="ICLR",
        year=2023,
        code="andrijazz/ash",
        negative_features=False,
        on_features=(
            {"percentile": 70},
            {"percentile": 70, "variant": "P"},
            {"percentile": 70, "variant": "B"},
        ),
        **_SHAPING,
    ),
    Entry(
        "VRA",
        "skood.detectors.shaping.vra",
        summary="low activations vanish, high ones are cut off",
        paper="VRA: Variational rectified activation for out-of-distribution detection",
        venue="NeurIPS",
        year=2023,
        code="zeroQiaoba/VRA",
        on_features=({}, {"low": "clip", "low_percentile": 10}),
        **_SHAPING,
    ),
    Entry(
        "RAS",
        "skood.detectors.shaping.ras",
        summary="typical activations in the row's own order",
        paper="Ranked activation shift for post-hoc out-of-distribution detection",
        venue="ECCV",
        year=2026,
        code="gigug/RAS",
        **_SHAPING,
    ),
    Entry(
        "DICE",
        "skood.detectors.shaping.dice",
        summary="only the weights that contribute most",
        paper="DICE: Leveraging sparsification for out-of-distribution detection",
        venue="ECCV",
        year=2022,
        code="deeplearning-wisc/dice",
        on_features=({"percentile": 70}, {"percentile": 50}),
        **_SHAPING,
    ),
    Entry(
        "BATS",
        "skood.detectors.shaping.bats",
        summary="each unit drawn into its usual range",
        paper="Boosting out-of-distribution detection with typical features",
        venue="NeurIPS",
        year=2022,
        code="alibaba/easyrobust",
        on_features=({}, {"n_std": 3.0}),
        **_SHAPING,
    ),
    Entry(
        "LINe",
        "skood.detectors.shaping.line",
        summary="units and weights that matter to the predicted class",
        paper="LINe: Out-of-distribution detection by leveraging important neurons",
        venue="CVPR",
        year=2023,
        code="YongHyun-Ahn/LINe-Out-of-Distribution-Detection-by-Leveraging-Important-"
        "Neurons",
        negative_features=False,
        on_features=({}, {"unit_percentile": 30, "weight_percentile": 40}),
        **_SHAPING,
    ),
    Entry(
        "OptFS",
        "skood.detectors.shaping.optfs",
        summary="a learned factor for each size of activation",
        paper="Towards optimal feature-shaping methods for out-of-distribution "
        "detection",
        venue="ICLR",
        year=2024,
        code="Qinyu-Allen-Zhao/OptFSOOD",
        on_features=({}, {"n_bins": 7}),
        **_SHAPING,
    ),
)
