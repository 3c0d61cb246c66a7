"""Certificates of exported files: faults planted in all that takes part are found."""

from __future__ import annotations

import copy
import json
import shutil
from functools import partial

import numpy as np
import pytest
import torch
from networks import perceptron
from sklearn.pipeline import Pipeline

import skood.export
from skood import (
    KNN,
    DetectorEnsemble,
    LayerFeatureTransformer,
    Mahalanobis,
    to_module,
)
from skood.export import Certificate, verify
from skood.export.parity import Judgement, Parity
from skood.files.digest import digest_of

onnx = pytest.importorskip("onnx", reason="needs the extra 'export'")
pytest.importorskip("onnxruntime", reason="needs the extra 'export'")

LAYERS = ["0", "1"]


def scaled(rows, mean):
    return torch.as_tensor(np.asarray(rows) - mean, dtype=torch.float32)


def fitted(layers=LAYERS, mean=0.5, rounded=False):
    network = perceptron(8, 6, 3)
    if rounded:
        network.half().float()
    features = LayerFeatureTransformer(
        network, layers, preprocess=partial(scaled, mean=mean)
    )
    members = [("m", Mahalanobis()), ("k", KNN(3))]
    steps = [("features", features), ("detector", DetectorEnsemble(members))]
    return Pipeline(steps).fit(rows(150))


def rows(n, seed=0):
    return np.random.default_rng(seed).normal(size=(n, 8))


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """Return a pipeline, its file and the rows held out."""
    pipeline, new = fitted(), rows(80, seed=1)
    path = tmp_path_factory.mktemp("export") / "detector.onnx"
    skood.export.export(pipeline, path, new[:4], new)
    return pipeline, path, new


@pytest.fixture
def copied(exported, tmp_path):
    """Return a copy of the file that may be spoilt, and of its certificate."""
    for file in exported[1].parent.iterdir():
        shutil.copy(file, tmp_path)
    path = tmp_path / exported[1].name
    return path, path.with_name(f"{path.name}.json")


def edited(beside, **changes):
    """Change what a certificate says."""
    known = json.loads(beside.read_text())
    beside.write_text(json.dumps(known | changes))


def forged(path, beside, spoil):
    """Change a model, and make its certificate one of the changed file."""
    model = onnx.load(path)
    spoil(model)
    content = model.SerializeToString()
    path.write_bytes(content)
    edited(beside, file_digest=digest_of(content))


# Another pipeline -------------------------------------------------------------------


def test_what_was_exported_is_verified_with_and_without_its_pipeline(exported):
    pipeline, path, new = exported
    found = verify(path, new, pipeline).parity
    assert (found.rows, found.flips, found.p_values_off) == (80, 0, 0)
    assert verify(path, scaled(new, 0.5)).parity == found
    assert verify(path, rows(30, seed=2), pipeline).parity.flips == 0


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"rounded": True}, "network_digest"),
        ({"layers": ["1", "0"]}, "layers"),
        ({"layers": ["0"]}, "layers"),
        ({"mean": 0.51}, "preprocess_digest"),
    ],
)
def test_another_pipeline_is_told_by_what_it_is(exported, changes, name):
    """Also if it has the same threshold, and would score the rows nearly alike."""
    pipeline, path, new = exported
    other = fitted(**changes)
    other[-1].offset_ = pipeline[-1].offset_
    with pytest.raises(ValueError, match=f"the pipeline has {name}=.*export it again"):
        verify(path, new, other)


def test_the_certificate_says_what_preprocess_does_outside(exported):
    certificate = Certificate.read(exported[1].with_suffix(".onnx.json").read_text())
    assert certificate.preprocess.endswith("scaled(mean=0.5)")
    assert len(certificate.preprocess_digest) == 32
    with pytest.raises(ValueError, match="are not the rows on which"):
        verify(exported[1], scaled(exported[2], 0.51))


# Another file -----------------------------------------------------------------------


