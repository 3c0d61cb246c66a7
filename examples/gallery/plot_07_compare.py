"""
Detectors on near and far outliers
==================================

Detectors side by side: fitted on the same rows, measured on the same outliers, with
intervals from a bootstrap that is the same for all, so that a difference can be told
from chance.
"""

from collections import OrderedDict

import torch
from torch import nn

from skood import (
    FDBD,
    KNN,
    MSP,
    AutoOOD,
    Energy,
    LayerFeatureTransformer,
    Mahalanobis,
    compare,
    make_pseudo_outliers,
)
from skood.datasets import load_digits_ood

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
# Groups by name
# --------------
#
# ``"near/..."`` and ``"far/..."`` put a set into a group. The inliers to measure on are
# new to the network, as the outliers are.

extractor = LayerFeatureTransformer(
    network, ["relu1", "relu2", "penultimate", "logits"]
)
train = extractor.fit_transform(data.X_train)
noise, marks = make_pseudo_outliers(data.X_test, kind="gaussian", random_state=0)
outliers = {
    "near/digits 8, 9": data.X_near,
    "far/photos": data.X_far,
    "far/noise": noise[marks == -1],
}
found = compare(
    {
        "MSP": MSP(),
        "Energy": Energy(),
        "FDBD": FDBD(),
        "KNN": KNN(5, layers="penultimate"),
        "Mahalanobis, relu2": Mahalanobis("relu2", covariance="oas"),
        "AutoOOD": AutoOOD(),
    },
    train,
    data.y_train,
    inliers=extractor.transform(data.X_test),
    outliers={name: extractor.transform(X) for name, X in outliers.items()},
    n_bootstrap=100,
)
found.wide("auroc").round(1)

# %%
# The same as a picture, and the differences from the first detector: an interval that
# holds zero says that these rows do not tell the two apart.

display = found.plot()

# %%

differences = found.differences.xs("mean", level="outliers")
differences[["auroc", "auroc_low", "auroc_high"]].round(3)
