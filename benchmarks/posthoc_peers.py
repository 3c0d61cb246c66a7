"""Whether detectors of penultimate features and head agree with pytorch-ood's.

Both get the same made-up arrays: features behind a ReLU around class means, a head
with a bias that reads them, and new rows nearer to the origin. Printed are the rank
correlation of the scores and, where ours are theirs up to a factor, the largest
relative difference. Where the definitions differ, ``ours`` are the parameters under
which they do not, and the guide's page on definitions says what is different.

    python benchmarks/posthoc_peers.py
    python benchmarks/posthoc_peers.py --n 20000 --d 512 --classes 100
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from pytorch_ood_alone import pytorch_ood_detectors
from scipy.stats import spearmanr

from skood import LayerFeatures, LinearHead
from skood.detectors.registry import REGISTRY


@dataclass(frozen=True)
class Arrays:
    """What both are given."""

    h: Any
    y: Any
    new: Any
    weight: Any
    bias: Any

    @property
    def linear(self) -> Any:
        """The head as a module of torch."""
        import torch

        layer = torch.nn.Linear(self.weight.shape[1], self.weight.shape[0])
        layer.weight.data = torch.tensor(self.weight)
        layer.bias.data = torch.tensor(self.bias)
        return layer


@dataclass(frozen=True)
class Counterpart:
    """How pytorch-ood's class is made, fitted and asked."""

    make: Callable[[Any, Arrays], Any]
    ours: dict[str, Any] = field(default_factory=dict)
    factor: Callable[[Arrays], float] | None = None

    def scores(self, rivals: Any, a: Arrays) -> np.ndarray:
        """Return their scores, higher for in-distribution."""
        import torch

        h, y, new = (torch.tensor(x) for x in (a.h, a.y, a.new))
        rival = self.make(rivals, a)
        if not hasattr(rival, "fit_features"):
            return -rival.fit(None).predict(new).detach().numpy()
        with torch.no_grad():
            rival.fit_features(h, y)
            return -rival.predict_features(new).numpy()


def _nac(rivals: Any, a: Arrays) -> Any:
    """NACUE hooks a module: the identity in front of the head."""
    import torch

    first = torch.nn.Identity()
    rival = rivals.NACUE(torch.nn.Sequential(first, a.linear), [first])
    return _Fitted(rival, torch.tensor(a.h))


@dataclass
class _Fitted:
    """A detector that is fitted on batches, with gradients."""

    rival: Any
    h: Any

    def fit(self, _: None) -> _Fitted:
        self.rival.fit([x.requires_grad_() for x in self.h.split(1000)])
        return self

    def predict(self, new: Any) -> Any:
        return self.rival.predict(new.requires_grad_())


PEERS = {
    "FDBD": Counterpart(lambda r, a: r.fDBD(None, a.linear), factor=lambda a: 1.0),
    "NCI": Counterpart(
        lambda r, a: r.NCI(None, a.linear), {"alpha": 0.0}, factor=lambda a: 1.0
    ),
    "ViM": Counterpart(
        lambda r, a: r.ViM(None, a.h.shape[1] // 2, *map(_tensor, (a.weight, a.bias))),
        {"n_components": "half"},
        factor=lambda a: 1.0,
    ),
    "NNGuide": Counterpart(
        lambda r, a: r.NNGuide(None, a.linear), {"max_rows": None}, lambda a: 1.0
    ),
    "GradNorm": Counterpart(
        lambda r, a: r.GradNorm(a.linear, lambda name: name == "weight"),
        factor=lambda a: float(len(a.bias)),
    ),
    "SHE": Counterpart(lambda r, a: r.SHE(None, a.linear), factor=lambda a: 1.0),
    "PNML": Counterpart(
        lambda r, a: r.PNML(None, a.linear), factor=lambda a: np.log(len(a.bias))
    ),
    "NAC": Counterpart(_nac, {"alpha": 100.0, "full_share": "fifty"}),
}
"""NAC's bins are others, and NCI's default has a norm that pytorch-ood's lacks."""


def _tensor(x: np.ndarray) -> Any:
    import torch

    return torch.tensor(x)


def made_up(n: int, d: int, classes: int, seed: int = 0) -> Arrays:
    """Return rows of classes, a head with a bias that reads them, and new rows."""
    rng = np.random.default_rng(seed)
    means = rng.exponential(size=(classes, d)) * (rng.random((classes, d)) < 0.3)
    y = rng.permutation(np.arange(n) % classes)
    h = np.maximum(means[y] + 0.4 * rng.normal(size=(n, d)), 0)
    nearer = rng.uniform(0.3, 1, size=(n // 2, 1))
    near = means[rng.integers(0, classes, n // 2)] * nearer
    new = np.maximum(near + 0.4 * rng.normal(size=near.shape), 0)
    weight = means - means.mean(axis=0)
    weight *= 12 / np.square(weight).sum(axis=1, keepdims=True)
    bias = 0.3 * rng.normal(size=classes)
    single = [x.astype(np.float32) for x in (h, new, weight, bias)]
    return Arrays(single[0], y, *single[1:])


def ours(name: str, peer: Counterpart, a: Arrays) -> np.ndarray:
    """Return the scores of the detector under the parameters that are theirs."""
    known = {"half": a.h.shape[1] // 2, "fifty": 50 / len(a.h)}
    parameters = {k: known.get(str(v), v) for k, v in peer.ours.items()}
    head = LinearHead(a.weight, a.bias)
    detector = REGISTRY[name].detector(**parameters)
    features = LayerFeatures({"penultimate": a.h}, head=head)
    detector.fit(features, a.y, threshold_data=features[:1000])
    return detector.score_samples(LayerFeatures({"penultimate": a.new}, head=head))


def row_of(rivals: Any, name: str, a: Arrays) -> dict[str, Any]:
    """Return how far both agree."""
    peer = PEERS[name]
    mine, theirs = ours(name, peer, a), peer.scores(rivals, a).astype(float)
    row = {"detector": name, "parameters": peer.ours}
    row["rank correlation"] = round(float(spearmanr(mine, theirs).statistic), 7)
    if peer.factor is not None:
        scaled = theirs * peer.factor(a)
        apart = np.abs(mine - scaled) / np.abs(scaled).max()
        row["largest difference"] = f"{apart.max():.1e}"
    return row


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=4000)
    parser.add_argument("--d", type=int, default=64)
    parser.add_argument("--classes", type=int, default=10)
    given = parser.parse_args()
    rivals = pytorch_ood_detectors()
    a = made_up(given.n, given.d, given.classes)
    table = pd.DataFrame([row_of(rivals, name, a) for name in PEERS])
    print(table.set_index("detector").fillna("").to_string())


if __name__ == "__main__":
    main()
