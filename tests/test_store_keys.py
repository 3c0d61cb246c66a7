"""Keys of rows and checksums: the same for the same, another for anything else."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from skood.store.identity.checksum import checksum
from skood.store.row_keys import numbered_keys, row_keys


class Image:
    """What row_keys knows an image by."""

    mode, size = "RGB", (2, 1)

    def __init__(self, data):
        self.data = data

    def tobytes(self):
        return self.data

    def getpalette(self):
        return None


class Named:
    def __init__(self, key):
        self.cache_key = key


# Row keys --------------------------------------------------------------------------


def test_rows_are_known_by_bytes_type_and_shape():
    x = np.arange(12.0).reshape(3, 4)
    assert (row_keys(x) == row_keys(x.copy())).all()
    assert (row_keys(x[1:]) == row_keys(x)[1:]).all()
    assert (row_keys(x[::-1]) == row_keys(x)[::-1]).all()
    for other in (x + 1e-9, x.astype(np.float32), x.reshape(3, 2, 2)):
        assert not (row_keys(x) == row_keys(other)).all(axis=1).any()


def test_large_rows_have_the_keys_of_small_ones():
    x = np.random.default_rng(0).normal(size=(70, 3, 60, 60))
    assert (row_keys(x) == np.concatenate([row_keys(row[None]) for row in x])).all()


@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.bfloat16, torch.float16, torch.int64, torch.bool]
)
def test_tensors(dtype):
    x = torch.arange(6).reshape(3, 2).to(dtype)
    assert (row_keys(x) == row_keys(x.clone())).all()
    assert len(np.unique(row_keys(x), axis=0)) == len(np.unique(x.float(), axis=0))


def test_different_items_have_different_keys(tmp_path):
    (tmp_path / "a").write_text("a")
    items = [
        "a",
        "b",
        b"a",
        1,
        1.0,
        True,
        None,
        ("a", "b"),
        ["a", "b"],
        ("ab",),
        {"a": 1},
        {"a": 2},
        np.array([1.0]),
        np.array([1]),
        np.array(["a"], dtype=object),
        torch.tensor([1.0]),
        np.float32(1),
        tmp_path / "a",
        Image(b"123456"),
        Image(b"123457"),
        Named("x"),
        Named("y"),
    ]
    keys = row_keys(items)
    assert len(np.unique(keys, axis=0)) == len(items)
    assert (row_keys(items) == keys).all()


def test_a_changed_file_has_another_key(tmp_path):
    path = tmp_path / "image"
    path.write_text("one")
    before = row_keys([path])
    path.write_text("other")
    assert (row_keys([path]) != before).any()


def test_frames_are_known_by_columns_and_values():
    frame = pd.DataFrame({"a": [1.0, 2.0], "b": ["x", "y"]})
    assert (row_keys(frame) == row_keys(frame.copy())).all()
    renamed = frame.rename(columns={"a": "c"})
    assert not (row_keys(frame) == row_keys(renamed)).all(axis=1).any()
    assert (row_keys(frame["b"]) == row_keys(["x", "y"])).all()


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_frames_are_known_by_the_types_of_their_columns(library):
    frames = pytest.importorskip(library)
    values = {"a": np.array([1, 250], dtype=np.uint8)}
    small, same = frames.DataFrame(values), frames.DataFrame(values)
    large = frames.DataFrame({"a": values["a"].astype(np.int64)})
    assert (row_keys(small) == row_keys(same)).all()
    assert not (row_keys(small) == row_keys(large)).all(axis=1).any()


def test_numbered_keys_tell_the_same_row_apart():
    keys = row_keys(np.zeros((3, 2)))
    assert len(np.unique(numbered_keys(keys, np.arange(3)), axis=0)) == 3
    again = numbered_keys(keys[:1], np.array([2]))
    assert (again == numbered_keys(keys, np.arange(3))[2]).all()


def test_unknown_items_are_an_error():
    with pytest.raises(TypeError, match="of type object cannot be told apart"):
        row_keys([object()])


# Weights ---------------------------------------------------------------------------

KINDS = [torch.float32, torch.float16, torch.bfloat16, torch.complex64, torch.int8]


@pytest.mark.parametrize("dtype", [*KINDS, torch.bool])
@pytest.mark.parametrize("shape", [(), (3,), (5, 3), (4, 3, 3, 3), (0, 2)])
def test_checksums_see_every_number(dtype, shape):
    tensor = torch.zeros(shape, dtype=dtype)
    found = {checksum([tensor])}
    for number in range(tensor.numel()):
        changed = tensor.clone()
        changed.view(-1)[number] = 1
        assert checksum([changed]) == checksum([changed.clone()]) != checksum([tensor])
        found.add(checksum([changed]))
    rows = len(tensor) if tensor.ndim else 1
    assert len(found) >= 1 + (rows if tensor.numel() else 0)


def test_checksums_see_numbers_in_any_order_of_memory():
    tensor = torch.randn(4, 3, 5, 5)
    last = tensor.to(memory_format=torch.channels_last)
    for view in (last, tensor.transpose(0, 2), tensor[1:, :, ::2], tensor[:, 1:2]):
        before = checksum([view])
        view.data[1, 0, 2, 1] += 1
        assert checksum([view]) != before


def test_checksums_pass_over_what_is_no_plain_memory():
    sparse = torch.eye(3).to_sparse()
    assert checksum([sparse]) == checksum([])
    assert checksum([sparse, torch.ones(2)]) == checksum([torch.ones(2)])
