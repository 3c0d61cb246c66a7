"""The commands beside the public API: what they print, write and return."""

from __future__ import annotations

import json
import sys

import joblib
import numpy as np
import pandas as pd
import pytest

import skood
from skood import (
    KNN,
    ConformalDetector,
    Mahalanobis,
    TargetRateThreshold,
)
from skood.cli.data import read


def test_layers(skood_):
    code, out, _ = skood_("layers", "cli_nets:small")
    assert code == 0
    assert "0\n" in out
    code, out, _ = skood_("layers", "cli_nets:ready", "inputs.npy", "--json")
    rows = json.loads(out)
    assert [row["layer"] for row in rows][-1] == "logits"
    assert rows[0]["output"][1:] == [4, 6, 6]


def test_extract_fit_score_of_images_in_a_folder(skood_, cli_folder):
    size = ("--image-size", 8)
    line = ("cli_nets:small", "images", "store", "--layers", "1", "logits", *size)
    code, out, errors = skood_("extract", *line, "--json", "--progress")
    assert code == 0
    assert "extract: 100%" in errors
    found = json.loads(out)
    assert found["rows"] == 12
    assert found["columns"] == {"1/avg": 4, "logits/logits": 3}
    data = read("store")
    assert data.y.tolist() == [0] * 6 + [1] * 6
    assert data.ids[0] == "a/00.png"
    code, out, _ = skood_("inspect", "store")
    assert code == 0
    assert "labels" in out
    assert "0: 6" in out
    line = ("Mahalanobis", "images", "piped", "--network", "cli_nets:small", *size)
    code, out, _ = skood_("fit", *line, "--layers", "1", "--set", "covariance=oas")
    assert code == 0, out
    code, out, errors = skood_("score", "piped", "images", *size)
    assert code == 1
    assert "give --network package.module:name" in errors
    network = ("--network", "cli_nets:small")
    code, out, _ = skood_("score", "piped", "images", *size, *network)
    assert code == 0
    lines = out.splitlines()
    assert lines[0] == "row,score,decision,is_inlier"
    assert lines[1].startswith("a/00.png,")
    code, out, _ = skood_("inspect", "piped", "--json")
    assert json.loads(out)["networks"][0]["layers"] == ["1"]


def test_parts_of_an_extraction_make_a_whole(skood_, cli_folder):
    line = ("extract", "cli_nets:small", "inputs.npy", "parted", "--layers", "1")
    line += ("--batch-size", 10)
    assert json.loads(skood_(*line, "--shard", "1/2", "--json")[1])["rows"] == 20
    assert skood_("inspect", "parted")[0] == 1
    assert skood_(*line, "--shard", "0/2")[0] == 0
    whole = skood_(*line[:3], "unparted", *line[4:])
    assert whole[0] == 0
    found = (np.asarray(read(name).X) for name in ("parted", "unparted"))
    np.testing.assert_allclose(*found, rtol=1e-6)
    code, _, errors = skood_(*line, "--shard", "half")
    assert code == 1
    assert "wanted is 0/4, say, or auto" in errors


def test_scores_of_a_pipeline_are_those_of_the_api(skood_, cli_folder):
    code, _, _ = skood_(
        *("fit", "KNN", "inputs.npy", "whole", "--network", "cli_nets:ready"),
        *("--layers", "1", "logits", "--statistics", "avg", "max"),
        *("--set", "n_neighbors=3", "layers='1'", "--preprocess", "cli_nets:halved"),
    )
    assert code == 0
    trust = ("--network", "cli_nets:ready", "--trust", "cli_nets.halved")
    code, out, _ = skood_("score", "whole", "inputs.npy", *trust, "--json")
    found = json.loads(out)
    nets = sys.modules["cli_nets"]
    pipeline = skood.load(
        cli_folder / "whole", network=nets.small, trusted=["cli_nets.halved"]
    )
    scored = skood.score_and_predict(pipeline, np.load(cli_folder / "inputs.npy"))
    np.testing.assert_allclose(found["score"], scored.scores, rtol=1e-5)
    assert found["is_inlier"] == (scored.flags == 1).tolist()


