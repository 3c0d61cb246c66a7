"""What the networks that skood trains share: labels, seeds, device, files."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, ClassVar, TypeVar

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.special import softmax
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from skood._sklearn_compat import check_feature_names, validate_parameter_constraints
from skood._version import stamped, unstamped
from skood.neural.contexts import known_device, seeded
from skood.neural.files import device_here, put_weights, state_of
from skood.neural.inputs import (
    as_batch,
    as_labels,
    as_rows,
    check_shape,
    encoded,
    resolved_labels,
)
from skood.neural.stored_rows import StoredRows, rows_where
from skood.numerics.labels import inlier_mask
from skood.numerics.seeds import RandomStateLike, stream_seed

try:
    from skorch import NeuralNetClassifier
    from skorch.dataset import Dataset, ValidSplit
except ImportError as error:
    raise ImportError(
        "skood.neural trains networks with skorch, which is not installed: "
        "pip install 'skood[neural]'."
    ) from error

__all__ = ["TrainedClassifier"]

Self = TypeVar("Self", bound="TrainedClassifier")
Augment = Callable[[Tensor], Tensor]

_LEARNED = ("feature_names_in_", "input_shape_", "labels_", "n_features_in_")
"""Without them a net is not fitted, though skorch may have made its module."""

MODULE_STREAM = 0
"""The stream of random numbers that initialises a module; epochs have the others."""


class Rows(Dataset):
    """skorch's dataset of arrays, whose rows become tensors of their own memory."""

    def transform(self, X: Any, y: Any) -> tuple[Any, Any]:
        """Return a row and its label."""
        X, y = super().transform(X, y)
        return (as_batch(X) if isinstance(X, np.ndarray) else X), y

    def __getitems__(self, indices: list[int]) -> list[tuple[Any, Any]]:
        """Return the rows and labels of a batch, read at once where they are stored."""
        if not isinstance(self.X, StoredRows):
            return [self[index] for index in indices]
        y = [None] * len(indices) if self.y is None else np.asarray(self.y)[indices]
        return [self.transform(*pair) for pair in zip(self.X[indices], y, strict=True)]


