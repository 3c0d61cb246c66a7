"""How well scores tell in-distribution rows from outliers.

Higher score = more in-distribution; a row labelled -1 is an outlier. The positive class
is in-distribution unless ``pos_label="ood"``. Ties count as ties, an infinite score is
ranked as it stands, NaN is refused. See :mod:`skood.model_selection` for the scorers.
"""

from skood.metrics.ranking import aupr, auroc, detection_accuracy, fpr_at_tpr
from skood.metrics.report import ood_report

__all__ = ["aupr", "auroc", "detection_accuracy", "fpr_at_tpr", "ood_report"]
