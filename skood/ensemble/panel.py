"""Which detectors the features can carry: one for each view, at most a dozen."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.pipeline import make_pipeline

from skood.detectors.base import ARRAY
from skood.detectors.entry import Entry
from skood.detectors.head.norm_rescaled import NormRescaledHead
from skood.detectors.norm_ratio import NORM, NORM_RATIO
from skood.detectors.registry import REGISTRY
from skood.detectors.training import Training
from skood.ensemble.members import Member
from skood.features import LOGITS, LayerFeatures
from skood.features.names import is_logits

__all__ = ["MOST", "default_panel"]

MOST = 12
"""Members at most."""

EARLIER = 3
"""Layers before the last, at most, that distances are taken in."""

ROWS_FOR_MIXTURES = 1000
"""Rows from which the fifty components of LSGM have twenty each."""

BANK_ROWS = 100_000
"""Rows that a member keeps, at most: beyond, search and memory only grow."""

LOOKED_AT = 1000
"""Rows from which the sign of features is read."""

LOGIT_VIEWS = (
    ("probabilities", ("GEN", "MSP")),
    ("logits", ("Energy", "MaxLogit")),
)
HEAD_VIEWS = (
    ("boundary", ("FDBD",)),
    ("collapse", ("NCI", "CADRef")),
    ("shaping", ("SCALE", "RAS", "ReAct")),
    ("residual", ("ViM", "Residual")),
)
"""Views of the network's end, each with its detectors, the first that fits is taken.

A name that the registry does not have is passed over, so that new detectors come in by
their entry.
"""


@dataclass(frozen=True)
class Carried:
    """What features carry, as the registry's entries name it."""

    features: LayerFeatures
    labels: bool
    negative: bool

    @classmethod
    def of(cls, training: Training) -> Carried:
        """Look at the training rows."""
        labels = training.labels is not None and len(training.labels) > 1
        return cls(training.features, labels, _has_negative(training.features))

    @property
    def plain(self) -> bool:
        """Whether there is one layer without a name."""
        return self.features.layers == [ARRAY]

    @property
    def statistic(self) -> str:
        """The statistic in which distances are taken: avg, or else the first."""
        found = [s for layer, s in self.features.block_names if not is_logits(layer)]
        return found[0] if found and "avg" not in found else "avg"

    @property
    def hidden(self) -> list[str]:
        """The layers that have this statistic, in order; the last is the deepest."""
        keys = self.features.block_names
        return [layer for layer, statistic in keys if statistic == self.statistic]

    @property
    def alone(self) -> bool:
        """Whether there is one layer, without labels, logits or a head."""
        bare = not self.labels and not self.has("head")
        return bare and len(self.features.block_names) == len(self.hidden) == 1

    def has(self, need: str) -> bool:
        """Return whether one of the needs of an entry is met."""
        if need == "labels":
            return self.labels
        if need == "head":
            head = self.features.head
            return head is not None and head.layer in self.features.layers
        if need == LOGITS:
            return LOGITS in self.features.layers
        if need == "jigsaw views":
            return "jigsaw" in self.features.views
        return need in self.features.statistics

    def suits(self, entry: Entry) -> bool:
        """Return whether a detector can be fitted on these features."""
        takes_sign = entry.negative_features or not self.negative
        return takes_sign and all(self.has(need) for need in entry.needs)


def default_panel(training: Training) -> list[Member]:
    """Return one member for each view that the features carry.

    Parameters
    ----------
    training : Training
        The rows, of all blocks.

    Returns
    -------
    list of Member
        At most a dozen. Of a single layer without labels: the distances to the nearest
        and to further neighbours, and that to the mean, so that neighbours have two
        thirds of the vote.
    """
    carried = Carried.of(training)
    if carried.alone:
        return _of_one_layer({} if carried.plain else {"statistic": carried.statistic})
    if carried.plain:
        return [_member("KNN", "neighbours"), _member("Mahalanobis", "distance")]
    # Layers differ more in what they see than formulas of the last one do.
    found = [
        *_of_output(carried, LOGIT_VIEWS),
        *_of_last_layer(carried),
        *_of_earlier_layers(carried),
        *_of_norms(carried),
        *_of_output(carried, HEAD_VIEWS),
        *_of_patterns(carried),
    ]
    return found[:MOST]


def _of_one_layer(options: dict[str, Any]) -> list[Member]:
    nearest = _detector("KNN", n_neighbors=1, **options)
    return [
        Member("KNN", _detector("KNN", **options), "neighbours"),
        Member("KNN, nearest", nearest, "nearest"),
        _member("Mahalanobis", "distance", normalize=True, **options),
    ]


