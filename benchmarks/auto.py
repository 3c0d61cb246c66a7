"""Combined scores beside the best single one in hindsight, on real images.

    python benchmarks/auto.py --network resnet20 [--train-rows 4000] [--held-out 1000]
        [--test-rows 1000] [--seeds 3] [--cache FOLDER] [--out FOLDER]

The members are fitted on three quarters of the training images, drawn by the seed;
images that the network was not trained on calibrate their scores, with changed copies
of four kinds as pseudo outliers; others are the in-distribution side of every pair. No
real outlier is used before the last step. The features are computed once and kept in
the cache's folder.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")

import data
import numpy as np
import pandas as pd
from detection import STATISTICS, cached
from networks import NETWORKS, Published
from numpy.typing import NDArray

import skood
from skood import LayerFeatures
from skood.ensemble.evidence import Evidence, columns
from skood.ensemble.pseudo import FEATURE_KINDS, pseudo_outliers
from skood.ensemble.reported import aurocs
from skood.ensemble.rules import RULES

Floats = NDArray[np.float64]

KINDS = ("jigsaw", "mixup", "fourier_phase", "invert")


def extracted(
    network: Published, sizes: tuple[int, int, int], cache: Path | None
) -> tuple[Any, LayerFeatures, dict[str, LayerFeatures]]:
    """Return training rows with labels, held-out rows with views, and the test sets."""
    train_rows, held_out, test_rows = sizes
    transformer = skood.LayerFeatureTransformer(
        network.loaded(data.data_folder()),
        network.layers,
        STATISTICS,
        preprocess=network.preprocess,
        batch_size=8,
    )
    images, labels = data.train_set(network.inliers, train_rows)
    transformer.fit(images[:2])
    train = cached(cache, "train", images, transformer.transform)
    inputs, classes = data.test_set(
        network.inliers, network.inliers, held_out + test_rows
    )
    known = cached(cache, network.inliers, inputs, transformer.transform)
    views = {
        kind: cached(cache, kind, changed, transformer.transform)
        for kind, changed in changed_images(inputs[:held_out], classes[:held_out])
    }
    calibration = LayerFeatures(blocks_of(known[:held_out]), known.head, views)
    tests = {network.inliers: known[held_out:]}
    for name in data.OUTLIERS[network.inliers]:
        inputs, _ = data.test_set(name, network.inliers, test_rows)
        tests[name] = cached(cache, name, inputs, transformer.transform)
    return (train, labels), calibration, tests


def thinned(found: Any, seed: int) -> Any:
    """Return three quarters of the training and of the held-out rows, drawn anew."""
    (train, labels), calibration, tests = found
    rng = np.random.default_rng(seed)
    some = np.sort(rng.permutation(len(train))[: 3 * len(train) // 4])
    kept = rng.permutation(len(calibration))[: 3 * len(calibration) // 4]
    return (train[some], labels[some]), calibration[kept], tests


def changed_images(images: NDArray[Any], labels: NDArray[Any]) -> Any:
    """Yield each kind with changed copies of all images."""
    for kind in KINDS:
        both, _ = skood.make_pseudo_outliers(
            images, labels, kind=kind, channel_axis=1, random_state=0
        )
        yield kind, both[len(images) :]


def blocks_of(features: LayerFeatures) -> dict[Any, NDArray[Any]]:
    """Return the blocks as arrays."""
    return {name: features.block(*name) for name in features.block_names}


class Measured(NamedTuple):
    """What the members say, of shape (rows, members), and the views they are."""

    members: dict[str, Any]
    views: dict[str, str]
    evidence: Evidence
    tests: dict[str, Floats]


def measured(
    train: Any, calibration: LayerFeatures, tests: dict[str, LayerFeatures], seed: int
) -> Measured:
    """Fit the panel once; all rules combine what it says."""
    auto = skood.AutoOOD(random_state=seed).fit(*train, threshold_data=calibration)
    print(auto.report_.drop(columns="correlation").round(2).to_string(), flush=True)
    array = auto._array_key()
    held_out = columns(auto.members_, auto._needed(calibration), array)
    views = calibration.views
    kinds = {k: columns(auto.members_, auto._needed(views[k]), array) for k in views}
    changed = pseudo_outliers(
        auto._needed(LayerFeatures(blocks_of(calibration), calibration.head)), None, 0
    )
    kinds |= {k: columns(auto.members_, x, array) for k, x in changed.items()}
    scores = {
        k: columns(auto.members_, auto._needed(x), array) for k, x in tests.items()
    }
    none = np.zeros((0, held_out.shape[1]))
    return Measured(
        auto.members_, auto.views_, Evidence(held_out, none, kinds, none), scores
    )


def combined(
    found: Measured, rule: str, kinds: Sequence[str], rows: NDArray[np.intp]
) -> dict[str, Floats]:
    """Return the scores of the test sets under a rule that saw some held-out rows."""
    ensemble = skood.AutoOOD(combine=rule)
    ensemble.members_, ensemble.views_ = found.members, found.views
    own = found.evidence
    chosen = {kind: own.kinds[kind][rows] for kind in kinds}
    ensemble._combine(Evidence(own.scale[rows], own.threshold, chosen, own.outliers))
    return {name: ensemble._combined(scores) for name, scores in found.tests.items()}


def quality(scores: dict[str, Floats], inliers: str) -> pd.DataFrame:
    """Return AUROC and FPR95 in per cent by outlier set."""
    rows, known = {}, scores[inliers]
    for name, new in scores.items():
        if name != inliers:
            y = np.repeat([0, -1], [len(known), len(new)])
            both = np.concatenate([known, new])
            rows[name] = {
                "auroc": 100 * skood.auroc(y, both),
                "fpr95": 100 * skood.fpr_at_tpr(y, both),
            }
    return pd.DataFrame(rows).T


def with_broken(found: Measured) -> Measured:
    """Return the panel with five members that are random or the wrong way round."""
    rng = np.random.default_rng(0)

    def more(scores: Floats) -> Floats:
        noise = rng.normal(size=(len(scores), 3))
        return np.hstack([scores, noise, -scores[:, :2]])

    own = found.evidence
    kinds = {kind: more(scores) for kind, scores in own.kinds.items()}
    evidence = Evidence(more(own.scale), more(own.threshold), kinds, more(own.outliers))
    names = [f"broken {number}" for number in range(5)]
    return Measured(
        found.members | dict.fromkeys(names),
        found.views | {name: name for name in names},
        evidence,
        {name: more(scores) for name, scores in found.tests.items()},
    )


def without_those_below_chance(found: Measured) -> Measured:
    """Return the panel as AutoOOD leaves it after a look at the pseudo outliers."""
    own = found.evidence
    areas = [aurocs(own.scale, own.kinds[kind]) for kind in KINDS]
    kept = np.flatnonzero(np.max(areas, axis=0) >= 0.5)
    names = [list(found.members)[place] for place in kept]
    return Measured(
        {name: found.members[name] for name in names},
        {name: found.views[name] for name in names},
        own.only(kept.tolist()),
        {name: scores[:, kept] for name, scores in found.tests.items()},
    )


def rules(found: Measured) -> dict[str, dict[str, Floats]]:
    """Return the scores of each rule, by the name it has in the table."""
    everything = np.arange(len(found.evidence.scale))
    tried: dict[str, tuple[str, Sequence[str], NDArray[np.intp]]] = {
        rule: (rule, (), everything) for rule in ("mean", *RULES)
    }
    tried["lda"] = ("lda", KINDS, everything)
    tried["lda, features changed"] = ("lda", FEATURE_KINDS, everything)
    for kind in KINDS:
        others = [other for other in KINDS if other != kind]
        tried[f"lda, without {kind}"] = ("lda", others, everything)
    for size in (100, 300):
        tried[f"mean, {size} held-out rows"] = ("mean", (), everything[:size])
        tried[f"lda, {size} held-out rows"] = ("lda", KINDS, everything[:size])
    made = {name: combined(found, *how) for name, how in tried.items()}
    broken = without_those_below_chance(with_broken(found))
    for rule in ("mean", "lda", "fisher"):
        made[f"{rule}, five broken"] = combined(broken, rule, KINDS, everything)
    return made


def regrets(found: Measured, inliers: str) -> pd.DataFrame:
    """Return AUROC and FPR95 by score and pair, and how far from the best member."""
    single = {
        name: quality({k: s[:, n] for k, s in found.tests.items()}, inliers)
        for n, name in enumerate(found.members)
    }
    best_auroc = pd.concat([t["auroc"] for t in single.values()], axis=1).max(axis=1)
    best_fpr95 = pd.concat([t["fpr95"] for t in single.values()], axis=1).min(axis=1)
    tables = {("member", name): table for name, table in single.items()}
    for name, scores in rules(found).items():
        tables["rule", name] = quality(scores, inliers)
    table = pd.concat(tables, names=["what", "name", "outliers"])
    pairs = table.index.get_level_values("outliers")
    table["regret_auroc"] = best_auroc.reindex(pairs).to_numpy() - table["auroc"]
    table["regret_fpr95"] = table["fpr95"] - best_fpr95.reindex(pairs).to_numpy()
    return table


def main() -> None:
    """Print the tables, and write them as CSV."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--network", choices=NETWORKS, required=True)
    parser.add_argument("--train-rows", type=int, default=4000)
    parser.add_argument("--held-out", type=int, default=1000)
    parser.add_argument("--test-rows", type=int, default=1000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--cache", type=Path, help="folder where features are kept")
    parser.add_argument("--out", type=Path, help="folder for the table as CSV")
    options = parser.parse_args()
    sizes = (options.train_rows, options.held_out, options.test_rows)
    network = NETWORKS[options.network]
    cache = options.cache and options.cache / options.network
    data_sets = extracted(network, sizes, cache)
    seeds = [
        regrets(measured(*thinned(data_sets, seed), seed=seed), network.inliers)
        for seed in range(options.seeds)
    ]
    table = pd.concat(seeds).groupby(level=[0, 1, 2], sort=False).mean()
    groups = table.groupby(level=["what", "name"], sort=False)
    summary = groups[["auroc", "fpr95", "regret_auroc", "regret_fpr95"]].mean()
    summary["worst_auroc"] = groups["regret_auroc"].max()
    summary["worst_fpr95"] = groups["regret_fpr95"].max()
    print(summary.round(2).to_string())
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        table.to_csv(options.out / f"{options.network}.csv", float_format="%.2f")


if __name__ == "__main__":
    main()
