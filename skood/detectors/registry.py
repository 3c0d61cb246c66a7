"""One table of all detectors: docs, tests and trusted types are derived from it.

Importing it loads neither torch nor any detector.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from skood.detectors.entry import Entry
from skood.detectors.head.entries import ENTRIES as HEAD
from skood.detectors.layers.entries import ENTRIES as LAYERS
from skood.detectors.logits.entries import ENTRIES as LOGITS
from skood.detectors.shaping.entries import ENTRIES as SHAPING

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["REGISTRY", "all_detectors", "detector_homes", "trusted_state"]

_ELSEWHERE = (
    Entry(
        "AMP",
        "skood.neural.amp",
        family="trained",
        summary="tempered prediction of a classifier with anchors",
        paper="Out of distribution detection via neural network anchoring",
        venue="ACML",
        year=2022,
        needs=("labels", "neural"),
        uses_labels=True,
        tasks=("classification",),
        cost="anchors × network",
        no_graph="its rows go through a network of its own, once for each anchor, in "
        "skorch's loop: export that network itself",
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
        no_graph="PyOD's detectors compute in NumPy and scikit-learn",
        on_arrays=(),
        on_features=(),
    ),
)

_ENTRIES = (*LOGITS, *HEAD, *SHAPING, *LAYERS, *_ELSEWHERE)

REGISTRY = {entry.name: entry for entry in _ENTRIES}
"""Every detector by its class's name."""


def all_detectors() -> pd.DataFrame:
    """Return all detectors as a table.

    Returns
    -------
    DataFrame
        One row a class, indexed by its name: ``family``, ``summary``, ``needs``,
        ``uses_labels``, ``negative_features``, ``tasks``, ``cost`` of scoring a row
        (n training rows of d columns, C classes, K components, L layers), ``exports``
        (whether :func:`skood.export.to_module` takes it),
        ``parameters`` (a dict of defaults; None where an extra is missing), ``paper``,
        ``venue``, ``year``, ``code`` and ``module``.

    Examples
    --------
    >>> from skood import all_detectors
    >>> table = all_detectors()
    >>> table.loc["KNN", "venue"]
    'ICML'
    >>> sorted(table.index[table["family"] == "logits"])[:2]
    ['DOCTOR', 'Energy']
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
        "exports": not entry.no_graph,
        "parameters": parameters,
        "paper": entry.paper,
        "venue": entry.venue,
        "year": entry.year,
        "code": entry.code,
        "module": entry.home,
    }
