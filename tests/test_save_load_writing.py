"""Saves that fail, are killed, or find something in their way."""

from __future__ import annotations

import os
import shutil
import time
from functools import partial
from pathlib import Path

import pytest
from forging import ROWS
from numpy.testing import assert_array_equal

import skood
from skood import KNN, Mahalanobis
from skood.files import tensors
from skood.persistence import LoadError

OLD, NEW = Mahalanobis().fit(ROWS), KNN(3).fit(ROWS)


class Steps:
    """Counts what is done to the disk, and fails at one of these steps."""

    def __init__(self, monkeypatch, failing, failure):
        self.done, self.failing, self.failure = 0, failing, failure
        for module, name in (
            (os, "fsync"),
            (os, "rename"),
            (Path, "mkdir"),
            (Path, "open"),
            (Path, "unlink"),
            (Path, "rmdir"),
        ):
            real = getattr(module, name)
            monkeypatch.setattr(module, name, self._counted(real))
        monkeypatch.setattr(tensors, "write", self._counted(tensors.write))

    def _counted(self, real):
        def counted(*args, **kwargs):
            self.done += 1
            if self.done == self.failing:
                self.failure()
            return real(*args, **kwargs)

        return counted


def _fail():
    raise OSError("the disk is full")


def _interrupt():
    raise KeyboardInterrupt


def _kill():
    os._exit(9)


def _types_at(path):
    return type(skood.load(path)) if path.exists() else None


def _n_steps(tmp_path, overwrite):
    with pytest.MonkeyPatch.context() as patch:
        path = tmp_path / "counted"
        if overwrite:
            skood.save(OLD, path)
        steps = Steps(patch, 0, _fail)
        skood.save(NEW, path, overwrite=overwrite)
    shutil.rmtree(path)
    return steps.done


@pytest.mark.parametrize("failure", [_fail, _interrupt])
@pytest.mark.parametrize("overwrite", [False, True])
def test_a_save_that_fails_leaves_what_was_there(overwrite, failure, tmp_path):
    n_steps = _n_steps(tmp_path, overwrite)
    assert n_steps >= 9
    for step in range(1, n_steps + 1):
        home = tmp_path / str(step)
        home.mkdir()
        path = home / "saved"
        if overwrite:
            skood.save(OLD, path)
        raised = False
        with pytest.MonkeyPatch.context() as patch:
            Steps(patch, step, failure)
            try:
                skood.save(NEW, path, overwrite=overwrite)
            except (OSError, KeyboardInterrupt):
                raised = True
        found = _types_at(path)
        assert found in ((Mahalanobis, KNN) if overwrite else (None, KNN)), step
        assert raised or found is KNN
        left = [p for p in home.iterdir() if p != path]
        assert all(p.name.endswith((".part", ".old")) for p in left)
        if failure is _fail and not raised:
            assert len(left) <= 1  # the old one, where deleting it is what failed
        skood.save(NEW, path, overwrite=path.exists())
        assert _types_at(path) is KNN


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("overwrite", [False, True])
def test_a_save_that_is_killed_leaves_nothing_half(overwrite, tmp_path):
    n_steps = _n_steps(tmp_path, overwrite)
    gone = 0
    for step in range(1, n_steps + 1):
        home = tmp_path / str(step)
        home.mkdir()
        path = home / "saved"
        if overwrite:
            skood.save(OLD, path)
        child = os.fork()
        if child == 0:
            with pytest.MonkeyPatch.context() as patch:
                Steps(patch, step, _kill)
                skood.save(NEW, path, overwrite=overwrite)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
        found = _types_at(path)
        if overwrite and found is None:  # between two renames: both are there, whole
            gone += 1
            [old] = home.glob(".saved.*.old")
            [new] = home.glob(".saved.*.part")
            assert (_types_at(old), _types_at(new)) == (Mahalanobis, KNN)
        assert found in (Mahalanobis, KNN, None)
        for unfinished in home.glob(".saved.*"):
            try:
                skood.load(unfinished)
            except LoadError:
                assert unfinished.name.endswith((".part", ".old"))
    assert gone == (1 if overwrite else 0)


def test_what_is_there_is_not_replaced_unasked(tmp_path):
    path = tmp_path / "saved"
    skood.save(OLD, path)
    for there in (path, tmp_path, Path(__file__)):
        with pytest.raises(FileExistsError, match="overwrite=True"):
            skood.save(NEW, there)
    skood.save(NEW, path, overwrite=True)
    assert_array_equal(skood.load(path).predict(ROWS), NEW.predict(ROWS))
    assert os.listdir(tmp_path) == ["saved"]
    with pytest.raises(FileNotFoundError, match="there is no"):
        skood.save(NEW, tmp_path / "no" / "such")


def test_only_saved_estimators_are_replaced(tmp_path):
    def occupied(name, *files):
        path = tmp_path / name
        path.mkdir()
        for file, text in files:
            (path / file).write_text(text)
        return path

    head = '{\n "format": "skood estimator",\n'
    file = tmp_path / "file"
    file.write_text("mine")
    for there in (
        file,
        occupied("other", ("about.json", "{}")),
        occupied("more", ("about.json", head), ("mine.txt", "mine")),
    ):
        before = sorted(p.name for p in there.iterdir()) if there.is_dir() else None
        with pytest.raises(FileExistsError, match="left as it"):
            skood.save(NEW, there, overwrite=True)
        if before is not None:
            assert sorted(p.name for p in there.iterdir()) == before
    assert file.read_text() == "mine"
    damaged = occupied("damaged", ("about.json", head))
    skood.save(NEW, damaged, overwrite=True)
    assert _types_at(damaged) is KNN


