"""Distance to the k-th nearest neighbour among the training features."""

from __future__ import annotations

from importlib.util import find_spec
from numbers import Integral
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from sklearn.utils._param_validation import Interval, StrOptions

from skood._chunks import by_chunks
from skood._device import array_namespace, like, to_numpy, unit_rows
from skood.detectors.declared import field
from skood.detectors.incremental import IncrementalDetector
from skood.detectors.layer_detector import LayerDetector
from skood.detectors.training import Training
from skood.features import LayerFeatures
from skood.features.names import Key

__all__ = ["KNN"]

PRODUCT_ELEMENTS = 1 << 24
"""Entries of one block of the query-by-bank matrix: 64 MB in float32."""


class KNN(LayerDetector, IncrementalDetector):
    """Distance to the k-th nearest training row, between vectors of length one.

    The score is minus the Euclidean distance to the k-th nearest in-distribution
    training row after every row has been scaled to length one [1]_; several layers are
    summed. The search is exact: blocked matrix products, in bounded memory.

    The threshold comes from leave-one-out scores: a training row is not its own
    neighbour.

    Parameters
    ----------
    n_neighbors : int, default=50
        k. More training data want a larger one.
    layers : str or sequence of str, optional
        The layers to use; None takes all that have the statistic.
    statistic : str, default="avg"
        The statistic to use.
    normalize : bool, default=True
        Scale every row to length one first.
    backend : {"exact", "faiss"}, default="exact"
        ``"faiss"`` searches with ``faiss.IndexFlatL2`` (float32), if installed.
    contamination : float, default=0.05
        Share of new in-distribution data that may be rejected, in (0, 0.5].
    device : str, default="auto"
        ``"cpu"``, a torch device, or ``"auto"``.

    Attributes
    ----------
    banks_ : dict of (layer, statistic) to ndarray of shape (n, d)
        The training rows as they are compared.
    offset_ : float
        The threshold on ``score_samples``.

    Raises
    ------
    ValueError
        In ``fit``, if there are not more in-distribution rows than neighbours.
    ImportError
        If ``backend="faiss"`` and faiss is not installed.

    References
    ----------
    .. [1] Sun, Ming, Zhu and Li, "Out-of-distribution detection with deep nearest
       neighbors", ICML 2022.

    Examples
    --------
    >>> import numpy as np
    >>> from skood import KNN
    >>> angle = np.random.default_rng(0).uniform(0, 1, 100)
    >>> detector = KNN(n_neighbors=5).fit(
    ...     np.column_stack([np.cos(angle), np.sin(angle)])
    ... )
    >>> detector.predict([[1, 1], [-1, 0]])
    array([ 1, -1])
    """

    n_neighbors: int = field(default=50, kw_only=False)
    normalize: bool = True
    backend: str = "exact"

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "n_neighbors": [Interval(Integral, 1, None, closed="left")],
        "normalize": ["boolean"],
        "backend": [StrOptions({"exact", "faiss"})],
    }

    def _fit(self, training: Training) -> None:
        self._check_rows(len(training))
        self.banks_ = self._banks(training.features)

    def _update(self, training: Training, moved: NDArray[np.intp] | None) -> None:
        before = {} if moved is None else self.banks_
        n_before = len(next(iter(before.values()), ()))
        self._check_rows(n_before + len(training))
        banks = self._banks(training.features)
        self.banks_ = {
            name: np.concatenate([before[name], bank]) if before else bank
            for name, bank in banks.items()
        }

    def _check_rows(self, n_rows: int) -> None:
        if n_rows <= self.n_neighbors:
            raise ValueError(
                f"n_neighbors={self.n_neighbors} but fit got n_samples={n_rows} "
                "in-distribution rows: more rows than neighbours are needed, since a "
                "row is not its own neighbour."
            )
        if self.backend == "faiss" and find_spec("faiss") is None:
            raise ImportError(
                "backend='faiss' needs faiss: pip install 'skood[faiss]', or use "
                "backend='exact'."
            )

    def _banks(self, features: LayerFeatures) -> dict[Key, NDArray[Any]]:
        names = features.block_names
        return {name: self._bank(features.select(*name)) for name in names}

    def _bank(self, features: LayerFeatures) -> NDArray[Any]:
        ((_, width),) = features.widths.items()
        dtype = np.float64 if features.dtype == np.float64 else np.float32
        bank = np.empty((len(features), width), dtype=dtype)

        def store(chunk: LayerFeatures, rows: slice) -> NDArray[Any]:
            bank[rows] = to_numpy(self._prepared(chunk)[0])
            return np.zeros(len(chunk))

        by_chunks(store, features)
        return bank

    def _prepared(self, chunk: LayerFeatures) -> list[Any]:
        arrays = self._arrays(chunk)
        return [unit_rows(x) for x in arrays] if self.normalize else arrays

    def _score(self, chunk: LayerFeatures) -> Any:
        return self._summed(chunk, self.n_neighbors)

    def _unseen_scores(
        self, training: Training, rows: NDArray[np.intp]
    ) -> NDArray[np.float64]:
        # Each row finds itself first, at distance zero.
        return by_chunks(
            lambda chunk, _: to_numpy(self._summed(chunk, self.n_neighbors + 1)),
            training.features,
        )

    def _summed(self, chunk: LayerFeatures, k: int) -> Any:
        layers = zip(self._prepared(chunk), self.banks_.values(), strict=True)
        return -sum(self._distances(x, bank, k) for x, bank in layers)

    def _distances(self, queries: Any, bank: NDArray[Any], k: int) -> Any:
        if self.backend == "faiss":
            return _faiss_distances(to_numpy(queries), bank, k)
        return kth_distances(queries, like(bank, queries), k)


def kth_distances(queries: Any, bank: Any, k: int) -> Any:
    """Return the Euclidean distance of each query to its k-th nearest bank row.

    The neighbour is found by matrix products; its distance is then taken from the
    difference of the two rows, since the products alone lose digits to cancellation.

    Parameters
    ----------
    queries : array of shape (m, d)
        NumPy or torch.
    bank : array of shape (n, d)
        Of the same library, type and device.
    k : int
        From 1 to n.

    Returns
    -------
    array of shape (m,)
    """
    xp = array_namespace(queries)
    half_squares = xp.sum(bank * bank, axis=1) / 2
    step = max(1, PRODUCT_ELEMENTS // len(bank))
    found = []
    for start in range(0, len(queries), step):
        block = queries[start : start + step]
        nearness = block @ bank.T
        nearness -= half_squares
        difference = block - bank[_kth_largest(nearness, k)]
        found.append(xp.sum(difference * difference, axis=1) ** 0.5)
    return xp.concat(found)


def _kth_largest(values: Any, k: int) -> Any:
    """Return the column of the k-th largest entry of each row."""
    if isinstance(values, np.ndarray):
        place = values.shape[1] - k
        return np.argpartition(values, place, axis=1)[:, place]
    return values.topk(k, dim=1).indices[:, -1]


def _faiss_distances(
    queries: NDArray[Any], bank: NDArray[Any], k: int
) -> NDArray[np.float64]:
    import faiss

    index = faiss.IndexFlatL2(bank.shape[1])
    index.add(np.ascontiguousarray(bank, dtype=np.float32))
    _, rows = index.search(np.ascontiguousarray(queries, dtype=np.float32), k)
    difference = queries - bank[rows[:, -1]]
    return np.sqrt(np.einsum("ij,ij->i", difference, difference))
