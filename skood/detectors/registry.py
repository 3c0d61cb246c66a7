"""One table of all detectors: docs, tests and trusted types are derived from it.

Importing it loads neither torch nor any detector.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from inspect import Parameter, signature
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["REGISTRY", "Entry", "all_detectors", "detector_homes", "trusted_state"]

Variants = tuple[dict[str, Any], ...]

LOGITS, HEAD, LABELS = "logits", "head", "labels"


@dataclass(frozen=True)
class Entry:
    """What is known of a detector's class.

    Parameters
    ----------
    name : str
        Of the class, public as ``skood.<name>``.
    home : str
        The module that has it.
    family : str
        ``"logits"``, ``"head"``, ``"shaping"``, ``"layers"``, ``"trained"`` or
        ``"wrapped"``: the room, the page of the guide, and its row in the tables.
    summary : str
        What the score is, in a line.
    paper, venue, year : str, str, int
        The source.
    code : str
        The authors' repository, ``""`` where none is known.
    needs : tuple of str
        Beside features: ``"logits"``, ``"head"``, ``"labels"``, a statistic that is
        not ``"avg"``, ``"jigsaw views"``, or an extra to install.
    uses_labels : bool
        Whether class labels change the scores where they are given.
    negative_features : bool
        Whether features below zero are taken as they are.
    tasks : tuple of str
        ``"classification"`` needs a network with classes, ``"embedding"`` is any.
    cost : str
        Of scoring a row, in the guide's words.
    state : tuple of str
        Qualified names of the types in its fitted state that files have to trust.
    on_arrays, on_features : tuple of dict
        The parameters under which the batteries run it, on bare arrays without labels
        and on layer features with labels; empty where it does not take them.
    """

    name: str
    home: str
    family: str
    summary: str
    paper: str
    venue: str
    year: int
    code: str = ""
    needs: tuple[str, ...] = ()
    uses_labels: bool = False
    negative_features: bool = True
    tasks: tuple[str, ...] = ("classification", "embedding")
    cost: str = "d"
    state: tuple[str, ...] = ()
    on_arrays: Variants = ({},)
    on_features: Variants = ({},)

    @cached_property
    def detector(self) -> type:
        """The class.

        Raises
        ------
        ImportError
            If its extra is not installed.
        """
        found: type = getattr(import_module(self.home), self.name)
        return found

    @property
    def qualified_name(self) -> str:
        """The module and the class's name."""
        return f"{self.home}.{self.name}"

    def parameters(self) -> dict[str, Any]:
        """Return the hyper-parameters that have a default, none found on outliers."""
        found = signature(self.detector).parameters.values()
        return {p.name: p.default for p in found if p.default is not Parameter.empty}


_OUTPUT: dict[str, Any] = {
    "family": "logits",
    "needs": (LOGITS,),
    "tasks": ("classification",),
    "cost": "C",
    "state": ("skood.detectors.incremental.Sample",),
}

