"""
AutoOOD and its report
======================

Which detector is best depends on the outliers to come, which nobody has. AutoOOD takes
one for each view of what the features carry and combines them. Its report says what
each member contributes, and ``explain`` which of them has seen a row.
"""

from collections import OrderedDict

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.pipeline import make_pipeline
from torch import nn

from skood import AutoOOD, Jigsaw, LayerFeatureTransformer
from skood.datasets import load_digits_ood
from skood.plotting import EnsembleReportDisplay

# %%
# A network that knows the digits 0 to 7.

data = load_digits_ood()
torch.manual_seed(0)
network = nn.Sequential(
    OrderedDict(
        conv1=nn.Conv2d(1, 16, 3, padding=1),
        relu1=nn.ReLU(),
        conv2=nn.Conv2d(16, 32, 3, padding=1),
        bn2=nn.BatchNorm2d(32),
        relu2=nn.ReLU(),
        pool2=nn.MaxPool2d(2),
        conv3=nn.Conv2d(32, 64, 3, padding=1),
        bn3=nn.BatchNorm2d(64),
        relu3=nn.ReLU(),
        pool3=nn.AdaptiveAvgPool2d(1),
        flatten=nn.Flatten(),
        fc=nn.Linear(64, 8),
    )
)
optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
images, labels = torch.from_numpy(data.X_train), torch.from_numpy(data.y_train)
for _ in range(20):
    for rows in torch.randperm(len(images)).split(64):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(images[rows]), labels[rows]).backward()
        optimizer.step()

# %%
# Fit on training rows, threshold on held-out rows
# ------------------------------------------------
#
# Several layers and the logits are read in one pass. Jigsaw puzzles of the images are
# pseudo outliers, by which the members are weighed; without any ``views`` the members'
# scores are averaged.

extractor = LayerFeatureTransformer(
    network,
    ["relu1", "relu2", "relu3", "penultimate", "logits"],
    views={"jigsaw": Jigsaw(2)},
)
train = extractor.fit_transform(data.X_train)
unseen = extractor.fit_transform(data.X_fit)
auto = AutoOOD().fit(train, data.y_train, threshold_data=unseen)
alarm = make_pipeline(extractor, auto)

for name, X in {"0-7": data.X_test, "8, 9": data.X_near, "photos": data.X_far}.items():
    print(f"{name:7} flagged: {np.mean(alarm.predict(X) == -1):.1%}")

# %%
# The report
# ----------
#
# A member that cannot be fitted or is below chance is left out, and the report says
# why.

columns = [c for c in auto.report_ if c != "score_seconds"]
auto.report_[columns].round(3)

# %%
# A bar is the weight of a member, its view beside it; a mark is its AUROC on the jigsaw
# puzzles.

EnsembleReportDisplay.from_estimator(auto)

# %%
# Which member saw a row
# ----------------------
#
# ``z`` is a member's score in standard deviations of held-out rows: an 8 and a
# photograph are given away by different members.

rows = extractor.transform(np.concatenate([data.X_near[:1], data.X_far[:1]]))
figure, axes = plt.subplots(1, 2, figsize=(9, 4), sharey=True)
for ax, row, name in zip(axes, [rows[0], rows[1]], ["an 8", "a photo"], strict=True):
    table = auto.explain(row)
    ax.barh(table.index, table["z"])
    ax.axvline(0, color="black", linewidth=1)
    ax.set(title=name, xlabel="z (lower = less in-distribution)", xscale="symlog")
