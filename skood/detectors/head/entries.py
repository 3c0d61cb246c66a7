"""The detectors of penultimate features and the last linear map."""

from __future__ import annotations

from typing import Any

from skood.detectors.entry import Entry

_WITH_HEAD: dict[str, Any] = {
    "family": "head",
    "needs": ("head",),
    "tasks": ("classification",),
    "on_arrays": (),
}

ENTRIES = (
    Entry(
        "FDBD",
        "skood.detectors.head.fdbd",
        summary="distance to the decision boundaries over that to the mean",
        paper="Fast decision boundary based out-of-distribution detector",
        venue="ICML",
        year=2024,
        code="litianliu/fDBD-OOD",
        cost="C d",
        **_WITH_HEAD,
    ),
    Entry(
        "NCI",
        "skood.detectors.head.nci",
        summary="closeness of centred features to the predicted class's weights",
        paper="Detecting out-of-distribution through the lens of neural collapse",
        venue="CVPR",
        year=2025,
        cost="C d",
        on_features=({}, {"alpha": 1e-4}),
        **_WITH_HEAD,
    ),
    Entry(
        "ViM",
        "skood.detectors.head.vim",
        summary="energy, less a virtual logit of the residual",
        paper="ViM: out-of-distribution with virtual-logit matching",
        venue="CVPR",
        year=2022,
        code="haoqiwang/vim",
        cost="d²",
        on_features=({}, {"n_components": 4}),
        **_WITH_HEAD,
    ),
    Entry(
        "Residual",
        "skood.detectors.head.residual",
        summary="length of the features outside their principal space",
        paper="ViM: out-of-distribution with virtual-logit matching",
        venue="CVPR",
        year=2022,
        code="haoqiwang/vim",
        cost="d²",
        on_features=({}, {"n_components": 4}),
        **_WITH_HEAD,
    ),
)
