"""Forged files within a folder: archives, arrays, sizes that are not what they say."""

from __future__ import annotations

import io
import json
import os
import random
import shutil
import tracemalloc
from contextlib import suppress
from zipfile import ZIP_DEFLATED, ZipFile

import numpy as np
import pytest
from forging import (
    FILES,
    NETWORK,
    ROWS,
    about_of,
    forge,
    items,
    made,
    mapping,
    members_of,
    node,
    put,
    saved_pipeline,
    saved_small,
    scalar,
    sign,
    state_of,
    watched_load,
    zipped,
)
from sklearn.ensemble import IsolationForest

import skood
from skood import LSGM
from skood.files.tensors import DamagedFileError, read_header
from skood.persistence import LoadError, archive, writer
from skood.persistence.archive import MOST_VALUES
from skood.persistence.stored import SAME_HASH


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


def refused(path, data, message=None):
    """Sign a skops file, and assert that it is refused without taking much memory."""
    (path / "estimator.skops").write_bytes(data)
    sign(path)
    tracemalloc.start()
    try:
        with pytest.raises(LoadError, match=message):
            watched_load(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 100 * len(data) + 2**24, peak


# Archives ----------------------------------------------------------------------------


def test_archives_that_are_no_archives(small):
    whole = (small / "estimator.skops").read_bytes()
    rng = random.Random(5)
    for data in (b"PK", b"x" * 99, whole[:-30], whole[9:], b"{}"):
        refused(small, data)
    for _ in range(200):
        changed = bytearray(whole)
        for position in rng.sample(range(len(whole)), 5):
            changed[position] ^= 1 << rng.randrange(8)
        (small / "estimator.skops").write_bytes(changed)
        sign(small)
        with suppress(LoadError):
            watched_load(small)


def test_compressed_parts_are_refused(small):
    """A thousand bytes may be a million, once they are read."""
    schema, members = members_of(small)
    bomb = {**members, "9.bin": bytes(10**8)}
    refused(small, zipped(schema, bomb, ZIP_DEFLATED), "are compressed")


def test_sizes_that_are_not_those_of_the_parts(small):
    schema, members = members_of(small)
    whole = bytearray(zipped(schema, members))
    directory = whole.rindex(b"PK\x01\x02")
    for offset in (20, 24):  # compressed, and not
        changed = bytearray(whole)
        changed[directory + offset : directory + offset + 4] = b"\xf0\xff\xff\xff"
        refused(small, bytes(changed))


def test_parts_over_one_another_are_refused(small):
    """All entries of the directory lead to the same bytes."""
    schema, _ = members_of(small)
    big = bytes(10**6)
    file = io.BytesIO()
    with ZipFile(file, "w") as made_file:
        made_file.writestr("schema.json", json.dumps(schema))
        made_file.writestr("0.bin", big)
        for number in range(1, 2000):
            info = made_file.getinfo("0.bin")
            twin = type(info)(f"{number}.bin")
            for name in ("header_offset", "CRC", "compress_size", "file_size"):
                setattr(twin, name, getattr(info, name))
            made_file.filelist.append(twin)
            made_file.NameToInfo[twin.filename] = twin
    refused(small, file.getvalue(), "larger than the whole")


def test_strange_parts_are_refused(small):
    schema, members = members_of(small)
    for name in ("../0.npy", "/etc/passwd", "0.exe", "a.npy", "schema.json"):
        (small / "estimator.skops").write_bytes(zipped(schema, {**members, name: b"x"}))
        sign(small)
        with pytest.raises(LoadError, match=r"other parts|larger"):
            watched_load(small)


@pytest.mark.parametrize("protocol", [None, -1, 0, 1, 3, True, "2", 2.5, [2]])
def test_readers_of_other_versions_are_not_called(protocol, small):
    schema, members = members_of(small)
    forge(small, {**schema, "protocol": protocol}, members)
    with pytest.raises(LoadError, match="protocol"):
        watched_load(small)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "null",
        "{",
        "[" * 10**5,
        "\ud800",
        "NaN",
        "9" * 10**5,
        '{"protocol": 2}',
    ],
    ids=lambda text: text[:9],
)
def test_schemas_that_are_hard_to_read(text, small):
    data = text.encode(errors="surrogatepass")
    refused(small, zipped(data, members_of(small)[1]))


# Much from little --------------------------------------------------------------------


