"""A cache for years: what turns up strange in it, and what gives way."""

from __future__ import annotations

import errno
import os

import numpy as np
import pytest
import torch
from cached import N, same
from networks import perceptron
from sklearn.base import clone
from sklearn.pipeline import make_pipeline

from skood import FeatureStore, LayerFeatureTransformer, Mahalanobis
from skood.files.sealed import file_parts
from skood.store.shard import digest_of


@pytest.fixture
def network():
    return perceptron(4, 5, 3)


@pytest.fixture
def X():
    return np.random.default_rng(0).normal(size=(N, 4)).astype(np.float32)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "store"


@pytest.fixture
def transformer(network):
    return LayerFeatureTransformer(network, ["0", "logits"], batch_size=8)


# Strange shards --------------------------------------------------------------------


def put(folder, metadata, arrays=None, name=None):
    parts = list(file_parts(arrays or {}, metadata))
    path = folder / "shards" / f"{name or digest_of(parts)}.safetensors"
    path.write_bytes(b"".join(parts))
    return path


NOTE = {"schema": "1", "kind": "note", "created": "5", "name": "x", "text": "{}"}
FEATURES = {**NOTE, "kind": "features", "source": "a", "description": "b"}


def header(text):
    data = text.encode()
    return len(data).to_bytes(8, "little") + data


def brackets(folder):
    path = folder / "shards" / "brackets.safetensors"
    path.write_bytes(header("[" * 200_000))
    return path


def sparse(folder):
    path = folder / "shards" / "sparse.safetensors"
    with path.open("wb") as file:
        file.write(((8 << 30) - 8).to_bytes(8, "little"))
        file.truncate(8 << 30)
    return path


def fifo(folder):
    path = folder / "shards" / "fifo.safetensors"
    os.mkfifo(path)
    return path


def a_folder(folder):
    path = folder / "shards" / "folder.safetensors"
    path.mkdir()
    (path / "inside").write_text("")
    return path


def infinity(folder):
    path = folder / "shards" / "infinity.safetensors"
    layout = '"a": {"dtype": "F32", "shape": [Infinity], "data_offsets": [0, Infinity]}'
    path.write_bytes(header(f'{{"__metadata__": {{"header_digest": "x"}}, {layout}}}'))
    return path


KEYS = np.zeros((2, 16), np.uint8)
STRANGE = {
    "an odd time": lambda f: put(f, {**NOTE, "created": "yesterday"}),
    "an infinite time": lambda f: put(f, {**NOTE, "created": "Infinity"}),
    "a negative time": lambda f: put(f, {**NOTE, "created": "-1"}),
    "a long time": lambda f: put(f, {**NOTE, "created": "9" * 5000}),
    "no time": lambda f: put(f, {k: v for k, v in NOTE.items() if k != "created"}),
    "an odd format": lambda f: put(f, {**NOTE, "schema": "9" * 5000}),
    "no kind": lambda f: put(f, {}),
    "another kind": lambda f: put(f, {**NOTE, "kind": "thing"}),
    "a note without a name": lambda f: (
        put(f, {**NOTE, "kind": "note", "name": "y"})
        and put(f, {k: v for k, v in NOTE.items() if k != "name"})
    ),
    "no source": lambda f: put(f, {**NOTE, "kind": "features"}, {"keys": KEYS}),
    "no keys": lambda f: put(f, FEATURES, {"avg/0": np.zeros((2, 3))}),
    "short keys": lambda f: put(f, FEATURES, {"keys": KEYS[:, :3]}),
    "wide keys": lambda f: put(f, FEATURES, {"keys": np.zeros((2, 16))}),
    "columns of another length": lambda f: put(
        f, FEATURES, {"keys": KEYS, "avg/0": np.zeros((3, 3))}
    ),
    "no table": lambda f: put(f, FEATURES, {"keys": KEYS, "avg/0": np.zeros(2)}),
    "other keys": lambda f: put(
        f, {**FEATURES, "keys_digest": "0"}, {"keys": KEYS, "avg/0": np.zeros((2, 3))}
    ),
    "brackets": brackets,
    "infinity": infinity,
    "a sparse file": sparse,
    "a FIFO": fifo,
    "a folder": a_folder,
}


