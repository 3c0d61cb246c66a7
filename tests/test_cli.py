"""The command line: what it reads, prints and says, beside the public API."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from safetensors.numpy import save_file

import skood
from skood import (
    KNN,
    ConformalDetector,
    LayerFeatures,
    Mahalanobis,
    TargetRateThreshold,
)
from skood.cli import main, make_parser
from skood.cli.data import Data, read, read_labels
from skood.cli.objects import DETECTORS, made_detector, settings_of

NETS = """
import torch

def small():
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(), torch.nn.Linear(4, 3),
    )

ready = small()

def grey(image):
    import numpy as np
    return np.repeat(np.asarray(image.convert("L"), "float32")[None] / 255, 3, axis=0)

def halved(rows):
    return torch.as_tensor(np.asarray(rows)) / 2

def broken():
    raise ZeroDivisionError("this network is broken")

import numpy as np
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a network's module, data of every kind, and two models."""
    folder = tmp_path_factory.mktemp("cli")
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(200, 5)), np.repeat([0, 1, -1], [120, 60, 20])
    (folder / "cli_nets.py").write_text(NETS)
    np.save(folder / "train.npy", X[:180])
    np.save(folder / "test.npy", rng.normal(size=(80, 5)))
    np.save(folder / "far.npy", rng.normal(6, 1, size=(30, 5)))
    np.save(folder / "near.npy", rng.normal(2, 1, size=(30, 5)))
    np.savez(folder / "labelled.npz", X=X, y=y)
    blocks = {"layer1": X, "layer2/max": X[:, :2].copy()}
    np.savez(folder / "blocks.npz", **blocks, labels=y)
    save_file({**blocks, "y": y}, folder / "blocks.safetensors")
    features = LayerFeatures({"layer1": X, ("layer2", "max"): X[:, :2]})
    features.save(folder / "features")
    features.to_frame().assign(y=y).to_parquet(folder / "blocks.parquet")
    (folder / "parts").mkdir()
    for name, part in (("a", slice(0, 90)), ("b", slice(90, None))):
        path = folder / "parts" / f"{name}.parquet"
        features[part].to_parquet(path, {"y": y[part]})
    pd.DataFrame(X, columns=list("abcde")).to_parquet(folder / "plain.parquet")
    images = rng.integers(0, 255, size=(12, 9, 7, 3), dtype=np.uint8)
    for number, image in enumerate(images):
        place = folder / "images" / "ab"[number % 2]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(place / f"{number:02}.png")
    np.save(folder / "inputs.npy", rng.random((40, 3, 8, 8), dtype=np.float32))
    return folder


@pytest.fixture
def skood_(folder, capsys, monkeypatch):
    """Run a command in the folder; return its exit code, output and errors."""
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(folder)

    def run(*line):
        code = main([str(part) for part in line])
        out, errors = capsys.readouterr()
        return code, out, errors

    return run


@pytest.fixture
def model(folder):
    path = folder / "model"
    if not path.exists():
        skood.save(ConformalDetector(KNN(5)).fit(np.load(folder / "train.npy")), path)
    return path


# Reading -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["blocks.npz", "blocks.safetensors", "blocks.parquet", "parts"],
)
def test_blocks_and_labels_are_the_same_from_every_file(folder, name):
    known = LayerFeatures.load(folder / "features")
    data = read(str(folder / name))
    assert data.X.block_names == known.block_names
    np.testing.assert_array_equal(np.asarray(data.X), np.asarray(known))
    assert data.y.tolist() == np.repeat([0, 1, -1], [120, 60, 20]).tolist()
    assert read(str(folder / "features")).X.block_names == known.block_names


def test_one_array_of_a_file_may_be_named(folder):
    data = read(str(folder / "blocks.npz::layer2/max"))
    assert data.X.shape == (200, 2)
    assert read(str(folder / "blocks.parquet::y")).X.shape == (200,)
    assert read(str(folder / "parts::y")).X.shape == (200,)
    assert read(str(folder / "parts::layer2/max")).X.shape == (200, 2)
    labels = read_labels(str(folder / "labelled.npz"), Data(None))
    assert labels.tolist() == read(str(folder / "labelled.npz::y")).X.tolist()
    assert [*read(str(folder / "plain.parquet")).X.columns] == list("abcde")