def _of_output(
    carried: Carried, views: Sequence[tuple[str, Sequence[str]]]
) -> Iterator[Member]:
    for view, names in views:
        entries = [REGISTRY[name] for name in names if name in REGISTRY]
        fitting = [e for e in entries if {LOGITS, "head"} & {*e.needs}]
        fitting = [entry for entry in fitting if carried.suits(entry)]
        if fitting:
            yield _member(fitting[0].name, view)


def _of_last_layer(carried: Carried) -> Iterator[Member]:
    for last in carried.hidden[-1:]:
        block = {"layers": last, "statistic": carried.statistic}
        yield _member("KNN", f"neighbours, {last}", **block)
        options = block | {"normalize": True, "relative": carried.labels}
        yield _member("Mahalanobis", f"direction, {last}", **options)


def _of_norms(carried: Carried) -> Iterator[Member]:
    head = carried.features.head
    own = "" if head is None else head.layer
    keys = carried.features.block_names
    maps = [layer for layer, statistic in keys if statistic == NORM and layer != own]
    if not maps or carried.negative:
        return
    layers = NORM_RATIO if carried.has("jigsaw views") else maps[-1]
    norm = REGISTRY["FeatureNorm"].detector(layers=layers)
    yield Member("FeatureNorm", norm, "norm")
    if carried.has("head"):
        rescaled = make_pipeline(
            NormRescaledHead(layers), REGISTRY["Energy"].detector()
        )
        yield Member("Energy, norm of a layer", rescaled, "norm and logits")


def _of_earlier_layers(carried: Carried) -> Iterator[Member]:
    """Yield distances, those first that are to stay where others leave little room."""
    earlier = _spread(_unlike_the_last(carried), EARLIER)
    middle = len(earlier) // 2
    order = [*earlier[middle : middle + 1], *earlier[:middle], *earlier[middle + 1 :]]
    for layer in order:
        block = {"layers": layer, "statistic": carried.statistic}
        yield _member("Mahalanobis", f"distance, {layer}", **block)


def _unlike_the_last(carried: Carried) -> list[str]:
    """Return the layers before the last, but for one that is pooled to the same."""
    some = carried.features[:LOOKED_AT]
    *earlier, last = [some.block(x, carried.statistic) for x in carried.hidden] or [0]
    return [
        layer
        for layer, block in zip(carried.hidden, earlier, strict=False)
        if block.shape != last.shape or not np.allclose(block, last)
    ]


def _of_patterns(carried: Carried) -> Iterator[Member]:
    middle = _unlike_the_last(carried)
    for layer in middle[len(middle) // 2 :][:1]:
        block = {"layers": layer, "statistic": carried.statistic}
        yield _member("KNN", f"neighbours, {layer}", **block)
    if carried.suits(REGISTRY["NAP"]):
        yield _member("NAP", "patterns")
    if "lse" in carried.features.statistics:
        yield _member("LayerEnergy", "layer energy")
    many = len(carried.features) >= ROWS_FOR_MIXTURES
    deep = len(carried.hidden) >= 3 and carried.statistic == "avg"
    if deep and many and not carried.labels:
        trace = REGISTRY["LSGM"].detector(random_state=0)
        yield Member("LSGM", trace, "trace")


def _detector(name: str, **parameters: Any) -> Any:
    """Return a detector; one that would keep all rows keeps so many at most."""
    entry = REGISTRY[name]
    if entry.parameters().get("max_rows", 0) is None:
        parameters = {"max_rows": BANK_ROWS, **parameters}
    return entry.detector(**parameters)


def _member(name: str, view: str, **parameters: Any) -> Member:
    detector = _detector(name, **parameters)
    layers = parameters.get("layers")
    return Member(name if layers is None else f"{name}, {layers}", detector, view)


def _spread(layers: list[str], count: int) -> list[str]:
    """Return at most some of the layers, spread over the depth."""
    if len(layers) <= count:
        return layers
    places = np.linspace(0, len(layers) - 1, count).round().astype(int)
    return [layers[place] for place in places]


def _has_negative(features: LayerFeatures) -> bool:
    """Return whether pooled features are below zero, but for the logits'."""
    some = features[:LOOKED_AT]
    keys = [k for k in some.block_names if k[1] in ("avg", "max")]
    return any(bool((some.block(*key) < 0).any()) for key in keys)
