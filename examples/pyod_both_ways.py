"""PyOD and skood together: a detector of each where the other wants its own.

    python examples/pyod_both_ways.py

A small network learns the digits 0 to 7; the digits 8 and 9 and patches of photographs
are what it has never seen. First a PyOD detector ends a pipeline of ours, and a grid
search chooses its layer and its neighbours. Then our detectors are members of a PyOD
ensemble, which reads the network through our extraction. Last, both at once: that
ensemble ends a pipeline of ours, which holds rows out for the threshold. A quarter of a
minute on one core.
"""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
import torch
from pyod.models.embedding import EmbeddingOD
from pyod.models.lof import LOF
from pyod.models.lscp import LSCP
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline
from torch import nn

from skood import (
    LSGM,
    InlierKFold,
    LayerFeatureTransformer,
    Mahalanobis,
    PyODDetector,
    auroc,
    auroc_scorer,
    make_pseudo_outliers,
    to_pyod,
)
from skood.datasets import load_digits_ood


def trained_network(X: np.ndarray, y: np.ndarray, epochs: int = 25) -> nn.Sequential:
    """Return a network for the known digits: what a user already has."""
    torch.manual_seed(0)
    network = nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(1, 16, 3, padding=1),
            relu1=nn.ReLU(),
            pool1=nn.MaxPool2d(2),
            conv2=nn.Conv2d(16, 32, 3, padding=1),
            relu2=nn.ReLU(),
            pool2=nn.AdaptiveAvgPool2d(2),
            flatten=nn.Flatten(),
            fc=nn.Linear(128, 8),
        )
    )
    optimizer = torch.optim.Adam(network.parameters(), lr=5e-3)
    images, labels = torch.from_numpy(X), torch.from_numpy(y)
    for _ in range(epochs):
        for rows in torch.randperm(len(images)).split(64):
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(images[rows]), labels[rows]).backward()
            optimizer.step()
    return network


def tuned_pyod(
    extractor: LayerFeatureTransformer, X: np.ndarray, y: np.ndarray
) -> Pipeline:
    """Return a pipeline that ends in PyOD's LOF, tuned on outliers made from X.

    The made-up outliers are rows of label -1: they are scored, and never reach PyOD's
    ``fit``. What comes out has our signs and a threshold for 5 % false alarms.
    """
    pipeline = Pipeline([("features", extractor), ("detector", PyODDetector(LOF()))])
    grid = {
        "detector__layers": ["relu2", "flatten"],
        "detector__pyod_model__n_neighbors": [5, 20, 50],
    }
    search = GridSearchCV(pipeline, grid, scoring=auroc_scorer, cv=InlierKFold(3))
    search.fit(*make_pseudo_outliers(X, y, kind="mixup", random_state=0))
    print("LOF, tuned:", search.best_params_)
    return search.best_estimator_


def ensemble() -> LSCP:
    """Return PyOD's LSCP over detectors of ours and one of its own.

    For each row it asks the members that are right about the row's neighbours.
    """
    members = [
        to_pyod(Mahalanobis(covariance="oas")),
        to_pyod(LSGM(n_components=8, random_state=0)),
        LOF(n_neighbors=5),
    ]
    return LSCP(members, n_bins=3, contamination=0.05, random_state=0)


def in_pyod(extractor: LayerFeatureTransformer, X: np.ndarray) -> EmbeddingOD:
    """Return the ensemble on our features, PyOD's from end to end.

    High scores are outliers, and their label is 1. LSCP's threshold comes from the rows
    that it was fitted on, of which it is too sure: see its false alarms.
    """
    return EmbeddingOD(to_pyod(extractor), ensemble(), contamination=0.05).fit(X)


def in_skood(extractor: LayerFeatureTransformer, X: np.ndarray) -> Pipeline:
    """Return the ensemble in our pipeline, its threshold set by rows held out.

    LSCP draws subspaces at random whenever it scores, so that a call for each row would
    not settle a row's score either.
    """
    detector = PyODDetector(ensemble(), layers=["relu2", "flatten"], row_by_row=False)
    return Pipeline([("features", extractor), ("detector", detector)]).fit(X)


def main() -> None:
    """Train, go both ways, and compare."""
    torch.set_num_threads(1)  # images of 64 pixels are too small for more
    data = load_digits_ood()
    network = trained_network(data.X_train, data.y_train)
    extractor = LayerFeatureTransformer(network, ["relu2", "flatten"])

    tuned = tuned_pyod(extractor, data.X_fit, data.y_fit)
    theirs = in_pyod(extractor, data.X_fit)
    both = in_skood(extractor, data.X_fit)

    print(f"\n{'':28}{'near':>8}{'far':>8}{'false alarms':>14}")
    rows = [data.X_test, data.X_near, data.X_far]
    report("LOF in our pipeline", *map(tuned.decision_function, rows))
    report("ours in PyOD's ensemble", *(pyod_decisions(theirs, X) for X in rows))
    report("that ensemble in ours", *map(both.decision_function, rows))
    probability = theirs.predict_proba(data.X_far)[:, 1].mean()
    print(f"\nPyOD gives photographs a mean outlier probability of {probability:.2f}")


def pyod_decisions(model: EmbeddingOD, X: np.ndarray) -> np.ndarray:
    """Return PyOD's scores as our decisions: negative for outliers."""
    return model.threshold_ - model.decision_function(X)


def report(name: str, known: np.ndarray, near: np.ndarray, far: np.ndarray) -> None:
    """Print the AUROC of both kinds of outliers, and the share of false alarms."""
    areas = [
        auroc(np.repeat([0, -1], [len(known), len(out)]), np.concatenate([known, out]))
        for out in (near, far)
    ]
    print(f"{name:28}{areas[0]:8.3f}{areas[1]:8.3f}{np.mean(known < 0):14.1%}")


if __name__ == "__main__":
    main()
