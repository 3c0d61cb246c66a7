"""LayerSelector: from layer features to one matrix, for estimators of others."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from skood._learning import Learning
from skood._sklearn_compat import feature_names_in, validate_data
from skood._version import Stamped
from skood.features.layer_features import LayerFeatures
from skood.features.names import Layers, column_names
from skood.numerics.arrays import validated_table
from skood.numerics.device import array_namespace


class LayerSelector(Stamped, Learning, TransformerMixin, BaseEstimator):
    """Choose layers and a statistic, and hand them on as one matrix.

    With it any scikit-learn or PyOD estimator works on layer features in a
    ``Pipeline``, and a search can choose the layers.

    Parameters
    ----------
    layers : str or sequence of str, optional
        The layers to keep; None keeps all that have the statistic.
    statistic : str, optional
        The statistic to keep; None keeps all.

    Attributes
    ----------
    n_features_in_ : int
        Columns of all blocks seen in ``fit`` together.

    See Also
    --------
    LayerFeatures.select : The same for features at hand.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.ensemble import IsolationForest
    >>> from sklearn.pipeline import make_pipeline
    >>> from skood import LayerFeatures, LayerSelector
    >>> rng = np.random.default_rng(0)
    >>> f = LayerFeatures(
    ...     {"a": rng.normal(size=(50, 3)), "b": rng.normal(size=(50, 2))}
    ... )
    >>> LayerSelector(layers="b").fit_transform(f).shape
    (50, 2)
    >>> pipeline = make_pipeline(LayerSelector("a"), IsolationForest(random_state=0))
    >>> pipeline.fit(f).predict(f[:3]).shape
    (3,)
    """

    def __init__(self, layers: Layers = None, statistic: str | None = None) -> None:
        self.layers = layers
        self.statistic = statistic

    def fit(self, X: Any, y: Any = None) -> LayerSelector:
        """Check that the layers are there; ``y`` is ignored.

        Parameters
        ----------
        X : LayerFeatures or array-like of shape (n_samples, n_features)
            An array is one layer without a name: ``layers`` must be None then.
        y : None
            Ignored.

        Returns
        -------
        LayerSelector
        """
        with self._learning():
            selected = self._selected(X, reset=True)
            self._widths = selected.widths if selected is not None else None
            self._remember_parameters()
        return self

    def transform(self, X: Any) -> NDArray[Any]:
        """Return the chosen blocks side by side.

        Parameters
        ----------
        X : LayerFeatures or array-like of shape (n_samples, n_features)
            As in ``fit``.

        Returns
        -------
        ndarray of shape (n_samples, chosen columns)
        """
        check_is_fitted(self)
        selected = self._as_fitted()._selected(X, reset=False)
        if selected is None:
            return validated_table(self, X, reset=False)
        if selected.widths != self._widths:
            raise ValueError(
                f"X has the blocks {selected.widths}, but fit saw {self._widths}."
            )
        return np.asarray(selected)

    def _graph_transformed(self, X: Any) -> Any:
        """Return the chosen blocks of tensors side by side, for a graph."""
        if not isinstance(X, LayerFeatures) or self._widths is None:
            return X if not isinstance(X, LayerFeatures) else X.block(*X.block_names[0])
        blocks = [X.block(*name) for name in self._widths]
        return array_namespace(blocks[0]).concat(blocks, axis=1)

    def get_feature_names_out(self, input_features: Any = None) -> NDArray[np.object_]:
        """Return the columns' names, ``layer__statistic__number``."""
        check_is_fitted(self)
        if self._widths is None:
            return cast(NDArray[np.object_], feature_names_in(self, input_features))
        return np.asarray(column_names(self._widths), dtype=object)

    def _selected(self, X: Any, reset: bool) -> LayerFeatures | None:
        if isinstance(X, LayerFeatures):
            if len(X) == 0:
                raise ValueError(
                    f"X has 0 rows (shape {X.shape}): a minimum of 1 is required."
                )
            if reset:
                validate_data(self, X, reset=True, skip_check_array=True)
            return X.select(self.layers, self.statistic)
        validated_table(self, X, reset=reset)
        if self.layers is not None:
            raise ValueError(
                f"layers={self.layers!r} but X is a plain array, which has no named "
                "layers: give LayerFeatures, or layers=None."
            )
        return None
