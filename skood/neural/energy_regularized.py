"""EnergyRegularizedClassifier: a classifier whose layers part outliers by energy."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from numbers import Real
from typing import Any, ClassVar, TypeVar

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from skorch.callbacks import PassthroughScoring
from torch import Tensor

from skood._sklearn_compat import Interval
from skood.extraction.probe import probe
from skood.extraction.wanted import checked_layers
from skood.features import LOGITS
from skood.neural.classifier import TrainedClassifier
from skood.neural.contrast import KINDS, kinds_for, pseudo_outliers
from skood.neural.energy_loss import EnergyRecorder, RunningMargins
from skood.neural.inputs import as_batch

__all__ = ["EnergyRegularizedClassifier"]

SAMPLE = 256
"""Rows whose energies the margins start from."""

Self = TypeVar("Self", bound="EnergyRegularizedClassifier")


class EnergyRegularizedClassifier(TrainedClassifier):
    r"""Classifier trained to give outliers a higher energy in chosen layers.

    The loss is

    .. math:: \mathrm{CE} + \lambda \sum_l \left(
        \overline{\max(0, E_l(x_{in}) - m_{in,l})^2}
        + \overline{\max(0, m_{out,l} - E_l(x_{out}))^2} \right)

    with the energy :math:`E_l = -\log \sum_i e^{a_i}` over all units of a layer's
    output, in standard deviations of the layer's in-distribution energies. The idea of
    an energy-based contrastive loss on intermediate layers is [1]_'s, the form is that
    of [2]_ for the logits; the paper's own constants were not at hand, so margins and
    weight are skood's.

    Rows labelled -1 are the outliers that are trained against; they are of no class.
    Without any, pseudo outliers are made from every batch. Afterwards the layers'
    energies make a detector: extract the ``"lse"`` statistic of the same layers with
    :class:`skood.LayerFeatureTransformer`, which takes this classifier as its network,
    and fit :class:`skood.LayerEnergy` (or :class:`skood.Energy` on the logits).

    Parameters
    ----------
    module : class, callable or nn.Module
        The network, or what makes it from ``module__...`` parameters; it puts out
        logits. An instance, trained or not, is copied and trained on.
    layers : str or sequence of str, default="logits"
        Qualified names, as :func:`skood.layer_names` lists them; ``"logits"`` and
        ``"penultimate"`` are understood besides.
    weight : float, default=0.1
        Lambda.
    margins : (float, float), default=(1.0, 4.0)
        :math:`m_{in}` and :math:`m_{out}` of every layer, in standard deviations above
        the running mean of its in-distribution energies.
    warmup : float, default=0.3
        Share of ``max_epochs``, from 0 to 1, in which the weight is zero and the
        margins follow the energies; then the weight is whole and the margins stay.
        (Margins that went on following would let a layer's energies all drift.)
    contrast_ratio : float, default=1.0
        Outliers in a training step for each in-distribution row.
    pseudo_outliers : {"auto"} or sequence of str, default="auto"
        Of ``"jigsaw"`` (images), ``"permute"`` (vectors), ``"mixup"`` and ``"noise"``,
        used when no row is labelled -1. ``"auto"`` is all three that apply.
    autocast : bool, default=False
        Train in mixed precision (bfloat16). Predictions are not.
    augment : callable, optional
        Changes a training batch before outliers are made from it.
    random_state : int, RandomState instance or None, default=0
        Seeds weights, order of rows, outliers and dropout.
    criterion, optimizer, lr, dataset, train_split, device, verbose, **kwargs
        skorch's. The defaults are cross-entropy, Adam, 1e-3, a fifth of the rows for
        validation, ``"auto"`` (CUDA where there is one) and 0.

    Attributes
    ----------
    module_ : nn.Module
        The trained network, with the layers' names as they were.
    margins_ : dict of str to (float, float)
        The margins of each layer, as energies.
    accuracy_before_, accuracy_after_ : float
        Accuracy before and after the last call of ``fit`` or ``partial_fit``, on the
        rows that ``train_split`` keeps for validation, else on the training rows.
    classes_ : ndarray
        The class labels.
    history_ : skorch.history.History
        What each epoch brought, the ``energy_loss`` (before its weight) included.

    Raises
    ------
    ImportError
        On import, if skorch is not installed.
    ValueError
        In ``fit``: no labels, one class, an unknown layer or one that does not run, a
        module without an output for each class.

    See Also
    --------
    Energy : Its score, for a network as it is.
    AMP : Another detector that is trained.

    Notes
    -----
    A layer after a ReLU has an energy of at most minus the logarithm of its number of
    units, where all are zero; the convolution or batch norm before it has more room.

    In-distribution rows and outliers go through the network together, as in [2]_, so
    that batch norms take the moments of both. (Apart, with the running moments for the
    outliers, the network learns to be another one under those moments.)

    References
    ----------
    .. [1] Guglielmo and Masana, "Leveraging intermediate representations for better
       out-of-distribution detection", 2025.
    .. [2] Liu, Wang, Owens and Li, "Energy-based out-of-distribution detection",
       NeurIPS 2020.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.pipeline import make_pipeline
    >>> from skood import EnergyRegularizedClassifier, LayerEnergy
    >>> from skood import LayerFeatureTransformer
    >>> from skood.neural import MLP
    >>> X, y = load_digits(return_X_y=True)
    >>> X = X.astype("float32") / 16
    >>> net = EnergyRegularizedClassifier(
    ...     MLP,
    ...     ["0", "logits"],
    ...     module__n_features=64,
    ...     module__n_classes=10,
    ...     max_epochs=10,
    ...     batch_size=64,
    ...     lr=0.01,
    ...     random_state=0,
    ... )
    >>> net.fit(X[:1000], y[:1000]).accuracy_after_ > 0.8
    True
    >>> detector = make_pipeline(
    ...     LayerFeatureTransformer(net, ["0", "logits"], "lse"),
    ...     LayerEnergy(["0", "logits"], "mahalanobis"),
    ... )
    >>> detector.fit(X[1000:]).predict(X[:5] * 0)
    array([-1, -1, -1, -1, -1])
    """

    _kept: ClassVar[tuple[str, ...]] = (
        *TrainedClassifier._kept,
        "accuracy_after_",
        "accuracy_before_",
        "margins_",
        "recorder_",
        "running_",
    )

    _constraints: ClassVar[dict[str, Any]] = {
        **TrainedClassifier._constraints,
        "weight": [Interval(Real, 0, None, closed="left")],
        "margins": [tuple, list],
        "warmup": [Interval(Real, 0, 1, closed="both")],
        "contrast_ratio": [Interval(Real, 0, None, closed="neither")],
    }

    judged_: Any

    def __init__(
        self,
        module: Any,
        layers: str | Sequence[str] = LOGITS,
        *,
        weight: float = 0.1,
        margins: tuple[float, float] = (1.0, 4.0),
        warmup: float = 0.3,
        contrast_ratio: float = 1.0,
        pseudo_outliers: str | Sequence[str] = "auto",
        **kwargs: Any,
    ) -> None:
        self.layers = layers
        self.weight = weight
        self.margins = margins
        self.warmup = warmup
        self.contrast_ratio = contrast_ratio
        self.pseudo_outliers = pseudo_outliers
        super().__init__(module, **kwargs)

    def partial_fit(
        self: Self,
        X: Any,
        y: ArrayLike | None = None,
        classes: ArrayLike | None = None,
        **fit_params: Any,
    ) -> Self:
        """Go on training for ``max_epochs`` epochs.

        Parameters
        ----------
        X : array-like, tensor, DataFrame or LayerFeatures
            Of the shape of the first call.
        y : array-like of shape (n_samples,)
            Class labels; -1 marks outliers to train against.
        classes : array-like, optional
            All class labels, for a first call whose rows do not have them all.
        **fit_params : dict
            What skorch passes on to the split.

        Returns
        -------
        self
        """
        self.judged_ = None
        super().partial_fit(X, y, classes, **fit_params)
        # Here, and not when training ends: a callback may have put back better weights.
        self.accuracy_after_ = self._accuracy()
        self.margins_ = {name: self.running_.of(name) for name in self.recorder_.layers}
        self.judged_ = None
        if self.verbose:
            print(
                f"accuracy: {self.accuracy_before_:.4f} -> {self.accuracy_after_:.4f}"
            )
        return self

    # Training ------------------------------------------------------------------------

    def _start(self, rows: NDArray[Any]) -> None:
        super()._start(rows)
        self.running_ = RunningMargins(*self.margins)
        names = checked_layers(self.layers, self.module_)
        x = self._prepared(as_batch(rows[:SAMPLE]), self._weight.dtype)
        self._set_training(False)
        with torch.no_grad():
            found = probe(self.module_, lambda: self.module_(x[:2]), names)
            self.recorder_ = EnergyRecorder(names, found.head)
            _, energies = self.recorder_.run(self.module_, x)
        for layer, values in energies.items():
            self.running_.update(layer, values)

    def on_epoch_begin(
        self, net: Any, dataset_train: Any = None, dataset_valid: Any = None, **_: Any
    ) -> None:
        """Take the accuracy before training, once a call."""
        super().on_epoch_begin(net, dataset_train, dataset_valid)
        if self.judged_ is None:
            self.judged_ = dataset_train if dataset_valid is None else dataset_valid
            self.accuracy_before_ = self._accuracy()

    def train_step_single(self, batch: Any, **fit_params: Any) -> dict[str, Tensor]:
        """Return the loss and the logits of a batch, and leave gradients behind."""
        self._set_training(True)
        x, y = batch
        x = self._prepared(x, self._weight.dtype)
        x = x if self.augment is None else self.augment(x)
        y = y.to(x.device)
        weight = self._present_weight()
        contrast = self._contrast_rows(x, y) if weight else x[:0]
        # Together, since batch norms must not tell outliers by passing them apart.
        together = torch.cat([x, contrast])
        with self._precision(x.device):
            logits, energies = self.recorder_.run(self.module_, together)
        logits = logits[: len(x)].float()
        loss = self.get_loss(logits, y, X=x, training=True)
        parted = self._energy_loss(energies, len(x))
        self.history.record_batch("energy_loss", parted.item())
        loss = loss + weight * parted
        loss.backward()
        return {"loss": loss, "y_pred": logits}

    def _energy_loss(self, energies: dict[str, Tensor], n_inliers: int) -> Tensor:
        losses = []
        for layer, values in energies.items():
            inside, outside = values[:n_inliers], values[n_inliers:]
            if len(self.history) <= self._warmup_epochs():
                self.running_.update(layer, inside)
            losses.append(self.running_.loss(layer, inside, outside))
        return torch.stack(losses).sum()

    def _contrast_rows(self, x: Tensor, y: Tensor) -> Tensor:
        """Return outliers for a training step: known ones, or made from its batch."""
        size = max(1, round(self.contrast_ratio * len(x)))
        if len(self.outliers_):
            drawn = torch.randint(len(self.outliers_), (size,)).numpy()
            return self._prepared(as_batch(self.outliers_[drawn]), x.dtype)
        chosen = torch.arange(size, device=x.device) % len(x)
        return pseudo_outliers(x, y, self._kinds(x.ndim))[chosen]

    def _kinds(self, rows_ndim: int) -> Sequence[str]:
        if self.pseudo_outliers == "auto":
            return kinds_for(rows_ndim)
        given = self.pseudo_outliers
        return (given,) if isinstance(given, str) else tuple(given)

    def _present_weight(self) -> float:
        """Return the weight of this epoch."""
        return float(self.weight) if len(self.history) > self._warmup_epochs() else 0.0

    def _warmup_epochs(self) -> int:
        return ceil(self.warmup * self.max_epochs)

    def _accuracy(self) -> float:
        """Return the accuracy on the rows of this call that it is judged by."""
        probabilities = self.predict_proba(self.judged_)
        classes = np.array([self.judged_[row][1] for row in range(len(self.judged_))])
        return float(np.mean(probabilities.argmax(axis=1) == classes))

    def _check_parameters(self) -> None:
        super()._check_parameters()
        kinds = self._kinds(4)
        unknown = [kind for kind in kinds if kind not in KINDS]
        if unknown or not kinds:
            raise ValueError(
                f"pseudo_outliers={self.pseudo_outliers!r}: wanted is 'auto' or some "
                f"of {sorted(KINDS)}."
            )
        if len(self.margins) != 2 or not self.margins[0] < self.margins[1]:
            raise ValueError(
                f"margins={self.margins!r}: wanted are two numbers, the first, for "
                "in-distribution rows, below the second, for outliers."
            )

    @property
    def _default_callbacks(self) -> list[Any]:
        energy = PassthroughScoring(name="energy_loss", on_train=True)
        defaults: list[Any] = super()._default_callbacks
        return [*defaults[:-1], ("energy_loss", energy), defaults[-1]]