def test_fit_with_labels_and_thresholds(skood_):
    line = ("Mahalanobis", "labelled.npz", "--max-false-alarm", 0.1, "--json")
    code, out, _ = skood_("fit", *line[:2], "rated", *line[2:], "--confidence", 0.9)
    assert code == 0
    found = json.loads(out)
    assert (found["rows"], found["outliers"]) == (180, 20)
    model = skood.load("rated")
    assert model.offset_ == found["threshold"]
    assert (model.max_false_alarm, model.confidence) == (0.1, 0.9)
    code, _, errors = skood_("fit", *line[:2], "rated")
    assert code == 1
    assert "rated exists: give --overwrite" in errors
    assert skood_("fit", *line[:2], "rated", "--overwrite")[0] == 0


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ((), lambda d, X, new: d.fit(X, threshold_data=new)),
        (
            ("--max-false-alarm", 0.1, "--confidence", 0.8),
            lambda d, X, new: TargetRateThreshold(
                d.fit(X), 0.1, cv="prefit", confidence=0.8
            ).fit(new),
        ),
        (
            ("--alpha", 0.2),
            lambda d, X, new: ConformalDetector(d.fit(X), 0.2, cv="prefit").fit(new),
        ),
    ],
    ids=["contamination", "rate", "p-values"],
)
@pytest.mark.parametrize("network", [False, True], ids=["features", "network"])
def test_rows_apart_set_the_threshold(skood_, tmp_path, options, wanted, network):
    if network:
        X = np.random.default_rng(1).random((60, 3, 8, 8), dtype=np.float32)
        reading = ("--network", "cli_nets:small", "--layers", 1)
    else:
        X, reading = np.random.default_rng(1).normal(size=(120, 4)), ()
    (train, new), path = np.split(X, 2), tmp_path / "model"
    np.save(tmp_path / "train.npy", train)
    y = np.repeat([0, -1], [len(new), 5])
    np.savez(tmp_path / "new.npz", X=np.concatenate([new, 9 + new[:5]]), y=y)
    line = ("fit", "KNN", tmp_path / "train.npy", path, "--json", *reading, *options)
    code, out, errors = skood_(*line, "--threshold-data", tmp_path / "new.npz")
    assert code == 0, errors
    found = json.loads(out)
    assert (found["rows"], found["threshold_rows"]) == (len(train), len(new))
    if network:
        features = skood.LayerFeatureTransformer(sys.modules["cli_nets"].small(), ["1"])
        train, new = features.fit_transform(train), features.transform(new)
    detector = wanted(KNN(), train, new)
    assert found["threshold"] == pytest.approx(detector.offset_, rel=1e-6)
    line = ("score", path, tmp_path / "new.npz", "--json", *reading[:2])
    said = json.loads(skood_(*line)[1])["is_inlier"]
    assert said[: len(new)] == (detector.predict(new) == 1).tolist()
    assert not any(said[len(new) :])


def test_a_pickle_takes_trust(skood_):
    assert skood_("fit", "KNN", "train.npy", "model.joblib")[0] == 0
    code, _, errors = skood_("score", "model.joblib", "test.npy")
    assert code == 1
    assert "give --trust-pickle" in errors
    code, out, _ = skood_("score", "model.joblib", "test.npy", "--trust-pickle")
    scores = pd.read_csv(_file(out), index_col="row")["score"]
    expected = joblib.load("model.joblib").score_samples(np.load("test.npy"))
    np.testing.assert_allclose(scores, expected, rtol=1e-12)
    assert skood_("fit", "KNN", "train.npy", "model.joblib")[0] == 1


def _file(text):
    from io import StringIO

    return StringIO(text)


@pytest.mark.parametrize("suffix", ["csv", "parquet", "npz"])
def test_scores_go_to_files(skood_, cli_model, suffix):
    code, out, _ = skood_(
        "score", cli_model, "far.npy", "--out", f"s.{suffix}", "--json"
    )
    assert code == 0
    assert json.loads(out)["flagged"] == 30
    if suffix == "npz":
        table = pd.DataFrame(dict(np.load("s.npz")))
    else:
        reading = {"csv": pd.read_csv, "parquet": pd.read_parquet}[suffix]
        table = reading(f"s.{suffix}")
    expected = skood.load(cli_model).p_values(np.load("far.npy"))
    np.testing.assert_allclose(table["p_value"], expected)
    assert not table["is_inlier"].any()
    assert table["row"].tolist() == [*range(30)]


