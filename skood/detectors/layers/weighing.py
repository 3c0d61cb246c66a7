"""How much each layer of a detector counts, learnt from outliers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from skood.detectors.training import Training

__all__ = ["check_weighable", "separating_weights"]

Floats = NDArray[np.float64]


def check_weighable(training: Training, *, joint: bool) -> None:
    """Raise ValueError where there is nothing to weigh, or nothing to learn from.

    Parameters
    ----------
    training : Training
        What the detector is fitted to.
    joint : bool
        Whether all layers are taken as one.

    Raises
    ------
    ValueError
        If they are, or no row is an outlier.
    """
    if joint:
        raise ValueError(
            "layer_weights='logistic' weighs layers, and joint=True makes one of them: "
            "use layer_weights='sum', or joint=False."
        )
    if len(training.outliers) == 0:
        raise ValueError(
            "layer_weights='logistic' learns from outliers, and y marks none: give fit "
            "rows with the label -1, or use layer_weights='sum'."
        )


def separating_weights(known: list[Floats] | None, unlike: list[Floats]) -> Floats:
    """Return the layers' weights in a logistic regression on standardised scores.

    Parameters
    ----------
    known : list of ndarray of shape (n_samples,), or None
        Each layer's leave-one-out scores of in-distribution rows; None where there
        are none.
    unlike : list of ndarray of shape (n_outliers,)
        Each layer's scores of outliers. Both kinds of rows count as much together.

    Returns
    -------
    ndarray of shape (n_layers,)
        For the scores as they are; 0 for a layer that gives all rows the same.

    Raises
    ------
    ValueError
        If there are no leave-one-out scores.

    Examples
    --------
    >>> import numpy as np
    >>> from skood.detectors.layers.weighing import separating_weights
    >>> known = [np.array([0.1, 0.0]), np.array([5.0, 5.0])]
    >>> unlike = [np.array([-9.0, -8.0]), np.array([5.0, 5.0])]
    >>> first, second = separating_weights(known, unlike).tolist()
    >>> first > 0, second
    (True, 0.0)
    """
    if known is None:
        raise ValueError(
            "layer_weights='logistic' compares outliers with leave-one-out scores, and "
            "rounding decides these: single rows span directions of their own. Use "
            "covariance='oas' or 'ledoit_wolf', or a larger reg_covar (1e-4)."
        )
    scores = np.concatenate([np.column_stack(known), np.column_stack(unlike)])
    inlier = np.repeat([1, 0], [len(known[0]), len(unlike[0])])
    spread = scores.std(axis=0)
    spread[spread == 0] = 1.0
    model = LogisticRegression(class_weight="balanced", max_iter=1000)
    model.fit((scores - scores.mean(axis=0)) / spread, inlier)
    return np.asarray(model.coef_[0] / spread)
