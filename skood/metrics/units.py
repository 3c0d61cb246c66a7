"""In which unit a column of a comparison is shown."""

from __future__ import annotations

__all__ = ["in_units"]


def in_units(column: str) -> tuple[float, str]:
    """Return what a column is multiplied with to be shown, and the unit's label.

    Examples
    --------
    >>> from skood.metrics.units import in_units
    >>> in_units("auroc"), in_units("fit_seconds"), in_units("n_ood")
    ((100.0, ', %'), (1.0, ''), (1.0, ''))
    """
    if column.endswith("seconds") or column.startswith("n_"):
        return 1.0, ""
    return 100.0, ", %"