@pytest.mark.parametrize("what", STRANGE)
def test_a_strange_shard_is_set_aside_and_named(transformer, folder, X, what):
    expected = clone(transformer).fit_transform(X)
    transformer.extract_to(folder, X, np.arange(N), progress=False)
    path = STRANGE[what](folder)
    store = FeatureStore(folder)
    with pytest.warns(UserWarning, match=rf"shard {path.name} of .*It is set aside as"):
        store.stats()
    assert not os.path.lexists(path)
    assert os.path.lexists(folder / "quarantine" / path.name)
    same(store.features(), expected)
    assert store.labels.tolist() == list(range(N))
    cached = clone(transformer).set_params(cache=folder)
    same(cached.fit_transform(X), expected)
    assert store.verify() == []


def emptied(path):
    path.write_bytes(b"")


def made_a_fifo(path):
    path.unlink()
    os.mkfifo(path)


def made_a_folder(path):
    path.unlink()
    path.mkdir()


def made_a_link_to_itself(path):
    path.unlink()
    path.symlink_to(path)


@pytest.mark.filterwarnings("ignore:shard .* is set aside")
@pytest.mark.parametrize("n_new", [0, 2])
@pytest.mark.parametrize(
    "change", [emptied, made_a_fifo, made_a_folder, made_a_link_to_itself]
)
def test_what_becomes_of_known_shards_does_not_stop_the_store(
    transformer, folder, X, change, n_new
):
    expected = clone(transformer).fit_transform(X)
    cached = clone(transformer).set_params(cache=folder)
    cached.fit(X).transform(X[n_new:])
    for path in list((folder / "shards").iterdir()):
        change(path)
    same(cached.transform(X), expected)
    same(cached.extract_to(folder, X, progress=False), expected)
    FeatureStore(folder).verify()
    assert FeatureStore(folder).verify() == []


def test_a_manifest_that_is_a_fifo_is_written_again(transformer, folder, X):
    expected = clone(transformer).fit_transform(X)
    cached = clone(transformer).set_params(cache=folder)
    cached.fit_transform(X)
    made_a_fifo(folder / "store.json")
    with pytest.warns(UserWarning, match="is damaged and will be written again"):
        same(cached.transform(X), expected)


def test_what_cannot_be_set_aside_is_passed_over(transformer, folder, X, monkeypatch):
    transformer.extract_to(folder, X, progress=False)
    path = brackets(folder)
    store = FeatureStore(folder)

    def refused(*_):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "replace", refused)
    with pytest.warns(UserWarning, match="cannot be set aside.*is ignored"):
        store.stats()
    assert len(store.features()) == N
    assert path.exists()


def test_a_second_one_of_the_same_name_does_not_replace_the_first(folder):
    (folder / "shards").mkdir(parents=True)
    store = FeatureStore(folder)
    for _ in range(2):
        a_folder(folder)
        with pytest.warns(UserWarning, match="is set aside as quarantine/folder"):
            store.stats()
    assert len(list((folder / "quarantine").iterdir())) == 2


@pytest.mark.parametrize("text", ["", "[", "3", "[[1]]", '{"blocks": 3}'])
def test_a_note_that_says_something_else_is_passed_over(transformer, folder, X, text):
    cached = transformer.set_params(cache=folder)
    cached.fit_transform(X)
    store = FeatureStore(folder)
    names = [n.metadata["name"] for n in store.opened.catalogue.of_kind("note")]
    for name in names:
        put(folder, {**NOTE, "name": name, "created": "0", "text": text})
    same(cached.fit_transform(X), clone(cached).set_params(cache=None).fit_transform(X))


