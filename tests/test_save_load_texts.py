"""Folders whose texts say what none that is written says."""

from __future__ import annotations

import shutil

import pytest
from forging import (
    NETWORK,
    about_of,
    saved_pipeline,
    saved_small,
    sign,
    watched_load,
)
from networks import Convolutional

import skood
from skood.files.digest import digest_of
from skood.persistence import LoadError
from skood.persistence.about import about_text


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    return saved_pipeline(tmp_path_factory.mktemp("original") / "saved")


@pytest.fixture
def path(original, tmp_path):
    shutil.copytree(original, tmp_path / "saved")
    return tmp_path / "saved"


@pytest.fixture
def small(tmp_path):
    return saved_small(tmp_path / "small")


# Forged texts ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema": 2}, r"newer than this one: update skood"),
        ({"schema": 0}, "never was"),
        ({"schema": "1"}, "does not say"),
        ({"schema": True}, "does not say"),
        ({"versions": {"skood": "99.0"}}, r"written by skood 99.0 .*update skood"),
        ({"versions": None}, "does not say"),
        ({"format": "skood features"}, "not what skood.save writes"),
        ({"more": 1}, "other entries"),
        ({"files": None}, "names files"),
        ({"files": {}}, "names files"),
        ({"files": {"arrays.safetensors": "0"}}, "names files"),
        ({"networks": None}, ""),
        ({"networks": [1]}, ""),
        ({"networks": []}, "the folder has none"),
    ],
    ids=str,
)
def test_another_version_or_form(change, message, path):
    about = about_of(path)
    text = about_text({**about, **{k: v for k, v in change.items() if k != "format"}})
    if "format" in change:
        text = text.replace(b"skood estimator", change["format"].encode())
    (path / "about.json").write_bytes(text)
    with pytest.raises(LoadError, match=message or None):
        watched_load(path, network=NETWORK)


HARD = [
    '"networks": ' + "[" * 100_000 + "]" * 100_000,
    '"networks": ' + '{"list": ' * 5000 + "1" + "}" * 5000,
    '"networks": NaN',
    '"networks": ' + "9" * 10_000,
    '"networks": "\\ud800"',
    '"networks": 1e999',
    '"networks": }',
]


@pytest.mark.parametrize("text", HARD, ids=lambda text: text[:24])
def test_text_that_is_hard_to_read(text, small):
    body = b'{\n "format": "skood estimator",\n "schema": 1,\n ' + text.encode()
    tail = f',\n "digest": "{digest_of(body)}"\n}}\n'
    (small / "about.json").write_bytes(body + tail.encode())
    with pytest.raises(LoadError):
        watched_load(small)


@pytest.mark.parametrize(
    "change",
    [
        {"digest": 3},
        {"digest": None},
        {"buffers": "0"},
        {"aliases": {"fc.weight": ["conv1.weight"]}},
        {"aliases": {"fc.weight": "nothing"}},
        {"aliases": [1]},
        {"weights": 1},
        {"weights": False},
        {"factory": 3},
        {"places": "x"},
        {"more": 1},
    ],
    ids=str,
)
def test_forged_networks(change, path):
    about = about_of(path)
    about["networks"][0].update(change)
    sign(path, about)
    with pytest.raises(LoadError):
        watched_load(path, network=Convolutional(2))


def test_a_factory_is_not_made_untrusted(path):
    about = about_of(path)
    for name in ("os.system", "builtins.eval", "skood.load", "danger"):
        about["networks"][0]["factory"] = name
        sign(path, about)
        with pytest.raises(LoadError):
            watched_load(path)
    for name in ("networks.nothing", "nowhere.network"):
        about["networks"][0]["factory"] = name
        sign(path, about)
        with pytest.raises(LoadError, match="not found here"):
            skood.load(path, trusted=[name])
