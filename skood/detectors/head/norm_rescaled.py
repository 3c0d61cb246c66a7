"""Logits of the penultimate direction with the norm of a chosen layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils import assert_all_finite
from sklearn.utils.validation import check_consistent_length, check_is_fitted

from skood._learning import Learning
from skood._sklearn_compat import StrOptions, fit_context, validate_data
from skood._version import Stamped
from skood.detectors.norm_ratio import (
    NORM,
    NORM_RATIO,
    candidates,
    chosen_layer,
    feature_norm,
)
from skood.features import LOGITS, LayerFeatures, Layers, LinearHead
from skood.features.chunks import by_chunks, chunk_rows
from skood.features.names import DEFAULT_STATISTIC, Key
from skood.features.tensors import TensorFeatures
from skood.numerics.device import like
from skood.numerics.labels import inlier_mask
from skood.numerics.rows import unit_rows

__all__ = ["NormRescaledHead"]


class NormRescaledHead(
    Stamped,
    Learning,
    TransformerMixin,
    BaseEstimator,
    auto_wrap_output_keys=None,  # type: ignore[call-arg]
):
    r"""Recompute the logits with the norm of a layer chosen by NormRatio.

    The penultimate features h keep their direction and get the FeatureNorm f of the
    chosen layer as their length [1]_:

    .. math:: z' = W \left(k f \frac{h}{\lVert h \rVert}\right) + b

    with the network's last linear map (W, b), the ``head`` of the features. Put
    :class:`~skood.MSP`, :class:`~skood.MaxLogit` or :class:`~skood.Energy` behind it in
    a ``Pipeline``. See :class:`~skood.FeatureNorm` for the norm and the choice of the
    layer.

    Parameters
    ----------
    layers : str or sequence of str, default="norm_ratio"
        The candidates, as in :class:`~skood.FeatureNorm`. With ``"norm_ratio"`` the
        penultimate layer is among them if it has the ``"l2"`` statistic.
    scale : {"match", "none"}, default="match"
        k. The source names no constant. ``"none"`` is 1: the logits come out on
        whatever scale the chosen layer's norm has, which depends on the size of its
        map. ``"match"`` takes the mean length of h over the mean of f on the
        in-distribution rows, so that the logits stay on the scale that the bias and the
        softmax were trained for. :class:`~skood.MaxLogit` and, for logits that are not
        small, :class:`~skood.Energy` hardly depend on k; :class:`~skood.MSP` does, and
        may gain from the softer softmax of a smaller one.

    Attributes
    ----------
    selected_layer_ : str
        The layer whose norm is used.
    norm_ratios_ : dict of str to float
        NormRatio of each candidate; empty when there was nothing to choose.
    scale_ : float
        k.
    head_ : LinearHead
        The last linear map.

    Raises
    ------
    TypeError
        If X is not a LayerFeatures.
    ValueError
        If X has no head, not its input or not the ``"l2"`` statistic; in ``fit``, if
        there are several candidates without jigsaw views, or the chosen layer's norm,
        or every penultimate row, is zero.

    See Also
    --------
    FeatureNorm : The norm as a score of its own.

    Notes
    -----
    A penultimate row of zeros has no direction: its logits are the bias.

    References
    ----------
    .. [1] Yu, Shin, Lee, Jun and Lee, "Block selection method for using feature norm
       in out-of-distribution detection", CVPR 2023, "with the selected norm".

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.pipeline import make_pipeline
    >>> from skood import Energy, LayerFeatures, LinearHead, NormRescaledHead
    >>> rng = np.random.default_rng(0)
    >>> h, norms = rng.uniform(1, 2, size=(100, 2)), rng.uniform(4, 5, size=(100, 8))
    >>> head = LinearHead(np.eye(2), np.zeros(2))
    >>> features = LayerFeatures({"penultimate": h, ("block", "l2"): norms}, head)
    >>> rescaled = NormRescaledHead("block", scale="none").fit_transform(features)
    >>> rescaled
    LayerFeatures(100 rows: logits/logits 2)
    >>> np.allclose(
    ...     np.linalg.norm(rescaled.block("logits"), axis=1), norms.mean(axis=1)
    ... )
    True
    >>> make_pipeline(NormRescaledHead("block"), Energy()).fit(features).predict(
    ...     features[:2]
    ... )
    array([1, 1])
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "layers": [str, list, tuple, None],
        "scale": [StrOptions({"match", "none"})],
    }

    def __init__(self, layers: Layers = NORM_RATIO, *, scale: str = "match") -> None:
        self.layers = layers
        self.scale = scale

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: LayerFeatures, y: ArrayLike | None = None) -> NormRescaledHead:
        """Choose the layer and the constant on the in-distribution rows.

        Parameters
        ----------
        X : LayerFeatures of n rows
            With the head, its input and the ``"l2"`` statistic of the candidates;
            with jigsaw views where there is more than one candidate.
        y : array-like of shape (n_samples,), optional
            Class labels; rows with the label -1 are left out.

        Returns
        -------
        self
        """
        with self._learning():
            self._fit(X, y)
        return self

    def _fit(self, X: LayerFeatures, y: ArrayLike | None) -> None:
        _check_is_features(X)
        validate_data(self, X, reset=True, skip_check_array=True)
        known = _inliers(X, y)
        self.head_ = _checked_head(known)
        self.selected_layer_, self.norm_ratios_ = chosen_layer(
            candidates(known, self.layers)
        )
        self._norm_width = known.widths[self.selected_layer_, NORM]
        self.scale_ = 1.0 if self.scale == "none" else self._matching_scale(known)

    def transform(self, X: LayerFeatures) -> LayerFeatures:
        """Return the new logits.

        Parameters
        ----------
        X : LayerFeatures of n rows
            With the head's input and the ``"l2"`` statistic of the selected layer.

        Returns
        -------
        LayerFeatures of n rows
            One block, the logits.
        """
        check_is_fitted(self)
        _check_is_features(X)
        rows = chunk_rows(self._norm_width + sum(self.head_.weight.shape))
        parts = [self._logits(chunk) for chunk in X.iter_chunks(rows)]
        return LayerFeatures({LOGITS: np.concatenate(parts)})

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        return tags

    def _read_widths(self, known: Sequence[Key]) -> dict[Key, int]:
        """Return the blocks that ``transform`` reads, of those known, and columns."""
        layer, width = self.head_.layer, self.head_.weight.shape[1]
        own = [key for key in known if key[0] == layer]
        (name,) = own if len(own) == 1 else [(layer, DEFAULT_STATISTIC)]
        return {name: width, (self.selected_layer_, NORM): self._norm_width}

    def _graph_transformed(self, features: LayerFeatures) -> LayerFeatures:
        """Return the new logits of tensors, by operations that can become a graph."""
        h = features.block(self.head_.layer)
        norms = feature_norm(features.block(self.selected_layer_, NORM))
        scaled = unit_rows(h) * (self.scale_ * norms[:, None]).to(h.dtype)
        weight, bias = like(self.head_.weight, h), like(self.head_.bias, h)
        return TensorFeatures({(LOGITS, LOGITS): scaled @ weight.T + bias})

    def _logits(self, chunk: LayerFeatures) -> NDArray[np.floating]:
        h = self._penultimate(chunk)
        lengths = (self.scale_ * self._norms(chunk)).astype(h.dtype)
        return self.head_.logits(unit_rows(h) * lengths[:, None])

    def _penultimate(self, chunk: LayerFeatures) -> NDArray[np.floating]:
        h = chunk.block(self.head_.layer)
        _check_block(h, self.head_.layer, self.head_.weight.shape[1])
        return h.astype(np.result_type(h.dtype, np.float32), copy=False)

    def _norms(self, chunk: LayerFeatures) -> NDArray[np.float64]:
        norms = chunk.block(self.selected_layer_, NORM)
        _check_block(norms, self.selected_layer_, self._norm_width)
        return np.asarray(feature_norm(norms))

    def _matching_scale(self, known: LayerFeatures) -> float:
        """Return the mean penultimate length over the mean norm of the layer."""

        def lengths(chunk: LayerFeatures) -> NDArray[np.floating]:
            return np.linalg.norm(self._penultimate(chunk), axis=1)

        length = by_chunks(lengths, known).mean()
        norm = by_chunks(self._norms, known).mean()
        for layer, mean in [(self.head_.layer, length), (self.selected_layer_, norm)]:
            if mean == 0:
                raise ValueError(
                    f"layer {layer!r} has norm zero in all in-distribution rows, so "
                    "that scale='match' has nothing to match. Choose another layer."
                )
        return float(length / norm)


