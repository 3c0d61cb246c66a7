"""An extractor as a function of batches, which every engine of data sets can map."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from skood.features.arrow import column_name

if TYPE_CHECKING:
    from skood.extraction import LayerFeatureTransformer

__all__ = ["FeatureBatch"]

Batch = Mapping[str, Any]


class FeatureBatch:
    """From a batch of inputs to a batch of features: dict in, dict of arrays out.

    It goes wherever functions of batches go: ``ray.data.Dataset.map_batches``,
    ``datasets.Dataset.map(batched=True)``, Spark's ``predict_batch_udf``. The columns
    that come out are named ``layer/statistic``, as
    :meth:`skood.LayerFeatures.from_parquet` reads them.

    Parameters
    ----------
    extractor : LayerFeatureTransformer
        Fitted. It pickles with its network.
    inputs : str or sequence of str, optional
        The column of the batch that is the network's input, or several for several.
        None is the only column there is, beside those of ``keep``.
    keep : sequence of str, default=()
        Columns that come out as they came in: labels, keys.

    Notes
    -----
    From the first batch until it is closed, pickled or gone, the extractor is frozen
    for serving (:meth:`~skood.LayerFeatureTransformer.frozen`), so that the network's
    weights are looked at once and not for every batch.

    Examples
    --------
    >>> import numpy as np
    >>> import torch
    >>> from skood import LayerFeatureTransformer
    >>> from skood.interop.batches import FeatureBatch
    >>> net = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.ReLU())
    >>> extractor = LayerFeatureTransformer(net, ["1"]).fit(torch.rand(9, 4))
    >>> with FeatureBatch(extractor, keep=["label"]) as features:
    ...     batch = features({"x": np.zeros((2, 4), np.float32), "label": [0, 1]})
    >>> {name: np.shape(column) for name, column in batch.items()}
    {'1/avg': (2, 3), 'label': (2,)}
    """

    def __init__(
        self,
        extractor: LayerFeatureTransformer,
        inputs: str | Sequence[str] | None = None,
        keep: Sequence[str] = (),
    ) -> None:
        self.extractor, self.inputs, self.keep = extractor, inputs, tuple(keep)
        self._open = ExitStack()
        self._is_frozen = False

    def __call__(self, batch: Any, rank: int | None = None) -> dict[str, Any]:
        """Return the features of a batch, and the columns that are kept.

        Parameters
        ----------
        batch : mapping of str to array-like of n rows, or an array
            The inputs; an array is the network's input itself.
        rank : int, optional
            Of a process among several (``Dataset.map(with_rank=True)``): that of the
            GPU it takes, where there is one.

        Returns
        -------
        dict of str to ndarray of shape (n, d)
        """
        if not self._is_frozen:
            self._freeze(rank)
        if not isinstance(batch, Mapping):
            return self._features(batch)
        kept = {name: batch[name] for name in self.keep if name in batch}
        return {**self._features(self._rows(batch)), **kept}

    def _features(self, rows: Any) -> dict[str, NDArray[Any]]:
        features = self.extractor.transform(rows)
        return {column_name(k): features.block(*k) for k in features.block_names}

    def close(self) -> None:
        """Give the network back as it was."""
        self._open.close()
        self._is_frozen = False

    def __enter__(self) -> FeatureBatch:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_is_frozen", False):
            self.close()

    def __getstate__(self) -> dict[str, Any]:
        self.close()
        return {
            "extractor": self.extractor,
            "inputs": self.inputs,
            "keep": self.keep,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]

    def _freeze(self, rank: int | None) -> None:
        if rank is not None:
            import torch

            if torch.cuda.is_available():
                device = f"cuda:{rank % torch.cuda.device_count()}"
                self.extractor.set_params(device=device)
        self._open.enter_context(self.extractor.frozen())
        self._is_frozen = True

    def _rows(self, batch: Batch) -> Any:
        names = self._input_names(batch)
        missing = [name for name in (*names, *self.keep) if name not in batch]
        if missing:
            raise ValueError(
                f"the batch has no column {missing[0]!r}; it has {[*batch]}."
            )
        columns = [_as_rows(batch[name]) for name in names]
        return columns[0] if len(columns) == 1 else tuple(columns)

    def _input_names(self, batch: Batch) -> list[str]:
        if self.inputs is not None:
            return [self.inputs] if isinstance(self.inputs, str) else [*self.inputs]
        names = [name for name in batch if name not in self.keep]
        if len(names) != 1:
            raise ValueError(
                f"inputs=None but the batch has the columns {[*batch]}: say which is "
                "the network's input."
            )
        return names


def _as_rows(column: Any) -> Any:
    """Return a column as the extractor takes it: numbers as an array."""
    if (
        isinstance(column, list)
        and len(column)
        and isinstance(column[0], (list, float))
    ):
        rows: NDArray[Any] = np.asarray(column)
        return rows.astype(np.float32) if rows.dtype == np.float64 else rows
    return column