def test_files_run_nothing(folder, tmp_path):
    np.save(tmp_path / "objects.npy", np.array([print, 1], dtype=object))
    with pytest.raises(ValueError, match="no file of one array without objects"):
        read(str(tmp_path / "objects.npy"))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere.npy", "there is no file"),
        ("cli_nets.py", r"is a \.py; read are \.npy"),
        (
            "blocks.npz::layer9",
            "no array 'layer9'; there are layer1, layer2/max, labels",
        ),
        ("torn.npz", r"torn\.npz"),
        ("torn.npy", r"torn\.npy: it is no file of one array"),
        ("torn.parquet", r"torn\.parquet: "),
        ("torn.safetensors", r"torn\.safetensors: "),
        ("images.npz", r"say which, as FILE::NAME"),
    ],
)
def test_what_cannot_be_read_is_said(folder, name, message):
    for kind in ("npz", "npy", "parquet", "safetensors"):
        (folder / f"torn.{kind}").write_bytes(b"PK not a zip file")
    np.savez(folder / "images.npz", a=np.zeros((2, 3, 4)), b=np.zeros((2, 3, 4)))
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        read(str(folder / name))


def test_an_empty_folder_has_no_images(tmp_path):
    with pytest.raises(ValueError, match="has no images"):
        read(str(tmp_path))


def test_settings_are_literals_or_texts():
    assert settings_of(["a=1", "b=x=y", "c=None", "d=[1, 'z']"]) == {
        "a": 1,
        "b": "x=y",
        "c": None,
        "d": [1, "z"],
    }
    with pytest.raises(ValueError, match="wanted is name=value"):
        settings_of(["a"])


@pytest.mark.parametrize("name", DETECTORS)
def test_every_detector_is_made_by_its_name(name):
    assert type(made_detector(name, {})).__name__ == name


# Commands --------------------------------------------------------------------------


def test_layers(skood_):
    code, out, _ = skood_("layers", "cli_nets:small")
    assert code == 0
    assert "0\n" in out
    code, out, _ = skood_("layers", "cli_nets:ready", "inputs.npy", "--json")
    rows = json.loads(out)
    assert [row["layer"] for row in rows][-1] == "logits"
    assert rows[0]["output"][1:] == [4, 6, 6]


def test_extract_fit_score_of_images_in_a_folder(skood_, folder):
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


def test_parts_of_an_extraction_make_a_whole(skood_, folder):
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


def test_scores_of_a_pipeline_are_those_of_the_api(skood_, folder):
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
        folder / "whole", network=nets.small, trusted=["cli_nets.halved"]
    )
    scored = skood.score_and_predict(pipeline, np.load(folder / "inputs.npy"))
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
    assert "rated' exists" in errors
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
def test_scores_go_to_files(skood_, model, suffix):
    code, out, _ = skood_("score", model, "far.npy", "--out", f"s.{suffix}", "--json")
    assert code == 0
    assert json.loads(out)["flagged"] == 30
    if suffix == "npz":
        table = pd.DataFrame(dict(np.load("s.npz")))
    else:
        reading = {"csv": pd.read_csv, "parquet": pd.read_parquet}[suffix]
        table = reading(f"s.{suffix}")
    expected = skood.load(model).p_values(np.load("far.npy"))
    np.testing.assert_allclose(table["p_value"], expected)
    assert not table["is_inlier"].any()
    assert table["row"].tolist() == [*range(30)]


def test_checks_have_an_exit_code(skood_, model):
    line = ("score", model, "--out", "scores.csv", "--fail-above", 0.3)
    assert skood_(*line, "test.npy")[0] == 0
    code, out, errors = skood_(*line, "far.npy")
    assert code == 3
    assert "flagged" in out
    assert "30 of 30 rows are flagged" in errors
    line = ("evaluate", model, "test.npy", "--bootstrap", 0, "--outliers")
    assert skood_(*line, "far.npy", "--fail-below", 0.9)[0] == 0
    code, _, errors = skood_(*line, "x=test.npy", "--fail-below", 0.9)
    assert code == 3
    assert "less than --fail-below 0.9" in errors