def cut_off(content):
    return content[: len(content) // 2]


def nothing(content):
    return b""


def one_bit(content):
    at = len(content) // 2
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


@pytest.mark.parametrize("spoil", [cut_off, nothing, one_bit])
def test_another_file_is_told_by_its_digest(exported, copied, spoil):
    path, _ = copied
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(ValueError, match="is not the file that its certificate is of"):
        verify(path, exported[2], exported[0])


def test_the_certificate_of_another_model_does_not_do(exported, copied, tmp_path):
    X = rows(60)
    skood.export.export(KNN(3).fit(X), tmp_path / "other.onnx", X[:2])
    shutil.copy(tmp_path / "other.onnx.json", copied[1])
    with pytest.raises(ValueError, match="is not the file that its certificate is of"):
        verify(copied[0], exported[2], exported[0])


def test_a_file_without_its_certificate_is_told(exported, copied):
    copied[1].unlink()
    with pytest.raises(FileNotFoundError, match="has no certificate: there is no"):
        verify(copied[0], exported[2])


def reordered(model):
    outputs = [*model.graph.output]
    del model.graph.output[:]
    model.graph.output.extend([outputs[1], outputs[0], *outputs[2:]])


def renamed(model):
    for node in model.graph.node:
        names = ["points" if n == "score" else n for n in node.output]
        inputs = ["points" if n == "score" else n for n in node.input]
        node.output[:], node.input[:] = names, inputs
    model.graph.output[1].name = "points"


@pytest.mark.parametrize("spoil", [reordered, renamed])
def test_outputs_keep_their_names_and_order(exported, copied, spoil):
    forged(*copied, spoil)
    with pytest.raises(ValueError, match="wanted are output, score, p_value, is_inl"):
        verify(copied[0], exported[2], exported[0])


def changed(wanted, change):
    """Return what changes the constants of a model that are these numbers."""

    def spoil(model):
        found = 0
        for constant in model.graph.initializer:
            values = onnx.numpy_helper.to_array(constant)
            if values.size == wanted.size and np.allclose(values.ravel(), wanted):
                found += 1
                new = onnx.numpy_helper.from_array(change(values), constant.name)
                constant.CopyFrom(new)
        assert found, "the model has no such constants"

    return spoil


def test_an_edited_calibration_is_found_by_its_p_values(exported, copied):
    """Scores and decisions are as they were."""
    pipeline, _, new = exported
    scores = np.sort(pipeline[-1].calibration_scores_)
    forged(*copied, changed(scores, lambda values: values + 0.3))
    with pytest.raises(ValueError, match=r"of 80 p-values are those of other") as error:
        verify(copied[0], new, pipeline)
    assert "decisions" not in str(error.value)
    with pytest.raises(ValueError, match="p-values"):
        verify(copied[0], scaled(new, 0.5))


def test_an_edited_threshold_is_found_by_its_decisions(exported, copied):
    pipeline, _, new = exported
    threshold = np.array([pipeline[-1].offset_])
    forged(*copied, changed(threshold, lambda values: values + 1))
    with pytest.raises(ValueError, match="decisions differ") as error:
        verify(copied[0], new, pipeline)
    assert "scores differ" not in str(error.value)


# Another certificate ----------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {"rtol": 10.0},
        {"band": 5.0},
        {"threshold": 0.0},
        {"layers": [["0", "max"], ["1", "avg"]]},
        {"preprocess": "nothing to be done"},
        {"network_digest": None},
    ],
)
def test_a_certificate_that_was_edited_differs_from_the_one_inside(
    exported, copied, changes
):
    (name,) = changes
    edited(copied[1], **changes)
    with pytest.raises(ValueError, match=f"inside of .*, of {name}: one has been"):
        verify(copied[0], exported[2], exported[0])


def test_edited_scores_are_found(exported, copied):
    known = json.loads(copied[1].read_text())["reference"]
    known["score"][3] += 0.1
    edited(copied[1], reference=known)
    with pytest.raises(ValueError, match="scores differ"):
        verify(copied[0], scaled(exported[2], 0.5))


def test_each_missing_key_is_named(exported):
    known = json.loads(exported[1].with_suffix(".onnx.json").read_text())
    for name in known:
        rest = {k: v for k, v in known.items() if k != name}
        message = "has no format" if name == "format" else f"certificate lacks {name}:"
        with pytest.raises(ValueError, match=message):
            Certificate.read(json.dumps(rest))
    for name in known["parity"]:
        rest = {k: v for k, v in known["parity"].items() if k != name}
        with pytest.raises(ValueError, match=f"its parity lacks {name}:"):
            Certificate.read(json.dumps(known | {"parity": rest}))
    assert Certificate.read(json.dumps(known | {"of a later version": 1})).parity


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"threshold": "high"}, "threshold='high', which is no float"),
        ({"parity": []}, "parity=.*, which is no Parity"),
        ({"layers": "0"}, "layers='0', which is no list"),
        ({"rtol": None}, "rtol=None, which is no float"),
        ({"format": 2}, "format 2, this version reads 1: update"),
    ],
)
def test_what_is_of_another_type_is_named(exported, copied, changes, message):
    edited(copied[1], **changes)
    with pytest.raises(ValueError, match=message):
        verify(copied[0], exported[2])


