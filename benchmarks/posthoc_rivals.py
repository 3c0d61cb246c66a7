"""How pytorch-ood's detectors are fitted and asked, given arrays."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

BATCH = 1000
"""Rows that are scored at once, as those of a loader are."""


@dataclass(frozen=True)
class Arrays:
    """Training features, logits and labels, and the head, as tensors."""

    h: Any
    z: Any
    y: Any
    w: Any
    b: Any

    @property
    def linear(self) -> Any:
        """The head as a module."""
        import torch

        head = torch.nn.Linear(self.w.shape[1], self.w.shape[0])
        head.weight.data, head.bias.data = self.w, self.b
        return head

    def flat_head(self, maps: Any) -> Any:
        """Return the logits of feature maps of one position."""
        return maps.flatten(1) @ self.w.T + self.b


@dataclass(frozen=True)
class Rival:
    """A detector of pytorch-ood, ready to be fitted.

    Parameters
    ----------
    fit : callable
        Without arguments.
    score : callable
        From a tensor to the outlier scores.
    source : {"h", "z"}
        Whether it reads features or logits.
    batch : int
        Rows that are scored at once.
    """

    fit: Callable[[], Any]
    score: Callable[[Any], Any]
    source: str
    batch: int = BATCH

    def scores(self, rows: Any) -> Any:
        """Return the scores of all rows, higher for in-distribution."""
        import torch

        return -torch.cat([self.score(some) for some in rows.split(self.batch)])


Maker = Callable[[Any, Arrays], Rival]


def _nothing() -> None:
    """Learn nothing."""


def _static(name: str) -> Maker:
    return lambda rivals, _: Rival(_nothing, getattr(rivals, name).score, "z")


def _of_logits(name: str) -> Maker:
    def make(rivals: Any, a: Arrays) -> Rival:
        rival = getattr(rivals, name)(None)
        return Rival(partial(rival.fit_logits, a.z, a.y), rival.predict_logits, "z")

    return make


def _of_features(
    build: Callable[[Any, Arrays], Any], batch: Callable[[Arrays], int] | None = None
) -> Maker:
    def make(rivals: Any, a: Arrays) -> Rival:
        rival = build(rivals, a)
        rows = BATCH if batch is None else batch(a)
        fit = partial(rival.fit_features, a.h, a.y)
        return Rival(fit, rival.predict_features, "h", rows)

    return make


def _of_maps(build: Callable[[Any, Arrays], Any], *, fits: bool = False) -> Maker:
    def make(rivals: Any, a: Arrays) -> Rival:
        rival = build(rivals, a)
        fit = partial(rival.fit_feature_maps, a.h, a.y) if fits else _nothing

        def score(h: Any) -> Any:
            return rival.predict_feature_maps(h[:, :, None, None] if not fits else h)

        return Rival(fit, score, "h")

    return make


def _gradnorm(rivals: Any, a: Arrays) -> Rival:
    rival = rivals.GradNorm(a.linear, lambda name: name == "weight")
    return Rival(_nothing, lambda h: rival.predict(h).detach(), "h")


def _nac(rivals: Any, a: Arrays) -> Rival:
    import torch

    first = torch.nn.Identity()
    rival = rivals.NACUE(torch.nn.Sequential(first, a.linear), [first])
    some = a.h.split(BATCH)

    def fit() -> None:
        rival.fit([h.clone().requires_grad_() for h in some])

    return Rival(fit, lambda h: rival.predict(h.clone().requires_grad_()), "h")


def _without_fit(build: Callable[[Any, Arrays], Any]) -> Maker:
    return lambda rivals, a: Rival(_nothing, build(rivals, a).predict_features, "h")


MAKERS: dict[str, Maker] = {
    "MSP": _static("MaxSoftmax"),
    "MaxLogit": _static("MaxLogit"),
    "Energy": _static("EnergyBased"),
    "Entropy": _static("Entropy"),
    "GEN": _static("GEN"),
    "KLMatching": _of_logits("KLMatching"),
    "TemperatureScaledMSP": _of_logits("TemperatureScaling"),
    "OpenMax": _of_logits("OpenMax"),
    "FDBD": _of_features(lambda r, a: r.fDBD(None, a.linear)),
    "NCI": _of_features(lambda r, a: r.NCI(None, a.linear)),
    "SHE": _of_features(lambda r, a: r.SHE(None, a.linear)),
    "PNML": _of_features(lambda r, a: r.PNML(None, a.linear)),
    "NNGuide": _of_features(lambda r, a: r.NNGuide(None, a.linear)),
    "ViM": _of_features(lambda r, a: r.ViM(None, a.w.shape[1] // 2, a.w, a.b)),
    "GradNorm": _gradnorm,
    "NAC": _nac,
    # W * h of every row is formed: as many rows as make 1 GB of it
    "DICE": _of_features(
        lambda r, a: r.DICE(None, a.w, a.b, 0.9),
        lambda a: max(1, 2**28 // a.w.numel()),
    ),
    "ReAct": _of_maps(lambda r, a: r.ReAct(None, a.flat_head), fits=True),
    "VRA": _of_maps(lambda r, a: r.VRA(None, a.flat_head), fits=True),
    "SCALE": _of_maps(lambda r, a: r.SCALE(None, a.flat_head, 0.85)),
    "ASH": _of_maps(lambda r, a: r.ASH(None, a.flat_head, "ash-s", 0.9)),
    "LTS": _without_fit(lambda r, a: r.LTS(None, a.linear)),
    "ConceptMatching": _without_fit(lambda r, a: r.MCM(None, a.w)),
    "KNN": _of_features(lambda r, a: r.KNN(None), lambda a: len(a.h)),
    "Mahalanobis": _of_features(lambda r, a: r.Mahalanobis(None)),
    "RelativeMahalanobis": _of_features(lambda r, a: r.RMD(None)),
    "GaussianMixtureDetector": _of_features(lambda r, a: r.GMM(None)),
}
"""By skood's name."""

NOTHING_TO_FIT = {
    *("MSP", "MaxLogit", "Energy", "Entropy", "GEN", "GradNorm"),
    *("SCALE", "ASH", "LTS", "ConceptMatching"),
}
