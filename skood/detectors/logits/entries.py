"""The detectors of the network's output."""

from __future__ import annotations

from typing import Any

from skood.detectors.entry import Entry

_OUTPUT: dict[str, Any] = {
    "family": "logits",
    "needs": ("logits",),
    "tasks": ("classification",),
    "cost": "C",
    "state": ("skood.detectors.incremental.Sample",),
}

ENTRIES = (
    Entry(
        "MSP",
        "skood.detectors.logits.msp",
        summary="largest softmax probability",
        paper="A baseline for detecting misclassified and out-of-distribution examples "
        "in neural networks",
        venue="ICLR",
        year=2017,
        code="hendrycks/error-detection",
        **_OUTPUT,
    ),
    Entry(
        "MaxLogit",
        "skood.detectors.logits.max_logit",
        summary="largest logit",
        paper="Scaling out-of-distribution detection for real-world settings",
        venue="ICML",
        year=2022,
        code="hendrycks/anomaly-seg",
        **_OUTPUT,
    ),
    Entry(
        "Energy",
        "skood.detectors.logits.energy",
        summary="log-sum-exp of the logits",
        paper="Energy-based out-of-distribution detection",
        venue="NeurIPS",
        year=2020,
        code="wetliu/energy_ood",
        on_features=({}, {"temperature": 2.0}),
        **_OUTPUT,
    ),
    Entry(
        "GEN",
        "skood.detectors.logits.gen",
        summary="generalised entropy of the largest probabilities",
        paper="GEN: Pushing the limits of softmax-based out-of-distribution detection",
        venue="CVPR",
        year=2023,
        code="XixiLiu95/GEN",
        on_features=({}, {"gamma": 0.5, "n_largest": 2}),
        **_OUTPUT,
    ),
)
