"""The transformer's cache: nothing is computed twice, nothing changed is reused."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from counting import LAYERS, Counting, plain, same
from networks import Tokens
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline
from torch import nn
from torch.utils.data import Dataset, TensorDataset

from skood import (
    FeatureStore,
    InlierKFold,
    LayerFeatureTransformer,
    Mahalanobis,
    auroc_scorer,
)
from skood.extraction import cached as cached_module
from skood.extraction.forward import probed
from skood.store.claims import Claims
from skood.store.memory import MemoryClaims

HERE = Path(__file__).resolve().parent


@pytest.fixture
def images():
    return np.random.default_rng(0).normal(size=(90, 3, 6, 6)).astype(np.float32)


@pytest.fixture
def network(tmp_path):
    return Counting(tmp_path / "seen").eval()


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "features"


# Every input once ------------------------------------------------------------------


def test_every_input_goes_through_the_network_once(network, images, folder):
    expected = plain(network, images)
    cached = LayerFeatureTransformer(network, LAYERS, cache=folder, batch_size=16)
    same(cached.fit_transform(images), expected)
    assert sorted(network.seen()) == list(range(90))
    same(cached.fit(images[50:]).transform(images[::-1]), expected[::-1])
    same(clone(cached).fit_transform(images[:5]), expected[:5])
    assert network.seen() == []


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_a_search_over_raw_images_runs_the_network_once(
    network, images, folder, n_jobs
):
    y = np.repeat([0, 1, -1], 30)
    pipeline = Pipeline(
        [
            ("features", LayerFeatureTransformer(network, LAYERS, cache=str(folder))),
            ("detector", Mahalanobis()),
        ]
    )
    grid = {
        "detector__layers": ["first", "second", ["first", "second"]],
        "detector__reg_covar": np.geomspace(1e-6, 1e-1, 10),
    }
    search = GridSearchCV(
        pipeline, grid, cv=InlierKFold(3), scoring=auroc_scorer, n_jobs=n_jobs
    )
    search.fit(images, y)
    assert len(search.cv_results_["params"]) == 30
    assert sorted(network.seen()) == list(range(90))
    if n_jobs == 1:
        assert _inputs_in_a_new_process(network, folder) == 0


def _inputs_in_a_new_process(network, folder) -> int:
    """Return how many inputs a fresh process still runs through the network."""
    torch.save(network.state_dict(), network.log.with_suffix(".pt"))
    script = f"""
        import numpy as np, torch
        from skood import LayerFeatureTransformer
        from counting import Counting
        network = Counting({str(network.log)!r}).eval()
        network.load_state_dict(torch.load({str(network.log.with_suffix(".pt"))!r}))
        X = np.random.default_rng(0).normal(size=(90, 3, 6, 6)).astype(np.float32)
        t = LayerFeatureTransformer(network, {LAYERS!r}, cache={str(folder)!r})
        t.fit(X[30:]).transform(X)
    """
    path = os.pathsep.join([str(HERE), str(HERE.parent)])
    environment = {**os.environ, "PYTHONPATH": path}
    command = [sys.executable, "-c", textwrap.dedent(script)]
    subprocess.run(command, check=True, env=environment)
    return len(network.seen())


def test_threads_share_out_the_rows(network, images, folder):
    expected = plain(network, images)
    transformer = LayerFeatureTransformer(network, LAYERS, cache=folder, batch_size=4)
    with ThreadPoolExecutor(4) as threads:
        starts = [0, 10, 20, 30]
        parts = [images[start : start + 60] for start in starts]
        found = list(threads.map(lambda X: clone(transformer).fit_transform(X), parts))
    for start, features in zip(starts, found, strict=True):
        same(features, expected[start : start + 60])
    assert sorted(network.seen()) == list(range(90))


@pytest.mark.parametrize("cache", ["disk", "memory"])
def test_a_pass_has_one_claim_on_all_its_batches(network, images, folder, cache):
    store = FeatureStore(folder if cache == "disk" else "memory")
    claimed = []

    def watched(images):
        claims = folder / "claims"
        claimed.append(sorted(claims.glob("*.claim")) if claims.exists() else [])
        return images

    LayerFeatureTransformer(
        network, LAYERS, preprocess=watched, cache=store, batch_size=16
    ).fit(images).transform(images)
    assert {len(files) for files in claimed[-6:]} == {1 if cache == "disk" else 0}
    assert len({file for files in claimed[-6:] for file in files}) <= 1
    assert not any(folder.glob("claims/*.claim"))


def test_claims_of_two_passes_do_not_meet(tmp_path):
    keys = np.random.default_rng(0).integers(0, 256, (9, 16), dtype=np.uint8)
    elsewhere = Claims(tmp_path / "claims")  # as another process sees them
    for claims, others in (
        (MemoryClaims(),) * 2,
        (Claims(tmp_path / "claims"), elsewhere),
    ):
        one, other = claims.begun(), others.begun()
        assert one.take(keys[:3]).all()
        assert one.take(keys[2:6]).tolist() == [False, True, True, True]
        assert other.take(keys).tolist() == [False] * 6 + [True] * 3
        assert not one.take(keys[6:]).any()
        one.release()
        assert other.take(keys).tolist() == [True] * 6 + [False] * 3
        other.release()
        assert one.take(keys).all()
        one.release()
    assert not any((tmp_path / "claims").glob("*.claim"))


def test_memory_needs_no_folder(network, images):
    store = FeatureStore("memory")
    store.clear()
    expected = plain(network, images)
    cached = LayerFeatureTransformer(network, LAYERS, cache="memory")
    same(cached.fit_transform(images), expected)
    network.seen()
    same(clone(cached).fit_transform(images[3:9]), expected[3:9])
    assert network.seen() == []
    assert store.stats()["rows"] == 90
    store.clear()
    assert store.stats() == dict.fromkeys(store.stats(), 0)


def test_repeated_rows_are_computed_once(network, images, folder):
    X = np.concatenate([images[:20], images[:20]])
    cached = LayerFeatureTransformer(network, LAYERS, cache=folder, batch_size=4)
    same(cached.fit_transform(X), plain(network, X))
    assert FeatureStore(folder).stats()["misses"] == 20


# Only what is missing --------------------------------------------------------------


def test_more_layers_and_statistics_compute_only_those(network, images, folder):
    LayerFeatureTransformer(network, "first", cache=folder).fit_transform(images)
    before = FeatureStore(folder).stats()["bytes"]
    more = LayerFeatureTransformer(
        network, ["first", "second"], ["avg", "max"], cache=folder
    )
    same(
        more.fit_transform(images),
        LayerFeatureTransformer(
            network, ["first", "second"], ["avg", "max"]
        ).fit_transform(images),
    )
    shards = FeatureStore(folder).opened.catalogue.of_kind("features")
    stored = [name for shard in shards for name in shard.header.entries]
    assert stored.count("avg/first") == 2  # the first two rows, and the others
    assert FeatureStore(folder).stats()["bytes"] > before
    network.seen()
    fewer = LayerFeatureTransformer(network, ["second"], "max", cache=folder)
    fewer.fit_transform(images)
    assert network.seen() == []


@pytest.mark.parametrize(
    "change",
    [
        lambda t: t.network.weights_changed(),
        lambda t: setattr(t.network, "scale", 3.0),
        lambda t: setattr(t.network.act, "inplace", True),
        lambda t: setattr(t.network, "scale", torch.tensor([[[2.0]]])),
        lambda t: t.network.act.register_forward_hook(lambda m, x, y: y * 3),
        lambda t: t.network.first.weight.data.mul_(2),
        lambda t: t.network.first.weight.detach().numpy().__imul__(2),
        lambda t: t.network.second.weight.data[1].clamp_(max=0.01),
        lambda t: t.set_params(preprocess=lambda x: x / 2),
        lambda t: t.set_params(dtype="float64"),
        lambda t: t.set_params(dtype="float16"),
        lambda t: t.set_params(autocast="bfloat16"),
        lambda t: t.set_params(channels="first"),
    ],
)
def test_what_changes_features_misses(network, images, folder, change):
    transformer = LayerFeatureTransformer(network, LAYERS, cache=folder)
    transformer.fit_transform(images)
    network.seen()
    change(transformer)
    found = transformer.fit_transform(images)
    assert len(network.seen()) == len(images)
    expected = clone(transformer).set_params(cache=None).fit_transform(images)
    for name in found.block_names:
        np.testing.assert_allclose(
            found.block(*name), expected.block(*name), rtol=1e-2, atol=1e-2
        )


STATE = {"factor": 1.0}


def _by_name(x):
    return x * STATE["factor"]


def test_a_global_that_preprocess_reads_counts(network, images, folder, monkeypatch):
    cached = LayerFeatureTransformer(
        network, LAYERS, preprocess=lambda x: _by_name(x), cache=folder
    )
    for factor, n_runs in ((1.0, 90), (3.0, 90), (1.0, 0), (3.0, 0)):
        monkeypatch.setitem(STATE, "factor", factor)
        found = clone(cached).fit_transform(images)
        assert len(network.seen()) == n_runs
        same(found, plain(network, images * np.float32(factor)))


def test_a_weight_that_is_written_past_torch_is_noticed(network, images, folder):
    fitted = LayerFeatureTransformer(network, LAYERS).fit(images)
    fitted.transform(images)
    network.logits.bias.data.add_(1)
    with pytest.raises(ValueError, match="not those seen in fit"):
        fitted.transform(images)


def test_what_does_not_change_features_hits(network, images, folder):
    transformer = LayerFeatureTransformer(network, LAYERS, cache=folder)
    transformer.set_params(preprocess=partial(_scaled, factor=2.0)).fit(images)
    transformer.transform(images)
    network.seen()
    transformer.set_params(batch_size=3, device="cpu", verbose=0)
    transformer.set_params(preprocess=partial(_scaled, factor=2.0))
    clone(transformer).fit_transform(images)
    assert network.seen() == []


def _scaled(x, factor):
    return x * factor


def test_views_belong_to_the_number_of_a_row(network, images, folder):
    def noisy(batch, rows):
        return batch + torch.as_tensor(rows, dtype=batch.dtype)[:, None, None, None]

    parameters = {"views": {"noisy": noisy}, "batch_size": 7}
    cached = LayerFeatureTransformer(network, LAYERS, cache=folder, **parameters)
    expected = LayerFeatureTransformer(network, LAYERS, **parameters)
    found = [cached.fit_transform(X) for X in (images, images[40:], images)]
    for features, X in zip(found, (images, images[40:], images), strict=True):
        wanted = expected.fit_transform(X)
        same(features, wanted)
        same(features.views["noisy"], wanted.views["noisy"])
    network.seen()
    cached.fit_transform(images[40:])
    assert network.seen() == []


# Kinds of input --------------------------------------------------------------------


class Items(Dataset):
    """Items as a Dataset gives them, counted when they are loaded."""

    def __init__(self, images):
        self.images, self.loaded = images, 0

    def __len__(self):
        return len(self.images)

    def __getitem__(self, number):
        self.loaded += 1
        return torch.as_tensor(self.images[number]), number % 3


def test_a_dataset_is_loaded_once_a_pass(network, images, folder):
    items = Items(images)
    cached = LayerFeatureTransformer(network, LAYERS, cache=folder, batch_size=8)
    same(cached.fit_transform(items), plain(network, images))
    assert items.loaded == 90 + 2  # two for the probe
    tensors = TensorDataset(torch.as_tensor(images))
    expected = plain(network, images)
    same(cached.transform(tensors), expected)
    assert network.seen() == []


class ChannelsLast(Dataset):
    """Images whose axes were turned: each is copied, or stacked, before its digest."""

    def __init__(self, images):
        self.images = images.transpose(0, 2, 3, 1).copy()

    def __len__(self):
        return len(self.images)

    def __getitem__(self, number):
        return torch.from_numpy(self.images[number].transpose(2, 0, 1))


def test_rows_have_one_key_in_a_batch_and_alone(network, images, folder):
    expected = plain(network, images)
    cached = LayerFeatureTransformer(network, LAYERS, cache=folder, batch_size=16)
    same(cached.fit_transform(ChannelsLast(images)), expected)
    assert sorted(network.seen()) == list(range(90))
    alone = [torch.from_numpy(image) for image in images]
    same(cached.fit(alone[:2]).transform(alone), expected)
    assert network.seen() == []


def test_a_wrong_row_is_named_and_those_before_it_are_kept(network, images, folder):
    wrong = images.copy()
    wrong[70, 0, 0, 0] = np.nan
    cached = LayerFeatureTransformer(network, LAYERS, cache=folder, batch_size=16)
    expected = plain(network, images)
    cached.fit(images[:2])
    with pytest.raises(ValueError, match=r"\b70\b"):
        cached.transform(ChannelsLast(wrong))
    assert set(network.seen()) == set(range(64))
    same(cached.transform(ChannelsLast(images)), expected)
    assert sorted(network.seen()) == list(range(64, 90))


def test_lists_and_frames_are_cached(folder):
    pd = pytest.importorskip("pandas")
    network = nn.Sequential(nn.Linear(3, 4), nn.ReLU())
    texts = ["a", "bb", "ccc", "bb"]

    def lengths(items):
        return torch.tensor([[len(item), 1.0, 2.0] for item in items])

    cached = LayerFeatureTransformer(network, "0", preprocess=lengths, cache=folder)
    bare = LayerFeatureTransformer(network, "0", preprocess=lengths)
    same(cached.fit_transform(texts), bare.fit_transform(texts))
    frame = pd.DataFrame(np.eye(3, dtype=np.float32), columns=list("abc"))
    cached = LayerFeatureTransformer(network, "0", cache=folder)
    same(
        cached.fit_transform(frame.to_numpy()),
        LayerFeatureTransformer(network, "0").fit_transform(frame.to_numpy()),
    )


# Layouts ---------------------------------------------------------------------------


class Turned(nn.Module):
    """Six channels that come first; of six positions nothing says which are which.

    Not even the values do: they are the same everywhere.
    """

    def __init__(self):
        super().__init__()
        self.map, self.turn = nn.Linear(6, 6), Turn()

    def forward(self, x):
        return self.turn(self.map(x))


class Turn(nn.Module):
    def forward(self, x):
        return torch.ones_like(x).transpose(1, 2) * x.sum(dim=(1, 2), keepdim=True)


@pytest.mark.filterwarnings("ignore:layer 'turn' puts out a tensor of shape")
@pytest.mark.parametrize("positions", [(6, 9), (9, 6)])
def test_what_went_through_before_changes_no_result(positions, folder):
    torch.manual_seed(0)
    inputs = [torch.randn(5, number, 6) for number in positions]
    bare = LayerFeatureTransformer(Turned(), ["map", "turn"])
    cached = clone(bare).set_params(cache=folder)
    for fitted in (*inputs, *inputs):
        same(cached.fit_transform(fitted), bare.fit_transform(fitted))
        for X in inputs:
            same(cached.transform(X), bare.transform(X))
    for X in inputs:
        found = clone(cached).set_params(layers=["map"]).fit_transform(X)
        same(found, clone(bare).set_params(layers=["map"]).fit_transform(X))
    opened = FeatureStore(folder).opened
    opened.refresh()
    sources = {s.metadata["source"] for s in opened.catalogue.of_kind("features")}
    assert len(sources) == 2  # where the layout of a layer is a guess, and where not


@pytest.mark.filterwarnings("ignore:layer 'turn' puts out a tensor of shape")
def test_extraction_under_a_guessed_layout_is_listed(folder):
    torch.manual_seed(0)
    X = torch.randn(5, 6, 6)
    features = LayerFeatureTransformer(Turned(), ["turn"])
    found = features.extract_to(folder, X, progress=False)
    same(found, clone(features).fit_transform(X))
    same(FeatureStore(folder).features(), found)


def test_texts_of_another_length_need_no_other_probe(folder, monkeypatch):
    torch.manual_seed(0)
    calls = []

    def counted(*args):
        calls.append(len(args[1]))
        return probed(*args)

    monkeypatch.setattr(cached_module, "probed", counted)

    def padded(rows):
        longest = max(map(len, rows))
        ids = torch.tensor([row + [0] * (longest - len(row)) for row in rows])
        return {"input_ids": ids, "attention_mask": (ids > 0).long()}

    cached = LayerFeatureTransformer(Tokens(), "norm", preprocess=padded, cache=folder)
    cached.fit_transform([[7] * 2, [7] * 3])
    clone(cached).fit([[7] * 5, [7] * 3])
    assert calls == [2]
