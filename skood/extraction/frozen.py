"""The mode of a transformer in which calls of few rows are fast."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from sklearn.utils.validation import check_is_fitted

from skood.extraction.runs import NetworkRuns
from skood.extraction.serving import Serving

__all__ = ["Freezable"]

Self = TypeVar("Self", bound="Freezable")


class Freezable(NetworkRuns):
    """The methods of a transformer that can be frozen for serving."""

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Pay for safety once: a mode for serving, where calls of few rows are fast.

        The parameters, the network's weights and its code are checked when it begins;
        the network is put in evaluation mode and where it runs, and keeps its hooks,
        until it ends. A call then only looks at the version counters of the weights,
        and takes their digest when these say so: what is written past them, through
        ``parameter.data`` or NumPy, goes unnoticed. Any number of threads may call.

        Yields
        ------
        None

        Raises
        ------
        ValueError
            If the network's weights are not those seen in ``fit``; later also from
            ``fit`` and ``set_params``, which have to wait for the end.

        Examples
        --------
        >>> import torch
        >>> from skood import LayerFeatureTransformer
        >>> net = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.ReLU())
        >>> features = LayerFeatureTransformer(net, ["1"]).fit(torch.rand(9, 4))
        >>> with features.frozen():
        ...     one = features.transform(torch.rand(1, 4))
        >>> one
        LayerFeatures(1 rows: 1/avg 3)
        """
        check_is_fitted(self)
        self._check_thawed()
        module = self._known_module()
        serving = Serving(module, self.blocks_, self._probe, self._settings())
        with serving.open():
            self._serving = serving
            try:
                yield
            finally:
                self._serving = None

    def set_params(self: Self, **params: Any) -> Self:
        """Set parameters; as scikit-learn's, but not while :meth:`frozen` lasts."""
        if params:
            self._check_thawed()
        return super().set_params(**params)
