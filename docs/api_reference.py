"""What the page of the API shows: one list, a section an entry."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import skood
from skood.detectors.entry import Entry
from skood.detectors.registry import REGISTRY


def _of_families(*families: str) -> list[str]:
    return sorted(n for n, entry in REGISTRY.items() if entry.family in families)


SECTIONS = [
    (
        "Features",
        "What the layers of a network say about each input, a block for each layer "
        "and statistic.",
        ["LayerFeatures", "LayerSelector", "LinearHead"],
    ),
    (
        "Extraction",
        "From a network and its inputs to features.",
        [
            "FeatureStore",
            "InputPerturbation",
            "LayerFeatureTransformer",
            "layer_names",
            "list_layers",
        ],
    ),
    (
        "Detectors",
        "From features to a score: the higher, the more in-distribution.",
        [
            *_of_families("logits", "head", "shaping", "layers"),
            "NormRescaledHead",
            "all_detectors",
            "progress",
            "score_and_predict",
        ],
    ),
    (
        "Trained detectors",
        "They train, or fine-tune, a network; they need skorch.",
        [
            *_of_families("trained"),
            "AnchoredClassifier",
            "EnergyRegularizedClassifier",
        ],
    ),
    (
        "Ensembles",
        "Several detectors as one, by what the features carry, and side by side.",
        [
            "AutoOOD",
            "DetectorEnsemble",
            "LayerEnsemble",
            "compare",
            "ensemble.Comparison",
        ],
    ),
    (
        "Model selection",
        "Splits and scorers for scikit-learn's searches, and outliers to tune on.",
        [
            "ClassHoldout",
            "InlierKFold",
            "Jigsaw",
            "LeaveOutlierSourceOut",
            "OODScorer",
            "OutliersIgnored",
            "aupr_in_scorer",
            "aupr_out_scorer",
            "auroc_scorer",
            "balanced_accuracy_scorer",
            "fpr95_scorer",
            "make_pseudo_outliers",
            "ood_scorer",
        ],
    ),
    (
        "Thresholds and alarms",
        "False-alarm rates that hold, p-values, and an alarm over a stream.",
        [
            "AlarmRateMonitor",
            "ConformalDetector",
            "ShiftMonitor",
            "TargetRateThreshold",
            "conditional_p_values",
            "conformal_e_values",
            "conformal_p_values",
            "discoveries",
            "e_discoveries",
            "likelihood_ratios",
            "weighted_conformal_p_values",
        ],
    ),
    (
        "Plots",
        "Displays in the manner of scikit-learn's; they need matplotlib.",
        [
            "plotting.ComparisonDisplay",
            "plotting.DetDisplay",
            "plotting.EnsembleReportDisplay",
            "plotting.FlowDisplay",
            "plotting.GridHeatmapDisplay",
            "plotting.LayerAurocDisplay",
            "plotting.MartingaleDisplay",
            "plotting.NormRatioDisplay",
            "plotting.PValueCalibrationDisplay",
            "plotting.RocDisplay",
            "plotting.ScoreHistogramDisplay",
        ],
    ),
    (
        "Metrics",
        "How well a score tells the two apart; in-distribution is the positive class.",
        ["aupr", "auroc", "detection_accuracy", "fpr_at_tpr", "ood_report"],
    ),
    (
        "Data",
        "Small real data that need no download.",
        ["datasets.load_digits_ood"],
    ),
    (
        "Persistence",
        "A whole pipeline as a folder without pickle; what skops has to trust.",
        ["load", "save", "trusted_types"],
    ),
    (
        "Export",
        "A fitted pipeline as one torch module, or as a file of ONNX with its "
        "certificate; files need onnx, onnxscript and onnxruntime.",
        [
            "export.Certificate",
            "export.DetectorModule",
            "export.export",
            "export.verify",
            "to_module",
        ],
    ),
    (
        "Engines",
        "Extraction as a function of batches, for Ray Data, Hugging Face and Spark.",
        ["interop.batches.FeatureBatch"],
    ),
    (
        "PyOD",
        "Its detectors on layer features, and ours wherever it wants its own.",
        [
            *_of_families("wrapped"),
            "interop.pyod.SkoodEncoder",
            "interop.pyod.SkoodOD",
            "to_pyod",
        ],
    ),
    (
        "Writing detectors",
        "The base of all, and the battery that every detector passes, yours too.",
        ["BaseDetector", "estimator_checks.parametrize_with_checks"],
    ),
]


def tables() -> str:
    """reStructuredText with a table of summaries for each section."""
    sections = [_section(*section) for section in SECTIONS]
    return "\n".join([".. currentmodule:: skood\n", *sections])


FAMILIES = {
    "logits": "Scores of the logits",
    "head": "Scores of penultimate features and the last linear map",
    "shaping": "Penultimate features reshaped before a score of the logits",
    "layers": "Scores of one or several layers",
    "trained": "Trained detectors",
    "wrapped": "Detectors of others",
}


def detectors() -> str:
    """reStructuredText with a table of the registry for each family.

    The comments before and after a table are where the page of the family begins and
    ends to include it.
    """
    found = []
    for family, title in FAMILIES.items():
        entries = [e for e in REGISTRY.values() if e.family == family]
        entries.sort(key=lambda entry: entry.name)
        rows = [["Detector", "Score", "Needs", "Cost of a row", "Defaults", "Source"]]
        rows += [_detector_row(entry) for entry in entries]
        found += [title, "-" * len(title), "", f".. begin {family}", ""]
        found += _table(rows, "18 26 14 10 18 14")
        found += [f".. end {family}", ""]
    return "\n".join(found)


def _table(rows: list[list[str]], widths: str) -> list[str]:
    found = [".. list-table::", "   :header-rows: 1", f"   :widths: {widths}", ""]
    for first, *rest in rows:
        found += [f"   * - {first}", *(f"     - {cell}" for cell in rest)]
    return [*found, ""]


COMMON = {"contamination", "device", "head", "layers", "random_state", "score"}
"""Parameters that the tables do not repeat for every detector."""


MOST_SHOWN = 4


def _defaults(entry: Entry) -> str:
    """The first parameters that make up the method, with their defaults."""
    try:
        parameters = entry.parameters()
    except ImportError:
        return "its extra is not installed"
    own = [f"``{k}={v!r}``" for k, v in parameters.items() if k not in COMMON]
    return ", ".join(own[:MOST_SHOWN] + ["..."] * (len(own) > MOST_SHOWN))


def _detector_row(entry: Entry) -> list[str]:
    needs = [*entry.needs]
    if entry.uses_labels and "labels" not in needs:
        needs.append("labels, if there are any")
    if not entry.negative_features:
        needs.append("features from 0 up")
    source = f"{entry.venue} {entry.year}"
    needed = ", ".join(needs) or "features"
    name = f":class:`~skood.{entry.name}`"
    return [name, entry.summary, needed, entry.cost or "", _defaults(entry), source]


def public(name: str) -> Any:
    """Return what a name of the sections stands for."""
    module, _, last = f"skood.{name}".rpartition(".")
    return getattr(import_module(module), last)


def unlisted() -> list[str]:
    """Public names that no section shows."""
    listed = {name for _, _, names in SECTIONS for name in names}
    return sorted(n for n in set(skood.__all__) - listed if not n.startswith("_"))


def _section(title: str, text: str, names: list[str]) -> str:
    rows = "\n".join(f"   {name}" for name in names)
    return f"""\
{title}
{"-" * len(title)}

{text}

.. autosummary::
   :toctree: generated
   :caption: {title}
   :nosignatures:

{rows}
"""
