"""The command line with damaged files, wrong names, and places that do not take any."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from skood.cli import main
from skood.cli import output as cli_output

NETS = """
import torch

number = 3

def wants(a):
    return a

class Wants(torch.nn.Module):
    def __init__(self, k):
        super().__init__()
"""


def write_damaged(folder):
    """Write files that are damaged, empty, or hold what is no rows of numbers."""
    X = np.random.default_rng(0).normal(size=(30, 5))
    np.savez(folder / "good.npz", X=X)
    content = (folder / "good.npz").read_bytes()
    (folder / "cut.npz").write_bytes(content[: len(content) // 2])
    at = len(content) // 3
    flipped = content[:at] + bytes([content[at] ^ 255]) + content[at + 1 :]
    (folder / "flipped.npz").write_bytes(flipped)
    (folder / "is_npz.npy").write_bytes(content)
    for kind in ("npy", "npz", "parquet", "safetensors", "joblib"):
        (folder / f"zero.{kind}").touch()
    np.save(folder / "array.npy", X)
    shutil.copy(folder / "array.npy", folder / "is_npy.npz")
    np.savez(folder / "none.npz")
    np.savez(folder / "objects.npz", X=X, notes=np.array([{1: 2}, None], dtype=object))
    np.save(folder / "scalar.npy", np.float64(3))
    np.save(folder / "line.npy", np.arange(2000.0))
    np.save(folder / "complex.npy", np.tile(X, (20, 1)) + 1j)
    (folder / "empty").mkdir()
    (folder / "hostile_nets.py").write_text(NETS)
    texts = {
        "lost": None,
        "list": "[]",
        "old": '{"format": 1}',
        "later": '{"format": 9}',
    }
    for name, text in texts.items():
        (folder / f"{name}.onnx").touch()
        if text is not None:
            (folder / f"{name}.onnx.json").write_text(text)


@pytest.fixture(scope="module")
def damaged(tmp_path_factory, cli_folder):
    folder = tmp_path_factory.mktemp("damaged")
    write_damaged(folder)
    for name in ("train.npy", "far.npy", "inputs.npy", "cli_nets.py"):
        shutil.copy(cli_folder / name, folder)
    return folder


@pytest.fixture
def run(damaged, cli_model, capsys, monkeypatch):
    """Run a command in the folder; return its code and errors. It writes nothing."""
    monkeypatch.chdir(damaged)
    monkeypatch.syspath_prepend(damaged)
    monkeypatch.setattr("sys.dont_write_bytecode", True)
    if not Path("model").exists():
        shutil.copytree(cli_model, "model")

    def called(line):
        before = contents(damaged)
        code = main(line.split())
        assert contents(damaged) == before
        return code, capsys.readouterr().err

    return called


def contents(folder):
    files = (file for file in folder.rglob("*") if "__pycache__" not in file.parts)
    return {f: f.stat().st_mtime_ns if f.is_file() else 0 for f in files}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        # Files
        ("fit KNN cut.npz m", "cut.npz: File is not a zip file"),
        ("fit KNN flipped.npz m", "flipped.npz: "),
        ("fit KNN zero.npy m", "zero.npy: it is no file of one array without objects"),
        ("fit KNN zero.npz m", "zero.npz: No data left in file"),
        ("fit KNN zero.parquet m", "zero.parquet: "),
        ("fit KNN zero.safetensors m", "zero.safetensors: "),
        ("fit KNN is_npz.npy m", "is_npz.npy: it is no file of one array without"),
        ("fit KNN is_npy.npz m", "is_npy.npz: it is no file of several arrays"),
        ("fit KNN none.npz m", "none.npz: it has no arrays."),
        ("fit KNN objects.npz m", "its array 'notes' cannot be read without running"),
        ("fit KNN scalar.npy m", "scalar.npy: it has a single value: wanted are rows."),
        ("fit KNN array.npy::X m", "one array, without a name: leave ::X out."),
        ("fit KNN good.npz::y m", "good.npz::y: no array 'y'; there are X"),
        ("fit KNN ::y m", "'::y' names no file"),
        ("fit KNN empty m", "empty has no images"),
        ("inspect scalar.npy", "it has a single value"),
        ("inspect cut.npz", "cut.npz: "),
        (
            "score zero.joblib train.npy --trust-pickle",
            "cannot be read by joblib (EOFE",
        ),
        ("inspect lost.onnx", "lost.onnx has no certificate: there is no lost.onnx.js"),
        ("inspect list.onnx", "list.onnx.json: this is no certificate of skood"),
        ("inspect old.onnx", "old.onnx.json: the certificate lacks versions, detector"),
        ("inspect later.onnx", "has format 9, this version reads 1: update skood"),
        # Places
        ("fit KNN train.npy model", "model exists: give --overwrite to replace it."),
        ("fit KNN train.npy nodir/m", "nodir/m cannot be written: there is no folder"),
        ("fit KNN train.npy nodir/m.joblib", "m.joblib cannot be written: there is no"),
        ("fit KNN train.npy far.npy/m", "far.npy is no folder"),
        (
            "fit KNN train.npy far.npy --overwrite",
            "a model is a folder, or a file whose",
        ),
        (
            "fit KNN train.npy m.onnx",
            "m.onnx: a model is a folder, or a file whose name",
        ),
        ("score model train.npy --out nodir/o.csv", "there is no folder nodir"),
        ("score model train.npy --out far.npy/o.csv", "far.npy is no folder"),
        (
            "compare train.npy --detectors KNN --outliers far.npy --out a.xls",
            "a.xls: w",
        ),
        (
            "export model m.pt train.npy",
            "m.pt: wanted is a file whose name ends in .on",
        ),
        ("export model nodir/m.onnx train.npy", "there is no folder nodir"),
        # Names and values
        (
            "fit KNN train.npy m --set n_neighbors=3 n_neighbors=4",
            "'n_neighbors' twice",
        ),
        (
            "fit builtins:dict train.npy m",
            "which made a dict: wanted is something with",
        ),
        (
            "fit hostile_nets:number train.npy m",
            "a int: wanted is a class or a function",
        ),
        (
            "fit json:dumps train.npy m",
            "cannot be called so: missing a required argumen",
        ),
        (
            "layers hostile_nets:number",
            "'hostile_nets:number', a int: wanted is a class",
        ),
        (
            "layers hostile_nets:wants",
            "cannot be called so: missing a required argument",
        ),
        (
            "layers hostile_nets:Wants",
            "cannot be called so: missing a required argument",
        ),
        ("layers hostile_nets:torch", "'hostile_nets:torch', a module: wanted is"),
        (
            "evaluate model train.npy --outliers a=",
            "'a=' is no set of rows: wanted is na",
        ),
        (
            "evaluate model train.npy --outliers =far.npy",
            "'=far.npy' is no set of rows",
        ),
        ("compare train.npy --detectors KNN KNN --outliers far.npy", "has 'KNN' twice"),
    ],
)
def test_one_line_says_what_is_wrong_and_nothing_is_written(run, line, message):
    code, errors = run(line)
    assert code == 1
    assert errors.startswith(f"skood {line.split()[0]}: error: ")
    assert errors.count("\n") == 1
    assert message in errors


@pytest.mark.parametrize("name", ["line.npy", "complex.npy"])
def test_a_line_does_not_hold_the_array_that_is_wrong(run, name):
    code, errors = run(f"fit KNN {name} m")
    assert code == 1
    assert len(errors) < 800


@pytest.mark.parametrize(
    "option",
    [
        *("score model train.npy --fail-above " + x for x in ("nan", "-0.1", "5", "a")),
        "evaluate model train.npy --outliers far.npy --fail-below 2",
        *("layers cli_nets:small images --image-size " + x for x in ("0", "-4", "1.5")),
    ],
)
def test_numbers_that_mean_nothing_are_no_arguments(option, capsys):
    with pytest.raises(SystemExit) as error:
        main(option.split())
    assert error.value.code == 2
    assert "is no number" in capsys.readouterr().err


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is forbidden to root")
def test_a_folder_that_may_not_be_written_to_is_named(run, damaged):
    (damaged / "empty").chmod(0o500)
    code, errors = run("score model train.npy --out empty/o.csv")
    (damaged / "empty").chmod(0o700)
    assert code == 1
    assert "empty is not to be written to" in errors


def arrays_in(path):
    with np.load(path) as file:
        return dict(file)


@pytest.mark.parametrize("kind", ["csv", "parquet", "npz"])
def test_tables_are_written_whole_or_not_at_all(tmp_path, monkeypatch, kind):
    path = tmp_path / f"scores.{kind}"
    table = pd.DataFrame({"score": [0.5, 1.5]}, index=pd.Index([3, 4], name="row"))
    cli_output.write_table(table, str(path))
    before = path.read_bytes()
    readers = {"csv": pd.read_csv, "parquet": pd.read_parquet, "npz": arrays_in}
    found = readers[kind](path)
    assert [*found["row"]] == [3, 4]
    assert [*found["score"]] == [0.5, 1.5]

    def full(*_, **__):
        raise OSError("no space left")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="no space"):
        cli_output.write_table(table * 2, str(path))
    assert path.read_bytes() == before
    assert [*tmp_path.iterdir()] == [path]


def test_detectors_of_others_may_have_any_threshold(run, capsys, damaged):
    """OneClassSVM has an array of one; a StandardScaler, say, none."""
    assert main(["fit", "sklearn.svm:OneClassSVM", "train.npy", "m.joblib"]) == 0
    assert "threshold" in capsys.readouterr().out
    line = ["fit", "sklearn.neighbors:KernelDensity", "train.npy", "n.joblib"]
    assert main(line) == 0
    assert "threshold" not in capsys.readouterr().out
    for name in ("m.joblib", "n.joblib"):
        (damaged / name).unlink()


def test_an_interruption_is_no_error_of_ours(run, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("skood.cli.commands.score.read_model", interrupted)
    assert run("score model train.npy") == (130, "skood score: interrupted\n")
