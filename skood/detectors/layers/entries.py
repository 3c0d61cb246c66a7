"""The detectors of one or several layers."""

from __future__ import annotations

from skood.detectors.entry import Entry

ENTRIES = (
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
)
