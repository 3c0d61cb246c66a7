"""What the trained classifiers share: labels, seeds, skorch's parts, files."""

from __future__ import annotations

import pickle
import subprocess
import sys
from io import BytesIO

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone, is_classifier
from sklearn.datasets import make_blobs
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skorch.callbacks import Checkpoint, EarlyStopping, EpochScoring
from skorch.dataset import ValidSplit
from torch import nn

from skood import LayerFeatures
from skood.neural import MLP, AnchoredClassifier, EnergyRegularizedClassifier
from skood.neural.inputs import as_rows, encoded, resolved_labels

CLASSES = [AnchoredClassifier, EnergyRegularizedClassifier]
COMMON = {
    "module__n_features": 4,
    "module__n_classes": 3,
    "module__width": 16,
    "max_epochs": 3,
    "batch_size": 32,
    "lr": 0.01,
    "random_state": 0,
    "device": "cpu",
}


def net_of(kind, **params):
    return kind(MLP, **{**COMMON, **params})


@pytest.fixture(scope="module")
def blobs():
    X, y = make_blobs(150, 4, centers=3, random_state=0)
    return X, y


def both(function):
    return pytest.mark.parametrize("kind", CLASSES, ids=lambda k: k.__name__)(function)


# Labels ------------------------------------------------------------------------------


@both
@pytest.mark.parametrize(
    "names",
    [
        np.array(["cat", "dog", "eel"]),
        np.array(["cat", "dog", "eel"], dtype=object),
        np.array([3, 7, 100], dtype=np.int8),
        np.array([1.0, 2.0, 9.0]),
    ],
    ids=["text", "object", "int8", "float"],
)
def test_labels_of_any_type(kind, blobs, names):
    X, y = blobs
    expected = net_of(kind).fit(X, y)
    net = net_of(kind).fit(X, names[y])
    assert is_classifier(net)
    np.testing.assert_array_equal(net.classes_, names)
    np.testing.assert_array_equal(net.predict_proba(X), expected.predict_proba(X))
    np.testing.assert_array_equal(net.predict(X), names[expected.predict(X)])
    assert net.score(X, names[y]) == expected.score(X, y) > 0.8


def test_outliers_are_of_no_class(blobs):
    X, y = blobs
    far = np.full((20, 4), 50.0)
    labels = np.concatenate([y, np.full(20, -1)])
    mixed = net_of(AnchoredClassifier).fit(np.concatenate([X, far]), labels)
    alone = net_of(AnchoredClassifier).fit(X, y)
    assert mixed.classes_.tolist() == [0, 1, 2]
    np.testing.assert_array_equal(mixed.predict_proba(X), alone.predict_proba(X))
    everything = np.concatenate([X, far])
    assert mixed.score(everything, labels) == alone.score(X, y)
    text = np.concatenate([np.array(["a", "b", "c"])[y], ["-1"] * 20])
    assert net_of(AnchoredClassifier).fit(everything, text).classes_.tolist() == [
        "a",
        "b",
        "c",
    ]


def test_classes_in_the_order_of_a_trained_network(blobs):
    X, y = blobs
    net = net_of(AnchoredClassifier, classes=[2, 0, 1]).fit(X, y)
    assert net.classes_.tolist() == [2, 0, 1]
    assert net.score(X, y) > 0.8
    with pytest.raises(ValueError, match=r"the label 1, which is not among .*\[0, 2"):
        net_of(AnchoredClassifier, classes=[0, 2, 5]).fit(X, y)


@both
def test_partial_fit_goes_on(kind, blobs):
    X, y = blobs
    net = net_of(kind, train_split=None)
    assert not hasattr(net, "classes_")
    first = y < 2
    net.partial_fit(X[first], y[first], classes=[0, 1, 2])
    for _ in range(4):
        net.partial_fit(X, y)
    assert len(net.history_) == 15
    assert net.score(X, y) > 0.8
    with pytest.raises(
        ValueError, match=r"has the label 8.*partial_fit\(X, y, classes"
    ):
        net.partial_fit(X, np.where(y == 0, 8, y))
    with pytest.raises(ValueError, match=r"X has 3 features, but .* expecting 4"):
        net.partial_fit(X[:, :3], y)
    again = net_of(kind, warm_start=True).fit(X, y)
    assert len(again.fit(X, y).history_) == 6


# Random numbers ----------------------------------------------------------------------


@both
def test_one_seed_one_network(kind, blobs):
    X, y = blobs
    first, second, other = (
        net_of(kind, module__depth=1, random_state=s).fit(X, y).predict_proba(X)
        for s in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, second)
    assert not np.allclose(first, other)
    net = net_of(kind).fit(X, y)
    again = net.predict_proba(X)
    np.testing.assert_array_equal(net.fit(X, y).predict_proba(X), again)


