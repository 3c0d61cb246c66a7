"""
Choosing layers
===============

What tells unknown inputs apart is not always in the last layer. This example lists the
layers of a network, with what each costs, reads several of them in one pass, and
compares them.
"""

from collections import OrderedDict

import torch
from torch import nn

from skood import (
    FeatureNorm,
    Jigsaw,
    LayerFeatureTransformer,
    Mahalanobis,
    list_layers,
    make_pseudo_outliers,
)
from skood.datasets import load_digits_ood
from skood.plotting import LayerAurocDisplay, NormRatioDisplay

# %%
# A network for digits of 8 x 8 pixels, trained on 0 to 7.

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
# Which layers there are
# ----------------------
#
# The names are those that ``layers`` takes. ``saved`` is the share of the forward pass
# that is not run when nothing deeper is wanted.

table = list_layers(network, data.X_train[:16])
table.round(2)

# %%
# All of them in one pass
# -----------------------
#
# To choose by, there have to be outliers, and they must not be those that the detector
# will be tested on. Here they are made: blends of two digits of different classes, rows
# whose label is -1.

layers = ["relu1", "relu2", "relu3"]
extractor = LayerFeatureTransformer(network, layers)
X, y = make_pseudo_outliers(data.X_fit, data.y_fit, kind="mixup", random_state=0)
features = extractor.fit_transform(X)
display = LayerAurocDisplay.from_estimator(Mahalanobis(covariance="oas"), features, y)

# %%
# One point a layer, each fitted and scored by cross-validation on the same folds; the
# bars are standard deviations over folds.
#
# Without any outliers
# --------------------
#
# :class:`~skood.FeatureNorm` chooses its block by what shuffling the tiles of the
# images does to the block's norm, and sees no outliers at all.

shuffled = LayerFeatureTransformer(network, layers, ["l2"], views={"jigsaw": Jigsaw()})
norms = FeatureNorm().fit(shuffled.fit_transform(data.X_train))
display = NormRatioDisplay.from_estimator(norms)
