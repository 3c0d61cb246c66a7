"""LayerFeatureTransformer: a trained network as a step of a scikit-learn pipeline."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from numbers import Integral
from typing import Any, ClassVar, TypeVar, cast

import numpy as np
import torch
from numpy.typing import DTypeLike, NDArray
from sklearn.base import BaseEstimator, TransformerMixin, _fit_context
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn
from tqdm.auto import tqdm

from skood._version import Stamped
from skood.extraction.forward import Part, Settings, View, extract, probed
from skood.extraction.inputs import Inputs, Preprocess
from skood.extraction.network import as_module, in_file, weights_digest
from skood.extraction.probe import checked_layers
from skood.extraction.statistics import checked_statistics
from skood.features import Key, LayerFeatures, LinearHead, as_key

__all__ = ["LayerFeatureTransformer"]

Self = TypeVar("Self", bound="LayerFeatureTransformer")

_DTYPES = ("float16", "float32", "float64")


class LayerFeatureTransformer(
    Stamped,
    TransformerMixin,
    BaseEstimator,
    auto_wrap_output_keys=None,  # type: ignore[call-arg]
):
    """Features of a trained network's layers, as a scikit-learn transformer.

    The network is only looked at: its weights, gradients, training mode, hooks and
    device are afterwards what they were, also when it fails. It is not trained, not
    copied by ``clone``, and not run further than the deepest wanted layer. Each
    layer's output is reduced to its statistics on the device, so that nothing larger
    than a batch is ever held there.

    Parameters
    ----------
    network : torch.nn.Module, fitted skorch net, or callable
        A callable without arguments is a factory, called when first needed and once
        per process. ``clone`` and scikit-learn's searches share the network.
    layers : str or sequence of str
        Qualified names as :func:`skood.layer_names` lists them; ``"logits"`` is the
        network's output, ``"penultimate"`` the input of its final linear map. The
        last run counts where a layer runs several times in one forward.
    statistics : str or sequence of str, default=("avg",)
        Of each layer but the logits: ``"avg"`` and ``"max"`` over positions; ``"l2"``,
        each channel's L2 norm of the positive part; ``"lse"``, one column, the
        log-sum-exp of all units; ``"cls"``, the first token; ``"gram"``, the row sums
        of ten Gram matrices; ``"flatten"``, every unit.
    preprocess : callable, optional
        Turns some rows of X (a slice of an array, tensor or frame; a list of items; a
        collated batch of a Dataset) into the network's input: a tensor, a tuple of
        positional arguments or a mapping of keyword arguments. Under an
        ``"attention_mask"`` among these, sequences are pooled over the kept tokens.
    batch_size : int, default=256
        Rows in one forward. Halved for the rest of a pass where the accelerator's
        memory does not suffice.
    device : str or torch.device, default="auto"
        Where the network runs, for the length of a pass. ``"auto"`` is the network's
        own device when that is an accelerator, else CUDA when there is one, else the
        CPU. A network spread over several devices is not moved.
    dtype : {"float16", "float32", "float64"}, default="float32"
        Type of the features.
    autocast : bool or {"bfloat16", "float16"}, default=False
        Mixed precision for the forward; True is float16 on an accelerator and
        bfloat16 on the CPU. Statistics are taken in float32 at least.
    channels : {"auto", "first", "last"}, default="auto"
        Where a layer's channels are when its output has three axes or more.
        ``"auto"`` goes by the shape and by the layers that ran last: convolutions and
        batch norms have them first, tokens have them last.
    cache : None
        For a feature store; this version has none.
    views : mapping of str to callable, optional
        Changed copies of the inputs for detectors that learn from pairs. Each
        callable gets ``(batch, rows)``: the network's input, a tensor, and the rows'
        numbers in X; it returns a tensor of the same shape. ``fit_transform`` puts
        the features of these in ``views`` of its result; ``transform`` makes none.
    store_network : bool, default=True
        Whether pickling keeps the network: the bare module, its tensors on the CPU.
        Without it, ``set_params(network=...)`` gives a loaded transformer its network
        back, whose weights must then be the ones seen in ``fit``.
    verbose : int, default=0
        1 shows a progress bar.

    Attributes
    ----------
    layers_ : tuple of str
        The layers, checked.
    statistics_ : tuple of str
        The statistics, checked.
    head_ : LinearHead or None
        The network's final linear map, if its output is one.
    network_digest_ : str
        Digest of the weights. ``transform`` refuses a network with other weights.

    See Also
    --------
    skood.layer_names : The names that ``layers`` takes.
    skood.LayerFeatures : What comes out.

    Notes
    -----
    Floating inputs are cast to the type of the network's weights, integers are left
    as they are. The fused kernels of ``torch.nn.TransformerEncoder`` and compiled
    graphs are not used during a pass, since they run no hooks.

    Examples
    --------
    >>> import torch
    >>> from skood import LayerFeatureTransformer
    >>> _ = torch.manual_seed(0)
    >>> net = torch.nn.Sequential(
    ...     torch.nn.Conv2d(1, 4, 3),
    ...     torch.nn.ReLU(),
    ...     torch.nn.Flatten(),
    ...     torch.nn.Linear(144, 10),
    ... )
    >>> features = LayerFeatureTransformer(net, ["1", "logits"], ["avg", "max"])
    >>> features.fit_transform(torch.rand(5, 1, 8, 8))
    LayerFeatures(5 rows: 1/avg 4, 1/max 4, logits/logits 10)
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "network": "no_validation",
        "layers": [str, "array-like"],
        "statistics": [str, list, tuple],
        "preprocess": [callable, None],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "device": "no_validation",
        "dtype": "no_validation",
        "autocast": ["boolean", StrOptions({"bfloat16", "float16"})],
        "channels": [StrOptions({"auto", "first", "last"})],
        "cache": "no_validation",
        "views": [Mapping, None],
        "store_network": ["boolean"],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        network: Any,
        layers: str | Sequence[str],
        statistics: str | Sequence[str] = ("avg",),
        *,
        preprocess: Preprocess | None = None,
        batch_size: int = 256,
        device: Any = "auto",
        dtype: DTypeLike = "float32",
        autocast: bool | str = False,
        channels: str = "auto",
        cache: None = None,
        views: Mapping[str, View] | None = None,
        store_network: bool = True,
        verbose: int = 0,
    ) -> None:
        self.network = network
        self.layers = layers
        self.statistics = statistics
        self.preprocess = preprocess
        self.batch_size = batch_size
        self.device = device
        self.dtype = dtype
        self.autocast = autocast
        self.channels = channels
        self.cache = cache
        self.views = views
        self.store_network = store_network
        self.verbose = verbose

    # The estimator ---------------------------------------------------------------

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self: Self, X: Any, y: Any = None) -> Self:
        """Check the layers against the network, with a forward of two rows of X.

        Parameters
        ----------
        X : array, tensor, Dataset, DataFrame or list
            One input a row.
        y : ignored
            Present for pipelines.

        Returns
        -------
        self

        Raises
        ------
        TypeError
            If the network or X is of no known kind.
        ValueError
            If a parameter or X is not usable; the message says which and why.
        """
        self._fit(Inputs(X, self.preprocess))
        return self

    @_fit_context(prefer_skip_nested_validation=True)
    def fit_transform(self, X: Any, y: Any = None) -> LayerFeatures:
        """Fit, and return the features of the same rows, with their views.

        Parameters
        ----------
        X : array, tensor, Dataset, DataFrame or list
            One input a row.
        y : ignored
            Present for pipelines.

        Returns
        -------
        LayerFeatures of n rows
        """
        inputs = Inputs(X, self.preprocess)
        module = self._fit(inputs)
        blocks = self._blocks(module, inputs)
        views = {
            name: LayerFeatures(self._blocks(module, inputs, name), self.head_)
            for name in self.views or {}
        }
        return LayerFeatures(blocks, self.head_, views)

    def transform(self, X: Any) -> LayerFeatures:
        """Return the features of some inputs.

        Parameters
        ----------
        X : array, tensor, Dataset, DataFrame or list
            One input a row, of the kind given to ``fit``.

        Returns
        -------
        LayerFeatures of n rows

        Raises
        ------
        ValueError
            If the network's weights are not those seen in ``fit``, or X is not usable.
        """
        check_is_fitted(self)
        self._validate_params()
        self._check_settings()
        module = self._module()
        if weights_digest(module) != self.network_digest_:
            raise ValueError(
                "the network's weights are not those seen in fit: give the same "
                "network back by set_params(network=...), or fit again."
            )
        inputs = Inputs(X, self.preprocess)
        return LayerFeatures(self._blocks(module, inputs), self.head_)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.three_d_array = True
        return tags

    # Fitting and running ---------------------------------------------------------

    def _fit(self, inputs: Inputs) -> nn.Module:
        self._check_settings()
        module = self._module()
        statistics = checked_statistics(cast(Any, self.statistics))
        layers = checked_layers(self.layers, module)
        self._probe = probed(module, inputs, layers, self.channels, self._settings())
        self.layers_ = layers
        self.statistics_ = statistics
        self.head_ = _linear_head(module, self._probe.head)
        self.network_digest_ = weights_digest(module)
        return module

    def _check_settings(self) -> None:
        if self.cache is not None:
            raise ValueError(
                f"cache={self.cache!r}: the feature store is not available in this "
                "version; leave cache=None."
            )
        if np.dtype(self.dtype).name not in _DTYPES:
            raise ValueError(f"dtype={self.dtype!r}: features are one of {_DTYPES}.")
        for name, view in (self.views or {}).items():
            if not callable(view):
                raise ValueError(
                    f"views has {name!r}: {view!r}, which cannot be called with "
                    "(batch, rows)."
                )

    def _module(self) -> nn.Module:
        if self.network is None:
            raise ValueError(
                "network is None: this transformer was saved without its network "
                "(store_network=False). Give it back by set_params(network=...), as "
                "pipeline.set_params(features__network=...) in a pipeline."
            )
        return as_module(self.network)

    def _settings(self) -> Settings:
        return Settings(self.batch_size, self.device, self.autocast)

    def _keys(self) -> list[Key]:
        pairs = [as_key((la, st)) for la in self.layers_ for st in self.statistics_]
        return list(dict.fromkeys(pairs))

    def _blocks(
        self, module: nn.Module, inputs: Inputs, view: str | None = None
    ) -> dict[str | Key, NDArray[Any]]:
        """Return the blocks of all rows, by one pass of the network."""
        change = None if view is None else cast(Any, self.views)[view]
        parts = extract(
            module, inputs, self._keys(), self._probe, self._settings(), change
        )
        title = "extract" if view is None else f"extract {view}"
        bar = tqdm(
            total=len(inputs), unit=" rows", desc=title, disable=not self.verbose
        )
        with closing(parts), bar:
            return _assembled(parts, len(inputs), np.dtype(self.dtype), bar.update)

    # Clones and files ------------------------------------------------------------

    def __sklearn_clone__(self: Self) -> Self:
        # Scikit-learn copies what has no get_params deeply; a network is shared. So
        # its own clone is taken of an object that is the same but for the network.
        bare = object.__new__(type(self))
        bare.__dict__.update(self.__dict__, network=None)
        other = super(LayerFeatureTransformer, bare).__sklearn_clone__()
        other.network = self.network
        return cast(Self, other)

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__()
        state["network"] = in_file(self.network) if self.store_network else None
        return state