@both
def test_global_generators_are_left_alone(kind, blobs):
    X, y = blobs
    torch.manual_seed(7)
    np.random.seed(7)
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    net_of(kind).fit(X, y).predict(X)
    assert torch.equal(torch.get_rng_state(), before[0])
    np.testing.assert_array_equal(np.random.get_state()[1], before[1])


def test_without_a_seed_networks_differ(blobs):
    X, y = blobs
    one, two = (
        net_of(AnchoredClassifier, random_state=None).fit(X, y) for _ in range(2)
    )
    assert not np.allclose(one.predict_proba(X), two.predict_proba(X))
    state = np.random.RandomState(3)
    net_of(AnchoredClassifier, random_state=state).fit(X, y)


# scikit-learn and skorch -------------------------------------------------------------


@both
def test_clone_and_nested_parameters(kind, blobs):
    X, y = blobs
    net = net_of(kind).fit(X, y)
    copied = clone(net)
    with pytest.raises(NotFittedError):
        copied.predict(X)
    assert copied.get_params()["module__width"] == 16
    np.testing.assert_array_equal(copied.fit(X, y).predict(X), net.predict(X))
    wider = clone(net).set_params(module__width=5).fit(X, y)
    assert next(wider.module_.parameters()).shape[0] == 5


@both
def test_grid_search(kind, blobs):
    X, y = blobs
    names = np.array(["a", "b", "c"])[y]
    grid = {"module__width": [4, 16], "lr": [1e-4, 0.03]}
    search = GridSearchCV(net_of(kind), grid, cv=3, error_score="raise").fit(X, names)
    assert search.best_params_["lr"] == 0.03
    assert set(search.predict(X)) == {"a", "b", "c"}
    pipe = make_pipeline(StandardScaler(), net_of(kind, max_epochs=10))
    assert cross_val_score(pipe, X, names, error_score="raise").mean() > 0.8


@both
def test_skorch_callbacks_see_classes_by_index(kind, blobs, tmp_path):
    X, y = blobs
    names = np.array(["a", "b", "c"])[y]
    net = net_of(
        kind,
        max_epochs=30,
        callbacks=[
            EpochScoring("f1_macro", name="f1", lower_is_better=False),
            Checkpoint(monitor="valid_loss_best", dirname=tmp_path),
            EarlyStopping(patience=2, threshold=0.5, load_best=True),
        ],
    ).fit(X, names)
    assert 3 <= len(net.history_) < 30
    assert net.history_[-1, "f1"] > 0.3
    assert net.history_[-1, "valid_acc"] > 0.3
    later = net_of(kind).fit(X, names)
    later.load_params(checkpoint=Checkpoint(dirname=tmp_path))
    assert set(later.predict(X)) <= {"a", "b", "c"}


@both
def test_own_split_and_mixed_precision(kind, blobs):
    X, y = blobs
    split = ValidSplit(0.3, stratified=True, random_state=1)
    net = net_of(kind, autocast=True, train_split=split, max_epochs=10).fit(X, y)
    assert net.score(X, y) > 0.8
    assert next(net.module_.parameters()).dtype == torch.float32
    assert net.predict_proba(X).dtype == np.float64


@both
def test_verbose_prints(kind, blobs, capsys):
    X, y = blobs
    net_of(kind).fit(X, y)
    assert capsys.readouterr().out == ""
    net_of(kind, verbose=1).fit(X, y)
    assert "train_loss" in capsys.readouterr().out


@both
@pytest.mark.parametrize(
    "convert",
    [
        torch.from_numpy,
        pd.DataFrame,
        np.ndarray.tolist,
        lambda X: LayerFeatures({"a": X[:, :3], "b": X[:, 3:]}),
    ],
    ids=["tensor", "frame", "list", "features"],
)
def test_inputs_of_any_kind(kind, blobs, convert):
    X, y = blobs
    expected = net_of(kind).fit(X, y).predict_proba(X)
    net = net_of(kind).fit(convert(X), torch.from_numpy(y))
    np.testing.assert_array_equal(net.predict_proba(convert(X)), expected)


@both
def test_memory_maps_and_read_only_arrays(kind, blobs, tmp_path):
    X, y = blobs
    np.save(tmp_path / "X.npy", X)
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
    assert np.shares_memory(as_rows(mapped), mapped)
    expected = net_of(kind).fit(X, y).predict_proba(X)
    net = net_of(kind).fit(mapped, y)
    np.testing.assert_array_equal(net.predict_proba(mapped), expected)


