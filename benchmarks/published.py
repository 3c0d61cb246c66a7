"""Published figures for the same network, data and protocol, to compare with.

AUROC in per cent by (network, outliers, detector). "Plain NumPy" is an implementation
of each formula that shares no code with skood, run on the same files.
"""

from __future__ import annotations

import pandas as pd
from papers_published import LSGM_DENSENET

Figures = dict[tuple[str, str, str], float]

# Hendrycks, Mazeika and Dietterich, "Deep anomaly detection with outlier exposure",
# ICLR 2019: the log of the released MNIST baseline, 2,000 outliers a run.
OUTLIER_EXPOSURE: Figures = {
    ("mnist_convnet", name, "MSP"): auroc
    for name, auroc in {
        "fashion_mnist": 99.31,
        "notmnist": 96.04,
        "cifar10": 99.87,
        "negative": 98.55,
        "gaussian": 99.96,
        "bernoulli": 99.81,
    }.items()
}

# Tiny ImageNet is another file there, so it is no figure for the same data.
LSGM_TABLE_1: Figures = {
    ("densenet_mahalanobis", outliers, detector): auroc
    for (method, outliers), auroc in LSGM_DENSENET["auroc"].items()
    for detector in [{"LSGM": "LSGM, reference's layers"}.get(method, method)]
    if outliers != "tiny_imagenet" and method != "Mahalanobis"
}

_DETECTORS = ("MSP", "MaxLogit", "Energy", "KNN", "Mahalanobis")
_NUMPY = {
    "densenet_mahalanobis": {
        "textures": (88.72, 85.87, 85.74, 96.42, 92.16),
        "tiny_imagenet": (88.57, 90.16, 90.17, 89.14, 62.44),
        "cifar100": (89.16, 90.09, 90.08, 89.49, 66.32),
        "gaussian": (97.64, 98.32, 98.10, 100.0, 100.0),
        "rademacher": (97.03, 97.05, 96.80, 100.0, 100.0),
    },
    "densenet_dice": {
        "textures": (88.68, 87.50, 87.42, 96.18, 87.50),
        "tiny_imagenet": (87.66, 90.21, 90.23, 87.67, 55.75),
        "cifar100": (88.42, 89.73, 89.72, 88.32, 60.44),
    },
    "resnet20": {
        "textures": (87.64, 89.75, 89.74, 94.57, 83.81),
        "tiny_imagenet": (85.35, 88.27, 88.30, 86.47, 58.44),
        "cifar100": (86.02, 88.01, 88.01, 86.74, 60.54),
    },
}
PLAIN_NUMPY: Figures = (
    {
        (network, name, detector): auroc
        for network, sets in _NUMPY.items()
        for name, row in sets.items()
        for detector, auroc in zip(_DETECTORS, row, strict=True)
    }
    | {
        ("mnist_convnet", name, "MSP"): auroc
        for name, auroc in {
            "fashion_mnist": 99.30,
            "notmnist": 96.13,
            "cifar10": 99.87,
            "negative": 98.56,
            "gaussian": 99.97,
            "bernoulli": 99.82,
        }.items()
    }
    | {
        ("minilm_clinc150", "clinc150_oos", detector): auroc
        for detector, auroc in {
            "MSP": 95.72,
            "MaxLogit": 97.16,
            "Energy": 97.17,
            "KNN, k = 1": 96.25,
            "KNN, k = 10": 95.64,
            "KNN, k = 50": 93.50,
            "Mahalanobis": 94.40,
        }.items()
    }
)

SOURCES = {
    "Outlier Exposure, log": OUTLIER_EXPOSURE,
    "LSGM, Table 1": LSGM_TABLE_1,
    "plain NumPy": PLAIN_NUMPY,
}


def comparison(network: str, measured: pd.DataFrame) -> pd.DataFrame:
    """Return measured AUROC beside every figure known for the same pair and detector.

    `error` is the standard error of the measured AUROC from the finite test sets
    (Hanley and McNeil, Radiology 1982).
    """
    rows = []
    for row in measured.itertuples():
        for source, figures in SOURCES.items():
            known = figures.get((network, row.outliers, row.detector))
            if known is None:
                continue
            rows.append(
                {
                    "outliers": row.outliers,
                    "detector": row.detector,
                    "source": source,
                    "known": known,
                    "measured": row.auroc,
                    "difference": row.auroc - known,
                    "error": 100 * auroc_error(row.auroc / 100, row.n_id, row.n_ood),
                }
            )
    return pd.DataFrame(rows)


def auroc_error(auroc: float, n_id: int, n_ood: int) -> float:
    """Return the standard error of an AUROC by Hanley and McNeil's formula."""
    both_above = auroc / (2 - auroc)
    below_both = 2 * auroc**2 / (1 + auroc)
    variance = (
        auroc * (1 - auroc)
        + (n_id - 1) * (both_above - auroc**2)
        + (n_ood - 1) * (below_both - auroc**2)
    ) / (n_id * n_ood)
    return float(max(variance, 0.0) ** 0.5)