@pytest.mark.parametrize("text", ["", "[]", "3", "null", "{}", '{"format": ', "\x00"])
def test_what_is_no_certificate_is_told(exported, copied, text):
    copied[1].write_text(text)
    with pytest.raises(ValueError, match=r"onnx\.json: this is no certificate of"):
        verify(copied[0], exported[2])


# What is not written ----------------------------------------------------------------


def wrong_place(folder, kind):
    """Return a path where no file can be, and what is said of it."""
    if kind == "folder":
        (folder / "a.onnx").mkdir()
        return folder / "a.onnx", "it is a folder"
    if kind == "certificate":
        (folder / "a.onnx.json").mkdir()
        return folder / "a.onnx", r"json cannot be written: it is a folder"
    if kind == "nowhere":
        return folder / "no" / "a.onnx", "there is no folder .*no"
    (folder / "file").touch()
    return folder / "file" / "a.onnx", "file is no folder"


@pytest.mark.parametrize("kind", ["folder", "certificate", "nowhere", "in a file"])
def test_a_place_where_nothing_can_be_is_told_before_any_work(tmp_path, kind):
    path, message = wrong_place(tmp_path, kind)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(OSError, match=message):
        skood.export.export(None, path, None)
    assert sorted(tmp_path.rglob("*")) == before


def test_files_that_were_there_stay_if_the_new_ones_cannot_be_written(
    exported, copied, monkeypatch
):
    before = [file.read_bytes() for file in copied]

    def full(*_):
        raise OSError("no space left")

    monkeypatch.setattr(Certificate, "text", lambda self, inside=False: full())
    X = rows(60)
    with pytest.raises(OSError, match="no space"):
        skood.export.export(KNN(3).fit(X), copied[0], X[:2])
    assert [file.read_bytes() for file in copied] == before
    assert sorted(copied[0].parent.iterdir()) == sorted(copied)


@pytest.mark.parametrize("fill", [np.nan, np.inf, None])
def test_rows_that_cannot_be_scored_make_no_file(tmp_path, fill):
    X = rows(60)
    new = X[:0] if fill is None else np.where(np.arange(8) == 2, fill, X[:9])
    with pytest.raises(ValueError, match="0 sample" if fill is None else "(?i)nan|inf"):
        skood.export.export(KNN(3).fit(X), tmp_path / "a.onnx", X[:2], new)
    assert not [*tmp_path.iterdir()]


# Banks ------------------------------------------------------------------------------


def test_a_file_with_a_smaller_bank_is_verified_by_its_pipeline(tmp_path):
    X, new = rows(300), rows(50, seed=1)
    detector = KNN(20).fit(X)
    path = tmp_path / "knn.onnx"
    made = skood.export.export(detector, path, new[:2], new, max_bank=100)
    assert made.bank["max_bank"] == 100
    assert verify(path, new, detector).parity.score_difference < 1e-9
    assert len(detector.banks_["array", "avg"]) == 300


def test_a_module_that_is_given_is_held_against_the_whole_pipeline(tmp_path):
    X, new = rows(300), rows(50, seed=1)
    detector = KNN(20).fit(X)
    module, path = to_module(detector, new), tmp_path / "knn.onnx"
    made = skood.export.export(
        detector, path, new[:2], new, module=module, max_bank=100
    )
    assert made.bank is None


# P-values ---------------------------------------------------------------------------


def test_p_values_are_off_where_no_score_so_near_has_them():
    scores = np.array([0.0, 1.0, 2.0, 3.0, -np.inf])
    p_values = np.array([0.2, 0.4, 0.4, 0.8, 0.1])
    wanted = Judgement(scores, p_values, scores > 0.5)

    def off(*values):
        found = Judgement(scores, np.array(values), scores > 0.5)
        return Parity.of(wanted, found, 0.5).p_values_off

    assert off(*p_values) == 0
    assert off(0.3, 0.4, 0.6, 1.0, 0.1) == 0  # a step further
    assert off(0.2, 0.41, 0.4, 0.8, 0.1) == 1
    assert off(0.2, 0.4, 0.39, 0.3, 0.1) == 2
    assert off(0.05, 0.4, 0.4, np.nan, 0.3) == 3
    none = Judgement(scores, np.full(5, np.nan), scores > 0.5)
    assert Parity.of(none, wanted, 0.5).p_values_off == 5
    assert Parity.of(none, copy.copy(none), 0.5).p_values_off == 0