def test_parts_are_not_read_over_and_over(small):
    """There is nothing beside the text that a reader could be sent to."""
    schema, members = members_of(small)
    part = node("BytesNode", "builtins.bytes", file="schema.json")
    state_of(schema)["verbose"] = items([part] * 500)
    refused(small, zipped(schema, members), "is not read as 'BytesNode'")
    refused(small, zipped(schema, {"9.bin": bytes(10**5)}), "other parts")


def test_an_array_that_is_named_again_is_not_copied(small):
    view = made("array", scalar(0), scalar("C"), scalar("<c16"))
    skood.save(skood.KNN(np.zeros(10**5, complex)), small, overwrite=True)
    schema, members = members_of(small)
    state_of(schema)["n_neighbors"] = items([view] * 1000)
    forge(small, schema, members)
    tracemalloc.start()
    assert len(watched_load(small).n_neighbors) == 1000
    assert tracemalloc.get_traced_memory()[1] < 2**24
    tracemalloc.stop()


def test_the_number_of_values_is_limited(small, monkeypatch):
    """Each takes a thousand bytes, and more than thirty microseconds, to be read."""
    assert MOST_VALUES <= 400_000
    for module in (archive, writer):
        monkeypatch.setattr(module, "MOST_VALUES", 2000)
    schema, members = members_of(small)
    state_of(schema)["verbose"] = items([items([])] * 2000)
    refused(small, zipped(schema, members), "over 2000 values")
    with pytest.raises(TypeError, match="over 2000 values"):
        skood.save(skood.KNN([[] for _ in range(2000)]), small.with_name("many"))
    with pytest.raises(TypeError, match="over 2000 values"):  # of more than one node
        skood.save(skood.KNN([1j] * 700), small.with_name("many"))


def test_deep_values_are_refused(small):
    schema, members = members_of(small)
    for kind in ("list", "tuple"):
        value = scalar(1)
        for _ in range(250):
            value = items([value], kind)
        state_of(schema)["verbose"] = value
        forge(small, schema, members)
        with pytest.raises(LoadError, match=r"too deep|Recursion"):
            watched_load(small)


def test_what_is_named_again_is_not_visited_again(small):
    """Forty lists, each of which holds the next one twice, are a trillion visits."""
    value = scalar(1)
    for number in range(40):
        again = {**items([]), "__id__": number}
        value = {**items([value, again]), "__id__": number + 1}
    put(small, value)
    with pytest.raises(LoadError, match="is not read as"):
        watched_load(small)


def test_keys_that_collide_are_not_many(small):
    collide = [scalar(n * (2**61 - 1)) for n in range(1, SAME_HASH + 2)]
    pairs = items([items([key, scalar(1)]) for key in collide])
    for value in (made("dict", pairs), made("set", items(collide))):
        put(small, value)
        with pytest.raises(LoadError, match="same hash"):
            watched_load(small)
    many = small.with_name("many")
    with pytest.raises(TypeError, match="same hash"):
        skood.save(skood.KNN({n * (2**61 - 1) for n in range(500)}), many)
    numbers = set(range(20_000))
    skood.save(skood.KNN(numbers), many)
    assert skood.load(many).n_neighbors == numbers


def test_lists_are_counted_before_they_are_made(small):
    schema, members = members_of(small)
    state_of(schema)["verbose"] = "here"
    text = json.dumps(schema).replace('"here"', "[" + "[]," * 3_000_000 + "[]]")
    data = zipped(text, members)
    (small / "estimator.skops").write_bytes(data)
    sign(small)
    tracemalloc.start()
    with pytest.raises(LoadError, match="lists"):
        watched_load(small)
    assert tracemalloc.get_traced_memory()[1] < 4 * len(data)
    tracemalloc.stop()
    about = about_of(small)
    about["networks"] = [[]] * 3_000_000
    sign(small, about)
    with pytest.raises(LoadError, match="is not what"):
        watched_load(small)


@pytest.mark.parametrize(
    "dtype",
    [
        *map(scalar, ["|O", "<U0", "|V0", "f8", "(2,)f8", "i4,i4", "", "os", 3, True]),
        items([items([scalar("a"), scalar("|O")], "tuple")]),
        items([items([scalar("a"), scalar("f4")], "tuple")]),
        items([items([scalar("a"), scalar("<f8"), scalar(2**40)], "tuple")]),
        items([scalar("<f8"), items([scalar(2)], "tuple")], "tuple"),
        mapping({"a": scalar("<f8")}),
    ],
    ids=lambda dtype: json.dumps(dtype)[-60:],
)
def test_forged_types_of_arrays(dtype, small):
    for value in (
        made("array", scalar(0), scalar("C"), dtype),
        made("scalar", dtype, scalar("00" * 16)),
        made("dtype", dtype),
    ):
        put(small, value)
        with pytest.raises(LoadError):
            watched_load(small)