def test_an_empty_folder_is_taken(tmp_path):
    path = tmp_path / "empty"
    path.mkdir(0o700)
    skood.save(NEW, path)
    assert _types_at(path) is KNN
    assert os.name != "posix" or path.stat().st_mode & 0o777 == 0o700
    assert os.listdir(tmp_path) == ["empty"]


def test_the_home_folder_is_found(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    skood.save(NEW, "~/saved")
    assert os.listdir(tmp_path) == ["saved"]
    assert type(skood.load("~/saved")) is KNN


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("when", [0, 1])
def test_of_two_writers_one_is_told(when, overwrite, tmp_path, monkeypatch):
    """Another one saves before the first rename of this one, or before the second."""
    path = tmp_path / "saved"
    if overwrite:
        skood.save(OLD, path)
    renames, rename = [], os.rename

    def renamed(*args):
        renames.append(args)
        if len(renames) == when + 1:
            monkeypatch.setattr(os, "rename", rename)
            skood.save(OLD, path, overwrite=overwrite)
        return rename(*args)

    monkeypatch.setattr(os, "rename", renamed)
    if overwrite and when == 0:  # the last one stays
        skood.save(NEW, path, overwrite=True)
        assert _types_at(path) is KNN
    elif overwrite or when == 0:
        with pytest.raises(FileExistsError, match="somebody else at the same time"):
            skood.save(NEW, path, overwrite=overwrite)
        assert _types_at(path) is Mahalanobis
    else:
        skood.save(NEW, path)  # has one rename only
        assert len(renames) == 1
    assert os.listdir(tmp_path) == ["saved"]


def test_a_place_that_is_empty_for_a_moment_is_taken(tmp_path, monkeypatch):
    path, rename = tmp_path / "saved", os.rename
    skood.save(OLD, path)

    def renamed(source, target):
        monkeypatch.setattr(os, "rename", rename)
        rename(path, tmp_path / "elsewhere")
        return rename(source, target)

    monkeypatch.setattr(os, "rename", renamed)
    skood.save(NEW, path, overwrite=True)
    assert _types_at(path) is KNN


def test_arguments_of_other_kinds_are_named(tmp_path):
    path = tmp_path / "saved"
    skood.save(NEW, path)
    for trusted in (None, True, [3], [partial(len)], [NEW]):
        with pytest.raises(TypeError, match=r"trusted has .*wanted are names"):
            skood.load(path, trusted=trusted)
    with pytest.raises(TypeError, match="mmap='r': wanted is True or False"):
        skood.load(path, mmap="r")
    with pytest.raises(TypeError, match="weights=None: wanted is True or False"):
        skood.save(NEW, path, weights=None)


def test_a_link_to_a_folder_stays_a_link(tmp_path):
    skood.save(OLD, tmp_path / "there")
    (tmp_path / "link").symlink_to(tmp_path / "there")
    skood.save(NEW, tmp_path / "link", overwrite=True)
    assert (tmp_path / "link").is_symlink()
    assert _types_at(tmp_path / "there") is KNN


# What is left, and who may read ------------------------------------------------------


def left_behind(path, age):
    """Make what a killed save leaves, that nobody has written to for so long."""
    for end in ("part", "old"):
        folder = path.with_name(f".{path.name}.{'0' * 32}.{end}")
        folder.mkdir()
        for name in ("about.json", "estimator.skops", ".tmpAbc"):
            (folder / name).write_text("x")
        for there in (*folder.iterdir(), folder):
            os.utime(there, (time.time() - age,) * 2)
    return list(path.parent.glob(f".{path.name}.*"))


@pytest.mark.parametrize("overwrite", [False, True])
def test_what_killed_saves_left_is_swept(overwrite, tmp_path):
    path = tmp_path / "saved"
    if overwrite:
        skood.save(OLD, path)
    assert len(left_behind(path, 7200)) == 2
    skood.save(NEW, path, overwrite=overwrite)
    assert os.listdir(tmp_path) == ["saved"]
    fresh = left_behind(path, 60)  # somebody may still write there
    skood.save(NEW, path, overwrite=True)
    assert all(folder.is_dir() for folder in fresh)


def test_what_others_left_is_not_swept(tmp_path):
    path = tmp_path / "saved"
    others = left_behind(tmp_path / "other", 7200)
    mine = tmp_path / f".saved.{'1' * 32}.part"
    mine.mkdir()
    (mine / "diary.txt").write_text("mine")
    for there in (mine / "diary.txt", mine):
        os.utime(there, (0, 0))
    skood.save(NEW, path)
    assert (mine / "diary.txt").read_text() == "mine"
    assert all(len(list(folder.iterdir())) == 3 for folder in others)


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
def test_an_overwrite_does_not_loosen_permissions(tmp_path):
    path = tmp_path / "saved"
    skood.save(OLD, path)
    for file in path.iterdir():
        file.chmod(0o640)
    (path / "about.json").chmod(0o600)
    path.chmod(0o750)
    skood.save(NEW, path, overwrite=True)
    modes = {file.name: file.stat().st_mode & 0o777 for file in path.iterdir()}
    assert path.stat().st_mode & 0o777 == 0o750
    assert modes.pop("about.json") == 0o600
    assert set(modes.values()) == {0o640}
    (path / "arrays.safetensors").unlink()  # what comes anew is as private as the rest
    skood.save(NEW, path, overwrite=True)
    assert (path / "arrays.safetensors").stat().st_mode & 0o777 == 0o600
