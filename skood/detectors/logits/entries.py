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
        on_features=({}, {"temperature": 1000.0}),
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
    Entry(
        "Entropy",
        "skood.detectors.logits.entropy",
        summary="entropy of the probabilities",
        paper="Entropy maximization and meta classification for out-of-distribution "
        "detection in semantic segmentation",
        venue="ICCV",
        year=2021,
        **_OUTPUT,
    ),
    Entry(
        "TemperatureScaledMSP",
        "skood.detectors.logits.temperature",
        summary="largest probability at the temperature that fits the labels",
        paper="On calibration of modern neural networks",
        venue="ICML",
        year=2017,
        code="gpleiss/temperature_scaling",
        on_arrays=(),
        **_OUTPUT | {"needs": ("logits", "labels"), "uses_labels": True, "state": ()},
    ),
    Entry(
        "KLMatching",
        "skood.detectors.logits.kl_matching",
        summary="divergence from the typical probabilities of a class",
        paper="Scaling out-of-distribution detection for real-world settings",
        venue="ICML",
        year=2022,
        code="hendrycks/anomaly-seg",
        **_OUTPUT | {"cost": "C²", "state": ()},
    ),
    Entry(
        "OpenMax",
        "skood.detectors.logits.openmax",
        summary="probability that the class is unknown",
        paper="Towards open set deep networks",
        venue="CVPR",
        year=2016,
        code="abhijitbendale/OSDN",
        on_arrays=(),
        on_features=({"n_tail": 5}, {"n_revised": 2, "n_tail": 7}),
        **_OUTPUT | {"uses_labels": True, "state": ()},
    ),
    Entry(
        "DOCTOR",
        "skood.detectors.logits.doctor",
        summary="odds that two draws from the probabilities disagree",
        paper="DOCTOR: A simple method for detecting misclassification errors",
        venue="NeurIPS",
        year=2021,
        on_features=({}, {"temperature": 2.0}),
        **_OUTPUT,
    ),
    Entry(
        "JointEnergy",
        "skood.detectors.logits.joint_energy",
        summary="energies of several labels, added",
        paper="Can multi-label classification networks know what they don't know?",
        venue="NeurIPS",
        year=2021,
        code="deeplearning-wisc/multi-label-ood",
        **_OUTPUT,
    ),
)