def test_an_array_has_the_bytes_of_its_type(small):
    path = small.with_name("complex")
    skood.save(skood.KNN(np.array([1 + 2j])), path)
    for dtype in ("<c16", "<U4", "<U1", "<U3", "<U8"):
        put(path, made("array", scalar(0), scalar("C"), scalar(dtype)), "n_neighbors")
        if np.dtype(dtype).itemsize == 16:
            assert watched_load(path).n_neighbors.shape == (1,)
            continue
        with pytest.raises(LoadError):
            watched_load(path)


def test_state_is_set_only_for_what_is_trusted(small):
    """NumPy's generators, types and arrays believe what they are told."""
    skood.save(skood.KNN(np.random.RandomState(0)), small, overwrite=True)
    generator = state_of(members_of(small)[0])["n_neighbors"]
    state = items([scalar(1)], "tuple")
    for value in (generator, made("dtype", scalar("<U5")), items([])):
        put(small, made("with_state", value, state), "n_neighbors")
        with pytest.raises(LoadError, match="is given no state"):
            watched_load(small)


def test_generators_are_kept_within_their_buffers(tmp_path):
    for generator, name in (
        (np.random.RandomState(0), "pos"),
        (np.random.Generator(np.random.MT19937(0)), "pos"),
        (np.random.Generator(np.random.Philox(0)), "buffer_pos"),
    ):
        path = tmp_path / str(len(list(tmp_path.iterdir())))
        skood.save(LSGM(2).set_params(random_state=generator), path)
        for position in (-1, 625, 10**9):
            schema, members = members_of(path)
            state = state_of(schema)["random_state"]["content"]["content"][-1][
                "content"
            ]
            inside = state["state"]["content"] if name == "pos" else state
            inside[name] = scalar(position)
            forge(path, schema, members)
            with pytest.raises(LoadError, match="out of range"):
                watched_load(path)


def test_compiled_trees_take_trust(tmp_path):
    path = tmp_path / "forest"
    skood.save(IsolationForest(n_estimators=1, random_state=0).fit(ROWS), path)
    with pytest.raises(LoadError, match=r"trusted=\['sklearn.tree._tree.Tree'\]"):
        skood.load(path)


# Forged paths ------------------------------------------------------------------------


def places_of(tree, place=()):
    """Yield the place of everything within lists and dictionaries."""
    if place:
        yield place
    parts = tree.items() if isinstance(tree, dict) else enumerate(tree)
    for key, part in parts if isinstance(tree, (dict, list)) else ():
        if isinstance(part, (dict, list)):
            yield from places_of(part, (*place, key))
        else:
            yield (*place, key)


def at(tree, place):
    for key in place:
        tree = tree[key]
    return tree


def replaced(tree, place, value):
    tree = json.loads(json.dumps(tree))
    at(tree, place[:-1])[place[-1]] = value
    return tree


def test_no_string_is_a_path(path, tmp_path):
    """Each string in turn names a file outside: it is neither read nor written."""
    secret = tmp_path / "secret"
    secret.write_text("secret")
    schema, members = members_of(path)
    places = [p for p in places_of(schema) if isinstance(at(schema, p), str)]
    assert len(places) > 400
    for number, place in enumerate(places):
        for value in ("../secret", str(secret)) if number % 9 == 0 else (str(secret),):
            forge(path, replaced(schema, place, value), members)
            with suppress(LoadError):
                watched_load(path, network=NETWORK)
    forge(path, schema, members)
    about = about_of(path)
    places = [p for p in places_of(about) if isinstance(at(about, p), str)]
    for place in places:
        if place[0] != "files":
            sign(path, replaced(about, place, str(secret)))
            with suppress(LoadError):
                watched_load(path, network=NETWORK)
    for name in ["../secret", str(secret), "arrays.safetensors/../../secret"]:
        forged = {**about, "files": {**about["files"], name: "0" * 64}}
        from skood.persistence.about import about_text

        (path / "about.json").write_bytes(about_text(forged))
        with pytest.raises(LoadError, match="names files that there never are"):
            watched_load(path, network=NETWORK)
    assert sorted(os.listdir(path)) == sorted(FILES)
    assert sorted(os.listdir(tmp_path)) == ["saved", "secret"]
    assert secret.read_text() == "secret"


