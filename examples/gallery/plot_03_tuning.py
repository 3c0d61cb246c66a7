"""
Tuning without leaking
======================

A detector that is tuned on the outliers it is tested on looks better than it will be.
This example tunes a whole pipeline, layers and all, on outliers that are made from the
training data, and then asks how well what was learned on one kind of outliers carries
over to another.
"""

import tempfile
from collections import OrderedDict

import numpy as np
import pandas as pd
import torch
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import Pipeline
from torch import nn

from skood import (
    KNN,
    InlierKFold,
    LayerFeatureTransformer,
    LeaveOutlierSourceOut,
    auroc_scorer,
    make_pseudo_outliers,
)
from skood.datasets import load_digits_ood
from skood.plotting import GridHeatmapDisplay

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
# A search over the pipeline
# --------------------------
#
# Rows labelled -1 are outliers: :class:`~skood.InlierKFold` keeps them out of the
# training folds, and the refit of the search does not fit on them either. With a
# ``cache`` every image goes through the network once, whatever is tried.

X, y = make_pseudo_outliers(data.X_fit, data.y_fit, kind="mixup", random_state=0)
folder = tempfile.TemporaryDirectory()
pipeline = Pipeline(
    [
        ("features", LayerFeatureTransformer(network, "relu1", cache=folder.name)),
        ("detector", KNN()),
    ]
)
grid = {
    "features__layers": ["relu1", "relu2", "relu3"],
    "detector__n_neighbors": [1, 5, 20, 50],
}
search = GridSearchCV(pipeline, grid, scoring=auroc_scorer, cv=InlierKFold(3))
search = search.fit(X, y)
print(search.best_params_)
display = GridHeatmapDisplay.from_estimator(
    search, "detector__n_neighbors", "features__layers"
)

# %%
# How well does it carry over?
# ----------------------------
#
# :class:`~skood.LeaveOutlierSourceOut` around the search leaves one source of outliers
# out in turn: the search sees the others, and the score is that of the source left out.
# It stands beside what the same search promises when it is tuned on the very outliers
# of the test.

features = LayerFeatureTransformer(network, ["relu1", "relu2", "relu3"])
sources = {"": data.X_fit, "digits 8, 9": data.X_near, "photos": data.X_far}
rows = features.fit_transform(np.concatenate([*sources.values()]))
counts = [len(part) for part in sources.values()]
source = np.repeat([*sources], counts)
y = np.where(source == "", np.resize(data.y_fit, len(source)), -1)

search = GridSearchCV(
    KNN(),
    {"layers": ["relu1", "relu2", "relu3"], "n_neighbors": [1, 5, 20, 50]},
    scoring=auroc_scorer,
    cv=InlierKFold(3),
)
outer = LeaveOutlierSourceOut()
honest = cross_val_score(search, rows, y, groups=source, cv=outer, scoring=auroc_scorer)
leak = [
    search.fit(rows[kept := np.isin(source, ["", name])], y[kept]).best_score_
    for name in outer.left_out(y, source)
]
table = pd.DataFrame(
    {"tuned on the other source": honest, "tuned on itself: a leak": leak},
    index=outer.left_out(y, source),
)
table.round(3)

# %%
# The gap between the columns is what a leak promises and cannot keep.

folder.cleanup()
