"""Shards: whole or not at all, and never read when they are not what was written."""

from __future__ import annotations

import errno
import os
import pickle
import warnings
from io import BytesIO

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from skood.files import atomic
from skood.files.sealed import file_parts, read_header
from skood.files.tensors import DamagedFileError
from skood.store.shard import DamagedShardError, is_sound
from skood.store.shard_folder import ABANDONED_AFTER, ShardFolder

DTYPES = ["float64", "float32", "float16", "int64", "uint8"]


def example():
    rng = np.random.default_rng(0)
    return {
        "keys": rng.integers(0, 256, (7, 16), dtype=np.uint8),
        "avg/layer1": rng.normal(size=(7, 3)).astype(np.float32),
        "max/layer1": rng.normal(size=(7, 3)),
    }


@pytest.fixture
def folder(tmp_path):
    return ShardFolder(tmp_path / "store" / "shards")


@pytest.fixture
def shard(folder):
    return folder.add(example(), {"kind": "features"})


# Container -------------------------------------------------------------------------


@settings(max_examples=50)
@given(
    st.dictionaries(
        st.text(min_size=1, max_size=5),
        st.sampled_from(DTYPES).flatmap(
            lambda dtype: arrays(dtype, array_shapes(max_dims=2, max_side=6))
        ),
        max_size=4,
    ),
    st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=3),
)
def test_what_is_written_is_read(given_arrays, metadata):
    names = {name for name in given_arrays if name != "__metadata__"}
    data = b"".join(file_parts({n: given_arrays[n] for n in names}, metadata))
    header = read_header(BytesIO(data), len(data))
    assert header.metadata == metadata
    assert header.entries.keys() == names
    raw = np.frombuffer(data, dtype=np.uint8)
    for name in names:
        found = header.entries[name].within(raw)
        assert found.dtype == given_arrays[name].dtype
        np.testing.assert_array_equal(found, given_arrays[name])
        assert header.entries[name].start % given_arrays[name].itemsize == 0


def test_it_is_the_safetensors_format():
    safetensors = pytest.importorskip("safetensors.numpy")
    data = b"".join(file_parts(example(), {"kind": "features"}))
    for name, array in safetensors.load(data).items():
        np.testing.assert_array_equal(array, example()[name])


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"123",
        (1 << 40).to_bytes(8, "little") + b"{}",
        (4).to_bytes(8, "little") + b"\xff\xfe{}",
        (2).to_bytes(8, "little") + b"{}",
        (2).to_bytes(8, "little") + b"[]",
    ],
)
def test_other_files_are_damaged(data):
    with pytest.raises(DamagedFileError):
        read_header(BytesIO(data), len(data))


def test_no_flipped_bit_of_the_header_goes_unnoticed():
    """Its text is used before the digest of the whole file is compared."""
    parts = list(file_parts(example(), {"kind": "features", "source": "a1b2"}))
    size = sum(part.nbytes for part in parts)
    whole = bytes(parts[0])
    expected = read_header(BytesIO(whole), size)
    for place in range(8, len(whole.rstrip())):
        for bit in range(8):
            data = bytearray(whole)
            data[place] ^= 1 << bit
            try:
                found = read_header(BytesIO(data), size)
            except DamagedFileError:
                continue
            assert found == expected  # white space, say


# Reading ---------------------------------------------------------------------------


def test_arrays_are_memory_maps(shard):
    array = shard.array("avg/layer1")
    np.testing.assert_array_equal(array, example()["avg/layer1"])
    assert not array.flags.writeable
    assert not array.flags.owndata
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch tells once that it cannot be written
        tensor = torch.from_numpy(array)
    assert tensor.data_ptr() == array.ctypes.data


def test_a_shard_pickles_as_its_path(shard):
    state = pickle.dumps(shard)
    assert len(state) < 1500
    np.testing.assert_array_equal(pickle.loads(state).array("keys"), example()["keys"])


@settings(max_examples=150)
@given(st.data())
def test_no_flipped_byte_is_ever_returned(tmp_path_factory, data):
    folder = ShardFolder(tmp_path_factory.mktemp("store") / "shards")
    shard = folder.add(example(), {"kind": "features"})
    content = bytearray(shard.path.read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= 1 << data.draw(st.integers(0, 7))
    is_open = data.draw(st.booleans())
    if is_open:
        shard.array("keys")
    shard.path.write_bytes(content)
    with pytest.raises(DamagedShardError, match=f"{shard.name}.*set aside"):
        shard.array("avg/layer1")
    assert not shard.path.exists()
    assert (shard.path.parent.parent / "quarantine" / shard.path.name).exists()


@pytest.mark.parametrize("size", [0, 5, 100, -1])
def test_a_torn_shard_is_set_aside_when_found(folder, shard, size):
    content = shard.path.read_bytes()
    shard.path.write_bytes(content[:size])
    with pytest.warns(UserWarning, match=f"{shard.name}.*is damaged.*set aside"):
        assert folder.open(shard.name) is None
    assert folder.names() == set()


def test_a_damaged_shard_is_named_in_a_warning(shard):
    shard.path.write_bytes(shard.path.read_bytes() + b"\0")
    with pytest.warns(UserWarning, match=f"shard {shard.name}.safetensors of"):
        assert not is_sound(shard)
    assert not is_sound(shard)  # gone now, which is no news


def test_a_file_is_compared_once_while_it_stays(shard, monkeypatch):
    calls = []
    digest_of = "skood.store.shard.digest_of"
    monkeypatch.setattr(digest_of, lambda parts: calls.append(1) or shard.name)
    os.utime(shard.path, ns=(1, 1))  # not the file that this process has written
    for _ in range(3):
        shard.array("keys")
    assert calls == [1]


def test_a_deleted_shard_is_not_there(folder, shard):
    folder.remove(shard)
    with pytest.raises(FileNotFoundError):
        shard.array("keys")
    assert folder.open(shard.name) is None


# Writing ---------------------------------------------------------------------------


def test_the_same_rows_make_the_same_shard(folder, shard):
    again = folder.add(example(), {"kind": "features"})
    assert again.name == shard.name
    assert folder.names() == {shard.name}


def test_a_damaged_shard_is_written_again(folder, shard):
    shard.path.write_bytes(shard.path.read_bytes()[:-1] + b"?")
    with pytest.warns(UserWarning, match=f"{shard.name}.*is damaged.*set aside"):
        again = folder.add(example(), {"kind": "features"})
    again.verify()


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_full_disk_leaves_nothing(folder, shard, monkeypatch, call):
    def fail(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(atomic.os, call, fail)
    with pytest.raises(OSError, match="No space left"):
        folder.add({"keys": np.ones((2, 16), np.uint8)}, {})
    assert [p.name for p in folder.path.iterdir()] == [shard.path.name]


def test_what_dead_writers_left_is_swept(folder, shard):
    old, new = folder.path / "a.part", folder.path / "b.part"
    for path in (old, new):
        path.write_bytes(b"half a shard")
    os.utime(old, (1.0, os.stat(old).st_mtime - 2 * ABANDONED_AFTER))
    folder.sweep()
    assert not old.exists()
    assert new.exists()
