"""Small real data that needs no download."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits, load_sample_images
from sklearn.model_selection import train_test_split
from sklearn.utils import Bunch, check_random_state

__all__ = ["load_digits_ood"]


def load_digits_ood(*, n_patches: int = 500, random_state: int = 0) -> Bunch:
    """Return scikit-learn's digits as an out-of-distribution problem.

    The digits 0 to 7 are in-distribution. Near outliers are the digits 8 and 9, far
    outliers are patches of scikit-learn's two sample photographs.

    Parameters
    ----------
    n_patches : int, default=500
        Number of far outliers.
    random_state : int, default=0
        Seed of the split and of the patches.

    Returns
    -------
    Bunch
        The digits 0 to 7 in three parts: ``X_train``, ``y_train`` (40 %) to train a
        network; ``X_fit``, ``y_fit`` (30 %) to fit detectors on rows that the network
        has not seen, which a threshold needs; ``X_test``, ``y_test`` (30 %). The
        outliers ``X_near`` and ``X_far``. Images are float32 between 0 and 1, of shape
        (n_samples, 1, 8, 8).

    Examples
    --------
    >>> from skood.datasets import load_digits_ood
    >>> data = load_digits_ood()
    >>> data.X_train.shape, data.X_fit.shape, data.X_near.shape, data.X_far.shape
    ((577, 1, 8, 8), (433, 1, 8, 8), (354, 1, 8, 8), (500, 1, 8, 8))
    """
    images, labels = load_digits(return_X_y=True)
    images = (images.reshape(-1, 1, 8, 8) / 16).astype(np.float32)
    known = labels < 8
    X_train, X_rest, y_train, y_rest = train_test_split(
        images[known],
        labels[known],
        train_size=0.4,
        stratify=labels[known],
        random_state=random_state,
    )
    X_fit, X_test, y_fit, y_test = train_test_split(
        X_rest, y_rest, train_size=0.5, stratify=y_rest, random_state=random_state
    )
    return Bunch(
        X_train=X_train,
        y_train=y_train,
        X_fit=X_fit,
        y_fit=y_fit,
        X_test=X_test,
        y_test=y_test,
        X_near=images[~known],
        X_far=_photograph_patches(n_patches, random_state),
    )


def _photograph_patches(n_patches: int, random_state: int) -> NDArray[np.float32]:
    """Return grey patches of 8 x 8 pixels from random places of the photographs."""
    rng = check_random_state(random_state)
    photographs = [
        image.mean(axis=2, dtype=np.float32) / 255
        for image in load_sample_images().images
    ]
    patches = np.empty((n_patches, 1, 8, 8), dtype=np.float32)
    for patch in patches:
        photograph = photographs[rng.randint(len(photographs))]
        top, left = (rng.randint(side - 8) for side in photograph.shape)
        patch[0] = photograph[top : top + 8, left : left + 8]
    return patches