@both
@pytest.mark.parametrize("dtype", [">f4", ">f8", "longdouble", ">i4", ">u2"])
def test_types_that_torch_lacks(kind, blobs, dtype):
    X, y = np.rint(np.abs(blobs[0])), blobs[1]
    native = {">f4": "f4", ">i4": "i4", ">u2": "u2"}.get(dtype, "f8")
    expected = net_of(kind).fit(X.astype(native), y).predict_proba(X.astype(native))
    found = net_of(kind).fit(X.astype(dtype), y).predict_proba(X.astype(dtype))
    np.testing.assert_array_equal(found, expected)


def test_what_is_too_large_for_torch_is_told():
    if np.finfo(np.longdouble).max == np.finfo(np.float64).max:
        pytest.skip("longdouble is float64 here")
    with pytest.raises(ValueError, match="X contains infinity"):
        as_rows(np.array([[np.longdouble("1e400")]]))


def test_pixels_are_cast(blobs):
    images = np.random.default_rng(0).integers(0, 255, (40, 1, 6, 6)).astype(np.uint8)
    y = np.arange(40) % 2
    net = EnergyRegularizedClassifier(
        nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(32, 2)),
        random_state=0,
    )
    assert net.fit(images, y).predict(images).shape == (40,)


@both
def test_whole_numbers_are_numbers_unless_there_are_tokens(kind, blobs):
    X, y = blobs
    whole = (10 * X).astype(np.int64)
    expected = net_of(kind).fit(whole.astype(np.float32), y).predict_proba(X)
    np.testing.assert_array_equal(net_of(kind).fit(whole, y).predict_proba(X), expected)


def test_numbers_of_tokens():
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1, -1], 40)
    tokens = rng.integers(0, 5, (120, 6)) + 5 * (y % 3)[:, None]
    network = nn.Sequential(nn.Embedding(15, 8), nn.Flatten(), nn.Linear(48, 2))
    net = EnergyRegularizedClassifier(network, max_epochs=20, lr=0.01, random_state=0)
    assert net.fit(tokens, y).score(tokens, y) == 1


# Files -------------------------------------------------------------------------------


@both
def test_files(kind, blobs):
    X, y = blobs
    net = net_of(kind).fit(X, y)
    file = BytesIO()
    joblib.dump(net, file)
    file.seek(0)
    for again in (joblib.load(file), pickle.loads(pickle.dumps(net))):
        np.testing.assert_array_equal(again.predict_proba(X), net.predict_proba(X))
        again.partial_fit(X, y)
    state = net.__getstate__()
    with pytest.raises(ValueError, match=r"saved by skood 99\.0, newer than"):
        clone(net).__setstate__({**state, "_skood_version": "99.0"})


@both
@pytest.mark.parametrize("device", ["auto", "cuda"])
@pytest.mark.skipif(torch.cuda.is_available(), reason="is about machines without CUDA")
def test_a_file_of_a_cuda_machine_opens_here(kind, blobs, device):
    X, y = blobs
    net = net_of(kind).fit(X, y)
    expected = net.predict_proba(X)
    net.device = device  # as it was there
    written = pickle.dumps(net)
    if device == "cuda":
        with pytest.warns(UserWarning, match="device='cuda' of the file is not avail"):
            again = pickle.loads(written)
        assert again.device == "cpu"
    else:
        again = pickle.loads(written)
        assert again.device == "auto"
    np.testing.assert_array_equal(again.predict_proba(X), expected)
    again.partial_fit(X, y)


@both
def test_weights_are_arrays_in_a_file(kind, blobs):
    X, y = blobs
    net = net_of(kind).fit(X, y)
    file = pickle.dumps(net)
    assert b"torch." not in file
    assert b"skorch." not in file
    # A module given as an instance is kept, on the CPU.
    given = kind(MLP(4, 3), **{k: v for k, v in COMMON.items() if "module" not in k})
    given.fit(X, y)
    again = pickle.loads(pickle.dumps(given))
    np.testing.assert_array_equal(again.predict_proba(X), given.predict_proba(X))
    assert type(clone(again).module) is MLP


@both
def test_training_goes_on_from_a_file_as_if_it_had_not_stopped(kind, blobs):
    X, y = blobs
    net = net_of(kind).fit(X, y)
    again = pickle.loads(pickle.dumps(net))
    for one in (net, again):
        one.partial_fit(X, y)
    np.testing.assert_array_equal(again.predict_proba(X), net.predict_proba(X))
    assert again.history_[:, "train_loss"] == net.history_[:, "train_loss"]


