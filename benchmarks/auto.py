"""Combined scores beside the best single one in hindsight, on images and sentences.

    python benchmarks/auto.py --network resnet20 [--train-rows 4000] [--held-out 1000]
        [--test-rows 1000] [--seeds 3] [--cache FOLDER] [--out FOLDER]
    python benchmarks/auto.py --summary FOLDER

The members are fitted on training rows; rows that the network was not trained on
calibrate their scores, with changed copies of some kinds as pseudo outliers; others are
the in-distribution side of every pair. Each seed draws three quarters of all of them
anew, of the outlier sets too. No real outlier is used before the last step. Features
are computed once and kept in the cache's folder. With ``--summary`` the tables that the
documentation shows are made of the files that ``--out`` left in a folder.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pandas as pd
from auto_data import NAMES, DataSets, Sizes, blocks_of, extracted
from numpy.typing import NDArray

import skood
from skood import LayerFeatures
from skood.ensemble.evidence import Evidence, columns
from skood.ensemble.pseudo import FEATURE_KINDS, pseudo_outliers
from skood.ensemble.reported import aurocs
from skood.ensemble.rules import RULES

Floats = NDArray[np.float64]


class Measured(NamedTuple):
    """What the members say, of shape (rows, members), and the views they are."""

    members: dict[str, Any]
    views: dict[str, str]
    evidence: Evidence
    tests: dict[str, Floats]

    @property
    def inliers(self) -> str:
        """The name of the in-distribution set among the tests."""
        return next(iter(self.tests))

    @property
    def kinds(self) -> list[str]:
        """The kinds of changed inputs."""
        return [kind for kind in self.evidence.kinds if kind not in FEATURE_KINDS]


def measured(sets: DataSets, seed: int) -> Measured:
    """Fit the panel once; all rules combine what it says."""
    calibration = sets.calibration
    auto = skood.AutoOOD(random_state=seed)
    auto.fit(sets.train, sets.labels, threshold_data=calibration)
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
        k: columns(auto.members_, auto._needed(x), array) for k, x in sets.tests.items()
    }
    none = np.zeros((0, held_out.shape[1]))
    return Measured(
        auto.members_, auto.views_, Evidence(held_out, none, kinds, none), scores
    )


def combined(
    found: Measured,
    rule: str,
    kinds: Sequence[str],
    rows: NDArray[np.intp],
    scale: str = "auto",
) -> dict[str, Floats]:
    """Return the scores of the test sets under a rule that saw some held-out rows."""
    ensemble = skood.AutoOOD(combine=rule, scale=scale)
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
    areas = [aurocs(own.scale, own.kinds[kind]) for kind in found.kinds]
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
    kinds = found.kinds
    tried["lda"] = ("lda", kinds, everything)
    tried["lda, features changed"] = ("lda", FEATURE_KINDS, everything)
    for kind in kinds:
        others = [other for other in kinds if other != kind]
        tried[f"lda, without {kind}"] = ("lda", others, everything)
    for size in (100, 300):
        tried[f"mean, {size} held-out rows"] = ("mean", (), everything[:size])
        tried[f"lda, {size} held-out rows"] = ("lda", kinds, everything[:size])
    made = {name: combined(found, *how) for name, how in tried.items()}
    made["lda, scale='gaussian'"] = combined(
        found, "lda", kinds, everything, "gaussian"
    )
    broken = without_those_below_chance(with_broken(found))
    for rule in ("mean", "lda", "fisher"):
        made[f"{rule}, five broken"] = combined(broken, rule, kinds, everything)
    return made


def regrets(found: Measured) -> pd.DataFrame:
    """Return AUROC and FPR95 by score and pair, and how far from the best member."""
    inliers = found.inliers
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


WORST = {"regret_auroc": "worst_auroc", "regret_fpr95": "worst_fpr95"}


def by_score(table: pd.DataFrame) -> pd.DataFrame:
    """Return means over pairs, and the worst regret, of each score."""
    groups = table.groupby(level=["what", "name"], sort=False)
    summary = groups[["auroc", "fpr95", *WORST]].mean()
    for regret, worst in WORST.items():
        summary[worst] = groups[regret].max()
    return summary


def summarised(folder: Path) -> dict[str, pd.DataFrame]:
    """Return the tables of all networks whose files are in the folder.

    Cells are AUROC / FPR95: "quality" has these themselves, "regret" and "worst" the
    mean and the worst regret of each rule, "changed" the mean regret of rules under
    fewer rows, fewer kinds, or broken members.
    """
    index = ["what", "name", "outliers"]
    files = {n: folder / f"{n}.csv" for n in NAMES if (folder / f"{n}.csv").exists()}
    tables = {name: pd.read_csv(file, index_col=index) for name, file in files.items()}
    rules = {name: by_score(table).loc["rule"] for name, table in tables.items()}
    for name, table in tables.items():
        members = by_score(table).loc["member"]
        best = members.loc[[members["auroc"].idxmax()]]
        rules[name] = pd.concat([rules[name], best.set_axis(["best single member"])])
    pairs = pd.concat(tables).droplevel(0)
    count = len(pairs.xs("mean", level="name"))
    rules[f"all {count} pairs"] = by_score(pairs).loc["rule"]
    columns = {
        "quality": ("auroc", "fpr95"),
        "regret": tuple(WORST),
        "worst": tuple(WORST.values()),
    }
    made = {
        name: pd.DataFrame(
            {of: _pairs(table, *which) for of, table in rules.items()}
        ).loc[list(dict.fromkeys(n for table in rules.values() for n in table.index))]
        for name, which in columns.items()
    }
    changed = made["regret"].index.str.contains("without|held-out|broken")
    made["changed"] = made["regret"][changed]
    return {
        name: table if name == "changed" else table[~changed]
        for name, table in made.items()
    }


def _pairs(table: pd.DataFrame, first: str, second: str) -> pd.Series:
    """Return "AUROC / FPR95" of each score."""
    numbers = zip(table[first], table[second], strict=True)
    texts = [f"{one:.2f} / {other:.2f}" for one, other in numbers]
    return pd.Series(texts, index=table.index)


def main() -> None:
    """Print the tables, and write them as CSV."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--network", choices=NAMES)
    parser.add_argument("--train-rows", type=int, default=4000)
    parser.add_argument("--held-out", type=int, default=1000)
    parser.add_argument("--test-rows", type=int, default=1000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--cache", type=Path, help="folder where features are kept")
    parser.add_argument("--out", type=Path, help="folder for the table as CSV")
    parser.add_argument("--summary", type=Path, help="folder with tables of --out")
    options = parser.parse_args()
    if options.summary:
        folder = options.out or options.summary
        folder.mkdir(parents=True, exist_ok=True)
        for name, table in summarised(options.summary).items():
            table.fillna("").to_csv(folder / f"{name}.csv", index_label="AUROC / FPR95")
            print(f"{name}\n{table.to_string()}\n")
        return
    if not options.network:
        parser.error("give --network, or --summary")
    sizes = Sizes(options.train_rows, options.held_out, options.test_rows)
    sets = extracted(options.network, sizes, options.cache)
    seeds = [
        regrets(measured(sets.thinned(seed), seed)) for seed in range(options.seeds)
    ]
    table = pd.concat(seeds).groupby(level=[0, 1, 2], sort=False).mean()
    print(by_score(table).round(2).to_string())
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        table.to_csv(options.out / f"{options.network}.csv", float_format="%.4f")


if __name__ == "__main__":
    main()
