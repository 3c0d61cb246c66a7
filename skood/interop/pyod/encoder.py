"""Our feature extraction as PyOD's encoder."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pyod.utils.encoders import BaseEncoder
from sklearn.base import BaseEstimator, clone
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import check_is_fitted

from skood.extraction.transformer import LayerFeatureTransformer

__all__ = ["SkoodEncoder"]


class SkoodEncoder(BaseEncoder, BaseEstimator):
    """A transformer as PyOD's encoder; :func:`to_pyod` makes it.

    For PyOD's ``EmbeddingOD`` and ``MultiModalOD``, whose detectors then see the chosen
    layers of your network, joined to one matrix.

    Parameters
    ----------
    transformer : transformer
        A LayerFeatureTransformer, which learns nothing and need not be fitted, or any
        other whose output is features of shape (n_samples, n_features), fitted: PyOD's
        encoders do not know which rows are there to be fitted on.

    Examples
    --------
    >>> import numpy as np
    >>> import torch
    >>> from pyod.models.embedding import EmbeddingOD
    >>> from pyod.models.knn import KNN
    >>> from skood import LayerFeatureTransformer, to_pyod
    >>> network = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU())
    >>> encoder = to_pyod(LayerFeatureTransformer(network, layers="1"))
    >>> X = np.random.default_rng(0).normal(size=(50, 4)).astype("float32")
    >>> EmbeddingOD(encoder, KNN()).fit(X).predict(X[:3]).shape
    (3,)
    """

    def __init__(self, transformer: Any) -> None:
        self.transformer = transformer

    def encode(
        self, X: Any, batch_size: int = 32, show_progress: bool = True
    ) -> NDArray[np.float64]:
        """Return the features of the rows, joined to one matrix.

        Parameters
        ----------
        X : array-like of length n
            What the transformer takes.
        batch_size : int, default=32
            Not used: the transformer has a batch size of its own.
        show_progress : bool, default=True
            Not used: the transformer's ``verbose`` decides.

        Returns
        -------
        ndarray of float64, shape (n_samples, n_features)

        Raises
        ------
        ValueError
            If the transformer is not fitted, and has something to learn.
        """
        features = _fitted(self.transformer, X).transform(X)
        return self._validate_output(np.asarray(features), n_samples=len(X))


def _fitted(transformer: Any, X: Any) -> Any:
    try:
        check_is_fitted(transformer)
    except NotFittedError as error:
        if isinstance(transformer, LayerFeatureTransformer):
            return clone(transformer).fit(X)  # looks at the network, and no further
        raise ValueError(
            f"{type(transformer).__name__} is not fitted, and an encoder of PyOD only "
            "encodes: fit it first."
        ) from error
    return transformer
