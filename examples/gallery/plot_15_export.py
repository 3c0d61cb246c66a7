"""
A file with a certificate
=========================

A service that scores rows needs neither scikit-learn nor the objects that were fitted.
A pipeline becomes one file of ONNX, network, features, detector and threshold together,
and beside it a certificate: how alike file and pipeline are, on rows held out. Without
that there is no file.
"""

import json
import tempfile
from collections import OrderedDict
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import onnxruntime
import torch
from sklearn.pipeline import make_pipeline
from torch import nn

import skood.export
from skood import ConformalDetector, LayerFeatureTransformer, Mahalanobis
from skood.datasets import load_digits_ood

# %%
# A network that knows the digits 0 to 7, and a pipeline around it.

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
network.eval()

pipeline = make_pipeline(
    LayerFeatureTransformer(network, ["relu2", "relu3"]),
    ConformalDetector(Mahalanobis(covariance="oas"), alpha=0.05, random_state=0),
).fit(data.X_fit, data.y_fit)

# %%
# Export
# ------
#
# It takes the pipeline, a path, an example that says types and shapes, and rows that
# took part in nothing, on which the file is run and compared.

folder = tempfile.TemporaryDirectory()
path = Path(folder.name) / "alarm.onnx"
certificate = skood.export.export(pipeline, path, data.X_test[:2], data.X_test)
parity = certificate.parity
print(f"{parity.rows} rows compared, {parity.flips} decisions differ,")
print(f"scores differ by {parity.score_difference:.1e} at most")
print([*json.loads(path.with_name("alarm.onnx.json").read_text())])

# %%
# Without Python's objects
# ------------------------
#
# onnxruntime alone runs it, here from Python, with p-values and flags.

session = onnxruntime.InferenceSession(path)
kinds = {"digits 0-7": data.X_test, "digits 8, 9": data.X_near, "photos": data.X_far}
figure, ax = plt.subplots()
for name, X in kinds.items():
    logits, score, p_value, is_inlier = session.run(None, {"input": X})
    print(f"{name:11} flagged: {np.mean(~is_inlier):.1%}")
    ax.plot(np.sort(score), np.linspace(0, 1, len(X)), label=f"{name}, file")
    again = np.sort(pipeline.score_samples(X))
    ax.plot(again, np.linspace(0, 1, len(X)), "k:", linewidth=2)
ax.set(xlabel="score (dotted: the pipeline's)", ylabel="share of rows below")
legend = ax.legend()

# %%
# Years later, or on another machine, the comparison is repeated. A file that says
# anything else is refused.

print("decisions that differ:", skood.export.verify(path, data.X_test).parity.flips)
del session
folder.cleanup()
