"""LayerFeatureTransformer: a trained network as a step of a scikit-learn pipeline."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from numbers import Integral
from pathlib import Path
from typing import Any, ClassVar, TypeVar, cast

from numpy.typing import DTypeLike
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted
from torch import nn

from skood._sklearn_compat import Interval, StrOptions, fit_context
from skood._state import InPickle
from skood._version import Stamped
from skood.extraction.cached import Cache
from skood.extraction.forward import View
from skood.extraction.frozen import Freezable
from skood.extraction.inputs import Preprocess
from skood.extraction.kept import KeptTensors
from skood.extraction.masks import MaskOf
from skood.extraction.network import in_file
from skood.extraction.to_store import ToStore
from skood.features import LayerFeatures
from skood.store import FeatureStore

__all__ = ["LayerFeatureTransformer"]

Self = TypeVar("Self", bound="LayerFeatureTransformer")

_WITHOUT_NETWORK = (
    "set store_network=False, and give the loaded transformer its network back by "
    "set_params(network=...)."
)


class LayerFeatureTransformer(
    Freezable,
    ToStore,
    Stamped,
    TransformerMixin,
    BaseEstimator,
    auto_wrap_output_keys=None,  # type: ignore[call-arg]
):
    """Features of a trained network's layers, as a scikit-learn transformer.

    The network is only looked at: its weights, gradients, training mode, hooks and
    device are afterwards what they were, also when it fails. It is not trained, not
    copied by ``clone``, and not run further than the deepest wanted layer (see Notes).
    Each layer's output is reduced to its statistics on the device, so that nothing
    larger than a batch is ever held there.

    Parameters
    ----------
    network : torch.nn.Module, fitted skorch net, or callable
        A callable without arguments is a factory, called when first needed and once
        per process. ``clone`` and scikit-learn's searches share the network.
    layers : str or sequence of str or (str, str)
        Qualified names as :func:`skood.list_layers` shows them; ``"logits"`` is the
        network's output, ``"penultimate"`` the input of its final linear map. Of what
        puts out several tensors one is named by ``"block[1]"``, ``"block[-1]"``,
        ``"block['map']"``, ``"logits[1]"``. The last run counts where a layer runs
        several times in one forward. In place of a name, a pair ``(name, statistic)``
        wants that statistic alone.
    statistics : str or sequence of str, default=("avg",)
        Of each layer given by its name alone, but not of the logits: ``"avg"`` (or
        ``"mean"``), ``"max"`` and ``"std"`` over positions; ``"l2"``, each channel's
        L2 norm of the positive part; ``"lse"``, one column, the log-sum-exp of all
        units; ``"first"`` (or ``"cls"``) and ``"last"``, a token; ``"gram"``, the row
        sums of ten Gram matrices; ``"flatten"``, every unit.
    preprocess : callable or str, optional
        Turns some rows of X (a slice of an array, tensor or frame; a list of items; a
        collated batch of a Dataset; a tuple of these where X has several inputs; a
        mapping of columns of a ``datasets.Dataset``) into the network's input: a
        tensor, a tuple of positional arguments or a mapping of keyword arguments, as a
        tokenizer of transformers returns. Under an ``"attention_mask"`` among these,
        sequences are pooled over the kept tokens. A text is the name of a column.
    batch_size : int, default=256
        Rows in one forward. Halved for the rest of a pass where the accelerator's
        memory does not suffice. On a CPU, deep networks with large maps often run
        faster in batches of 8 to 32.
    device : str or torch.device, default="auto"
        Where the network runs, for the length of a pass. ``"auto"`` is the network's
        own device when that is an accelerator, else CUDA when there is one, else the
        CPU. A network spread over several devices is not moved.
    dtype : {"float16", "float32", "float64"}, default="float32"
        Type of the features.
    autocast : bool or {"bfloat16", "float16"}, default=False
        Mixed precision for the forward; True is float16 on an accelerator and
        bfloat16 on the CPU. Statistics are taken in float32 at least.
    channels : {"auto", "first", "last"} or mapping of str to these, default="auto"
        Where a layer's channels are when its output has three axes or more, for all
        layers or by name. ``"auto"`` goes by the shape and the values, and by the
        layers that ran last: convolutions and batch norms have them first, tokens have
        them last. What is left to guess is a warning.
    mask : callable, optional
        For layers with another number of positions than the ``"attention_mask"``:
        ``mask(attention_mask, length)`` returns a mask of shape (n_samples, length). By
        default it is the network's own method, which the audio networks of transformers
        have.
    cache : str, Path or FeatureStore, optional
        A folder, a store, or ``"memory"``: there features are looked up, and kept when
        they had to be computed, so that no input goes through the same network twice.
        The features of an input must then depend on it alone: ``preprocess`` must be
        without chance, and give a row the same whatever rows it comes with. See
        :class:`skood.FeatureStore`.
    views : mapping of str to callable, optional
        Changed copies of the inputs for detectors that learn from pairs. Each
        callable gets ``(batch, rows)``: the network's input, a tensor, and the rows'
        numbers in X; it returns a tensor of the same shape. ``fit_transform`` puts
        the features of these in ``views`` of its result; ``transform`` makes none.
    store_network : bool, default=True
        Whether pickling keeps the network: the bare module, its tensors on the CPU.
        Without it, ``set_params(network=...)`` gives a loaded transformer its network
        back, whose weights must then be the ones seen in ``fit``.
    num_workers : int, default=0
        Processes that read inputs which are loaded one by one (a Dataset, a list) while
        the network runs: they load, prepare and collate batches, and take the digests
        that a cache needs. It pays where inputs are decoded. Rows keep their order.
        Arrays and frames are cut in this process always.
    prefetch_factor : int, optional
        Batches that each of these processes has ready; two by default.
    verbose : int, default=0
        1 shows a progress bar.

    Attributes
    ----------
    blocks_ : tuple of (str, str)
        The wanted (layer, statistic), checked.
    layers_ : tuple of str
        The layers among them.
    statistics_ : tuple of str
        The statistics, checked.
    head_ : LinearHead or None
        The network's final linear map, if its output is one.
    feature_names_in_ : ndarray of str
        The columns, if ``fit`` got a frame whose columns have names. Without a
        ``preprocess``, ``transform`` refuses a frame with other ones.
    network_digest_ : str
        Digest of the weights. ``transform`` refuses a network with other weights.

    See Also
    --------
    skood.list_layers : The layers with their shapes and costs, from a forward.
    skood.layer_names : The names that ``layers`` takes.
    skood.LayerFeatures : What comes out.

    Notes
    -----
    A batch is stopped after the deepest wanted layer if each of them is known to run
    once in batches of its shape; the first batch of each shape runs to its end.
    A network that decides by the values of its inputs how often a layer runs has to be
    run to its end always: want its ``"logits"`` too.

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
        "preprocess": [callable, str, None],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "device": "no_validation",
        "dtype": "no_validation",
        "autocast": ["boolean", StrOptions({"bfloat16", "float16"})],
        "channels": [StrOptions({"auto", "first", "last"}), Mapping],
        "mask": [callable, None],
        "cache": "no_validation",
        "views": [Mapping, None],
        "store_network": ["boolean"],
        "num_workers": [Interval(Integral, 0, None, closed="left")],
        "prefetch_factor": [Interval(Integral, 1, None, closed="left"), None],
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
        channels: str | Mapping[str, str] = "auto",
        mask: MaskOf | None = None,
        cache: str | Path | FeatureStore | None = None,
        views: Mapping[str, View] | None = None,
        store_network: bool = True,
        num_workers: int = 0,
        prefetch_factor: int | None = None,
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
        self.mask = mask
        self.cache = cache
        self.views = views
        self.store_network = store_network
        self.num_workers = num_workers
        self.prefetch_factor = prefetch_factor
        self.verbose = verbose

    # The estimator ---------------------------------------------------------------

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self: Self, X: Any, y: Any = None) -> Self:
        """Check the wanted blocks on the network, with a forward of two rows of X.

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
        self._fit(self._inputs(X, reset=True), Cache(self.cache))
        self._first = {}
        return self

    @fit_context(prefer_skip_nested_validation=True)
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

        Warns
        -----
        UserWarning
            If the first rows have other features than in the forward that ``fit`` sends
            them through: the network draws at random, say. (Not with a cache, which
            sends no row through it twice.)
        """
        inputs = self._inputs(X, reset=True)
        cache = Cache(self.cache)
        module = self._fit(inputs, cache)
        blocks = self._blocks(module, inputs, cache)
        self._compare_again(blocks)
        views = {
            name: LayerFeatures(self._blocks(module, inputs, cache, name), self.head_)
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
        serving = self._serving
        if serving is None:
            check_is_fitted(self)
        module = self._known_module() if serving is None else self._served(serving)
        inputs = self._inputs(X, reset=False)
        blocks = self._blocks(module, inputs, Cache(self.cache))
        return LayerFeatures(blocks, self.head_)

    def set_output(self: Self, *, transform: str | None = None) -> Self:
        """Refuse frames: what comes out keeps the layers apart, and is no table.

        ``sklearn.set_config(transform_output=...)`` leaves this step as it is, too.

        Parameters
        ----------
        transform : {"default"} or None
            Neither changes anything.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If a frame is asked for.
        """
        if transform in (None, "default"):
            return self
        raise ValueError(
            f"set_output(transform={transform!r}): LayerFeatureTransformer gives "
            "LayerFeatures, which are no table. For a frame in a pipeline put "
            "LayerSelector() behind it and set the output of the steps from there on: "
            "pipeline[1:].set_output(...). Outside of one call features.to_frame()."
        )

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.three_d_array = True
        return tags

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
        self._check_thawed()  # the network has its hooks
        state = super().__getstate__()
        state.pop("_serving", None)
        state.pop("_first", None)
        memory = state.pop("_memory", None)
        network = in_file(self.network) if self.store_network else None
        if isinstance(network, nn.Module):
            if memory is not None:  # which a forward of the user's own may have changed
                network = copy.deepcopy(network)
                KeptTensors(network, self._probe.written).set(memory)
            network = InPickle(network, _WITHOUT_NETWORK)
        return {**state, "network": network}
