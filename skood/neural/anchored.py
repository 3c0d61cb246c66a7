"""AnchoredClassifier: a network that sees each input from the side of an anchor."""

from __future__ import annotations

import copy
from numbers import Integral
from typing import Any, ClassVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.preprocessing import StandardScaler
from sklearn.utils import gen_batches
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from skood._sklearn_compat import Interval, StrOptions
from skood.neural.classifier import TrainedClassifier
from skood.neural.corruption import Corruption, ImageCorruption, VectorCorruption
from skood.neural.inputs import as_batch
from skood.neural.widening import widen_first_layer

__all__ = ["AnchoredClassifier", "AnchoredModule"]

BANK = 1
SCALER_ROWS = 4096
JOINT_ANCHORS = 5
"""Of so many anchors, a forward has a whole batch; of more, as much less of it (on the
CPU a row takes twice the time in forwards that outgrow the caches)."""


class AnchoredModule(nn.Module):
    """A network of twice the channels, run on [anchor, input - anchor].

    Parameters
    ----------
    network : nn.Module
        Its first layer is widened already.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor, anchors: Tensor, shown: Tensor | None = None) -> Any:
        """Return the network's output.

        Parameters
        ----------
        x : Tensor of shape (n, channels, ...)
            The inputs.
        anchors : Tensor of shape (n, channels, ...)
            An anchor for each of them.
        shown : Tensor of shape (n, channels, ...), optional
            What stands for the anchors beside the residuals: corrupted anchors.

        Returns
        -------
        Tensor of shape (n, classes)
        """
        beside = anchors if shown is None else shown
        return self.network(torch.cat([beside, x - anchors], dim=1))


class AnchoredClassifier(TrainedClassifier):
    r"""Classifier that is trained on pairs of an anchor and a residual.

    Every input x of a batch gets another training input c as its anchor, and the
    network learns the label of x from [T(c), x - c], joined along the channels (or the
    columns of vectors), where T is a corruption [1]_. Different anchors give slightly
    different predictions, and their spread tells :class:`skood.AMP` how far an input
    is from the training data. ``predict_proba`` averages over anchors.

    It is a :class:`skorch.classifier.NeuralNetClassifier`: ``max_epochs``,
    ``batch_size``, ``callbacks``, ``module__...`` and the rest are skorch's. The module
    is an ordinary classifier that puts out logits; its first convolution or linear
    layer is made twice as wide, the rest stays.

    Parameters
    ----------
    module : class, callable or nn.Module
        The network, or what makes it from ``module__...`` parameters. An instance is
        copied; its weights are where training starts.
    corruption : {"auto"}, callable or None, default="auto"
        T, from a batch to a batch. ``"auto"``: :class:`~skood.neural.ImageCorruption`
        for images (n_samples, channels, height, width), else
        :class:`~skood.neural.VectorCorruption`.
    corrupt_every : int, default=1
        Anchors are corrupted in one minibatch out of so many; 1 is always.
    anchor_draw : {"shuffle", "replacement"}, default="shuffle"
        The batch in another order, or a random row of it for each input.
    n_anchors : int, default=5
        Anchors that ``predict_proba`` averages over.
    n_bank : int, default=128
        Training rows that are kept as anchors for prediction.
    residual_weights : {"auto", "copy", "zero", "fresh"}, default="auto"
        The widened layer's weights. ``"copy"``: the original ones for anchor and
        residual, which reproduces the original network for any anchor; ``"zero"``:
        zeros for the residual, which reproduces it on the anchor; ``"fresh"``: new
        ones; ``"auto"``: ``"copy"`` for a module given as an instance, else
        ``"fresh"``, as in the paper.
    first_layer : str, optional
        Qualified name of the layer to widen, where the first by definition is not the
        one that takes the input.
    standardize : bool, default=False
        Centre and scale each column (or channel) by the training rows.
    autocast : bool, default=False
        Train in mixed precision (bfloat16). Predictions are not.
    augment : callable, optional
        Changes a training batch before anchors are drawn from it.
    random_state : int, RandomState instance or None, default=0
        Seeds weights, order of rows, anchors, corruption and dropout.
    criterion, optimizer, lr, dataset, train_split, device, verbose, **kwargs
        skorch's. The defaults are cross-entropy, Adam, 1e-3, a fifth of the rows for
        validation, ``"auto"`` (CUDA where there is one) and 0.

    Attributes
    ----------
    module_ : AnchoredModule
        The trained network, its ``network`` being the widened module.
    anchors_ : ndarray of shape (n_kept, ...)
        The bank: up to ``n_bank`` training rows, not corrupted and not augmented.
    classes_ : ndarray
        The class labels.
    history_ : skorch.history.History
        What each epoch brought.

    Raises
    ------
    ImportError
        On import, if skorch is not installed.
    ValueError
        In ``fit``: no labels, one class, fewer rows than anchors, a module without a
        layer to widen or without an output for each class.

    See Also
    --------
    AMP : The detector over it.

    Notes
    -----
    The paper and the code that its authors released differ, and the paper is the
    default. Its figure 2 corrupts all anchors; the code those of every fifth minibatch
    (``corrupt_every=5``), which it calls the best choice. Both bring most of the gain
    in ``benchmarks/amp.py``, and neither is better throughout. Anchors are the batch in
    another order in figure 2; the code draws rows of it with replacement. The residual
    is taken to the anchor before its corruption, as both have it now.

    References
    ----------
    .. [1] Anirudh and Thiagarajan, "Out of distribution detection via neural network
       anchoring", ACML 2022.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from torch import nn
    >>> from skood import AnchoredClassifier
    >>> X, y = load_digits(return_X_y=True)
    >>> images = X.reshape(-1, 1, 8, 8).astype("float32") / 16
    >>> net = nn.Sequential(
    ...     nn.Conv2d(1, 16, 3, stride=2),
    ...     nn.ReLU(),
    ...     nn.Flatten(),
    ...     nn.Linear(144, 10),
    ... )
    >>> classifier = AnchoredClassifier(net, max_epochs=5, lr=0.01, random_state=0)
    >>> classifier.fit(images[:1000], y[:1000]).score(images[1000:], y[1000:]) > 0.8
    True
    """

    _kept: ClassVar[tuple[str, ...]] = (
        *TrainedClassifier._kept,
        "anchors_",
        "batches_seen_",
        "moments_",
        "widened_",
    )

    _constraints: ClassVar[dict[str, Any]] = {
        **TrainedClassifier._constraints,
        "corruption": [callable, StrOptions({"auto"}), None],
        "corrupt_every": [Interval(Integral, 1, None, closed="left")],
        "anchor_draw": [StrOptions({"shuffle", "replacement"})],
        "n_anchors": [Interval(Integral, 1, None, closed="left")],
        "n_bank": [Interval(Integral, 1, None, closed="left")],
        "residual_weights": [StrOptions({"auto", "copy", "zero", "fresh"})],
        "first_layer": [str, None],
        "standardize": ["boolean"],
    }

    def __init__(
        self,
        module: Any,
        *,
        corruption: str | Corruption | None = "auto",
        corrupt_every: int = 1,
        anchor_draw: str = "shuffle",
        n_anchors: int = 5,
        n_bank: int = 128,
        residual_weights: str = "auto",
        first_layer: str | None = None,
        standardize: bool = False,
        **kwargs: Any,
    ) -> None:
        # Before skorch's own: a corruption may be a torch module.
        self.corruption = corruption
        self.corrupt_every = corrupt_every
        self.anchor_draw = anchor_draw
        self.n_anchors = n_anchors
        self.n_bank = n_bank
        self.residual_weights = residual_weights
        self.first_layer = first_layer
        self.standardize = standardize
        super().__init__(module, **kwargs)

    def anchored_logits(
        self, X: Any, n_anchors: int | None = None
    ) -> NDArray[np.float64]:
        """Return the logits of each row from the side of each anchor.

        All anchors go through the network together with a batch, or in halves where
        the accelerator's memory does not suffice. Vectors of float64 are computed in
        float64, all else in the type of the network's weights.

        Parameters
        ----------
        X : array-like, tensor, DataFrame or LayerFeatures
            Of the shape seen in ``fit``.
        n_anchors : int, optional
            How many of ``anchors_``, from the first; default ``n_anchors``.

        Returns
        -------
        ndarray of float64, shape (n_anchors, n_samples, n_classes)
        """
        check_is_fitted(self)
        rows = self._known_rows(X)
        self._set_training(False)
        module = self.module_
        if rows.ndim == 2 and rows.dtype == np.float64:
            module = copy.deepcopy(module).double()
        dtype = next(module.parameters()).dtype
        anchors = self._bank(n_anchors, dtype)
        size = len(rows) if self.batch_size == -1 else self.batch_size
        step = max(1, size * JOINT_ANCHORS // len(anchors))
        parts = []
        with torch.inference_mode():
            for part in gen_batches(len(rows), step):
                x = self._prepared(as_batch(rows[part]), dtype)
                parts.append(joint_logits(module, x, anchors).double().cpu())
        return torch.cat(parts, dim=1).numpy()

    # Training ------------------------------------------------------------------------

    def _made_module(self, module: nn.Module) -> nn.Module:
        weights = self.residual_weights
        if weights == "auto":
            given = isinstance(self.module, nn.Module)
            carried = given and not self.get_params_for("module")
            weights = "copy" if carried else "fresh"
        self.widened_ = widen_first_layer(module, weights, self.first_layer)
        return AnchoredModule(module)

    def _start(self, rows: NDArray[Any]) -> None:
        least = max(self.n_anchors, 2)
        if min(len(rows), self.n_bank) < least:
            raise ValueError(
                f"n_anchors={self.n_anchors} but there are {len(rows)} in-distribution "
                f"rows and n_bank={self.n_bank}: at least {least} of both are needed."
            )
        rng = np.random.default_rng([self.seed_, BANK])
        size = min(len(rows), self.n_bank)
        self.anchors_ = np.array(rows[rng.choice(len(rows), size, replace=False)])
        self.batches_seen_ = 0
        self.moments_ = _moments(rows) if self.standardize else None
        super()._start(rows)

    def _prepared(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        if self.moments_ is not None:
            sides = (1, -1, *(1 for _ in x.shape[2:]))
            mean, scale = (torch.tensor(m).reshape(sides) for m in self.moments_)
            x = (x.double() - mean) / scale
        return super()._prepared(x, dtype)

    def _logits(self, x: Tensor) -> Tensor:
        if not self.module_.training:
            return joint_logits(self.module_, x, self._bank(None, x.dtype)).mean(dim=0)
        anchors = x[self._drawn(len(x)).to(x.device)]
        corruption = self._corruption(x)
        shown = None
        if corruption is not None and self.batches_seen_ % self.corrupt_every == 0:
            with torch.autocast(x.device.type, enabled=False):
                shown = corruption(anchors)
        self.batches_seen_ += 1
        logits: Tensor = self.module_(x, anchors, shown)
        return logits

    def _drawn(self, n_rows: int) -> Tensor:
        """Return the row of the batch that is each row's anchor."""
        if self.anchor_draw == "shuffle":
            return torch.randperm(n_rows)
        return torch.randint(n_rows, (n_rows,))

    def _corruption(self, x: Tensor) -> Corruption | None:
        if self.corruption == "auto":
            return ImageCorruption() if x.ndim == 4 else VectorCorruption()
        return cast("Corruption | None", self.corruption)

    def _bank(self, n_anchors: int | None, dtype: torch.dtype) -> Tensor:
        wanted = self.n_anchors if n_anchors is None else n_anchors
        if not 1 <= wanted <= len(self.anchors_):
            raise ValueError(
                f"n_anchors={wanted}, but the bank has {len(self.anchors_)} anchors: "
                "fit with a larger n_bank (and as many rows), or take fewer."
            )
        return self._prepared(as_batch(self.anchors_[:wanted]), dtype)

    def _misfit(self, shape: tuple[int, ...], error: RuntimeError) -> str:
        layer = f"the layer {self.widened_!r}" if self.widened_ else "the module itself"
        return (
            f"the module cannot be run on an anchor and a residual of shape {shape} "
            f"each. Widened was {layer}: if another one takes the input, name it by "
            f"first_layer=... ({error})"
        )