def test_evaluate_is_the_report(skood_, model):
    code, out, _ = skood_(
        *("evaluate", model, "test.npy", "--bootstrap", 0, "--json"),
        *("--outliers", "near/a=near.npy", "far/b=far.npy"),
    )
    rows = {row["source"]: row for row in json.loads(out)}
    assert code == 0
    assert [*rows] == ["near/a", "far/b", "near", "far", "mean"]
    detector = skood.load(model)
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


def test_inspect(skood_, model):
    code, out, _ = skood_("inspect", model, "--json")
    found = json.loads(out)
    assert code == 0
    assert found["kind"] == "model"
    assert found["versions"]["skood"] == skood.__version__
    assert found["false_alarm_bound_"] == skood.load(model).false_alarm_bound_
    found = json.loads(skood_("inspect", "labelled.npz", "--json")[1])
    assert found["shape"] == [200, 5]
    assert found["labels"] == {"-1": 20, "0": 120, "1": 60}
    found = json.loads(skood_("inspect", "features", "--json")[1])
    assert found["columns"] == {"layer1/avg": 5, "layer2/max": 2}
    code, out, _ = skood_("inspect", "plain.parquet")
    assert code == 0
    assert "200, 5" in out


@pytest.mark.slow
def test_export(skood_, model):
    pytest.importorskip("onnxscript")
    code, out, _ = skood_("export", model, "model.onnx", "test.npy", "--json")
    assert code == 0
    found = json.loads(out)
    assert found["parity"]["rows"] == 80
    assert found["parity"]["flips"] == 0
    assert found["threshold"] == skood.load(model).offset_
    code, out, _ = skood_("inspect", "model.onnx", "--json")
    assert json.loads(out)["parity"] == found["parity"]
    line = ("model.onnx", "near.npy", "--verify")
    assert skood_("export", model, *line)[0] == 0
    assert skood_("fit", "KNN", "train.npy", "other", "--alpha", 0.1)[0] == 0
    code, out, errors = skood_("export", "other", *line)
    assert (code, out) == (1, "")
    assert "threshold" in errors


# What goes wrong ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("fit KKN train.npy m", "there is no detector 'KKN': did you mean KNN"),
        ("fit KNN train.npy m --set k=3", "KNN has no parameter 'k'; it has n_neigh"),
        ("fit KNN train.npy m --set n_neighbors=0", "'n_neighbors' parameter"),
        ("fit KNN train.npy m --layers 1", "--network and --layers go together"),
        ("fit KNN train.npy m --confidence 0.9", "--confidence is of --max-false"),
        ("fit KNN train.npy m --alpha 0.1 --max-false-alarm 0.1", "give one"),
        ("fit sklearn.svm:OneClassSVM train.npy m --threshold-data test.npy", "or --a"),
        ("fit KNN train.npy m --threshold-data inputs.npy", "threshold_data: "),
        ("fit KNN labelled.npz m --labels train.npy", "has shape (180, 5)"),
        ("fit no.such:Thing train.npy m", "the detector is 'no.such:Thing', which"),
        ("layers cli_nets", "the network is 'cli_nets': wanted is package.module:name"),
        ("layers cli_nets:tiny", "has no attribute 'tiny'"),
        ("score model near.npy --out s.xls", "wanted is a .csv, .parquet or .npz"),
        ("score nowhere near.npy", "nowhere"),
        ("score train.npy near.npy", "train.npy"),
        ("score model inputs.npy", "dim"),
        ("inspect model.pkl", "there is no file"),
        ("evaluate model test.npy --outliers a=near.npy a=far.npy", "two sets are"),
        ("layers cli_nets:small far.npy", "input to conv2d, but got input of size"),
        ("layers cli_nets:small images", "odd.png is 9 x 9, others 7 x 9: give --im"),
    ],
)
def test_one_line_says_what_is_wrong(skood_, model, line, message, folder):
    if "odd.png" in message:
        Image.new("RGB", (9, 9)).save(folder / "images" / "odd.png")
    code, out, errors = skood_(*line.split())
    (folder / "images" / "odd.png").unlink(missing_ok=True)
    assert code == 1
    assert out == ""
    assert errors.count("\n") == 1
    assert errors.startswith(f"skood {line.split()[0]}: error: ")
    assert message in errors