class TrainedClassifier(NeuralNetClassifier):
    """Base class of the classifiers that skood trains: a skorch net with its rules.

    Beside what :class:`skorch.classifier.NeuralNetClassifier` does: labels are of any
    type and rows labelled -1 are of no class; ``device="auto"``; every random number
    of ``fit`` comes from ``random_state`` and the global generators are left as they
    were; a module given as an instance is copied, not trained in place; probabilities
    are float64. While a fit runs, callbacks see classes by their index.
    """

    _constraints: ClassVar[dict[str, Any]] = {
        "autocast": ["boolean"],
        "augment": [callable, None],
        "random_state": ["random_state"],
    }

    # What a file keeps of an instance beside its parameters and its networks' weights.
    _kept: ClassVar[tuple[str, ...]] = (
        "_metadata_request",
        "feature_names_in_",
        "input_shape_",
        "labels_",
        "n_features_in_",
        "seed_",
    )

    labels_: Any
    outliers_: Any
    device: Any

    def __init__(
        self,
        module: Any,
        *,
        criterion: Any = nn.CrossEntropyLoss,
        optimizer: Any = torch.optim.Adam,
        lr: float = 1e-3,
        dataset: Any = Rows,
        train_split: Any = ValidSplit(5, stratified=True),  # noqa: B008
        device: Any = "auto",
        verbose: int = 0,
        autocast: bool = False,
        augment: Augment | None = None,
        random_state: RandomStateLike = 0,
        **kwargs: Any,
    ) -> None:
        # Before skorch's own: it refuses attributes that are torch modules later on.
        self.autocast = autocast
        self.augment = augment
        self.random_state = random_state
        super().__init__(
            module,
            criterion=criterion,
            optimizer=optimizer,
            lr=lr,
            dataset=dataset,
            train_split=train_split,
            device=device,
            verbose=verbose,
            **{"iterator_train__shuffle": True, **kwargs},
        )

    # What a subclass may add ---------------------------------------------------------

    def _made_module(self, module: nn.Module) -> nn.Module:
        """Return what is trained, made of a module that is the net's own."""
        return module

    def _start(self, rows: NDArray[Any]) -> None:
        """Learn from the first in-distribution rows what training rests on."""
        self._check_output(rows[:2])

    def _logits(self, x: Tensor) -> Tensor:
        """Return the logits of a batch on the module's device; (n, classes)."""
        logits: Tensor = self.module_(x)
        return logits

    def _prepared(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        """Return a batch as the module takes it, if its weights are of ``dtype``."""
        kinds = (nn.Embedding, nn.EmbeddingBag)
        tokens = any(isinstance(part, kinds) for part in self.module_.modules())
        if x.is_floating_point() or not tokens:
            x = x.to(dtype)
        return x.to(self._weight.device)

    @property
    def _weight(self) -> Tensor:
        weight: Tensor = next(self.module_.parameters())
        return weight

    # The estimator -------------------------------------------------------------------

    def fit(self: Self, X: Any, y: ArrayLike | None = None, **fit_params: Any) -> Self:
        """Train the network anew, or go on with ``warm_start=True``.

        Parameters
        ----------
        X : array-like, tensor, DataFrame or LayerFeatures
            Of shape (n_samples, n_features) or (n_samples, channels, ...).
        y : array-like of shape (n_samples,)
            Class labels of any type; -1 marks outliers, which are of no class.
        **fit_params : dict
            What skorch passes on to the split.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If a parameter or the data are not usable; the message says which and why.
        """
        self._check_parameters()
        goes_on = self.warm_start and self.__sklearn_is_fitted__()
        if not goes_on:
            self._forget()
        _check_not_weighted(fit_params)
        rows = as_rows(X)
        labels = as_labels(y, len(rows))
        self._check_names(X, reset=not goes_on)
        try:
            fitted: Self = super().fit(rows, labels, **fit_params)
        except BaseException:
            if not goes_on:
                self._forget()
            raise
        return fitted

    def _forget(self) -> None:
        """Be as never fitted: an earlier fit is no answer to one that fails."""
        for name in _LEARNED:
            self.__dict__.pop(name, None)
        self.initialized_ = False

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
            Class labels; -1 marks outliers.
        classes : array-like, optional
            All class labels, for a first call whose rows do not have them all.
        **fit_params : dict
            What skorch passes on to the split.

        Returns
        -------
        self
        """
        self._check_parameters()
        _check_not_weighted(fit_params)
        rows = as_rows(X)
        y = as_labels(y, len(rows))
        if not self.initialized_:
            self.initialize()
        inliers = inlier_mask(y)
        known = rows_where(rows, inliers)
        first = getattr(self, "labels_", None) is None
        self._check_names(X, reset=first and _is_frame(X))
        if first:
            given = self.classes if classes is None else classes
            self.labels_ = resolved_labels(y[inliers], given)
            self.input_shape_ = rows.shape[1:]
            if len(rows.shape) == 2:  # an image has no number of features
                self.n_features_in_ = rows.shape[1]
        check_shape(rows, self.input_shape_, type(self).__name__)
        indices = encoded(y[inliers], self.labels_)
        with self._seeded(1 + len(self.history)), self._training_on(rows[~inliers]):
            if first:
                self._start(known)
            super().partial_fit(known, indices, **fit_params)
        return self

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Return class probabilities: the softmax of the logits.

        Parameters
        ----------
        X : array-like, tensor, DataFrame, LayerFeatures or torch Dataset
            Of the shape seen in ``fit``.

        Returns
        -------
        ndarray of float64, shape (n_samples, n_classes)
            Columns in the order of ``classes_``.
        """
        check_is_fitted(self)
        if not isinstance(X, torch.utils.data.Dataset):
            X = self._known_rows(X)
        # The loader of the batches draws a number, though nothing comes of it.
        with torch.random.fork_rng(devices=[]):
            parts = list(self.forward_iter(X, training=False, device="cpu"))
        return softmax(torch.cat(parts).double().numpy(), axis=1)

    def predict(self, X: Any) -> NDArray[Any]:
        """Return the class labels.

        Parameters
        ----------
        X : array-like, tensor, DataFrame, LayerFeatures or torch Dataset
            Of the shape seen in ``fit``.

        Returns
        -------
        ndarray of shape (n_samples,)
        """
        best = self.predict_proba(X).argmax(axis=1)
        return self.classes_[best]

    def score(self, X: Any, y: ArrayLike, sample_weight: Any = None) -> float:
        """Return the accuracy on the rows that are not labelled -1.

        Parameters
        ----------
        X : array-like, tensor, DataFrame or LayerFeatures
            Of the shape seen in ``fit``.
        y : array-like of shape (n_samples,)
            Class labels; -1 marks outliers.
        sample_weight : array-like of shape (n_samples,), optional
            Weights of the rows.

        Returns
        -------
        float
        """
        check_is_fitted(self)
        rows = self._known_rows(X)
        y = as_labels(y, len(rows))
        inliers = inlier_mask(y)
        right = self.predict(rows_where(rows, inliers)) == y[inliers]
        weights = None if sample_weight is None else np.asarray(sample_weight)[inliers]
        return float(np.average(right, weights=weights))

    @property
    def classes_(self) -> NDArray[Any]:
        """The class labels, in the order of the network's outputs."""
        if getattr(self, "labels_", None) is None:
            raise AttributeError(f"this {type(self).__name__} has seen no labels yet.")
        # skorch's scorers compare predictions with the dataset's labels: indices.
        labels: NDArray[Any] = self.labels_
        return np.arange(len(labels)) if self.training_ else labels

    def __sklearn_is_fitted__(self) -> bool:
        # skorch takes a net for fitted as soon as its module is made.
        return getattr(self, "labels_", None) is not None

    # Seams of skorch -----------------------------------------------------------------

    def initialize(self: Self) -> Self:
        """Make the module anew and forget what was learned."""
        self.seed_ = stream_seed(self.random_state)
        self.labels_ = None
        self.training_ = False
        made: Self = super().initialize()
        return made

    def initialize_module(self: Self) -> Self:
        """Make the module; one given as an instance is copied."""
        made = self.initialized_instance(self.module, self.get_params_for("module"))
        own = copy.deepcopy(made) if made is self.module else made
        self.module_ = self._made_module(own)
        return self

    def _initialize_module(self: Self, reason: Any = None) -> Self:
        with known_device(self), self._seeded(MODULE_STREAM):
            super()._initialize_module(reason)
        return self

    def _initialize_criterion(self: Self, reason: Any = None) -> Self:
        with known_device(self):
            super()._initialize_criterion(reason)
        return self

    def load_params(self, *args: Any, **kwargs: Any) -> None:
        """Load weights that ``save_params`` wrote; see skorch."""
        with known_device(self):
            super().load_params(*args, **kwargs)

    def infer(self, x: Any, **fit_params: Any) -> Tensor:
        """Return the logits of a batch."""
        x = self._prepared(torch.as_tensor(x), self._weight.dtype)
        if self.module_.training and self.augment is not None:
            x = self.augment(x)
        with self._precision(x.device):
            logits = self._logits(x)
        return logits if logits.dtype == torch.float64 else logits.float()

    def get_loss(
        self, y_pred: Tensor, y_true: Tensor, X: Any = None, training: bool = False
    ) -> Tensor:
        """Return the criterion's value for logits and indices of classes."""
        loss: Tensor = self.criterion_(y_pred, y_true.to(y_pred.device))
        return loss

    def __getstate__(self) -> dict[str, Any]:
        return stamped(state_of(self, self._kept))

    def __setstate__(self, state: dict[str, Any]) -> None:
        state = unstamped(state, type(self).__name__)
        params = state["params"]
        type(self).__init__(self, **{**params, "device": device_here(params["device"])})
        self.__dict__.update(state["kept"])
        if "weights" in state:
            self.training_ = False
            super().initialize()  # with the seed that was kept
            put_weights(self, state)

    # Within --------------------------------------------------------------------------

    def _known_rows(self, X: Any) -> NDArray[Any] | StoredRows:
        """Return rows that have the shape, and the columns' names, of those in fit."""
        self._check_names(X, reset=False)
        rows = as_rows(X)
        check_shape(rows, self.input_shape_, type(self).__name__)
        return rows

    def _check_names(self, X: Any, *, reset: bool) -> None:
        """Note the names of a frame's columns, or compare them with those noted.

        An array has no names and goes with any: skorch hands arrays on within.
        """
        if reset or _is_frame(X):
            check_feature_names(self, X, reset=reset)

    def _check_parameters(self) -> None:
        params = {name: getattr(self, name) for name in self._constraints}
        name = type(self).__name__
        validate_parameter_constraints(self._constraints, params, caller_name=name)

    def _check_output(self, rows: NDArray[Any]) -> None:
        """Raise ValueError where the network does not make logits of two rows."""
        classes = len(self.classes_)
        self._set_training(False)
        try:
            with torch.no_grad():
                shape = tuple(self.infer(as_batch(rows)).shape)
        except RuntimeError as error:
            raise ValueError(self._misfit(rows.shape[1:], error)) from error
        if shape != (len(rows), classes):
            raise ValueError(
                f"the module puts out {shape} for {len(rows)} rows, but y has "
                f"{classes} classes: wanted are logits of shape (n, {classes})."
            )

    def _misfit(self, shape: tuple[int, ...], error: RuntimeError) -> str:
        return f"the module cannot be run on rows of shape {shape}: {error}"

    def _precision(self, device: torch.device) -> Any:
        # bfloat16 has float32's range, so that no gradient has to be scaled.
        mixed = self.autocast and self.module_.training
        return torch.autocast(device.type, torch.bfloat16, enabled=mixed)

    @contextmanager
    def _training_on(self, outliers: NDArray[Any]) -> Iterator[None]:
        self.training_, self.outliers_ = True, outliers
        try:
            yield
        finally:
            self.training_, self.outliers_ = False, None

    def _seeded(self, stream: int) -> AbstractContextManager[None]:
        """Return the context of random numbers of this net's own."""
        return seeded(self.seed_, stream, self.device)


def _check_not_weighted(fit_params: dict[str, Any]) -> None:
    # skorch hands what it does not know to the network, where it would be lost.
    if fit_params.get("sample_weight") is not None:
        raise TypeError(
            "fit takes no sample_weight: rows all count alike. Repeat rows that are "
            "to count more, or give a criterion that weighs classes: "
            "criterion__weight=torch.tensor([...])."
        )


def _is_frame(X: Any) -> bool:
    return hasattr(X, "columns")
