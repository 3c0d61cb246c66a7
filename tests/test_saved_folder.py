"""The page that says what a saved folder holds, and folders that hold it."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from zipfile import ZipFile

import pytest
from safetensors.numpy import load_file
from save_release import SAVED

from skood.persistence.archive import _FITS
from skood.persistence.networks import _fresh
from skood.persistence.stored import MAKERS

PAGE = Path(__file__).parents[1] / "docs" / "user_guide" / "saved_folder.rst"
FOLDERS = sorted((SAVED / "0.1.0").glob("*.folder"))


def test_the_page_names_every_entry_loader_and_kind():
    text = PAGE.read_text(encoding="utf-8")
    quoted = set(re.findall(r"``([^`]+)``", text))
    assert set(_fresh()) <= quoted
    assert set(_FITS) == {name for name in quoted if name.endswith("Node")}
    assert {f'"{kind}"' for kind in MAKERS} <= quoted


def nodes(tree):
    if isinstance(tree, dict):
        if "__loader__" in tree:
            yield tree
        for part in tree.values():
            yield from nodes(part)
    elif isinstance(tree, list):
        for part in tree:
            yield from nodes(part)


@pytest.mark.parametrize("folder", FOLDERS[::10], ids=lambda folder: folder.stem)
def test_a_folder_is_read_by_the_page_alone(folder):
    text = (folder / "about.json").read_bytes()
    about = json.loads(text)
    assert (about["format"], about["schema"]) == ("skood estimator", 1)
    assert list(about)[-1] == "digest"
    before = text[: text.rindex(b',\n "digest"')]
    assert about["digest"] == hashlib.sha256(before).hexdigest()
    assert {file.name for file in folder.iterdir()} == {"about.json", *about["files"]}
    for name, digest in about["files"].items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest
    with ZipFile(folder / "estimator.skops") as file:
        assert file.namelist() == ["schema.json"]
        tree = json.loads(file.read("schema.json"))
    assert tree["protocol"] == 2
    made = [node for node in nodes(tree) if node["__class__"] == "made"]
    parts = [
        [json.loads(part["content"]) for part in node["content"]["content"]]
        for node in made
        if node["content"]["content"][0]["content"] == '"array"'
    ]
    numbers = {part[1] for part in parts}
    assert {part[2] for part in parts} <= {"C", "F"}
    if numbers:
        arrays = load_file(folder / "arrays.safetensors")
        assert set(arrays) == {str(number) for number in numbers}