def test_verify_compares_every_byte_whatever_the_files_time(transformer, folder, X):
    transformer.extract_to(folder, X, progress=False)
    store = FeatureStore(folder)
    np.asarray(store.features())
    shard = store.opened.catalogue.of_kind("features")[0]
    about, data = shard.path.stat(), bytearray(shard.path.read_bytes())
    data[-1] ^= 1
    with shard.path.open("r+b") as file:  # the same file, at the same time
        file.write(data)
    os.utime(shard.path, ns=(about.st_atime_ns, about.st_mtime_ns))
    strange = brackets(folder)
    with pytest.warns(UserWarning, match="is damaged"):
        assert store.verify() == sorted([shard.name, strange.stem])
    assert store.verify() == []


# Trouble ---------------------------------------------------------------------------


def a_file(folder):
    os.rename(folder, folder.with_name("gone"))
    folder.write_text("")


def another_folder(folder):
    os.rename(folder, folder.with_name("gone"))
    folder.mkdir()
    (folder / "thesis.tex").write_text("")


def a_file_inside(folder):
    os.rename(folder / "shards", folder / "gone")
    (folder / "shards").write_text("")


def newer(folder):
    (folder / "store.json").write_text('{"schema": 99}')


TROUBLE = [a_file, another_folder, a_file_inside, newer]


@pytest.mark.parametrize("as_path", [True, False])
@pytest.mark.parametrize("happen", TROUBLE)
def test_trouble_with_a_cache_does_not_stop_a_prediction(
    network, folder, X, happen, as_path
):
    cache = str(folder) if as_path else FeatureStore(folder)
    features = LayerFeatureTransformer(network, ["0"], cache=cache)
    pipeline = make_pipeline(features, Mahalanobis()).fit(X[:50])
    expected = pipeline.score_samples(X)
    happen(folder)
    if as_path or happen is a_file_inside or happen is a_file:
        with pytest.warns(UserWarning, match=f"the cache .*{folder}.*cannot") as told:
            found = pipeline.score_samples(X)
        assert len(told) == 1
    else:
        found = pipeline.score_samples(X)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("happen", TROUBLE)
def test_nor_a_fit(network, folder, X, happen):
    features = LayerFeatureTransformer(network, ["0"], cache=str(folder))
    expected = np.array(features.fit_transform(X))
    happen(folder)
    with pytest.warns(UserWarning, match="cannot be used") as told:
        same(features.fit_transform(X), expected)
    assert len(told) == 1


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_cache_that_cannot_be_written_is_told_once(
    transformer, folder, X, monkeypatch, call
):
    cached = transformer.set_params(cache=folder)

    def refused(*_):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(os, call, refused)
    with pytest.warns(UserWarning, match=f"{folder}.*Read-only file system") as told:
        found = cached.fit_transform(X)
    assert len(told) == 1
    same(found, clone(cached).set_params(cache=None).fit_transform(X))


def test_an_error_of_the_inputs_is_no_trouble_of_the_cache(network, folder, X):
    class Missing(torch.utils.data.Dataset):
        def __len__(self):
            return 30

        def __getitem__(self, number):
            if number == 20:
                raise FileNotFoundError(errno.ENOENT, "no such image")
            return torch.as_tensor(X[number])

    cached = LayerFeatureTransformer(network, "0", cache=folder, batch_size=4)
    with pytest.raises(FileNotFoundError, match="no such image"):
        cached.fit_transform(Missing())


@pytest.mark.parametrize("happen", [a_file_inside, a_file])
def test_extract_to_says_what_to_do(transformer, folder, X, happen):
    store = FeatureStore(folder)
    transformer.extract_to(store, X[:10], progress=False)
    happen(folder)
    wanted = f"{folder}.* keeps 0 of the 60 rows.*call extract_to again"
    with pytest.raises(OSError, match=wanted):
        transformer.extract_to(store, X, progress=False)
