"""
A first detector
================

A network has learned the digits 0 to 7, and has no other answers: an 8 is a 3 to it,
or a 1, and so is a patch of a photograph. A detector on its layers raises the alarm: it
is fitted on the rows that the network was trained on, and rows that the network has not
seen set the threshold.
"""

from collections import OrderedDict

import matplotlib.pyplot as plt
import numpy as np
import torch
from torch import nn

from skood import KNN, LayerFeatureTransformer, auroc
from skood.datasets import load_digits_ood
from skood.plotting import ScoreHistogramDisplay

# %%
# The network
# -----------
#
# You have one already; here is a small one, trained in a second.

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

with torch.no_grad():
    answers = network.eval()(torch.from_numpy(data.X_near)).argmax(dim=1)
print("what the digits 8 and 9 are taken for:", answers.unique().tolist())

# %%
# Features, then a detector
# -------------------------
#
# The extractor runs the network once, up to the deepest layer that is wanted, and
# leaves nothing behind. The detector measures how far a row is from its nearest
# neighbours among the training rows.

extractor = LayerFeatureTransformer(network, layers=["relu2", "relu3"])
train = extractor.fit_transform(data.X_train)
unseen = extractor.transform(data.X_fit)

detector = KNN(5, contamination=0.05)
detector.fit(train, data.y_train, threshold_data=unseen)

# %%
# What it says
# ------------
#
# ``predict`` gives +1 to what is like the training data and -1 to what is not.

kinds = {"digits 0-7": data.X_test, "digits 8, 9": data.X_near, "photos": data.X_far}
features = {name: extractor.transform(X) for name, X in kinds.items()}
for name, rows in features.items():
    print(f"{name:12} flagged: {np.mean(detector.predict(rows) == -1):.1%}")

# %%
# Five in a hundred known digits were to be flagged, and about five are. The scores
# behind the flags are higher for what is known:

figure, axes = plt.subplots(1, 2, figsize=(9, 3.4), sharey=True)
known = features["digits 0-7"]
for ax, name in zip(axes, ["digits 8, 9", "photos"], strict=True):
    y_true = np.repeat([1, -1], [len(known), len(features[name])])
    scores = np.concatenate(
        [detector.score_samples(known), detector.score_samples(features[name])]
    )
    ScoreHistogramDisplay.from_predictions(
        y_true,
        scores,
        threshold=detector.offset_,
        name=f"{name}: AUROC {auroc(y_true, scores):.3f}",
        ax=ax,
    )
axes[1].set_ylabel("")

# %%
# :doc:`plot_06_auto` is the next step: it needs no choice of a detector.