@both
def test_a_file_leaves_random_numbers_alone(kind, blobs):
    X, y = blobs
    written = pickle.dumps(net_of(kind, random_state=None).fit(X, y))
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    pickle.loads(written)
    np.testing.assert_array_equal(torch.get_rng_state(), before[0])
    np.testing.assert_array_equal(np.random.get_state()[1], before[1])


@both
def test_files_keep_parameters_of_ones_own(kind, blobs):
    X, y = blobs
    own = {
        "optimizer": torch.optim.SGD,
        "optimizer__momentum": 0.9,
        "callbacks": [("score", EpochScoring("accuracy", name="mine"))],
        "train_split": ValidSplit(3, stratified=True),
    }
    net = net_of(kind, **own).fit(X, y)
    again = pickle.loads(pickle.dumps(net))
    assert again.optimizer is torch.optim.SGD
    assert again.optimizer_.state_dict()["param_groups"][0]["momentum"] == 0.9
    assert again.train_split.cv == 3
    assert [name for name, _ in again.callbacks] == ["score"]
    assert set(again.get_params()) == set(net.get_params())
    default = net_of(kind)
    loaded = pickle.loads(pickle.dumps(clone(default)))
    assert loaded.criterion is default.criterion
    assert loaded.train_split is default.train_split
    assert loaded.get_params(deep=False).keys() == default.get_params(deep=False).keys()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA")
@both
def test_on_the_accelerator(kind, blobs):
    X, y = blobs
    net = net_of(kind, device="auto", max_epochs=10).fit(X, y)
    assert next(net.module_.parameters()).is_cuda
    assert net.score(X, y) > 0.8


# Errors ------------------------------------------------------------------------------


@both
@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda X, y: (X, None), "the target y is None: give class labels"),
        (lambda X, y: (X, y[:-2]), "y has 148 labels for the 150 rows of X"),
        (lambda X, y: (X, np.full(150, -1)), "every row of y is -1, an outlier"),
        (lambda X, y: (X, np.zeros(150)), r"y has one class \(\[0.0\]\)"),
        (lambda X, y: (X, np.where(y == 0, np.nan, y)), "y contains NaN"),
        (lambda X, y: (np.where(X > 9, np.nan, X), y), "X contains NaN"),
        (lambda X, y: (X[:, 0], y), r"X has shape \(150,\): wanted is \(n, d\)"),
        (lambda X, y: (X[:0], y[:0]), r"X has shape \(0, 4\)"),
        (lambda X, y: (X.astype(str), y), "X is of <U.*: wanted are real numbers"),
        (lambda X, y: (X * 1j, y), "X is of complex128: wanted are real"),
        (lambda X, y: (X[:, :3], y), r"shape \(3,\)"),
        (lambda X, y: (X, y + 1 + (y == 2)), None),
    ],
)
def test_bad_data_is_refused(kind, blobs, change, text):
    X, y = change(*blobs)
    if text is None:
        net_of(kind).fit(X, y)
        return
    with pytest.raises(ValueError, match=text):
        net_of(kind).fit(X, y)


@both
def test_parameters_are_checked(kind, blobs):
    X, y = blobs
    for change, text in (
        ({"autocast": "half"}, "'autocast' parameter"),
        ({"augment": 3}, "'augment' parameter"),
        ({"random_state": "now"}, "'random_state' parameter"),
        ({"device": "abacus"}, "device='abacus' is not available"),
    ):
        with pytest.raises(ValueError, match=text):
            net_of(kind, **change).fit(X, y)
    data = torch.utils.data.TensorDataset(torch.from_numpy(X))
    with pytest.raises(TypeError, match="X is a TensorDataset: wanted is an array"):
        net_of(kind).fit(data, y)
    net = net_of(kind).fit(X, y)
    with pytest.raises(ValueError, match=r"X has 2 features, but .* expecting 4"):
        net.predict(X[:, :2])


def test_labels_to_indices():
    labels = np.array(["b", "a"])
    assert encoded(np.array(["a", "b", "b"]), labels).tolist() == [1, 0, 0]
    with pytest.raises(ValueError, match="the label 'z', which is not among"):
        encoded(np.array(["a", "z"]), labels)
    with pytest.raises(ValueError, match="classes has -1, which marks outliers"):
        resolved_labels(np.array([0, 1]), [-1, 0, 1])


def test_without_skorch_the_import_names_the_extra():
    code = (
        "import sys; sys.modules['skorch'] = None\n"
        "import skood\n"
        "try:\n    import skood.neural\n"
        "except ImportError as error:\n    print(error)"
    )
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "pip install 'skood[neural]'" in done.stdout
