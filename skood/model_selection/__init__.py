"""Tuning without training on outliers: splitters, scorers, pseudo outliers."""

from __future__ import annotations

from skood.model_selection.class_holdout import ClassHoldout
from skood.model_selection.jigsaw import Jigsaw
from skood.model_selection.outliers_ignored import OutliersIgnored
from skood.model_selection.pseudo_outliers import make_pseudo_outliers
from skood.model_selection.scorers import (
    OODScorer,
    aupr_in_scorer,
    aupr_out_scorer,
    auroc_scorer,
    balanced_accuracy_scorer,
    fpr95_scorer,
    ood_scorer,
)
from skood.model_selection.source_holdout import LeaveOutlierSourceOut
from skood.model_selection.splitters import InlierKFold

__all__ = [
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
]