def test_checks_have_an_exit_code(skood_, cli_model):
    line = ("score", cli_model, "--out", "scores.csv", "--fail-above", 0.3)
    assert skood_(*line, "test.npy")[0] == 0
    code, out, errors = skood_(*line, "far.npy")
    assert code == 3
    assert "flagged" in out
    assert "30 of 30 rows are flagged" in errors
    line = ("evaluate", cli_model, "test.npy", "--bootstrap", 0, "--outliers")
    assert skood_(*line, "far.npy", "--fail-below", 0.9)[0] == 0
    code, _, errors = skood_(*line, "x=test.npy", "--fail-below", 0.9)
    assert code == 3
    assert "less than --fail-below 0.9" in errors


def test_evaluate_is_the_report(skood_, cli_model):
    code, out, _ = skood_(
        *("evaluate", cli_model, "test.npy", "--bootstrap", 0, "--json"),
        *("--outliers", "near/a=near.npy", "far/b=far.npy"),
    )
    rows = {row["source"]: row for row in json.loads(out)}
    assert code == 0
    assert [*rows] == ["near/a", "far/b", "near", "far", "mean"]
    detector = skood.load(cli_model)
    known, near = (
        detector.score_samples(np.load(f"{n}.npy")) for n in ("test", "near")
    )
    expected = skood.auroc([0] * 80 + [-1] * 30, np.concatenate([known, near]))
    assert rows["near/a"]["auroc"] == pytest.approx(expected)


def test_compare(skood_):
    line = ("compare", "train.npy", "--detectors", "KNN", "Mahalanobis", "--outliers")
    code, out, _ = skood_(*line, "near.npy", "far.npy", "--bootstrap", 0)
    assert code == 0
    assert out.split()[:2] == ["auroc", "fpr95"]
    sets = ("near.npy", "--inliers", "test.npy", "--json", "--out", "table.csv")
    code, out, _ = skood_(*line, *sets, "--bootstrap", 0)
    rows = json.loads(out)
    assert [row["detector"] for row in rows] == ["KNN", "Mahalanobis"]
    outliers, inliers = (np.load(f"{name}.npy") for name in ("near", "test"))
    expected = skood.compare(
        {"m": Mahalanobis()},
        np.load("train.npy"),
        outliers={"near": outliers},
        inliers=inliers,
        n_bootstrap=0,
    )
    assert rows[1]["auroc"] == pytest.approx(expected.table["auroc"].iloc[0])
    written = pd.read_csv("table.csv")["auroc"]
    assert written.tolist() == pytest.approx([row["auroc"] for row in rows])


def test_inspect(skood_, cli_model):
    code, out, _ = skood_("inspect", cli_model, "--json")
    found = json.loads(out)
    assert code == 0
    assert found["kind"] == "model"
    assert found["versions"]["skood"] == skood.__version__
    assert found["false_alarm_bound_"] == skood.load(cli_model).false_alarm_bound_
    found = json.loads(skood_("inspect", "labelled.npz", "--json")[1])
    assert found["shape"] == [200, 5]
    assert found["labels"] == {"-1": 20, "0": 120, "1": 60}
    found = json.loads(skood_("inspect", "features", "--json")[1])
    assert found["columns"] == {"layer1/avg": 5, "layer2/max": 2}
    code, out, _ = skood_("inspect", "plain.parquet")
    assert code == 0
    assert "200, 5" in out


@pytest.mark.slow
def test_export(skood_, cli_model):
    pytest.importorskip("onnxscript")
    code, out, _ = skood_("export", cli_model, "model.onnx", "test.npy", "--json")
    assert code == 0
    found = json.loads(out)
    assert found["parity"]["rows"] == 80
    assert found["parity"]["flips"] == 0
    assert found["threshold"] == skood.load(cli_model).offset_
    code, out, _ = skood_("inspect", "model.onnx", "--json")
    assert json.loads(out)["parity"] == found["parity"]
    line = ("model.onnx", "near.npy", "--verify")
    assert skood_("export", cli_model, *line)[0] == 0
    assert skood_("fit", "KNN", "train.npy", "other", "--alpha", 0.1)[0] == 0
    code, out, errors = skood_("export", "other", *line)
    assert (code, out) == (1, "")
    assert "threshold" in errors
