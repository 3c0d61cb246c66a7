"""
Features of a large network, from disk
======================================

Features are extracted once and kept. Every detector is then fitted from the files,
which are mapped into memory and read in chunks: here made-up features of 100 classes
and 512 columns, of the kind that the last block of an ImageNet network gives, with its
logits and its head.
"""

import tempfile
import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from skood import (
    FDBD,
    KNN,
    Energy,
    LayerFeatures,
    LinearHead,
    Mahalanobis,
    ReAct,
    ViM,
    auroc,
)

# %%
# Rectified, sparse and heavy-tailed, as penultimate features are; unknown rows have the
# same columns, in mixtures that no class has, and less of them.

rng = np.random.default_rng(0)
prototypes = rng.gamma(0.3, 1.0, size=(100, 512)).astype("float32")
weights = (prototypes - prototypes.mean(axis=0)) / 12
head = LinearHead(weights, np.zeros(100, "float32"))


def features_of(means: np.ndarray) -> LayerFeatures:
    """Return the features of rows around their means, with logits and head."""
    noise = rng.gamma(0.3, 0.7, size=means.shape).astype("float32")
    h = np.maximum(means + noise - 0.2, 0)
    return LayerFeatures({"penultimate": h, "logits": head.logits(h)}, head=head)


classes = rng.integers(0, 100, size=10_000)
folder = tempfile.TemporaryDirectory()
path = Path(folder.name) / "train"
features_of(prototypes[classes]).save(path)
known = features_of(prototypes[rng.integers(0, 100, size=1_000)])
pairs = rng.integers(0, 100, size=(1_000, 2))
unknown = features_of(0.9 * (prototypes[pairs[:, 0]] + prototypes[pairs[:, 1]]) / 2)

# %%
# ``load`` opens the folder without reading the arrays.

train = LayerFeatures.load(path)
print(train, "in memory:", train.in_memory)

# %%
# Six detectors, the same files, the network long gone:

y_true = np.repeat([1, -1], [len(known), len(unknown)])
table = {}
for detector in [
    Energy(),
    ReAct(),
    FDBD(),
    ViM(),
    Mahalanobis("penultimate"),
    KNN(20, layers="penultimate"),
]:
    start = time.perf_counter()
    detector.fit(train, classes)
    fitted = time.perf_counter()
    scores = np.concatenate(
        [detector.score_samples(known), detector.score_samples(unknown)]
    )
    table[type(detector).__name__] = {
        "AUROC": auroc(y_true, scores),
        "fit, s": fitted - start,
        "score 2,000 rows, s": time.perf_counter() - fitted,
    }
table = pd.DataFrame(table).T
table.round(3)

# %%

figure, ax = plt.subplots()
ax.scatter(table["fit, s"], table["AUROC"])
for name, row in table.iterrows():
    ax.annotate(name, row[["fit, s", "AUROC"]], (5, 3), textcoords="offset points")
ax.set(xscale="log", xlabel="seconds to fit on 10,000 rows", ylabel="AUROC")
ax.margins(x=0.2)

# %%
# The data are made up, and so the order of the detectors says nothing. For a network of
# yours ``LayerFeatureTransformer(network, layers, cache="features/")`` keeps each row
# that has gone through it, and ``extract_to`` writes data sets of any size.

del train, detector
folder.cleanup()
