"""
Thresholds and false alarms
===========================

A score ranks; an alarm needs a threshold, and the threshold a statement: how often will
what is known be flagged? It depends on which rows set it. A network is surer of the
rows that it was trained on than of any others, and a threshold that comes from these
promises too much.
"""

from collections import OrderedDict

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.model_selection import train_test_split
from torch import nn

from skood import GEN, KNN, Energy, LayerFeatureTransformer, TargetRateThreshold
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

extractor = LayerFeatureTransformer(network, ["relu3", "logits"])
train, unseen, new = map(
    extractor.fit_transform, [data.X_train, data.X_fit, data.X_test]
)

# %%
# Whose rows set the threshold
# ----------------------------
#
# All are asked for 5 % false alarms, and meet digits 0 to 7 that are new to them and to
# the network. ``threshold_data`` are rows that set the threshold and nothing else.

for detector in [GEN(), Energy(), KNN(5, layers="relu3")]:
    detector.fit(train, data.y_train)
    from_training_rows = np.mean(detector.predict(new) == -1)
    detector.fit(train, data.y_train, threshold_data=unseen)
    from_unseen_rows = np.mean(detector.predict(new) == -1)
    print(
        f"{type(detector).__name__:7} threshold from training rows: "
        f"{from_training_rows:5.1%} false alarms, from unseen rows: "
        f"{from_unseen_rows:5.1%}"
    )

# %%
# New digits are further from the training rows than these are from each other, and the
# network is less sure of them. So: fit on training rows, threshold on held-out rows.
#
# A rate with a guarantee
# -----------------------
#
# :class:`~skood.TargetRateThreshold` sets the threshold from rows new to a detector.
# Over all draws of these rows, a new known row is flagged with a probability of at most
# ``max_false_alarm``; with ``confidence`` the rate of the threshold at hand is at most
# that, with this confidence. A rate that so few rows cannot promise is refused:

plain = TargetRateThreshold(detector, 0.05, cv="prefit").fit(unseen)
sure = TargetRateThreshold(detector, 0.05, cv="prefit", confidence=0.95).fit(unseen)
try:
    TargetRateThreshold(detector, 0.001, cv="prefit").fit(unseen)
except ValueError as error:
    print(error)

# %%
# What the two statements mean is seen by drawing the rows anew, many times: known rows
# are split at random into those that set the threshold and those that meet it.

scores = np.concatenate([detector.score_samples(part) for part in (unseen, new)])
rates = {"max_false_alarm=0.05": [], "the same, confidence=0.95": []}
ranks = [np.sum(detector.score_samples(unseen) < a.offset_) for a in (plain, sure)]
for seed in range(300):
    held_out, met = train_test_split(scores, train_size=len(unseen), random_state=seed)
    for name, rank in zip(rates, ranks, strict=True):
        rates[name].append(np.mean(met < np.sort(held_out)[rank]))

figure, ax = plt.subplots()
ax.hist(list(rates.values()), bins=20, label=list(rates))
ax.axvline(0.05, color="black", linestyle="--", label="5 %")
ax.set(xlabel="share of known rows that is flagged", ylabel="of 300 draws")
legend = ax.legend()

# %%
# By the first statement the mean is at most 5 %. By the second, 95 of 100 thresholds
# keep to it on *all* known rows to come; on the few hundred here chance adds spread.
