"""The base of detectors that read penultimate features and the last linear map."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator
from functools import partial, reduce
from typing import Any, ClassVar, TypeVar

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import Tags

from skood.detectors.base import BaseDetector
from skood.detectors.class_means import has_many_classes
from skood.detectors.label_columns import label_columns
from skood.detectors.threshold import threshold_rows
from skood.detectors.training import Training
from skood.features import LOGITS, LayerFeatures, LinearHead
from skood.features.chunks import S, by_chunks, chunk_results, merged_statistics
from skood.numerics.device import array_namespace, like, to_numpy
from skood.numerics.graph import EVERY_ROW, row_slices
from skood.numerics.rows import cache_slices, in_float64
from skood.numerics.splits import Rows

__all__ = ["HeadDetector", "logits_of", "product", "product_in_type"]

T = TypeVar("T")

PENULTIMATE = "penultimate"

MORE = 4
"""How many times as many rows a block has where no formula makes arrays of its size."""


class HeadDetector(BaseDetector):
    """Base class of detectors of penultimate features h, with logits z = W h + b.

    A subclass implements ``_head_scores(h, z)``, in which h is (n, d) and z is (n, C),
    float64 on the device, and ``_learn_head(training)`` if there is something to learn:
    ``self._gathered(of, training)`` merges ``of(h, z, classes)`` over blocks of rows.
    Where ``_uses_head`` is false, there need not be a head, and z is None, as it is
    where ``_reads_logits`` is false: logits are the larger part of most scores' cost.

    The head is the one given as ``head``, or the one that the features carry, or it is
    recovered from penultimate features and logits by least squares, which is refused
    where the logits are not linear in the features. Logits are always computed from h
    by the head, so that what is scored and what is learned agree; the product is in
    float32 where both the features and the weights are, as it is in the network.

    Parameters
    ----------
    head : LinearHead, optional
        The network's last linear map; None takes the one of the features, or finds it.
    contamination : float, default=0.05
        Share of new in-distribution rows that are flagged, in (0, 0.5]. See
        :term:`contamination`.
    device : str, default="auto"
        ``"cpu"``, a torch device, or ``"auto"``.

    Attributes
    ----------
    head_ : LinearHead or None
        The last linear map.
    """

    head: LinearHead | None = None

    _uses_head: ClassVar[bool] = True
    """Whether the score needs W and b."""

    _reads_logits: ClassVar[bool] = True
    """Whether the score is made of z."""

    _elementwise: ClassVar[bool] = False
    """Whether the formula multiplies no matrices: then it gets fewer rows at a time."""

    _as_stored: ClassVar[bool] = False
    """Whether the formula gets h in the type that it is stored in, not in float64."""

    _non_negative: ClassVar[bool] = False
    """Whether the method is made for features that are not negative."""

    _block_elements: ClassVar[int] = 1 << 20
    """Numbers in h or z of a block, 8 MB: formulas make several arrays of that size."""

    _kept_out_by_class = False  # hardly one learns from classes

    _parameter_constraints: ClassVar[dict[str, Any]] = {"head": [LinearHead, None]}

    def _learn_head(self, training: Training) -> None:
        """Learn from the in-distribution rows; ``head_`` is set."""

    @abstractmethod
    def _head_scores(self, h: Any, z: Any) -> Any:
        """Return the scores, shape (n,), of penultimate rows and their logits."""

    # Of the base -------------------------------------------------------------------

    def _needed(self, features: LayerFeatures) -> LayerFeatures:
        hidden = self._hidden_layer(features)
        names = [(hidden, "avg")]
        if self._recovers_head(features):
            if LOGITS not in features.layers:
                raise ValueError(self._what_is_missing())
            names.append((LOGITS, LOGITS))
        try:
            return features.select_blocks(names)
        except ValueError as error:
            if hidden in features.layers:
                raise
            raise ValueError(f"{error} {self._what_to_read()}") from error

    def _array_key(self) -> tuple[str, str]:
        return (PENULTIMATE if self.head is None else self.head.layer, "avg")

    def _fit(self, training: Training) -> None:
        self.head_ = self._found_head(training.features)
        ((hidden, width), *_) = training.features.widths.items()
        self._widths = {hidden: width}  # the logits have served to find the head
        if self._non_negative:
            _check_not_negative(type(self).__name__, training.features)
        self._learn_head(training)

    def _score(self, chunk: LayerFeatures) -> Any:
        parts = self._some_rows(chunk, self._reads_logits)
        scores = [self._head_scores(h, z) for _, h, z in parts]
        return array_namespace(scores[0]).concat(scores)

    def _gathered(
        self,
        statistics_of: Callable[[Any, Any, NDArray[np.intp]], S],
        training: Training,
        classes: NDArray[np.intp] | None = None,
        logits: bool = True,
        whole_blocks: bool = False,
    ) -> S:
        """Return the statistics of all rows, merged from those of blocks of rows.

        ``statistics_of`` gets h, z and the rows' part of ``classes``, by default the
        places of their labels. Without ``logits``, z is None. ``whole_blocks`` is for
        statistics so large that merging them costs more than small parts gain: they
        get more rows at a time, and h as it is stored.
        """
        numbers = training.class_numbers if classes is None else classes
        of_chunk = partial(self._of_blocks, statistics_of, logits, whole_blocks)
        return merged_statistics(of_chunk, training.features, numbers)

    def _of_blocks(
        self,
        statistics_of: Callable[[Any, Any, NDArray[np.intp]], S],
        logits: bool,
        whole_blocks: bool,
        chunk: LayerFeatures,
        numbers: NDArray[np.intp],
    ) -> S:
        parts = (
            statistics_of(h, z, numbers[rows])
            for rows, h, z in self._some_rows(chunk, logits, whole_blocks)
        )
        return reduce(lambda one, other: one.merge(other), parts)

    def _some_rows(
        self, chunk: LayerFeatures, logits: bool, whole_blocks: bool = False
    ) -> Iterator[tuple[slice, Any, Any]]:
        """Yield some rows after the other: which they are in the chunk, h and z."""
        # The weights of many classes are arranged anew for each product.
        large = self._elementwise and logits and has_many_classes(self)
        more = MORE if large or whole_blocks else 1
        for block, features in self._blocks(chunk, more):
            h, z = self._stored(features, logits)
            if whole_blocks:
                yield block, h, None if z is None else self._plus_bias(z)
                continue
            width = self._numbers_a_row(h.shape[1])
            if self._as_stored:
                width = max(1, width * h.dtype.itemsize // 8)
            for rows in cache_slices(h, width) if self._elementwise else [EVERY_ROW]:
                z_rows = None if z is None else self._plus_bias(z[rows])
                h_rows = h[rows] if self._as_stored else in_float64(h[rows])
                yield _within(block, rows), h_rows, z_rows

    def _blocks(
        self, chunk: LayerFeatures, more: int = 1
    ) -> Iterator[tuple[slice, LayerFeatures]]:
        width = self._numbers_a_row(chunk.shape[1])
        for rows in row_slices(chunk, max(1, more * self._block_elements // width)):
            yield rows, chunk[rows]

    def _read(self, chunk: LayerFeatures, logits: bool = True) -> tuple[Any, Any]:
        """Return h and z of a chunk, in float64; z is None if unwanted or headless."""
        h, z = self._stored(chunk, logits)
        return in_float64(h), None if z is None else self._plus_bias(z)

    def _stored(self, chunk: LayerFeatures, logits: bool) -> tuple[Any, Any]:
        """Return h as it is stored, and W h in the type it is computed in."""
        h = self._array(chunk, *chunk.block_names[0])
        if not logits or self.head_ is None:
            return h, None
        return h, product_in_type(h, self.head_.weight)

    def _plus_bias(self, z: Any) -> Any:
        assert self.head_ is not None
        return plus_bias(z, self.head_.bias)

    def _read_labels(self, features: LayerFeatures, y: Any) -> Training:
        training = super()._read_labels(features, y)
        self._all_labels = training.labels
        return training

    def _label_columns(
        self, training: Training, largest: NDArray[np.intp]
    ) -> NDArray[np.intp]:
        """Return the column of the logits that each row's label stands for.

        ``largest`` are the columns of the rows' largest logits.
        """
        assert self.head_ is not None
        if training.classes is None or training.labels is None:
            raise ValueError(
                f"{type(self).__name__} compares predictions with labels, and y is "
                "None: give fit the class labels of the rows."
            )
        columns = label_columns(
            np.asarray(self._all_labels),
            training.labels,
            training.classes,
            largest,
            len(self.head_.bias),
        )
        return np.asarray(columns[training.classes])

    def _largest_logits(self, training: Training) -> NDArray[np.intp]:
        """Return the column of the largest logit of each row."""
        return by_chunks(self._largest, training.features).astype(np.intp)

    def _largest(self, chunk: LayerFeatures) -> NDArray[np.intp]:
        parts = self._some_rows(chunk, logits=True)
        return np.concatenate([to_numpy(z).argmax(axis=1) for _, _, z in parts])

    def _choice(self, name: str, choose: Callable[[], T]) -> T:
        """Return what ``choose`` does, once: fits that hold rows out take it over.

        For whole numbers (how many components, say) and seeds, by which such a fit
        would be another detector than the one that is used.
        """
        made = self.__dict__.setdefault("_choices", {})
        if name not in made:
            made[name] = choose()
        return made[name]

    def _held_out_scores(
        self, training: Training, unfitted: dict[str, Any]
    ) -> tuple[Rows, NDArray[np.float64]]:
        made = {"_choices": self.__dict__.get("_choices", {})}
        return super()._held_out_scores(training, unfitted | made)

    def _scores_of_kept_out(
        self, training: Training, kept_out: Rows
    ) -> NDArray[np.float64]:
        self.__dict__.pop("_choices", None)  # those rows have had a say in them
        return super()._scores_of_kept_out(training, kept_out)

    def _numbers_a_row(self, width: int) -> int:
        """Return how many numbers the widest array of the formula has for a row."""
        return max(width, 0 if self.head_ is None else len(self.head_.bias))

    def _check_several_classes(self) -> None:
        assert self.head_ is not None
        if len(self.head_.bias) < 2:
            raise ValueError(
                f"the head's weight has shape {self.head_.weight.shape}, one class, of "
                "which the softmax is always 1. For one output z for two classes, give "
                "a head whose logits are [0, z]."
            )

    def _differs_by_chance(self) -> bool:
        return False  # what is drawn is drawn once, and taken over by further fits

    # The head ----------------------------------------------------------------------

    def _hidden_layer(self, features: LayerFeatures) -> str:
        known = getattr(self, "head_", None) or self.head or features.head
        if known is not None:
            return known.layer
        hidden = [layer for layer in features.layers if layer != LOGITS]
        return hidden[0] if len(hidden) == 1 else PENULTIMATE

    def _what_is_missing(self) -> str:
        return (
            f"{type(self).__name__} needs the network's last linear map: give "
            "head=LinearHead(weight, bias), LayerFeatures that carry it, or "
            "LayerFeatures with the logits, from which it is found."
        )

    def _what_to_read(self) -> str:
        return (
            f"{type(self).__name__} reads what the last linear map gets: say which "
            "layer that is by head=LinearHead(weight, bias, layer), or give "
            "LayerFeatures that have but one layer beside the logits."
        )

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = not self._uses_head or self.head is not None
        return tags

    def _recovers_head(self, features: LayerFeatures) -> bool:
        fitted = getattr(self, "head_", None)
        known = self.head or features.head or fitted
        return self._uses_head and known is None

    def _found_head(self, features: LayerFeatures) -> LinearHead | None:
        if not self._uses_head:
            return None
        head = self.head or features.head
        ((hidden, _), *_) = features.block_names
        if head is None:
            head = _recovered_head(features, hidden)
        width = features.widths[hidden, "avg"]
        if head.weight.shape[1] != width:
            raise ValueError(
                f"layer {hidden!r} has {width} columns, but the head's weight has "
                f"shape {head.weight.shape}: give what the last linear map gets."
            )
        return head


def _within(block: slice, rows: slice) -> slice:
    """Return some rows of a block, counted from where the block is counted from."""
    if rows == EVERY_ROW:
        return block
    return slice(block.start + rows.start, block.start + rows.stop)


def logits_of(h: Any, head: LinearHead) -> Any:
    """Return W h + b in float64."""
    return plus_bias(product_in_type(h, head.weight), head.bias)


def plus_bias(z: Any, bias: NDArray[np.floating]) -> Any:
    """Return z + b in float64, in the memory of z if it is."""
    z = in_float64(z)
    z += like(bias, z)
    return z


def product(h: Any, weight: NDArray[np.floating]) -> Any:
    """Return W h in float64, computed in the type of h where W is not more precise."""
    return in_float64(product_in_type(h, weight))


def product_in_type(h: Any, weight: NDArray[np.floating]) -> Any:
    """Return W h in the type that :func:`product` computes it in."""
    if weight.dtype.itemsize > h.dtype.itemsize:
        h = in_float64(h)
    return h @ like(weight, h).T


def _recovered_head(features: LayerFeatures, hidden: str) -> LinearHead:
    rows = features[threshold_rows(len(features))]
    return LinearHead.from_samples(rows.block(hidden), rows.block(LOGITS), hidden)


def _check_not_negative(method: str, features: LayerFeatures) -> None:
    """Raise if a share of the entries that matters is below zero."""
    name = features.block_names[0]
    block = features.select_blocks([name])
    negative = sum(chunk_results(_n_negative, block))
    if negative > 0:
        entries = len(features) * features.widths[name]
        raise ValueError(
            f"layer {name[0]!r} has negative entries ({negative / entries:.1%}), and "
            f"{method} is made for features behind a ReLU, which are not negative. "
            "Use another detector (skood.all_detectors() says which take them), or "
            "rectified features."
        )


def _n_negative(chunk: LayerFeatures) -> int:
    return int(np.sum(np.asarray(chunk) < 0))