_ENTRIES = (
    Entry(
        "MSP",
        "skood.detectors.logits",
        summary="largest softmax probability",
        paper="A baseline for detecting misclassified and out-of-distribution examples "
        "in neural networks",
        venue="ICLR",
        year=2017,
        code="hendrycks/error-detection",
        **_OUTPUT,
    ),
    Entry(
        "MaxLogit",
        "skood.detectors.logits",
        summary="largest logit",
        paper="Scaling out-of-distribution detection for real-world settings",
        venue="ICML",
        year=2022,
        code="hendrycks/anomaly-seg",
        **_OUTPUT,
    ),
    Entry(
        "Energy",
        "skood.detectors.logits",
        summary="log-sum-exp of the logits",
        paper="Energy-based out-of-distribution detection",
        venue="NeurIPS",
        year=2020,
        code="wetliu/energy_ood",
        on_features=({}, {"temperature": 2.0}),
        **_OUTPUT,
    ),
    Entry(
        "Mahalanobis",
        "skood.detectors.mahalanobis",
        family="layers",
        summary="distance to the nearest class mean under one covariance",
        paper="A simple unified framework for detecting out-of-distribution samples "
        "and adversarial attacks",
        venue="NeurIPS",
        year=2018,
        code="pokaxpoka/deep_Mahalanobis_detector",
        uses_labels=True,
        cost="d² + C d",
        state=(
            "skood._gaussian.TiedGaussian",
            "skood._moments.ClassMoments",
            "skood.detectors.incremental.Sample",
        ),
        on_arrays=({}, {"normalize": True}),
        on_features=(
            {},
            {"relative": True},
            {"normalize": True},
            {"layers": ["layer1", "penultimate"], "statistic": "l2"},
        ),
    ),
    Entry(
        "KNN",
        "skood.detectors.knn",
        family="layers",
        summary="distance to the k-th nearest training row",
        paper="Out-of-distribution detection with deep nearest neighbors",
        venue="ICML",
        year=2022,
        code="deeplearning-wisc/knn-ood",
        cost="n d",
        state=("skood.detectors.incremental.Sample",),
        on_arrays=(
            {"n_neighbors": 3},
            {"n_neighbors": 3, "normalize": False},
        ),
        on_features=(
            {"n_neighbors": 5},
            {"n_neighbors": 5, "normalize": False, "statistic": "max"},
        ),
    ),
    Entry(
        "LSGM",
        "skood.detectors.lsgm",
        family="layers",
        summary="likelihood of the trace through mixtures over the layers",
        paper="Joint distribution across representation space for out-of-distribution "
        "detection",
        venue="arXiv",
        year=2021,
        cost="K d a layer, K² between layers",
        state=(
            "skood.mixtures.diag.DiagonalGaussians",
            "skood.mixtures.full.FullGaussians",
            "skood.mixtures.mixture.Mixture",
            "skood.mixtures.paths.TransitionCounts",
            "skood.mixtures.rows.Frame",
            "skood.mixtures.sequence.MixtureSequence",
            "skood.mixtures.tied.TiedGaussians",
        ),
        on_arrays=(
            {"n_components": 2, "random_state": 0},
            {"n_components": 2, "covariance_type": "full", "random_state": 0},
            {"n_components": 2, "covariance_type": "tied", "random_state": 0},
        ),
        on_features=(
            {"n_components": 3, "random_state": 0},
            {
                "n_components": 3,
                "layers": ["layer1", "layer2"],
                "covariance_type": "tied",
                "prior": "dirichlet_process",
                "weighting": "first_layer",
                "random_state": 0,
            },
        ),
    ),
    Entry(
        "NAP",
        "skood.detectors.nap.detector",
        family="layers",
        summary="bits that differ from the nearest known activation pattern",
        paper="Detection of out-of-distribution samples using binary neuron activation "
        "patterns",
        venue="CVPR",
        year=2023,
        code="safednn-group/nap-ood",
        needs=("max",),
        uses_labels=True,
        negative_features=False,
        cost="n d / 64",
        state=(
            "skood.detectors.nap.auto.LayerChoice",
            "skood.detectors.nap.layer.PatternLayer",
            "skood.hamming.bank.PatternBank",
        ),
        on_arrays=({}, {"percentile": 30, "statistic": "avg"}),
        on_features=(
            {},
            {"statistic": "avg", "percentile": 70, "per_class": False},
            {
                "layers": [("layer1", "max", 50), ("layer2", "avg", 70)],
                "voting": "majority",
            },
            {"tie_break": None},
        ),
    ),
    Entry(
        "FeatureNorm",
        "skood.detectors.feature_norm",
        family="layers",
        summary="norm of the feature map of one block, chosen by NormRatio",
        paper="Block selection method for using feature norm in out-of-distribution "
        "detection",
        venue="CVPR",
        year=2023,
        code="gist-ailab/block-selection-for-OOD-detection",
        needs=("l2", "jigsaw views"),
        negative_features=False,
        on_features=({}, {"layers": "layer2"}),
    ),
    Entry(
        "LayerEnergy",
        "skood.detectors.energy",
        family="layers",
        summary="standardised energies of several layers",
        paper="Leveraging intermediate representations for better out-of-distribution "
        "detection",
        venue="arXiv",
        year=2025,
        needs=("lse",),
        cost="L",
        state=("skood._gaussian.TiedGaussian",),
        on_arrays=({}, {"aggregation": "mahalanobis"}),
        on_features=(
            {},
            {"layers": ["layer1", "logits"], "aggregation": "mahalanobis"},
        ),
    ),
    Entry(
        "AMP",
        "skood.neural.amp",
        family="trained",
        summary="tempered prediction of a classifier with anchors",
        paper="Out of distribution detection via neural network anchoring",
        venue="ACML",
        year=2022,
        needs=(LABELS, "neural"),
        uses_labels=True,
        tasks=("classification",),
        cost="anchors × network",
        on_arrays=({"n_pseudo_classes": 3, "random_state": 0},),
        on_features=({"held_out": 0.3, "random_state": 0},),
    ),
    Entry(
        "PyODDetector",
        "skood.interop.pyod.detector",
        family="wrapped",
        summary="any detector of PyOD",
        paper="PyOD: a Python toolbox for scalable outlier detection",
        venue="JMLR",
        year=2019,
        code="yzhao062/pyod",
        needs=("pyod",),
        cost="PyOD's",
        on_arrays=(),
        on_features=(),
    ),
)

REGISTRY = {entry.name: entry for entry in _ENTRIES}
"""Every detector by its class's name."""


def all_detectors() -> pd.DataFrame:
    """Return all detectors as a table.

    Returns
    -------
    DataFrame
        One row a class, indexed by its name: ``family``, ``summary``, ``needs``,
        ``uses_labels``, ``negative_features``, ``tasks``, ``cost`` of scoring a row
        (n training rows of d columns, C classes, K components, L layers),
        ``parameters`` (a dict of defaults; None where an extra is missing), ``paper``,
        ``venue``, ``year``, ``code`` and ``module``.

    Examples
    --------
    >>> from skood import all_detectors
    >>> table = all_detectors()
    >>> table.loc["KNN", ["venue", "year"]].tolist()
    ['ICML', 2022]
    >>> sorted(table.index[table["family"] == "logits"])[:2]
    ['Energy', 'MSP']
    """
    import pandas as pd

    return pd.DataFrame([_row(entry) for entry in _ENTRIES]).set_index("name")


def detector_homes() -> dict[str, str]:
    """Return the module of each detector, by the class's name."""
    return {entry.name: entry.home for entry in _ENTRIES}


def trusted_state() -> Iterator[str]:
    """Yield the qualified names of all detectors and of the types in their states."""
    for entry in _ENTRIES:
        yield entry.qualified_name
        yield from entry.state


def _row(entry: Entry) -> dict[str, Any]:
    try:
        parameters = entry.parameters()
    except ImportError:
        parameters = None
    return {
        "name": entry.name,
        "family": entry.family,
        "summary": entry.summary,
        "needs": ", ".join(entry.needs),
        "uses_labels": entry.uses_labels,
        "negative_features": entry.negative_features,
        "tasks": ", ".join(entry.tasks),
        "cost": entry.cost,
        "parameters": parameters,
        "paper": entry.paper,
        "venue": entry.venue,
        "year": entry.year,
        "code": entry.code,
        "module": entry.home,
    }