def _linear_head(module: nn.Module, name: str | None) -> LinearHead | None:
    if name is None:
        return None
    part = cast(nn.Linear, module.get_submodule(name))
    weight = _copied(part.weight)
    # A linear map may well have no bias; torch's annotation forgets that.
    bias = cast("Tensor | None", part.bias)
    if bias is None:
        return LinearHead(weight, np.zeros(len(weight), weight.dtype))
    return LinearHead(weight, _copied(bias))


def _copied(weights: Tensor) -> NDArray[Any]:
    wide = weights.detach().to(
        device="cpu", dtype=torch.promote_types(weights.dtype, torch.float32), copy=True
    )
    return np.asarray(wide.numpy())


def _assembled(
    parts: Iterable[Part],
    n_rows: int,
    dtype: np.dtype[Any],
    progress: Callable[[int], Any],
) -> dict[str | Key, NDArray[Any]]:
    """Return whole blocks, each allocated once, from blocks of consecutive rows."""
    blocks: dict[str | Key, NDArray[Any]] = {}
    for rows, values in parts:
        for key, value in values.items():
            if key not in blocks:
                blocks[key] = np.empty((n_rows, value.shape[1]), dtype)
            whole = blocks[key]
            if value.shape[1] != whole.shape[1]:
                raise ValueError(
                    f"layer {key[0]!r} gave {value.shape[1]} columns of {key[1]!r} "
                    f"for rows {rows.start} to {rows.stop - 1}, and {whole.shape[1]} "
                    "before: inputs of several sizes need a statistic that pools."
                )
            whole[rows] = value
        progress(rows.stop - rows.start)
    return blocks
