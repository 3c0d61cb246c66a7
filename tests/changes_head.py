"""What changes detectors of penultimate features and head, by parameter."""

from __future__ import annotations

import numpy as np

from skood import (
    DML,
    FDBD,
    KPCA,
    NAC,
    NCI,
    NECO,
    PNML,
    SHE,
    ActSub,
    CADRef,
    CARef,
    GradNorm,
    LinearHead,
    NNGuide,
    NuSA,
    RelationGraph,
    Residual,
    ViM,
    WeiPer,
)
from skood.estimator_checks import synthetic_features

_KNOWN = synthetic_features(4, 0)[0].head
_RNG = np.random.default_rng(0)
HEAD = LinearHead(
    _KNOWN.weight + 0.1 * _RNG.normal(size=_KNOWN.weight.shape), _KNOWN.bias + 0.1
)
OF_LAYER1 = LinearHead(np.eye(3, 12), np.zeros(3), "layer1")
COMMON = {"contamination": 0.2, "head": HEAD}
RANDOM = KPCA(kernel="cosine_rbf", n_random_features=30)
FEW = WeiPer(n_copies=3, max_rows=200)
BANK = {"max_rows": 50, "random_state": 1}

HEAD_CHANGES = [
    (FDBD(), COMMON),
    (NCI(), {**COMMON, "alpha": 1.0}),
    (ViM(), {**COMMON, "n_components": 3}),
    (Residual(), {**COMMON, "n_components": 3}),
    (NNGuide(max_rows=100), {**COMMON, **BANK, "n_neighbors": 3}),
    (GradNorm(), {**COMMON, "temperature": 5.0}),
    (SHE(), COMMON),
    (CARef(), COMMON),
    (CADRef(), {**COMMON, "score": "gen"}),
    (NECO(), {"contamination": 0.2, "n_components": 2, "max_logit": True}),
    (NECO(max_logit=True), {"head": HEAD}),
    (KPCA(n_random_features=30), {"contamination": 0.2, "kernel": "cosine_rbf"}),
    (KPCA(), {"n_components": 2}),
    (KPCA(), {"head": OF_LAYER1}),
    (RANDOM, {"gamma": 3.0, "n_random_features": 20, "random_state": 1}),
    (NuSA(), COMMON),
    (PNML(), COMMON),
    (RelationGraph(max_rows=100), {**COMMON, **BANK, "power": 2.0, "cut": 0.3}),
    (DML(), {**COMMON, "alpha": 1.0}),
    (ActSub(max_rows=100), {**COMMON, **BANK, "n_neighbors": 3}),
    (ActSub(), {"percentile": 40.0, "exponent": 1.0}),
    (NAC(), {**COMMON, "alpha": 1.0, "full_share": 0.2, "n_bins": 20}),
    (FEW, {**COMMON, "perturbation": 1.0, "n_copies": 4, "copies_weight": 3.0}),
    (FEW, {"msp_weight": 3.0, "n_bins": 30, "smoothing": 4, "copies_smoothing": 4}),
    (FEW, {"max_rows": 50, "random_state": 1}),
]
"""Beginnings, and changes of one parameter each."""
