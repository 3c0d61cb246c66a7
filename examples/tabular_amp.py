"""AMP on tables: a small network meets classes that it was not trained on.

    python examples/tabular_amp.py

The digits are a table of 64 columns and eight known classes, of which 8 and 9 are what
the network has never seen. The wines are a table of 13 columns and two known cultivars:
what tells two classes apart says little about a third, and a detector that looks at all
columns is the better choice there. Half a minute on one core.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.datasets import load_digits, load_wine
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from skood import (
    AMP,
    KNN,
    AnchoredClassifier,
    InlierKFold,
    Mahalanobis,
    auroc,
    auroc_scorer,
    fpr_at_tpr,
    make_pseudo_outliers,
)
from skood.neural import MLP

RATE = {"contamination": 0.1}
"""Of false alarms; 9 rows are the least that it takes."""

HELD_OUT = {"held_out": 0.25, **RATE}
"""Of the rows, for AMP's threshold: of few rows some more than its default."""


def anchored_mlp(X: np.ndarray, y: np.ndarray) -> AnchoredClassifier:
    """Return the network that is trained; any classifier of yours can stand here."""
    return AnchoredClassifier(
        MLP,
        module__n_features=X.shape[1],
        module__n_classes=len(np.unique(y)),
        standardize=True,
        max_epochs=40,
        batch_size=32,
        lr=3e-3,
        train_split=None,
        random_state=0,
    )


def on_one_scale(detector: Any) -> Pipeline:
    """Return the detector behind columns that have one unit."""
    return make_pipeline(StandardScaler(), detector)


def tuned_amp(X: np.ndarray, y: np.ndarray) -> AMP:
    """Return AMP, its network chosen on outliers that are made from the data."""
    X_tune, y_tune = make_pseudo_outliers(X, y, kind="permute_columns", random_state=0)
    grid = {"classifier__module__width": [32, 128], "classifier__corrupt_every": [1, 5]}
    search = GridSearchCV(
        AMP(anchored_mlp(X, y), **HELD_OUT, random_state=0),
        grid,
        scoring=auroc_scorer,
        cv=InlierKFold(2, random_state=0),
    )
    search.fit(X_tune, y_tune)
    print("AMP tuned:", search.best_params_)
    return search.best_estimator_


def compare(name: str, X: np.ndarray, y: np.ndarray, unknown: list[int]) -> None:
    """Train on the known classes of a table, and see what the unknown ones get."""
    known = ~np.isin(y, unknown)
    X_train, X_test, y_train, y_test = train_test_split(
        X[known], y[known], test_size=0.4, stratify=y[known], random_state=0
    )
    X_eval = np.concatenate([X_test, X[~known]])
    y_eval = np.concatenate([y_test, np.full(np.sum(~known), -1)])
    network = anchored_mlp(X_train, y_train)
    detectors = {
        "AMP": AMP(network, **HELD_OUT, random_state=0).fit(X_train, y_train),
        "AMP, tuned": tuned_amp(X_train, y_train),
        "Mahalanobis": on_one_scale(Mahalanobis(covariance="oas", **RATE)),
        "KNN": on_one_scale(KNN(5, **RATE)),
    }
    for title in ("Mahalanobis", "KNN"):
        detectors[title].fit(X_train, y_train)
    accuracy = detectors["AMP"].classifier_.score(X_test, y_test)
    print(f"{name}: AMP's network gets {accuracy:.1%} of the known classes right")
    print(f"{'':14}{'AUROC':>8}{'FPR95':>8}{'false alarms':>14}{'found':>8}")
    for title, detector in detectors.items():
        scores = detector.score_samples(X_eval)
        flags = detector.predict(X_eval) == -1
        alarms, found = flags[y_eval >= 0].mean(), flags[y_eval < 0].mean()
        area, accepted = auroc(y_eval, scores), fpr_at_tpr(y_eval, scores)
        print(f"{title:14}{area:8.3f}{accepted:8.3f}{alarms:14.1%}{found:8.1%}")
    print()


def main() -> None:
    """Compare on both tables."""
    compare("digits", *load_digits(return_X_y=True), unknown=[8, 9])
    compare("wines", *load_wine(return_X_y=True), unknown=[2])


if __name__ == "__main__":
    main()
