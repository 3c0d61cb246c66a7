"""What changes detectors of logits, shaped features and layers, by parameter."""

from __future__ import annotations

import numpy as np
from changes_head import HEAD

from skood import (
    ASH,
    BATS,
    DICE,
    DOCTOR,
    GEN,
    MSP,
    RAS,
    SCALE,
    VRA,
    ActivationPrior,
    ConceptMatching,
    Entropy,
    GaussianMixtureDetector,
    Gram,
    JointEnergy,
    KLMatching,
    LINe,
    OpenMax,
    OptFS,
    ReAct,
    TemperatureScaledMSP,
)

RATE = {"contamination": 0.2}
SHAPED = {**RATE, "head": HEAD, "score": MSP()}
_RNG = np.random.default_rng(1)
MATCHING = ConceptMatching(layers="penultimate", temperature=0.5)
NEGATIVES = {"negatives": _RNG.normal(size=(6, 10))}
GROUPED = ConceptMatching(layers="penultimate", temperature=0.5, groups=2, **NEGATIVES)

ROOM_CHANGES = [
    (GEN(), {**RATE, "gamma": 0.5, "n_largest": 2}),
    (Entropy(), RATE),
    (TemperatureScaledMSP(), RATE),
    (KLMatching(), RATE),
    (OpenMax(n_tail=7), {**RATE, "n_revised": 1, "n_tail": 30}),
    (DOCTOR(), {**RATE, "temperature": 5.0}),
    (JointEnergy(), RATE),
    (ReAct(), {**SHAPED, "percentile": 60}),
    (SCALE(percentile=60), {**SHAPED, "percentile": 80, "transform": "square"}),
    (ASH(percentile=60), {**SHAPED, "percentile": 80, "variant": "B"}),
    (VRA(), {**SHAPED, "low_percentile": 20, "high_percentile": 70, "low": "clip"}),
    (RAS(), SHAPED),
    (DICE(percentile=50), {**SHAPED, "percentile": 80}),
    (BATS(), {**SHAPED, "n_std": 0.5}),
    (LINe(), {**SHAPED, "percentile": 60}),
    (LINe(), {"unit_percentile": 95, "weight_percentile": 95}),
    (OptFS(), {**SHAPED, "n_bins": 5}),
    (
        GaussianMixtureDetector(),
        {**RATE, "layers": ["layer2"], "statistic": "l2", "shrinkage": 0.5},
    ),
    (Gram(), {"layers": ["layer1"]}),
    (ActivationPrior(), {**RATE, "layers": ["layer2"], "energy_weight": 0.5}),
    (MATCHING, {**RATE, "temperature": 5.0}),
    (MATCHING, {"text_embeddings": _RNG.normal(size=(3, 10)), **NEGATIVES}),
    (GROUPED, {"groups": 3, "random_state": 5}),
]