def test_errors_that_are_nobodys_fault_are_shown_whole(skood_):
    with pytest.raises(ZeroDivisionError, match="this network is broken"):
        skood_("layers", "cli_nets:broken")
    with pytest.raises(ValueError, match="there is no detector"):
        skood_("fit", "KKN", "train.npy", "m", "--traceback")


@pytest.mark.filterwarnings("always:max_false_alarm=:UserWarning")
def test_warnings_take_a_line(skood_, tmp_path):
    line = ("fit", "KNN", "train.npy", tmp_path / "m", "--max-false-alarm", 0.001)
    code, _, errors = skood_(*line)
    assert code == 0
    assert errors.startswith("skood fit: warning: ")
    assert errors.count("\n") == errors.count("skood fit: ")


@pytest.mark.parametrize("line", ["", "fit", "score a", "fly", "completion tcsh"])
def test_argparse_answers_with_two(line, capsys):
    with pytest.raises(SystemExit) as error:
        main(line.split())
    assert error.value.code == 2
    assert "usage: skood" in capsys.readouterr().err


# The whole program -------------------------------------------------------------------


def program(*line, **options):
    return subprocess.run(
        [sys.executable, "-m", "skood", *line],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(Path(skood.__file__).parents[1])},
        **options,
    )


def test_the_program_finds_modules_beside_it(folder):
    done = program("layers", "cli_nets:small", "--json", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "0" in json.loads(done.stdout)["layers"].split()


def test_help_is_quick_and_has_examples():
    """It imports neither torch nor scikit-learn."""
    code = (
        "import sys; from skood.cli import make_parser; make_parser().format_help();"
        "print({'torch', 'sklearn', 'pandas'} & {*sys.modules})"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "set()"


def commands():
    actions = make_parser()._actions
    return next(a.choices for a in actions if isinstance(a.choices, dict))


@pytest.mark.parametrize("name", [*commands()])
def test_every_help_stands_alone(name):
    text = commands()[name].format_help()
    assert f"  skood {name} " in text
    assert f"skood {name}" in text.split("example", 1)[1]
    assert all(len(line) <= 88 for line in text.splitlines())
    for action in commands()[name]._actions:
        assert action.help or action.metavar, action.dest


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
def test_the_shell_completes(tmp_path, capsys):
    assert main(["completion", "bash"]) == 0
    file = tmp_path / "completion.bash"
    file.write_text(capsys.readouterr().out)

    def completed(*words):
        line = " ".join(map(repr, words))
        done = subprocess.run(
            [
                "bash",
                "-c",
                f"source {file}; COMP_WORDS=({line}); COMP_CWORD={len(words) - 1}; "
                "_skood; echo ${COMPREPLY[@]}",
            ],
            capture_output=True,
            text=True,
            check=True,
            cwd=tmp_path,
        )
        return done.stdout.split()

    (tmp_path / "features.npz").touch()
    assert completed("skood", "e") == ["extract", "evaluate", "export"]
    assert completed("skood", "fit", "--max") == ["--max-false-alarm"]
    assert completed("skood", "fit", "KNN", "feat") == ["features.npz"]
    assert completed("skood", "completion", "z") == ["zsh"]


def test_zsh_gets_the_same_by_its_own_door(capsys):
    main(["completion", "bash"])
    bash = capsys.readouterr().out
    main(["completion", "zsh"])
    zsh = capsys.readouterr().out
    assert zsh == f"autoload -U +X bashcompinit && bashcompinit\n{bash}"
