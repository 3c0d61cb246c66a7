"""
Choosing layers
===============

What tells unknown inputs apart is not always in the last layer. This example lists the
layers of a network, with what each costs, reads several of them in one pass, and
compares them.
"""

from collections import OrderedDict

import numpy as np
import torch
from torch import nn

from skood import (
    KNN,
    FeatureNorm,
    Jigsaw,
    LayerFeatureTransformer,
    auroc,
    list_layers,
)
from skood.datasets import load_digits_ood
from skood.plotting import LayerAurocDisplay, NormRatioDisplay

# %%
# A network for digits of 8 x 8 pixels. It learns 0 to 5; the classes 6 and 7 are kept
# from it, to choose by, and 8 and 9 to see how well that went.

data = load_digits_ood()
shown = data.y_train < 6
X_train, y_train = data.X_train[shown], data.y_train[shown]
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
        fc=nn.Linear(64, 6),
    )
)
optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
images, labels = torch.from_numpy(X_train), torch.from_numpy(y_train)
for _ in range(20):
    for rows in torch.randperm(len(images)).split(64):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(images[rows]), labels[rows]).backward()
        optimizer.step()

# %%
# Which layers there are
# ----------------------
#
# The names are those that ``layers`` takes. ``saved`` is the share of the forward pass
# that is not run when nothing deeper is wanted.

table = list_layers(network, X_train[:16])
table.round(2)

# %%
# All of them in one pass
# -----------------------
#
# To choose by, there have to be outliers, and they must not be those that the detector
# will be tested on. Near ones are classes that the network has not been shown: their
# rows get the label -1.

layers = ["relu1", "relu2", "relu3"]
extractor = LayerFeatureTransformer(network, layers)
features = extractor.fit_transform(data.X_fit)
y = np.where(data.y_fit < 6, data.y_fit, -1)
display = LayerAurocDisplay.from_estimator(KNN(5), features, y)

# %%
# One point a layer, each fitted and scored by cross-validation on the same folds; the
# bars are standard deviations over folds. What was chosen holds on digits 8 and 9:

known = extractor.transform(data.X_test[data.y_test < 6])
near = extractor.transform(data.X_near)
y_true = np.repeat([0, -1], [len(known), len(near)])
for layer in layers:
    detector = KNN(5, layers=layer).fit(features, y)
    scores = [*detector.score_samples(known), *detector.score_samples(near)]
    print(f"{layer}: AUROC {auroc(y_true, scores):.3f}")

# %%
# Without any outliers
# --------------------
#
# :class:`~skood.FeatureNorm` chooses its block by what shuffling the tiles of the
# images does to the block's norm, and sees no outliers at all.

shuffled = LayerFeatureTransformer(network, layers, ["l2"], views={"jigsaw": Jigsaw()})
norms = FeatureNorm().fit(shuffled.fit_transform(X_train))
display = NormRatioDisplay.from_estimator(norms)
