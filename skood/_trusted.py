"""The types that a skops file of skood's estimators is made of."""

from __future__ import annotations

from skood.detectors.registry import trusted_state

__all__ = ["trusted_types"]

_TYPES = (
    "skood.model_selection.jigsaw.Jigsaw",
    "skood.calibration.alarm_rate.AlarmRateMonitor",
    "skood.calibration.betting.ChangeMixture",
    "skood.calibration.conformal.ConformalDetector",
    "skood.calibration.monitor.ShiftMonitor",
    "skood.calibration.p_values.Reference",
    "skood.calibration.probability.LogisticCalibration",
    "skood.calibration.probability.Standardised",
    "skood.calibration.threshold.TargetRateThreshold",
    "skood.detectors.head.norm_rescaled.NormRescaledHead",
    "skood.ensemble.auto.AutoOOD",
    "skood.ensemble.comparable.Comparable",
    "skood.ensemble.detectors.DetectorEnsemble",
    "skood.ensemble.layers.LayerEnsemble",
    "skood.ensemble.members.FittedMember",
    "skood.ensemble.reported.Report",
    "skood.extraction.hooks.Probe",
    "skood.extraction.transformer.LayerFeatureTransformer",
    "skood.features.head.LinearHead",
    "skood.features.layer_features.LayerFeatures",
    "skood.features.selector.LayerSelector",
    "skood.interop.pyod.adapter.SkoodOD",
    "skood.interop.pyod.encoder.SkoodEncoder",
    "skood.model_selection.class_holdout.ClassHoldout",
    "skood.model_selection.outliers_ignored.OutliersIgnored",
    "skood.model_selection.scorers.OODScorer",
    "skood.model_selection.source_holdout.LeaveOutlierSourceOut",
    "skood.model_selection.splitters.InlierKFold",
    "skood.neural.anchored.AnchoredClassifier",
    "skood.neural.corruption.ImageCorruption",
    "skood.neural.corruption.VectorCorruption",
    "skood.neural.energy_loss.EnergyRecorder",
    "skood.neural.energy_loss.RunningMargins",
    "skood.neural.energy_regularized.EnergyRegularizedClassifier",
    "skood.neural.mlp.MLP",
)


def trusted_types() -> list[str]:
    """Return the types of skood that ``skops.io.load`` has to be told to trust.

    With these, a skops file of any estimator of this package loads, alone or among
    scikit-learn's own. None of them runs code that is in the file. Types of others,
    such as a network's class, are to be added by who trusts them.

    Returns
    -------
    list of str
        Qualified names, in ascending order.

    Examples
    --------
    >>> import numpy as np
    >>> import skops.io
    >>> from skood import KNN, trusted_types
    >>> X = np.random.default_rng(0).normal(size=(50, 3))
    >>> detector = KNN(n_neighbors=5).fit(X)
    >>> loaded = skops.io.loads(skops.io.dumps(detector), trusted=trusted_types())
    >>> bool((loaded.score_samples(X) == detector.score_samples(X)).all())
    True
    """
    return sorted({*_TYPES, *trusted_state()})
