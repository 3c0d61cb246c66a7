"""Files and folders that appear whole, keep who may read them, and are waited for."""

from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from safetensors import SafetensorError
from safetensors.numpy import load_file

from skood.estimator_checks import synthetic_features
from skood.files import tensors
from skood.files.atomic import check_place, replacing, write_text
from skood.files.digest import digest_of, file_digest
from skood.files.folder import replacing_folder, write_folder


@pytest.fixture
def synced(monkeypatch):
    """Names of what is waited for until it is on the disk, in order."""
    found = []
    fsync = os.fsync

    def noted(descriptor):
        found.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")).name)
        return fsync(descriptor)

    if not os.path.isdir("/proc/self/fd"):
        pytest.skip("no list of open files in /proc")
    monkeypatch.setattr(os, "fsync", noted)
    return found


def test_one_digest(tmp_path):
    data = bytes(range(256)) * 9000
    (tmp_path / "file").write_bytes(data)
    expected = hashlib.sha256(data).hexdigest()
    assert digest_of(data) == digest_of(data[:7], data[7:]) == expected
    assert file_digest(tmp_path / "file") == expected
    assert digest_of(np.frombuffer(data, "<f8")) == expected
    assert digest_of() == hashlib.sha256().hexdigest()


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
@pytest.mark.parametrize("mode", [0o600, 0o640, 0o444])
def test_a_file_that_is_replaced_leaves_its_permissions(mode, tmp_path, synced):
    path = tmp_path / "file"
    path.write_text("old")
    path.chmod(mode)
    write_text(path, "new")
    assert path.read_text() == "new"
    assert path.stat().st_mode & 0o777 == mode
    assert len(synced) == 2  # the file, and the folder that has its name
    assert synced[1] == tmp_path.name


def test_a_file_that_fails_leaves_the_old_one(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")

    def fill():
        with replacing(path) as file:
            file.write(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fill()
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["file"]


def test_all_of_a_folder_is_on_the_disk_before_it_has_its_name(tmp_path, synced):
    with replacing_folder(tmp_path / "target") as folder:
        (folder / "inner").mkdir()
        (folder / "inner" / "deep").write_text("x")
        (folder / "file").write_text("x")
    assert set(synced[:2]) == {"deep", "file"}
    assert synced[2] == "inner"
    assert synced[-1] == tmp_path.name
    assert (tmp_path / "target" / "inner" / "deep").read_text() == "x"


def test_saved_features_are_waited_for(tmp_path, synced):
    features, _ = synthetic_features()
    features.save(tmp_path / "features")
    files = {p.name for p in (tmp_path / "features").rglob("*") if p.is_file()}
    assert files <= set(synced)
    features.save(tmp_path / "features")  # in the place of its own kind
    assert os.listdir(tmp_path) == ["features"]


def test_a_folder_that_fails_leaves_nothing(tmp_path):
    def fail(path):
        path.write_text("half")
        raise OSError("the disk is full")

    with pytest.raises(OSError, match="is full"):
        write_folder(tmp_path / "target", {"a": Path.touch, "b": fail})
    assert os.listdir(tmp_path) == []


def test_arrays_are_mapped_where_the_header_says(tmp_path):
    rng = np.random.default_rng(0)
    types = ["?", "B", "b", "H", "h", "e", "I", "i", "f", "Q", "q", "d"]
    arrays = {
        f"{t}{n}": rng.integers(0, 2, (n, 3)).astype(t) for t in types for n in range(3)
    }
    path = tmp_path / "file.safetensors"
    tensors.write(path, arrays, {"text": "é"})
    header = tensors.read_header(path)
    data = np.memmap(path, np.uint8, "r")
    assert header.metadata == {"text": "é"}
    assert header.size == len(data)
    assert set(header.entries) == set(arrays) == set(load_file(path))
    for name, array in arrays.items():
        found = header.entries[name].within(data)
        assert found.dtype == array.dtype
        assert found.flags.aligned
        assert_array_equal(found, array)


# Full disks ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "number"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), errno.ENOSPC),
        (OSError("256000 requested and 46048 written"), errno.EIO),
        (SafetensorError("I/O error: No space left (os error 28)"), errno.ENOSPC),
    ],
)
@pytest.mark.parametrize("kind", [replacing, replacing_folder])
def test_an_error_of_the_disk_names_what_was_to_be_written(
    kind, error, number, tmp_path
):
    with pytest.raises(OSError, match="target") as told, kind(tmp_path / "target"):
        raise error
    assert (told.value.errno, told.value.filename) == (number, str(tmp_path / "target"))
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize("kind", [replacing, replacing_folder])
def test_errors_that_say_enough_stay(kind, tmp_path):
    for error in (PermissionError("mine"), SafetensorError("a key"), KeyError("k")):
        with pytest.raises(type(error)) as told, kind(tmp_path / "target"):
            raise error
        assert told.value is error


def test_a_place_where_no_file_can_be_is_named_before_there_is_one(
    tmp_path, monkeypatch
):
    file = tmp_path / "file"
    file.touch()
    check_place(file)
    with pytest.raises(IsADirectoryError, match="it is a folder"):
        check_place(tmp_path)
    with pytest.raises(NotADirectoryError, match="file is no folder"):
        check_place(file / "scores.csv")
    monkeypatch.setattr(
        os, "access", lambda *_: False
    )  # who is root may write anywhere
    with pytest.raises(PermissionError, match="is not to be written to"):
        check_place(file)
