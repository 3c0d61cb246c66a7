"""Distance to the k-th nearest neighbour among the training features."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from importlib.util import find_spec
from numbers import Integral
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import assert_all_finite

from skood._sklearn_compat import Interval, StrOptions
from skood.detectors.declared import field
from skood.detectors.incremental import IncrementalDetector
from skood.detectors.layers.bounded import BoundedBank
from skood.detectors.training import Training
from skood.features import LayerFeatures
from skood.features.chunks import by_chunks, chunks_of
from skood.features.names import Key
from skood.neighbors import NeighborBank, check_sizes, default_neighbors, is_table
from skood.neighbors.cell_search import CellSearch
from skood.neighbors.cells import LEAST_CODED, Cells
from skood.neighbors.in_graph import kth_distances_in_graph
from skood.neighbors.least import least_squares
from skood.neighbors.placing import cells_of, sampled
from skood.neighbors.space import Points
from skood.numerics.balanced import KeptRows
from skood.numerics.device import resolved_device
from skood.numerics.graph import in_graph

__all__ = ["KNN"]

APPROXIMATE = ("ivf", "pq")
"""Backends that do not find every neighbour."""


class KNN(BoundedBank, IncrementalDetector):
    """Distance to the k-th nearest training row, between vectors of length one.

    The score is minus the Euclidean distance to the k-th nearest in-distribution
    training row after every row has been scaled to length one [1]_; several layers are
    summed. The search is exact unless ``backend`` says otherwise: candidates are found
    by blocked products with a bound on their error, and measured by differences in
    float64, so that the score of a row is the same in every batch.

    The threshold comes from leave-one-out scores: a training row is not its own
    neighbour.

    Parameters
    ----------
    n_neighbors : int or "auto", default="auto"
        k. More training data want a larger one, many small classes a small one: from
        k = the rows of a class on, the k-th neighbour is of another class. ``"auto"``
        takes a tenth of the rows of a class of median size where ``fit`` has class
        labels, at least 5 and at most 50, else 5; and no more than half of such a
        class, or of all rows. A number above that of the other rows is reduced to it,
        with a warning.
    layers : str or sequence of str, optional
        The layers to use; None takes all that have the statistic.
    statistic : str, default="avg"
        The statistic to use.
    normalize : bool or "auto", default="auto"
        Scale every row to length one first, in float64. ``"auto"`` does so layer by
        layer unless the training rows look like a table of measurements, whose lengths
        mean something: a column of whole numbers, centred columns (means of zero, as
        after ``StandardScaler``), or fewer than 16 columns. Columns whose standard
        deviation is a thousandth of the widest's do not count: where units differ, few
        are left, of an embedding with dead units many. ``normalize_`` says what was
        done.
    backend : {"exact", "faiss", "ivf", "pq"}, default="exact"
        What finds the candidates. Products, or ``faiss.IndexFlatIP``, if installed:
        both give the same scores. ``"ivf"`` and ``"pq"`` do not; ``recall_`` says how
        near they come. ``"ivf"`` puts the rows into cells and looks only into those
        near to a query (faiss's inverted file). ``"pq"`` also keeps no rows, but a byte
        for every four columns (product quantisation), a sixteenth of their memory, and
        measures distances to what the codes stand for. The cells of a query are found
        in float32: its score may change with the queries beside it where two cells
        are equally near.
    max_rows : int, optional
        At most so many training rows are kept, drawn with a seed so that classes (of
        ``y``, if given) have equal shares as far as they have the rows; None keeps all.
        Neighbours are then farther away and k reaches farther: ``drift_`` says what
        that does to the scores. In ``partial_fit`` the sample is that of all rows.
    contamination : float, default=0.05
        Share of new in-distribution rows that are flagged, in (0, 0.5]. See
        :term:`contamination`.
    device : str, default="auto"
        ``"cpu"``, a torch device, or ``"auto"``.

    Attributes
    ----------
    banks_ : dict of (layer, statistic) to ndarray of shape (n_samples, n_features)
        The training rows; not under ``backend="pq"``, which keeps codes.
    cells_ : dict of (layer, statistic) to Cells
        Under ``"ivf"`` and ``"pq"``, the cells, and how many a search looks into:
        so many that the recall is 0.95, or more of them add nothing.
    recall_ : dict of (layer, statistic) to float
        Under ``"ivf"`` and ``"pq"``, the share of their k nearest rows that is found
        for 256 rows of the bank, each left out of it.
    bank_rows_ : ndarray of int
        Under ``max_rows``, the numbers of the rows that are kept among the
        in-distribution rows.
    drift_ : dict of str to float
        After ``fit``, if ``max_rows`` left rows out: how the scores of 256 training
        rows differ from those by all rows. ``"rank_correlation"`` is Spearman's,
        ``"shift"`` the mean difference in standard deviations.
    n_neighbors_ : int
        k as it is used.
    normalize_ : dict of (layer, statistic) to bool
        Whether a layer's rows are scaled to length one.
    offset_ : float
        The threshold on ``score_samples``.

    Raises
    ------
    ValueError
        In ``fit``, if there are fewer than two in-distribution rows, or entries too
        large for distances in float64; for ``backend="pq"``, fewer than 256 rows. In
        ``partial_fit``, for a second portion under ``"pq"``.
    ImportError
        If ``backend`` is another than ``"exact"`` and faiss is not installed.

    Warns
    -----
    UserWarning
        If there are not more in-distribution rows than neighbours asked for.

    See Also
    --------
    Mahalanobis : Distances to the classes' means.
    NAP : Nearest patterns of activation.

    References
    ----------
    .. [1] Sun, Ming, Zhu and Li, "Out-of-distribution detection with deep nearest
       neighbors", ICML 2022.

    Examples
    --------
    >>> import numpy as np
    >>> from skood import KNN
    >>> angle = np.random.default_rng(0).uniform(0, 1, 100)
    >>> detector = KNN(n_neighbors=5, normalize=True).fit(
    ...     np.column_stack([np.cos(angle), np.sin(angle)])
    ... )
    >>> detector.predict([[1, 1], [-1, 0]])
    array([ 1, -1])
    """

    n_neighbors: int | str = field(default="auto", kw_only=False)
    normalize: bool | str = "auto"
    backend: str = "exact"

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "n_neighbors": [
            Interval(Integral, 1, None, closed="left"),
            StrOptions({"auto"}),
        ],
        "normalize": ["boolean", StrOptions({"auto"})],
        "backend": [StrOptions({"exact", "faiss", *APPROXIMATE})],
    }

    def _fit(self, training: Training) -> None:
        self._update(training, None)

    def _update(self, training: Training, moved: NDArray[np.intp] | None) -> None:
        check_backend(self.backend)
        features, classes = training.features, training.classes
        if moved is not None and self.backend == "pq":
            raise ValueError(
                "backend='pq' keeps codes and no rows, so that another portion cannot "
                "be added: use fit on all rows, or backend='ivf'."
            )
        old, new, sizes = self._chosen(training, moved)
        if self.backend == "pq":
            self._class_sizes = None if classes is None else sizes
            self._store_codes(features[new])
            return
        banks = {name: _rows(features[new], name) for name in features.block_names}
        if moved is not None:
            banks = {
                name: np.concatenate([self.banks_[name][old], rows])
                for name, rows in banks.items()
            }
        self._class_sizes = None if classes is None else sizes
        self._store(banks)

    def _chosen(
        self, training: Training, moved: NDArray[np.intp] | None
    ) -> tuple[Any, Any, NDArray[np.intp]]:
        """Return which rows of the bank and of the new ones are kept, and of what.

        The last is the number of rows of each class that are kept.
        """
        before = None if moved is None else self._kept
        if self.max_rows is None:
            self._kept: KeptRows | None = None
            sizes = np.bincount(training.class_numbers, minlength=training.n_classes)
            if moved is not None and self._class_sizes is not None:
                np.add.at(sizes, moved, self._class_sizes)
            return slice(None), slice(None), sizes
        if moved is not None and before is None:
            raise ValueError(
                f"max_rows={self.max_rows} but it was None in the portions before, of "
                "which all rows are kept: set it before the first."
            )
        earlier = None
        if before is not None and moved is not None:
            earlier = before.of_classes(moved)
        kept, old, new = KeptRows.of(earlier, training.class_numbers, self.max_rows)
        self._kept, self.bank_rows_ = kept, kept.rows
        return old, new, np.bincount(kept.classes, minlength=training.n_classes)

    def _store(self, banks: dict[Key, NDArray[Any]]) -> None:
        n_rows = len(next(iter(banks.values())))
        self.n_neighbors_ = self._neighbors(n_rows)
        self.normalize_ = self._normalized(banks)
        for name, rows in banks.items():
            if not self.normalize_[name]:
                check_sizes(rows, f"layer {name[0]!r} ({name[1]})")
        self.banks_ = banks
        self._prepared: list[Any] = []
        if self.backend == "ivf":
            self._find_cells(LayerFeatures(banks))

    def _store_codes(self, features: LayerFeatures) -> None:
        if len(features) < LEAST_CODED:
            raise ValueError(
                f"backend='pq' learns its codes from {LEAST_CODED} in-distribution "
                f"rows at least, and there are {len(features)}: give more rows, or use "
                "backend='exact'."
            )
        self.n_neighbors_ = self._neighbors(len(features))
        some = sampled(features)
        banks = {name: _rows(some, name) for name in features.block_names}
        self.normalize_ = self._normalized(banks)
        self._prepared = []
        self._find_cells(features)

    def _normalized(self, banks: Mapping[Key, NDArray[Any]]) -> dict[Key, bool]:
        if self.normalize == "auto":
            return {name: not is_table(rows) for name, rows in banks.items()}
        return dict.fromkeys(banks, bool(self.normalize))

    def _find_cells(self, features: LayerFeatures) -> None:
        """Put the rows of the bank into cells, and look how many are to be searched."""
        self.cells_: dict[Key, Cells] = {}
        self.recall_: dict[Key, float] = {}
        for name, unit in self.normalize_.items():
            self.cells_[name], self.recall_[name] = cells_of(
                features.select_blocks([name]),
                unit,
                self.n_neighbors_,
                coded=self.backend == "pq",
            )

    def _neighbors(self, n_rows: int) -> int:
        """Return k, of which no more are asked for than there are other rows."""
        if n_rows < 2:
            raise ValueError(
                f"fit got n_samples={n_rows} in-distribution row: at least 2 are "
                "needed, since a row is not its own neighbour."
            )
        if isinstance(self.n_neighbors, str):  # "auto"
            return default_neighbors(n_rows, self._class_sizes)
        if self.n_neighbors < n_rows:
            return int(self.n_neighbors)
        warnings.warn(
            f"n_neighbors={self.n_neighbors} is too many for n_samples={n_rows} "
            f"in-distribution rows, of which a row has {n_rows - 1} others: "
            f"n_neighbors_ is set to {n_rows - 1}. Give more rows, or ask for fewer.",
            UserWarning,
            stacklevel=4,
        )
        return n_rows - 1

    def _score(self, chunk: LayerFeatures) -> Any:
        return self._summed(chunk, self.n_neighbors_)

    def _unseen_scores(
        self, training: Training, rows: NDArray[np.intp]
    ) -> NDArray[np.float64]:
        kept = self._is_kept(rows)
        if self._kept is not None and "_sample" in vars(self):
            # Of portions, whose rows have drawn the same.
            kept = np.isin(self._sample.draws, self._kept.draws)
        return by_chunks(self._left_out, training.features, kept)

    def _left_out(
        self, chunk: LayerFeatures, kept: NDArray[np.bool_]
    ) -> NDArray[np.float64]:
        """Return the scores of training rows, some of which are in the bank."""
        # Those find themselves first, at distance zero.
        if kept.all():
            return self._summed(chunk, self.n_neighbors_ + 1)
        scores = self._summed(chunk, self.n_neighbors_)
        if kept.any():
            scores[kept] = self._summed(chunk[kept], self.n_neighbors_ + 1)
        return scores

    def _scores_left_out(
        self, some: Training, kept: NDArray[np.bool_]
    ) -> NDArray[np.float64]:
        return self._left_out(some.features, kept)

    def _scores_by_all(self, training: Training, some: Training) -> NDArray[np.float64]:
        k, scores = self.n_neighbors_, np.zeros(len(some))
        for name, unit in self.normalize_.items():
            queries = Points(some.features.block(*name), unit)[:]
            block = training.features.select_blocks([name])
            scores -= np.sqrt(least_squares(queries, block, unit, k + 1)[:, k])
        return scores

    def _summed(self, chunk: LayerFeatures, k: int) -> Any:
        if in_graph():
            return -sum(
                kth_distances_in_graph(x, self._bank_points(name), k, unit)
                for x, (name, unit) in zip(
                    self._arrays(chunk), self.normalize_.items(), strict=True
                )
            )
        device = resolved_device(self.device)
        total = np.zeros(len(chunk))
        for name, bank in zip(self.normalize_, self._searched_banks(), strict=True):
            queries = self._array(chunk, *name, "cpu")
            total -= bank.kth_distances(queries, k, device)
        return np.maximum(total, -np.finfo(np.float64).max)

    def _bank_points(self, name: Key) -> NDArray[np.float64]:
        """Return the rows of a bank as they are compared, or what codes stand for."""
        if "banks_" in vars(self):
            return Points(self.banks_[name], self.normalize_[name])[:]
        return self.cells_[name].decoded(slice(None))

    def _searched_banks(self) -> list[Any]:
        """Return the layers' rows prepared for searches: files do not keep that."""
        if not self._prepared:  # in place: a copy of this detector shares the list
            check_backend(self.backend)
            # Whole, then at once: of threads that find nothing, each puts in the same.
            banks = [self._prepared_bank(name) for name in self.normalize_]
            self._prepared[:] = banks
        return self._prepared

    def _prepared_bank(self, name: Key) -> NeighborBank | CellSearch:
        unit, rows = self.normalize_[name], vars(self).get("banks_", {}).get(name)
        if self.backend in APPROXIMATE:
            points = None if rows is None else Points(rows, unit)
            return CellSearch(self.cells_[name], unit, points)
        return NeighborBank(rows, unit=unit, backend=self.backend)

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__()
        if "_prepared" in state:
            state["_prepared"] = []
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if "normalize_" in self.__dict__:
            self._prepared = []  # not one that a copy shares


def _rows(features: LayerFeatures, name: Key) -> NDArray[Any]:
    """Return a block's rows as they are kept: in memory, float32 or float64."""
    block = features.select_blocks([name])
    narrow = np.can_cast(block.dtype, np.float32)
    kept = np.empty(block.shape, dtype=np.float32 if narrow else np.float64)
    for rows, chunk in chunks_of(block):
        kept[rows] = chunk.block(*name)
    assert_all_finite(kept, input_name=f"layer {name[0]!r} ({name[1]})")
    return kept


def check_backend(backend: str) -> None:
    """Raise ImportError if it is one of faiss's and that is not installed."""
    if backend != "exact" and find_spec("faiss") is None:
        raise ImportError(
            f"backend={backend!r} needs faiss: pip install 'skood[faiss]', or use "
            "backend='exact'."
        )
