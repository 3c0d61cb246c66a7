"""NAP: Hamming distance to known binary patterns of neuron activations."""

from __future__ import annotations

import warnings
from functools import partial
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from skood._sklearn_compat import Interval, StrOptions
from skood.detectors.declared import field
from skood.detectors.layers.bounded import BoundedBank
from skood.detectors.layers.nap.all_rows import AllRows, AskedRows
from skood.detectors.layers.nap.auto import LayerChoice, searched_layers, tail_cap
from skood.detectors.layers.nap.blocks import (
    OUTPUT,
    candidate_blocks,
    searched_blocks,
    stated_blocks,
    stated_layers,
)
from skood.detectors.layers.nap.columns import column_classes, is_one_class
from skood.detectors.layers.nap.decision import Decision
from skood.detectors.layers.nap.layer import LayerRows, PatternLayer
from skood.detectors.threshold import threshold_rows
from skood.detectors.training import Training
from skood.features import LayerFeatures
from skood.features.chunks import by_chunks, merged_statistics
from skood.hamming import BACKENDS, PatternBank, check_backend
from skood.numerics.device import array_namespace, like, to_numpy
from skood.numerics.graph import in_graph

__all__ = ["NAP"]


class NAP(BoundedBank):
    r"""Hamming distance to the nearest known pattern of active neurons.

    A row's pattern has one bit for each channel of a layer: whether the pooled
    activation is above the row's own ``percentile`` over the channels, and above zero.
    In ``fit`` the patterns of the in-distribution rows are stored, each once, under
    their class. The distance :math:`d_l` of a row is the smallest number of bits by
    which its pattern differs from those of the class that the network predicts, taken
    from the cached logits; it is the width :math:`D_l` of the layer if that class has
    no pattern.

    With one layer the score is :math:`-d`. With several it is minus

    .. math:: S = \sum_l \kappa(q_l) \frac{\max_k D_k}{D_l} (d_l - \tau_l), \quad
        \kappa(q) = \sqrt{1 / \min(q, 1 - q)},

    with the quantile q and a layer's own threshold :math:`\tau_l`, the distance that a
    share ``contamination`` of new in-distribution rows exceeds. With
    ``voting="majority"`` a layer votes against a row if :math:`d_l > \tau_l`, and a row
    is an outlier if more than half of the layers do. The score is then the share of
    votes for the row, with S to order rows of equally many votes, and the threshold is
    half of the votes: ``contamination`` then holds for each layer, not for them all.

    Distances are whole numbers with many ties, above all in narrow layers. With
    ``tie_break="cosine"``, half of one minus the cosine between a row's activations and
    the mean direction of the class's training rows is added to :math:`d_l`: this never
    changes the order of two different distances of a layer.

    The threshold comes from leave-one-out scores: a training row's own pattern counts
    only if another row of its class has it too.

    Parameters
    ----------
    layers : str or sequence, optional
        The layers to use; None takes all that have the statistic. An entry of a
        sequence may be a (layer, statistic, percentile) triple.
    statistic : str, default="max"
        The pooling: ``"max"`` or ``"avg"``.
    percentile : float, default=50
        In (0, 100), linearly interpolated.
    per_class : bool or "auto", default="auto"
        Search the predicted class only. ``"auto"`` does where ``fit`` has class labels
        and the logits are among the layers, and otherwise searches all patterns. One
        label for all rows is no class, unless it is the number of the column that is
        predicted for nine of ten. Labels that are whole numbers below the number of
        logits, or texts of them, are columns of the logits. Others are matched by the
        rows fitted on: a column stands for the class that most of the rows with their
        largest logit in it have.
    voting : {"numeric", "majority"}, default="numeric"
        How several layers decide.
    tie_break : {"cosine"} or None, default="cosine"
        None gives the distances of the paper; ``fit`` then warns where rows that tie at
        the threshold make the rate much lower than ``contamination``.
    auto : bool, default=False
        Let the rows with label -1 that ``fit`` gets choose among ``layers`` (names
        only), the statistics max and avg, and the percentiles 10, 30, 50, 70 and 90,
        and set the thresholds of the votes (the paper's automatic configuration).
        Without such rows ``statistic`` and ``percentile`` hold, for all layers.
    n_votes : int, default=9
        The most layers that ``auto`` keeps.
    criterion : {"accuracy", "threshold"}, default="accuracy"
        Whether ``auto`` takes the more accurate of a layer's statistics or that with
        the smaller threshold.
    backend : {"auto", "faiss", "product", "popcount"}, default="auto"
        How patterns are searched; see :func:`skood.hamming.nearest_hamming`. All give
        the same distances.
    max_rows : int, optional
        The patterns and directions of at most so many training rows are kept, drawn
        with a seed so that classes (of ``y``, if given) have equal shares as far as
        they have the rows; None keeps all. The nearest pattern is then farther away:
        ``drift_`` says what that does to the scores.
    contamination : float, default=0.05
        Share of new in-distribution rows that are flagged, in (0, 0.5]. See
        :term:`contamination`.
    device : str, default="auto"
        ``"cpu"``, a torch device, or ``"auto"``.

    Attributes
    ----------
    configuration_ : list of LayerChoice
        Layer, statistic, percentile, threshold in bits and, with ``auto``, accuracy of
        each layer used.
    search_report_ : list of dict
        All configurations that ``auto`` tried, for a table; empty if it did not.
    banks_ : dict of (layer, statistic) to PatternBank
        The patterns of each layer used.
    bank_rows_ : ndarray of int
        Under ``max_rows``, the numbers of the rows that are kept among the
        in-distribution rows.
    drift_ : dict of str to float
        After ``fit``, if ``max_rows`` left rows out: how the scores of 256 training
        rows differ from those by all rows, under the same layers and thresholds.
        ``"rank_correlation"`` is Spearman's, ``"shift"`` the mean difference in
        standard deviations.
    class_labels_ : ndarray of shape (n_classes,) or None
        The class labels; None when fitted without ``y``.
    offset_ : float
        The threshold on ``score_samples``.

    Raises
    ------
    ValueError
        In ``fit``: ``per_class=True`` without labels or logits; labels that do not go
        with the logits, as
        :func:`skood.detectors.layers.nap.columns.column_classes` says;
        ``auto=True`` without a max or avg statistic.
    ImportError
        If ``backend="faiss"`` and faiss is not installed.

    See Also
    --------
    KNN : Distances between the activations themselves.
    FeatureNorm : How strong the activations are.

    References
    ----------
    Olber, Radlak, Popowicz, Szczepankiewicz and Chachula, "Detection of
    out-of-distribution samples using binary neuron activation patterns", CVPR 2023.

    Examples
    --------
    >>> import numpy as np
    >>> from skood import NAP, LayerFeatures
    >>> rng = np.random.default_rng(0)
    >>> y = np.repeat([0, 1], 100)
    >>> active = np.eye(2)[y].repeat(8, axis=1)
    >>> noise = rng.uniform(0, 0.6, (200, 16))
    >>> X = LayerFeatures({("conv", "max"): active + noise, "logits": np.eye(2)[y]})
    >>> detector = NAP().fit(X, y)
    >>> maps = [[1.0, 0.1] * 8, [1.0] * 8 + [0.1] * 8]
    >>> new = LayerFeatures({("conv", "max"): maps, "logits": [[1, 0], [1, 0]]})
    >>> detector.predict(new)
    array([-1,  1])
    """

    layers: Any = field(default=None, kw_only=False)
    statistic: str = field(default="max", kw_only=False)
    percentile: float = field(default=50, kw_only=False)
    per_class: bool | str = "auto"
    voting: str = "numeric"
    tie_break: str | None = "cosine"
    auto: bool = False
    n_votes: int = 9
    criterion: str = "accuracy"
    backend: str = "auto"

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "percentile": [Interval(Real, 0, 100, closed="neither")],
        "per_class": ["boolean", StrOptions({"auto"})],
        "voting": [StrOptions({"numeric", "majority"})],
        "tie_break": [StrOptions({"cosine"}), None],
        "auto": ["boolean"],
        "n_votes": [Interval(Integral, 1, None, closed="left")],
        "criterion": [StrOptions({"accuracy", "threshold"})],
        "backend": [StrOptions({"auto", *BACKENDS})],
    }

    # Learning ----------------------------------------------------------------------

    def _threshold(self, scores: NDArray[np.float64]) -> float:
        if self.voting == "majority":
            half = self._decision().half
            _warn_of_votes(float(np.mean(scores < half)), self.contamination)
            return half
        return super()._threshold(scores)

    def _needed(self, features: LayerFeatures) -> LayerFeatures:
        used = getattr(self, "_used", None)
        if used is None:
            where = (features, self.layers, self.statistic)
            used = searched_blocks(*where) if self.auto else stated_blocks(*where)
            if self.per_class is not False and OUTPUT in features.block_names:
                used = [*used, OUTPUT]
        return features.select_blocks(used)

    def _fit(self, training: Training) -> None:
        features = training.features
        check_backend(self.backend)
        self._columns = self._classes_of_columns(training)
        kept = self._drawn(training)
        if self.auto and len(training.outliers):
            found = self._searched(training, kept)
        else:
            found = self._stated(features), []
        self.configuration_: list[LayerChoice] = found[0]
        self.search_report_: list[dict[str, Any]] = found[1]
        self._layers = [
            self._layer(kept, *choice[:3], cosine=bool(self.tie_break))
            for choice in self.configuration_
        ]
        self.banks_ = {layer.name: layer.bank for layer in self._layers}
        self._used = [layer.name for layer in self._layers]
        if self._columns is not None:
            self._used.append(OUTPUT)
        self._widths = features.select_blocks(self._used).widths

    def _classes_of_columns(self, training: Training) -> NDArray[np.intp] | None:
        """Return the class of each column of the logits; None to search all classes."""
        features, labels = training.features, training.labels
        n_columns = features.widths.get(OUTPUT)
        if self.per_class is False:
            return None
        if training.classes is None or labels is None or n_columns is None:
            if self.per_class == "auto":
                return None
            logits = "the layer 'logits' in X (LayerFeatures)"
            raise ValueError(
                "per_class=True searches the patterns of the class that the network "
                f"predicts, and needs {'y' if labels is None else logits}: give it, "
                "or use per_class=False."
            )
        predicted = by_chunks(
            self._largest_logits, features.select_blocks([OUTPUT])
        ).astype(np.intp)
        if is_one_class(labels, predicted, n_columns):
            if self.per_class == "auto":
                return None
            raise ValueError(
                f"per_class=True but y has one class, {labels.tolist()}, and the "
                f"logits {n_columns} columns, of which the network predicts "
                f"{len(np.unique(predicted))}: give the class labels, or use "
                "per_class=False."
            )
        return column_classes(labels, training.classes, predicted, n_columns)

    def _stated(self, features: LayerFeatures) -> list[LayerChoice]:
        return stated_layers(features, self.layers, self.statistic, self.percentile)

    def _layer(
        self,
        training: Training,
        layer: str,
        statistic: str,
        percentile: float,
        *,
        cosine: bool,
    ) -> PatternLayer:
        labels, n_classes = training.class_numbers, training.n_classes
        rows_of = partial(
            self._rows, percentile=percentile, n_classes=n_classes if cosine else None
        )
        block = training.features.select_blocks([(layer, statistic)])
        kept = merged_statistics(rows_of, block, labels)
        return PatternLayer(
            name=(layer, statistic),
            percentile=percentile,
            bank=PatternBank.of(
                np.concatenate(kept.patterns),
                0 * labels if self._columns is None else labels,
                1 if self._columns is None else n_classes,
                block.shape[1],
            ),
            directions=kept.directions,
            backend=self.backend,
        )

    def _rows(
        self,
        chunk: LayerFeatures,
        labels: NDArray[np.intp],
        percentile: float,
        n_classes: int | None,
    ) -> LayerRows:
        (x,) = self._arrays(chunk)
        return LayerRows.of(x, labels, percentile, n_classes)

    def _searched(
        self, training: Training, kept: Training
    ) -> tuple[list[LayerChoice], list[dict[str, Any]]]:
        """Return the layers that separate best, and how all that were tried did."""
        rows = threshold_rows(len(training))
        known = training.part(rows)
        classes = _of_kept(known, self._is_kept(rows))
        unlike = training.outliers[threshold_rows(len(training.outliers))]

        def distances_of(*choice: Any) -> tuple[NDArray[Any], NDArray[Any]]:
            layer = self._layer(kept, *choice, cosine=False)
            own = self._distances(layer, known.features, classes)
            return own, self._distances(layer, unlike)

        return searched_layers(
            candidate_blocks(training.features, self.layers),
            distances_of,
            contamination=self.contamination,
            criterion=self.criterion,
            n_votes=self.n_votes,
        )

    # Scores ------------------------------------------------------------------------

    def _score(self, chunk: LayerFeatures) -> Any:
        return self._combined([self._distances(layer, chunk) for layer in self._layers])

    def _unseen_scores(
        self, training: Training, rows: NDArray[np.intp]
    ) -> NDArray[np.float64]:
        own = _of_kept(training, self._is_kept(rows))
        return self._scores_of_known(training.features, own)

    def _scores_of_new(self, threshold_data: Any) -> NDArray[np.float64]:
        super()._scores_of_new(threshold_data)  # refuses what cannot be scored
        return self._scores_of_known(self._known_features(threshold_data), None)

    def _scores_of_known(
        self, features: LayerFeatures, own: NDArray[np.intp] | None
    ) -> NDArray[np.float64]:
        """Return the scores of in-distribution rows, which set the layers' thresholds.

        Where a search has chosen the layers, it has set them already. Own classes are
        those of rows whose patterns are kept, -1 of others.
        """
        distances = [self._distances(layer, features, own) for layer in self._layers]
        if not self.search_report_:
            self.configuration_ = [
                choice._replace(threshold=tail_cap(bits, self.contamination))
                for choice, bits in zip(self.configuration_, distances, strict=True)
            ]
        return self._combined(distances)

    def _scores_left_out(
        self, some: Training, kept: NDArray[np.bool_]
    ) -> NDArray[np.float64]:
        own = _of_kept(some, kept)
        found = [self._distances(layer, some.features, own) for layer in self._layers]
        return self._combined(found)

    def _scores_by_all(self, training: Training, some: Training) -> NDArray[np.float64]:
        return self._combined(
            [self._distances_to_all(layer, training, some) for layer in self._layers]
        )

    def _distances_to_all(
        self, layer: PatternLayer, training: Training, some: Training
    ) -> NDArray[np.float64]:
        """Return the distances of some training rows to all others, in one layer."""
        x = to_numpy(self._array(some.features, *layer.name))
        lookup = self._predicted(some.features)
        asked = AskedRows(x, lookup, some.class_numbers, layer)
        n_classes = None if layer.directions is None else training.n_classes

        def found(chunk: LayerFeatures, classes: NDArray[np.intp]) -> AllRows:
            rows = self._rows(chunk, classes, layer.percentile, n_classes)
            return asked.among(rows, classes)

        block = training.features.select_blocks([layer.name])
        return asked.distances(merged_statistics(found, block, training.class_numbers))

    def _distances(
        self,
        layer: PatternLayer,
        features: LayerFeatures,
        own: NDArray[np.intp] | None = None,
    ) -> NDArray[np.float64]:
        """Return distances in one layer; given own classes, as if left out of it."""

        def values(
            chunk: LayerFeatures, own: NDArray[np.intp] | None = None
        ) -> NDArray[np.float64]:
            x = self._array(chunk, *layer.name)
            return layer.distances(x, self._predicted(chunk), own)

        names = [layer.name] if self._columns is None else [layer.name, OUTPUT]
        columns = [] if own is None else [own]
        return by_chunks(values, features.select_blocks(names), *columns)

    def _predicted(self, chunk: LayerFeatures) -> Any:
        """Return the class to search for each row, -1 for one without patterns."""
        if self._columns is None:
            return None
        if in_graph():
            largest = self._array(chunk, *OUTPUT).argmax(dim=1)
            return like(self._columns, largest)[largest]
        return self._columns[self._largest_logits(chunk)]

    def _largest_logits(self, chunk: LayerFeatures) -> NDArray[np.intp]:
        return to_numpy(self._array(chunk, *OUTPUT)).argmax(axis=1)

    def _decision(self) -> Decision:
        widths = [layer.bank.n_bits for layer in self._layers]
        return Decision.of(self.configuration_, widths)

    def _combined(self, distances: list[Any]) -> Any:
        decision = self._decision()
        stacked = array_namespace(distances[0]).stack(distances)
        if self.voting == "majority":
            return decision.majority(stacked)
        return decision.numeric(stacked)


def _of_kept(some: Training, kept: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Return the classes of rows whose patterns are kept, -1 of others."""
    return np.where(kept, some.class_numbers, -1)


def _warn_of_votes(share: float, contamination: float) -> None:
    if 0.5 * contamination <= share <= 1.5 * contamination:
        return
    warnings.warn(
        f"contamination={contamination} holds for each layer under voting='majority': "
        f"about {share:.1%} of new rows will be outvoted. voting='numeric' keeps the "
        "rate for them all.",
        UserWarning,
        stacklevel=2,
    )
