"""Whatever is given as X comes to the network as the same rows."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest
import torch
from networks import Fragile
from torch import nn
from torch.utils.data import (
    DataLoader,
    Dataset,
    IterableDataset,
    SubsetRandomSampler,
    TensorDataset,
)

from skood import FeatureStore, LayerFeatureTransformer, list_layers
from skood.extraction.inputs import Inputs, Loaded
from skood.features import LOGITS


@pytest.fixture
def X():
    return np.random.default_rng(0).normal(size=(10, 3))


@pytest.fixture
def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.ReLU(inplace=True), nn.Linear(3, 2))


def logits(network, X, preprocess=None, batch_size=4):
    features = LayerFeatureTransformer(
        network, "logits", preprocess=preprocess, batch_size=batch_size
    )
    return features.fit_transform(X).block(LOGITS)


def expected(network, X):
    with torch.no_grad():
        return network(torch.tensor(X, dtype=torch.float32)).numpy()


class Plain(Dataset):
    """Items without labels."""

    def __init__(self, X):
        self.X = X

    def __len__(self):
        return len(self.X)

    def __getitem__(self, row):
        return torch.tensor(self.X[row])


FORMS = {
    "float64": lambda X: X,
    "float32": lambda X: X.astype(np.float32),
    "float16": lambda X: X.astype(np.float16),
    "big-endian": lambda X: X.astype(">f8"),
    "fortran": np.asfortranarray,
    "reversed": lambda X: X[::-1].copy()[::-1],
    "tensor": torch.tensor,
    "list": lambda X: X.tolist(),
    "list of arrays": list,
    "list of tensors": lambda X: [torch.tensor(row) for row in X],
    "list of a Dataset's items": lambda X: [(torch.tensor(row), 7) for row in X],
    "frame": pd.DataFrame,
    "Dataset": Plain,
    "Dataset with labels": lambda X: TensorDataset(
        torch.tensor(X), torch.zeros(len(X))
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_features(form, network, X):
    tolerance = 1e-2 if form == "float16" else 1e-6
    found = logits(network, FORMS[form](X))
    np.testing.assert_allclose(found, expected(network, X), atol=tolerance)


@pytest.mark.parametrize(
    ("form", "preprocess"),
    [
        ("float64", lambda rows: torch.tensor(rows) / 2),
        ("float64", lambda rows: rows / 2),
        ("tensor", lambda rows: rows / 2),
        ("frame", lambda rows: rows.to_numpy() / 2),
        ("list", lambda rows: [[v / 2 for v in row] for row in rows]),
        ("Dataset with labels", lambda rows: rows / 2),
        ("list of a Dataset's items", lambda rows: (rows / 2,)),
        ("list of arrays", lambda rows: {"input": np.stack(rows) / 2}),
    ],
)
def test_preprocess_gets_some_rows_of_the_kind_given(form, preprocess, network, X):
    found = logits(network, FORMS[form](X), preprocess)
    np.testing.assert_allclose(found, expected(network, X / 2), atol=1e-6)


def test_texts_come_to_preprocess_as_a_list(network):
    texts = ["a", "bcd", "ef"]

    def lengths(rows):
        assert isinstance(rows, list)
        return torch.tensor([[len(text)] * 3 for text in rows]).float()

    forms = [texts, np.array(texts), np.array(texts, object), pd.Series(texts)]
    for form in forms:
        found = logits(network, form, lengths, batch_size=2)
        np.testing.assert_allclose(
            found, expected(network, [[1] * 3, [3] * 3, [2] * 3])
        )


def test_items_that_make_no_batch_come_to_preprocess_as_a_list(network):
    class Picture:
        def __init__(self, value):
            self.value = value

    class Pictures(Plain):
        def __getitem__(self, row):
            return Picture(self.X[row]), 0

    def stacked(pictures):
        return np.stack([picture.value for picture in pictures])

    X = np.ones((5, 3))
    found = logits(network, Pictures(X), stacked)
    np.testing.assert_allclose(found, expected(network, X))
    message = r"rows of X \(Picture\) do not make one tensor .*give preprocess="
    with pytest.raises(TypeError, match=message):
        logits(network, Pictures(X))


def test_a_dataset_of_dicts_gives_keyword_arguments(network, X):
    class Dicts(Plain):
        def __getitem__(self, row):
            return {"input": torch.tensor(self.X[row])}

    found = logits(network, Dicts(X))
    np.testing.assert_allclose(found, expected(network, X), atol=1e-6)


def test_the_networks_in_place_operations_leave_X_alone(network, X):
    given = X.astype(np.float32)
    tensor = torch.tensor(given)
    before = given.copy()
    logits(network, given)
    logits(network, tensor)
    logits(network, given, torch.from_numpy)
    np.testing.assert_array_equal(given, before)
    np.testing.assert_array_equal(tensor, before)


def test_a_memory_map_is_read_by_the_batch(network, X, tmp_path):
    np.save(tmp_path / "X.npy", X)
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
    seen = []

    def watched(rows):
        seen.append((type(rows), len(rows), np.shares_memory(rows, mapped)))
        return np.array(rows)

    found = logits(network, mapped, watched)
    assert {(kind, shared) for kind, _, shared in seen} == {(np.memmap, True)}
    assert max(length for _, length, _ in seen) == 4
    np.testing.assert_allclose(found, expected(network, X), atol=1e-6)
    np.testing.assert_allclose(logits(network, mapped), found)


def test_integers_stay_integers():
    network = nn.Sequential(nn.Embedding(10, 4), nn.Flatten(), nn.Linear(8, 2))
    X = np.arange(6).reshape(3, 2)
    assert logits(network, X).shape == (3, 2)


def test_inputs_are_cast_to_the_type_of_the_weights(X):
    for dtype in (torch.float64, torch.bfloat16):
        network = nn.Sequential(nn.Linear(3, 2)).to(dtype)
        for given in (X, X.astype(np.float32), torch.tensor(X)):
            assert logits(network, given).shape == (10, 2)


def test_inputs_of_a_network_of_several_types_are_left_alone():
    class Mixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Linear(3, 3).double()
            self.b = nn.Linear(3, 2)

        def forward(self, x):
            return self.b(self.a(x).float())

    assert logits(Mixed(), np.ones((4, 3))).shape == (4, 2)


def test_rows_can_be_taken_and_keep_their_numbers(X):
    inputs = Inputs(X).take(np.array([7, 2, 9]))
    assert len(inputs) == 3
    np.testing.assert_array_equal(inputs[slice(1, 3)].args[0], X[[2, 9]])
    again = inputs.take(np.array([2, 0]))
    np.testing.assert_array_equal(again.numbers(slice(None)), [9, 7])
    listed = Inputs(X.tolist()).take(np.array([7, 2]))
    np.testing.assert_array_equal(listed[slice(0, 2)].args[0], X[[7, 2]])


# Items that hold more than one input, or of several lengths -------------------------


class Pair(nn.Module):
    """Takes two inputs, of which the second may be left out."""

    def __init__(self, required=False):
        super().__init__()
        self.fc = nn.Linear(3, 2)
        if required:
            self.forward = self.both

    def forward(self, x, shift=None):
        return self.fc(x if shift is None else x + shift)

    def both(self, x, shift):
        return self.fc(x + shift)


class Listed(Dataset):
    def __init__(self, items):
        self.items = items

    def __len__(self):
        return len(self.items)

    def __getitem__(self, row):
        return self.items[row]


KINDS = {"arrays": np.asarray, "tensors": torch.as_tensor}
HOLDERS = {"list": list, "Dataset": Listed}


def seen_by_preprocess(X, preprocess=None, network=None):
    """The forms of what preprocess got, and the features."""
    seen = []

    def noted(rows):
        seen.append(rows)
        return rows if preprocess is None else preprocess(rows)

    torch.manual_seed(0)
    found = logits(network or nn.Linear(3, 2), X, noted)
    return seen, found


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("holder", HOLDERS)
def test_rows_of_several_lengths_come_as_a_list(kind, holder):
    rng = np.random.default_rng(0)
    rows = [rng.normal(size=(n, 3)).astype(np.float32) for n in (3, 7, 2, 5, 4)]
    given = HOLDERS[holder]([KINDS[kind](row) for row in rows])

    def means(items):
        return torch.stack([torch.as_tensor(item).mean(0) for item in items])

    seen, found = seen_by_preprocess(given, means)
    # one row alone makes a batch of a Dataset
    assert all(isinstance(part, list) for part in seen if len(part) > 1)
    torch.manual_seed(0)
    expected = nn.Linear(3, 2)(means(rows)).detach()
    np.testing.assert_allclose(found, expected, atol=1e-6)
    message = "do not make one tensor .*: give preprocess=.*pad_sequence"
    with pytest.raises(TypeError, match=message):
        logits(nn.Linear(3, 2), given)


@pytest.mark.parametrize("kind", KINDS)
def test_a_list_comes_as_a_list_and_samples_as_a_batch(kind, X):
    rows = [KINDS[kind](row) for row in X.astype(np.float32)]
    seen, _ = seen_by_preprocess(rows, np.stack)
    assert all(isinstance(part, list) for part in seen)
    seen, _ = seen_by_preprocess([(row, 1) for row in rows])
    assert all(isinstance(part, torch.Tensor) for part in seen)
    seen, _ = seen_by_preprocess(Listed([(row, 1) for row in rows]))
    assert all(isinstance(part, torch.Tensor) for part in seen)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("holder", [*HOLDERS, "TensorDataset", "tuple"])
def test_two_inputs_of_an_item_are_taken_or_asked_about(kind, holder, X):
    torch.manual_seed(0)
    X = X.astype(np.float32)
    other = X[::-1].copy()
    pairs = [(KINDS[kind](a), KINDS[kind](b)) for a, b in zip(X, other, strict=True)]
    given = {
        "TensorDataset": TensorDataset(torch.tensor(X), torch.tensor(other)),
        "tuple": (KINDS[kind](X), KINDS[kind](other)),
    }.get(holder) or HOLDERS[holder](pairs)
    for network in (Pair(), Pair(required=True)):
        expected = network.fc(torch.tensor(X + other)).detach()
        found = logits(network, given, lambda parts: parts)
        np.testing.assert_allclose(found, expected, atol=1e-6)
        by_name = logits(
            network, given, lambda parts: {"x": parts[0], "shift": parts[1]}
        )
        np.testing.assert_allclose(by_name, expected, atol=1e-6)
        if holder == "tuple" or "forward" in vars(network):
            np.testing.assert_allclose(logits(network, given), expected, atol=1e-6)
        else:
            message = r"2 parts that may be inputs .* preprocess=lambda parts: parts\[0"
            with pytest.raises(TypeError, match=message):
                logits(network, given)
    first = logits(Pair(), given, lambda parts: parts[0])
    assert first.shape == (10, 2)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("holder", HOLDERS)
def test_targets_of_a_network_with_one_input_are_no_inputs(kind, holder, network, X):
    masks = np.ones((10, 2, 2))
    pairs = zip(X, masks, strict=True)
    given = HOLDERS[holder]([(KINDS[kind](a), KINDS[kind](b)) for a, b in pairs])
    found = logits(network, given)
    np.testing.assert_allclose(found, expected(network, X), atol=1e-6)
    found = logits(network, given, lambda rows: rows / 2)
    np.testing.assert_allclose(found, expected(network, X / 2), atol=1e-6)


def test_a_preprocess_that_gets_two_inputs_is_told(X):
    pairs = TensorDataset(torch.tensor(X), torch.tensor(X))
    with pytest.raises(TypeError) as caught:
        logits(Pair(), pairs, lambda rows: rows / 2)
    assert "a tuple of 2 parts" in "\n".join(getattr(caught.value, "__notes__", [""]))


def test_a_tuple_of_tables_has_as_many_rows_each(X):
    with pytest.raises(ValueError, match="a tuple of arrays with 10, 9 rows"):
        logits(Pair(), (X, X[:9]))


@pytest.mark.parametrize("kind", KINDS)
def test_dictionaries_in_a_list_are_named_inputs(kind, X):
    torch.manual_seed(0)
    X = X.astype(np.float32)
    rows = [{"x": KINDS[kind](row), "shift": KINDS[kind](row)} for row in X]
    network = Pair()
    found = logits(network, rows)
    want = network.fc(2 * torch.tensor(X)).detach()
    np.testing.assert_allclose(found, want, atol=1e-6)
    seen, _ = seen_by_preprocess(
        rows, lambda items: np.stack([item["x"] for item in items])
    )
    assert all(isinstance(part, list) for part in seen)


def test_a_data_set_with_a_shape_is_none(X):
    class Columns(Listed):
        shape = (10, 2)

    rows = Columns([{"x": row, "label": 0} for row in X.astype(np.float32)])
    for cache in (None, "memory"):
        features = LayerFeatureTransformer(
            nn.Linear(3, 2), "logits", preprocess=lambda b: b["x"], cache=cache
        )
        assert features.fit_transform(rows).shape == (10, 2)


# Loaders, and data sets with named columns -------------------------------------------


def padded(items):
    return nn.utils.rnn.pad_sequence([x for x, _ in items], batch_first=True)


@pytest.mark.parametrize("shuffle", [False, True])
def test_the_data_set_of_a_loader_is_taken_in_its_own_order(shuffle, network, X):
    data = TensorDataset(torch.tensor(X), torch.zeros(10))
    loader = DataLoader(data, batch_size=3, shuffle=shuffle, drop_last=True)
    np.testing.assert_allclose(logits(network, loader), expected(network, X), atol=1e-6)
    assert len(list_layers(network, loader)) > 1


def test_rows_that_a_loader_chooses_are_those(network, X):
    data = TensorDataset(torch.tensor(X), torch.zeros(10))
    loader = DataLoader(data, sampler=[7, 2, 9])
    found = logits(network, loader)
    np.testing.assert_allclose(found, expected(network, X[[7, 2, 9]]), atol=1e-6)
    drawn = DataLoader(data, sampler=SubsetRandomSampler(range(9)))
    with pytest.raises(TypeError, match=r"SubsetRandomSampler draws rows by chance"):
        logits(network, drawn)


def test_a_loaders_own_function_makes_the_batches():
    rows = [(torch.ones(n, 3), n) for n in (2, 5, 3)]
    loader = DataLoader(Listed(rows), batch_size=2, collate_fn=padded)
    found = logits(nn.Linear(3, 2), loader, lambda batch: batch.sum(1))
    assert found.shape == (3, 2)
    pairs = DataLoader(Listed(rows), collate_fn=lambda i: (padded(i).sum(1), [0, 1]))
    assert logits(nn.Linear(3, 2), pairs).shape == (3, 2)


class Hub:
    """What counts of a data set of Hugging Face: named columns, and rows by number."""

    features = {"x": "float", "label": "int"}  # noqa: RUF012

    def __init__(self, **columns):
        self.columns = columns
        self.shape = (len(self), len(columns))

    @property
    def column_names(self):
        return [*self.columns]

    def __len__(self):
        return len(next(iter(self.columns.values())))

    def __getitem__(self, rows):
        if isinstance(rows, str):
            return self.columns[rows]
        if isinstance(rows, int):
            return {name: column[rows] for name, column in self.columns.items()}
        numbers = range(len(self))[rows] if isinstance(rows, slice) else rows
        return {n: [c[i] for i in numbers] for n, c in self.columns.items()}


@pytest.mark.parametrize("cache", [None, "memory"])
@pytest.mark.parametrize(
    "preprocess", [None, "x", lambda rows: np.array(rows["x"]), lambda rows: rows["x"]]
)
def test_a_column_of_a_data_set_is_chosen(preprocess, cache, network, X):
    data = Hub(x=X.tolist(), label=[0] * 10)
    features = LayerFeatureTransformer(
        network, "logits", preprocess=preprocess, batch_size=4, cache=cache
    )
    found = features.fit_transform(data)
    np.testing.assert_allclose(found, expected(network, X), atol=1e-6)
    np.testing.assert_allclose(
        features.transform(data), expected(network, X), atol=1e-6
    )


def test_columns_are_chosen_by_the_user(network, X):
    data = Hub(x=X.tolist(), y=X.tolist(), label=[0] * 10)
    with pytest.raises(TypeError, match=r"columns \['x', 'y', 'label'\]: .*ess='x'"):
        logits(network, data)
    with pytest.raises(ValueError, match=r"preprocess='z' .* \['x', 'y', 'label'\]"):
        logits(network, data, "z")
    with pytest.raises(ValueError, match=r"preprocess='z' .* X has no named columns"):
        logits(network, X, "z")
    np.testing.assert_allclose(
        logits(network, data, "y"), expected(network, X), atol=1e-6
    )


def test_a_data_set_of_the_library_datasets(network, X):
    datasets = pytest.importorskip("datasets", reason="no dependency of skood's")
    data = datasets.Dataset.from_dict({"x": X.tolist(), "label": [0] * 10})
    np.testing.assert_allclose(
        logits(network, data, "x"), expected(network, X), atol=1e-6
    )


# What is gone through once -----------------------------------------------------------


class Streamed(IterableDataset):
    def __init__(self, items):
        self.items = items

    def __iter__(self):
        return iter(self.items)


STREAMS = {
    "generator": lambda items: (item for item in items),
    "iterator": iter,
    "IterableDataset": Streamed,
    "loader": lambda items: DataLoader(Streamed(items), batch_size=3),
}


@pytest.mark.parametrize("stream", STREAMS)
def test_streams_go_to_a_store(stream, network, X, tmp_path):
    items = [(torch.tensor(x), n) for n, x in enumerate(X)]
    features = LayerFeatureTransformer(network, "logits", batch_size=4)
    store = FeatureStore(tmp_path)
    found = features.extract_to(store, STREAMS[stream](items), progress=False)
    np.testing.assert_allclose(found, expected(network, X), atol=1e-6)
    np.testing.assert_array_equal(store.labels, np.arange(10))
    again = features.extract_to(store, STREAMS[stream](items[5:]), progress=False)
    np.testing.assert_allclose(again, expected(network, X[5:]), atol=1e-6)
    assert store.stats()["rows"] == 10
    message = r"extract_to\(store, X\); or make a list"
    for call in (features.fit, features.transform):
        with pytest.raises(TypeError, match=message):
            call(STREAMS[stream](items))


def test_items_with_keys_have_them_as_ids(network, X, tmp_path):
    def items():
        for number, x in enumerate(X):
            notes = {"__url__": "shard.tar", "__key__": f"row {number}"}
            yield {**notes, "input": torch.tensor(x)}

    store = FeatureStore(tmp_path)
    features = LayerFeatureTransformer(network, "logits", batch_size=4)
    found = features.extract_to(store, items(), progress=False)
    np.testing.assert_allclose(found, expected(network, X), atol=1e-6)
    assert store.ids.tolist() == [f"row {number}" for number in range(10)]


def test_a_key_stands_for_the_content(network, X, tmp_path):
    features = LayerFeatureTransformer(
        network, "logits", preprocess=lambda batch: batch["x"], batch_size=5
    )
    store = FeatureStore(tmp_path)
    for shift in (0, 1):  # whatever became of the content
        items = ({"id": n, "x": x + shift} for n, x in enumerate(X))
        found = features.extract_to(store, items, keys=lambda item: item["id"])
        np.testing.assert_allclose(found, expected(network, X), atol=1e-6)
    assert store.stats()["rows"] == 12  # with the probe's, by their content
    with pytest.raises(TypeError, match="keys are of an X that is gone through once"):
        features.extract_to(tmp_path, X, keys=str)


def test_labels_and_ids_of_a_stream_are_one_a_row(network, X, tmp_path):
    features = LayerFeatureTransformer(network, "logits")
    with pytest.raises(ValueError, match="y has 3 entries for 10 rows"):
        features.extract_to(tmp_path, iter(list(X)), [1, 2, 3])
    with pytest.raises(ValueError, match="X has 0 rows"):
        features.extract_to(tmp_path, iter(()))


def test_rows_that_cannot_be_told_apart_are_refused(X):
    with pytest.raises(ValueError, match="10 rows of X came with 2 given"):
        Loaded([1, 2], None, Inputs(X))


# Images that come in another form --------------------------------------------------


def advice(network, X, preprocess=None):
    features = LayerFeatureTransformer(network, "0", preprocess=preprocess)
    with pytest.raises((RuntimeError, ValueError, TypeError)) as caught:
        features.fit(X)
    notes = [str(caught.value), *getattr(caught.value, "__notes__", [])]
    return "\n".join(notes)


def image_like(channels, dtype, *shape):
    values = np.random.default_rng(0).integers(0, 255, size=shape)
    return values.astype(dtype), nn.Sequential(nn.Conv2d(channels, 4, 3), nn.ReLU())


IMAGES = {
    "bytes": image_like(3, np.uint8, 4, 3, 8, 9),
    "channels last": image_like(3, np.float32, 4, 8, 9, 3),
    "bytes, channels last": image_like(3, np.uint8, 4, 8, 9, 3),
    "no channel axis": image_like(1, np.float32, 4, 8, 9),
    "grey for colour": image_like(3, np.uint8, 4, 8, 9),
    "one channel for three": image_like(3, np.float32, 4, 1, 8, 9),
    "with transparency": image_like(3, np.uint8, 4, 8, 9, 4),
    "whole numbers": image_like(3, np.int64, 4, 3, 8, 9),
}


@pytest.mark.parametrize("holder", ["array", "tensor", "list", "Dataset"])
@pytest.mark.parametrize("form", IMAGES)
def test_an_image_in_another_form_is_mended_by_the_line_that_is_told(form, holder):
    X, network = IMAGES[form]
    X = {"tensor": torch.tensor, "list": list, "Dataset": Listed}.get(
        holder, np.asarray
    )(X)
    told = advice(network, X)
    assert "The network wants floating numbers of shape (rows, " in told
    line = re.search(r"give preprocess=(lambda .*)", told)[1]
    mend = eval(line, {"torch": torch, "np": np})
    features = LayerFeatureTransformer(network, "0", preprocess=mend)
    assert features.fit_transform(X).shape == (4, 4)


def test_a_preprocess_is_told_how_to_end():
    X, network = IMAGES["channels last"]
    assert "end preprocess with rows.movedim(-1, 1)" in advice(
        network, X, torch.as_tensor
    )


def test_images_of_pil_are_mended_by_the_line_that_is_told():
    images = pytest.importorskip("PIL.Image", reason="no dependency of skood's")
    rng = np.random.default_rng(0)
    sizes = [(40, 30), (50, 60)]
    X = [
        images.fromarray(rng.integers(0, 255, (h, w, 3)).astype(np.uint8))
        for h, w in sizes
    ]
    network = nn.Sequential(nn.Conv2d(3, 4, 3, stride=8))
    told = advice(network, X)
    mend = eval(re.search(r"preprocess=(lambda .* / 255)", told)[1], {"np": np})
    features = LayerFeatureTransformer(network, "0", preprocess=mend)
    assert features.fit_transform(X).shape == (2, 4)
    alike = [image.resize((20, 20)) for image in X]
    line = re.search(r"give preprocess=(lambda .*)", advice(network, alike))[1]
    mend = eval(line, {"torch": torch, "np": np})
    features.set_params(preprocess=mend)
    assert features.fit_transform(alike).shape == (2, 4)


# Refusals --------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_bad_values_are_errors_that_name_their_rows(bad, network, X):
    finite = X.copy()
    X[[5, 8], 1] = bad
    with pytest.raises(ValueError, match=r"X has NaN or infinity in row 8: remove"):
        logits(network, X[[0, 1, 2, 3, 4, 6, 7, 9, 8]], batch_size=4)
    with pytest.raises(ValueError, match="X has NaN or infinity in rows 5, 8"):
        logits(network, X, batch_size=10)
    X[:] = bad
    with pytest.raises(ValueError, match="rows 0, 1, 2, 3, 4 and 5 more of the batch"):
        LayerFeatureTransformer(network, "logits").fit(finite).transform(X)


def test_large_finite_values_are_no_infinity():
    X = torch.full((4, 3), 3e38)
    assert torch.equal(Inputs(X)[slice(0, 4)].args[0], X)


def test_bad_values_made_by_preprocess_are_found_too(network, X):
    with pytest.raises(ValueError, match="input has NaN or infinity in rows 0, 1"):
        logits(network, X, lambda rows: {"input": rows * np.nan})


def test_infinity_in_an_additive_mask_is_meant():
    class Masked(nn.Module):
        def forward(self, x, bias_mask):
            return (x[:, None] + bias_mask).exp().sum(1)

    def masked(rows):
        return {"x": rows, "bias_mask": np.full((len(rows), 2, 3), -np.inf)}

    assert not logits(Masked(), np.ones((4, 3)), masked).any()


@pytest.mark.parametrize(
    "X",
    [np.ones((0, 3)), [], torch.ones(0, 3), TensorDataset(torch.ones(0, 3))],
    ids=["array", "list", "tensor", "Dataset"],
)
def test_no_rows_are_an_error(X, network):
    with pytest.raises(ValueError, match=r"X has 0 rows.*: a minimum of 1"):
        LayerFeatureTransformer(network, "logits").fit(X)


class Endless(IterableDataset):
    def __iter__(self):
        return iter(())


@pytest.mark.parametrize(
    "X", ["text", {"x": [1]}, 3, np.float64(3), None, Endless(), iter([1])]
)
def test_what_has_no_rows_to_cut_is_an_error(X, network):
    with pytest.raises(
        TypeError, match="wanted is an array or tensor whose first axis"
    ):
        LayerFeatureTransformer(network, "logits").fit(X)


def test_texts_without_preprocess_are_an_error(network):
    for texts in (["a", "b"], np.array(["a", "b"], dtype=object)):
        with pytest.raises(TypeError, match=r"rows of X \(str\) .* give preprocess="):
            LayerFeatureTransformer(network, "logits").fit(texts)
    with pytest.raises(TypeError, match=r"rows of preprocess \(str\) .* must do that"):
        logits(network, ["a", "b"], list)


@pytest.mark.parametrize("X", [["a", "b"], [{"input_ids": [1]}, {"input_ids": [2]}]])
def test_the_tokenizer_of_texts_belongs_to_preprocess(network, X):
    for look in (list_layers, LayerFeatureTransformer(network, "1").fit):
        with pytest.raises(
            TypeError, match=r"preprocess=functools\.partial\(tokenizer"
        ):
            look(*((network, X) if look is list_layers else (X,)))


def test_what_a_tokenizer_made_is_no_X(network):
    with pytest.raises(TypeError, match="give the texts as X and the tokenizer as pre"):
        LayerFeatureTransformer(network, "1").fit({"input_ids": torch.ones(2, 3)})


def test_preprocess_keeps_the_number_of_rows(network, X):
    message = r"preprocess made X of shape \(1, 3\) from 2 rows: the first axis"
    with pytest.raises(ValueError, match=message):
        logits(network, X, lambda rows: rows[:1])


def test_a_mask_that_keeps_nothing_is_an_error():
    class Pooled(nn.Module):
        def forward(self, x, attention_mask):
            return x

    def masked(rows):
        return {"x": rows, "attention_mask": torch.tensor([[1, 1], [0, 0]])}

    with pytest.raises(ValueError, match="attention_mask keeps no token in row 1"):
        logits(Pooled(), np.ones((2, 2)), masked)


def test_the_networks_own_error_says_where_and_of_what_type():
    network = nn.Sequential(nn.Conv2d(3, 2, 1))
    X = np.ones((6, 3, 4, 4), dtype=np.uint8)
    with pytest.raises(RuntimeError) as caught:
        LayerFeatureTransformer(network, "0").fit(X)
    told = "\n".join([str(caught.value), *getattr(caught.value, "__notes__", [])])
    assert "The network ran on rows 0 to 1 of X." in told
    assert "Its input is X: torch.uint8 of shape (2, 3, 4, 4)." in told
    assert "Its weights are torch.float32; floating inputs are cast" in told


def test_the_networks_own_error_says_what_shape_came(network):
    network = nn.Sequential(nn.Conv2d(3, 2, 1))
    for X in (np.ones((3, 8, 8)), np.ones((5, 1, 8, 8))):
        with pytest.raises(RuntimeError) as caught:
            LayerFeatureTransformer(network, "0").fit(X)
        told = "\n".join([str(caught.value), *getattr(caught.value, "__notes__", [])])
        shape = (2, *X.shape[1:])
        assert f"Its input is X: torch.float64 of shape {shape}." not in told
        assert f"Its input is X: torch.float32 of shape {shape}." in told


@pytest.mark.parametrize("name", ["x", "pixel_values"])
def test_arguments_that_the_network_does_not_take_by_name_are_told(name):
    class Positional(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(3, 2)

        def forward(self, features, **_):
            return self.fc(features)

    with pytest.raises(TypeError, match="missing 1 required positional") as caught:
        LayerFeatureTransformer(
            Positional(), "fc", preprocess=lambda rows: {name: rows}
        ).fit(np.ones((4, 3)))
    told = "\n".join([str(caught.value), *getattr(caught.value, "__notes__", [])])
    assert f"given as keyword arguments ['{name}']; a tuple that preprocess" in told


def test_an_error_in_the_forward_says_with_which_rows():
    X = np.ones((10, 3))
    X[7] = 1000
    features = LayerFeatureTransformer(Fragile(), "last", batch_size=3).fit(X)
    with pytest.raises(ArithmeticError, match="the network broke") as caught:
        features.transform(X)
    told = "\n".join([str(caught.value), *getattr(caught.value, "__notes__", [])])
    assert "The network ran on rows 6 to 8 of X." in told