def joint_logits(module: nn.Module, x: Tensor, anchors: Tensor) -> Tensor:
    """Return the logits of each input from the side of each anchor.

    Parameters
    ----------
    module : AnchoredModule
        The network.
    x : Tensor of shape (n, channels, ...)
        The inputs.
    anchors : Tensor of shape (k, channels, ...)
        The anchors.

    Returns
    -------
    Tensor of shape (k, n, classes)
    """
    k, n = len(anchors), len(x)
    try:
        inputs = x[None].expand(k, *x.shape).flatten(0, 1)
        logits = module(inputs, anchors.repeat_interleave(n, dim=0))
        return logits.reshape(k, n, -1)
    except torch.cuda.OutOfMemoryError:
        if k == 1:
            raise
    halves = (anchors[: k // 2], anchors[k // 2 :])
    return torch.cat([joint_logits(module, x, half) for half in halves])


def _moments(rows: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the mean and the scale of each column, or of each channel."""
    scaler = StandardScaler()
    for part in gen_batches(len(rows), SCALER_ROWS):
        chunk = np.asarray(rows[part], dtype=np.float64)
        scaler.partial_fit(np.moveaxis(chunk, 1, -1).reshape(-1, chunk.shape[1]))
    return scaler.mean_, scaler.scale_