def _check_is_features(X: Any) -> None:
    if not isinstance(X, LayerFeatures):
        raise TypeError(
            f"X is of type {type(X).__name__}, but NormRescaledHead needs "
            "LayerFeatures with a head, its input and the 'l2' statistic of other "
            "layers: take them from LayerFeatureTransformer."
        )
    if len(X) == 0:
        raise ValueError(f"X has 0 rows (shape {X.shape}): a minimum of 1 is required.")


def _inliers(X: LayerFeatures, y: ArrayLike | None) -> LayerFeatures:
    if y is None:
        return X
    mask = inlier_mask(y)
    check_consistent_length(X, mask)
    if not mask.any():
        raise ValueError(
            "every row of y is -1: fit needs in-distribution rows, with class labels "
            "other than -1."
        )
    return X if mask.all() else cast(LayerFeatures, X[mask])


def _checked_head(X: LayerFeatures) -> LinearHead:
    if X.head is None:
        raise ValueError(
            "X.head is None: the logits are recomputed by the network's last linear "
            "map. Give LayerFeatures(..., head=LinearHead(weight, bias)), or recover "
            "it by LinearHead.from_samples(penultimate, logits)."
        )
    if X.head.layer not in X.layers:
        raise ValueError(
            f"X has the layers {X.layers} and not the head's input, "
            f"{X.head.layer!r}: extract that layer, too."
        )
    if [name for layer, name in X.block_names if layer == X.head.layer] == [NORM]:
        raise ValueError(
            f"the head's input {X.head.layer!r} is there with the {NORM!r} statistic "
            "only, which has lost its signs: extract 'avg', too."
        )
    return X.head


def _check_block(block: NDArray[Any], layer: str, width: int) -> None:
    if block.shape[1] != width:
        raise ValueError(
            f"layer {layer!r} has {block.shape[1]} columns, but {width} were expected "
            "from the head and from fit."
        )
    assert_all_finite(block, input_name=f"layer {layer!r}")