def test_random_changes_of_the_schema(path):
    rng = random.Random(2)
    schema, members = members_of(path)
    places = list(places_of(schema))
    values = [None, True, -1, 2**70, 0.5, "", "a0", [], [1], {}, items([scalar(1)])]
    values += [mapping({}), node("FunctionNode", "os.system"), made("array"), "KNN"]
    counts = {"refused": 0, "loaded": 0}
    for _ in range(900):
        changed = schema
        for _ in range(rng.choice([1, 1, 3])):
            try:
                changed = replaced(changed, rng.choice(places), rng.choice(values))
            except (KeyError, IndexError, TypeError):
                continue
        forge(path, changed, members)
        try:
            watched_load(path, network=NETWORK)
            counts["loaded"] += 1
        except LoadError:
            counts["refused"] += 1
    assert min(counts.values()) > 35


# Forged headers ----------------------------------------------------------------------


def _about(shape, first, last, dtype="F64"):
    return {"dtype": dtype, "shape": shape, "data_offsets": [first, last]}


HEADERS = [
    b"",
    b"null",
    b"[]",
    b"{",
    b"[" * 100_000,
    b"\xff\xfe",
    json.dumps({"a0": 1}).encode(),
    json.dumps({"a0": {}}).encode(),
    json.dumps({"a0": _about([2**62], 0, 2**65)}).encode(),
    json.dumps({"a0": _about([10**9] * 50, 0, 8)}).encode(),
    json.dumps({"a0": _about([-1], 0, 8)}).encode(),
    json.dumps({"a0": _about([True], 0, 8)}).encode(),
    json.dumps({"a0": _about([1.0], 0, 8)}).encode(),
    json.dumps({"a0": _about([1], 8, 0)}).encode(),
    json.dumps({"a0": _about([1], -8, 0)}).encode(),
    json.dumps({"a0": _about([1], 0, 8, "OBJECT")}).encode(),
    json.dumps({"a0": _about([2], 0, 8)}).encode(),
    json.dumps({f"a{n}": _about([4], 0, 32) for n in range(9)}).encode(),
    json.dumps({"a0": _about([3], 0, 24), "a1": _about([2], 16, 32)}).encode(),
    json.dumps({"a0": _about([1], 0, 8), "a1": _about([1], 24, 32)}).encode(),
    json.dumps({"a0": _about([3], 8, 32)}).encode(),
    json.dumps({"a0": _about([1], 0, 8)}).encode(),
    b"{}",
]
STRANGE = [json.dumps({"b0": _about([4], 0, 32)}).encode()]
"""In order, but with other arrays than the text names."""


@pytest.mark.parametrize("name", ["arrays.safetensors", "network.safetensors"])
@pytest.mark.parametrize(
    "header", [*HEADERS, *STRANGE], ids=lambda h: h[:48].decode(errors="replace")
)
def test_forged_headers(name, header, path):
    whole = len(header).to_bytes(8, "little") + header + bytes(32)
    (path / name).write_bytes(whole)
    sign(path)
    with pytest.raises(LoadError):
        watched_load(path, network=NETWORK)
    if header in HEADERS:
        with pytest.raises(DamagedFileError, match="its header"):
            read_header(path / name)


@pytest.mark.parametrize("length", [0, 2**63, 2**64 - 1])
def test_forged_lengths(length, path):
    for name in ("arrays.safetensors", "network.safetensors"):
        (path / name).write_bytes(length.to_bytes(8, "little") + b"{}")
        sign(path)
        with pytest.raises(LoadError, match="is damaged"):
            watched_load(path, network=NETWORK)


@pytest.mark.parametrize("label", ["BF16", "F8_E4M3", "C64"])
def test_types_that_numpy_lacks_are_no_arrays(label, path):
    size = {"BF16": 16, "F8_E4M3": 32, "C64": 4}[label]
    header = json.dumps({"0": _about([size], 0, 32, label)}).encode()
    whole = len(header).to_bytes(8, "little") + header + bytes(32)
    (path / "arrays.safetensors").write_bytes(whole)
    sign(path)
    with pytest.raises(LoadError, match="is damaged"):
        watched_load(path, network=NETWORK)
