"""Networks and their weights through a folder."""

from __future__ import annotations

import copy
import pickle
from functools import partial

import numpy as np
import pytest
import safetensors.numpy
import torch
from networks import Convolutional, Tokens, convolutional
from numpy.testing import assert_array_equal
from saving import (
    IMAGES,
    LABELS,
    ROWS,
    Attributed,
    doubled,
    saved_and_loaded,
    value_back,
)
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline
from torch import nn

import skood
from skood import (
    KNN,
    AnchoredClassifier,
    FeatureStore,
    InlierKFold,
    Jigsaw,
    LayerFeatureTransformer,
    LayerSelector,
    auroc_scorer,
)
from skood.persistence import LoadError


@pytest.fixture
def path(tmp_path):
    return tmp_path / "saved"


def pipeline_of(network, **how):
    features = LayerFeatureTransformer(
        network, ["relu1", "penultimate", "logits"], ["avg", "max"], **how
    )
    return Pipeline([("features", features), ("detector", KNN(3))])


@pytest.fixture(scope="module")
def fitted():
    network = convolutional()
    with torch.no_grad():
        network.bn1.running_mean += 0.5
    return pipeline_of(network).fit(IMAGES)


def test_a_pipeline_with_its_network(fitted, path):
    skood.save(fitted, path)
    expected = fitted.score_samples(IMAGES)
    own = fitted["features"].network
    assert skood.load(path, network=own)["features"].network is own
    fresh = Convolutional()
    before = copy.deepcopy(fresh.state_dict())
    for network in (fresh, Convolutional, lambda: fresh, [Convolutional()]):
        loaded = skood.load(path, network=network)
        assert_array_equal(loaded.score_samples(IMAGES), expected)
        if network is fresh:
            for name, value in before.items():
                assert torch.equal(fresh.state_dict()[name], value)
            assert loaded["features"].network is not fresh


def test_a_pipeline_without_its_network(fitted, path):
    skood.save(fitted, path, weights=False)
    assert not (path / "network.safetensors").exists()
    own = fitted["features"].network
    loaded = skood.load(path, network=own)
    assert_array_equal(loaded.score_samples(IMAGES), fitted.score_samples(IMAGES))
    with pytest.raises(LoadError, match="its weights, or its buffers"):
        skood.load(path, network=Convolutional())
    bare = skood.load(path)
    assert bare["features"].network is None
    with pytest.raises(ValueError, match="network is None"):
        bare.predict(IMAGES)
    bare.set_params(features__network=Convolutional())
    with pytest.raises(ValueError, match="not those seen in fit"):
        bare.predict(IMAGES)
    bare.set_params(features__network=own)
    assert_array_equal(bare.score_samples(IMAGES), fitted.score_samples(IMAGES))
    # What was loaded without one is saved, and given one, again.
    other = path.with_name("again")
    with pytest.raises(ValueError, match=r"network is None, so that its weights"):
        skood.save(skood.load(path), other)
    assert not other.exists()
    skood.save(skood.load(path), other, weights=False)
    again = skood.load(other, network=own)
    assert_array_equal(again.score_samples(IMAGES), fitted.score_samples(IMAGES))


def test_store_network_leaves_the_weights_out(path):
    pipeline = pipeline_of(convolutional(), store_network=False).fit(IMAGES)
    loaded = saved_and_loaded(pipeline, path, network=convolutional)
    assert not (path / "network.safetensors").exists()
    assert_array_equal(loaded.predict(IMAGES), pipeline.predict(IMAGES))


def test_a_factory_is_trusted_or_replaced(path):
    pipeline = pipeline_of(convolutional).fit(IMAGES)
    expected = pipeline.score_samples(IMAGES)
    skood.save(pipeline, path)
    with pytest.raises(LoadError, match=r"trusted=\['networks.convolutional'\]"):
        skood.load(path)
    loaded = skood.load(path, trusted=["networks.convolutional"])
    assert loaded["features"].network is convolutional
    assert_array_equal(loaded.score_samples(IMAGES), expected)
    loaded = skood.load(path, network=convolutional())
    assert_array_equal(loaded.score_samples(IMAGES), expected)
    with pytest.raises(TypeError, match="found again by its name"):
        skood.save(pipeline_of(lambda: convolutional()), path.with_name("other"))


def test_the_differences_of_networks_are_listed(fitted, path):
    skood.save(fitted, path)
    cases = [
        (
            Convolutional(4),
            r"fc.weight: .*\[5, 8\].*is torch.Size\(\[4, 8\]\)",
        ),
        (Convolutional().double(), r"it has other types"),
        (nn.Linear(2, 2), r"(?s)this Linear is not of the kind.*conv1.weight"),
    ]
    for network, message in cases:
        with pytest.raises(LoadError, match=message):
            skood.load(path, network=network)
    with pytest.raises(LoadError, match="has 2 networks, but the folder has 1"):
        skood.load(path, network=[Convolutional(), Convolutional()])
    with pytest.raises(ValueError, match="no shape yet"):
        skood.load(path, network=nn.LazyLinear(2))
    with pytest.raises(TypeError, match="network is a int"):
        skood.load(path, network=3)


def test_a_network_for_a_folder_without_one_is_refused(path):
    skood.save(skood.KNN().fit(np.random.default_rng(0).normal(size=(99, 2))), path)
    with pytest.raises(LoadError, match=r"network was given, but the folder has none"):
        skood.load(path, network=Convolutional())


class Odd(nn.Module):
    """Tied weights, a buffer that no state_dict has, views, and an empty tensor."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(6, 4)
        self.head = nn.Linear(4, 6)
        self.head.weight = self.embed.weight
        self.register_buffer("scale", torch.ones(4), persistent=False)
        self.register_buffer("none", torch.empty(0, 3))
        self.register_buffer("count", torch.tensor(7))
        whole = torch.arange(8.0)
        self.register_buffer("odd", whole[1::2])
        self.register_buffer("even", whole[::2])

    def forward(self, x):
        return self.head(self.embed(x) * self.scale)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_tied_and_odd_tensors(dtype, path):
    torch.manual_seed(1)
    network = Odd().to(dtype)
    network.scale.mul_(3)
    X = torch.arange(6)
    features = LayerFeatureTransformer(network, ["embed", "logits"]).fit(X)
    loaded = saved_and_loaded(features, path, network=Odd().to(dtype))
    assert_array_equal(
        np.asarray(loaded.transform(X)), np.asarray(features.transform(X))
    )
    assert loaded.network.head.weight is loaded.network.embed.weight
    assert torch.equal(loaded.network.scale, network.scale)
    with safetensors.safe_open(path / "network.safetensors", "pt") as file:
        names = set(file.keys())
        assert torch.equal(file.get_tensor("0/odd"), network.odd)
    assert "0/head.weight" not in names  # it is embed.weight
    # The caller's own has the weights, but another buffer: it is copied.
    own = copy.deepcopy(network)
    own.scale.mul_(2)
    again = skood.load(path, network=own)
    assert again.network is not own
    assert torch.equal(again.network.scale, network.scale)


def test_buffers_that_no_state_dict_has_are_compared(path):
    network, X = Odd(), torch.arange(6)
    features = LayerFeatureTransformer(network, "embed").fit(X)
    skood.save(features, path, weights=False)
    same, other = copy.deepcopy(network), copy.deepcopy(network)
    other.scale.mul_(2)
    assert other.state_dict().keys() == network.state_dict().keys()
    assert skood.load(path, network=same).network is same
    with pytest.raises(LoadError, match="buffers that no state_dict has"):
        skood.load(path, network=other)


def test_what_is_written_past_torch_is_seen(path):
    network = convolutional()
    pipeline = pipeline_of(network).fit(IMAGES)
    skood.save(pipeline, path, weights=False)
    network.conv1.weight.data.mul_(2)  # torch counts no change
    with pytest.raises(LoadError, match=r"its weights.*are not those"):
        skood.load(path, network=network)
    with pytest.raises(ValueError, match=r"network: .*not those seen in fit.*again"):
        skood.save(pipeline, path.with_name("changed"))
    pipeline.fit(IMAGES)
    loaded = saved_and_loaded(
        pipeline, path.with_name("again"), network=Convolutional()
    )
    assert_array_equal(loaded.score_samples(IMAGES), pipeline.score_samples(IMAGES))


def test_a_network_that_changed_after_fit_is_not_saved(path):
    network = convolutional()
    pipeline = pipeline_of(network, store_network=False).fit(IMAGES)
    nn.init.zeros_(network.fc.weight)
    for weights in (True, False):
        with pytest.raises(ValueError, match=r"not those seen in fit.*fit again"):
            skood.save(pipeline, path, weights=weights)
    assert not path.exists()
    skood.save(clone(pipeline), path)  # not fitted to any


def test_a_folder_is_not_overwritten_without_its_weights(fitted, path):
    skood.save(fitted, path)
    bare = skood.load(path)
    with pytest.raises(ValueError, match=r"is None.*store_network=False"):
        skood.save(bare, path, overwrite=True)
    assert (path / "network.safetensors").exists()
    with pytest.raises(ValueError, match=r"skood\.load\(path, network"):
        bare.predict(IMAGES)
    skood.save(bare.set_params(features__store_network=False), path, overwrite=True)
    loaded = skood.load(path, network=fitted["features"].network)
    assert_array_equal(loaded.score_samples(IMAGES), fitted.score_samples(IMAGES))


def test_a_factory_in_a_search_is_one_network(path):
    y = np.where(np.arange(24) % 4 == 0, -1, 1)
    search = GridSearchCV(
        pipeline_of(convolutional),
        {"detector__n_neighbors": [1, 2]},
        scoring=auroc_scorer,
        cv=InlierKFold(2),
    ).fit(IMAGES, y)
    skood.save(search, path)
    for network in (convolutional, convolutional()):
        loaded = skood.load(path, network=network)
        inner = loaded.estimator["features"].network
        assert loaded.best_estimator_["features"].network is inner
        assert_array_equal(loaded.score_samples(IMAGES), search.score_samples(IMAGES))
    trusted = skood.load(path, trusted=[convolutional])
    assert trusted.estimator["features"].network is convolutional
    # What is loaded without a network is a search around one that is missing.
    search = loaded.set_params(estimator__features__store_network=False)
    search.best_estimator_["features"].store_network = False
    skood.save(search, path, overwrite=True)
    other = path.with_name("other")
    skood.save(skood.load(path), other)
    again = skood.load(other, network=convolutional)
    assert_array_equal(again.predict(IMAGES), search.predict(IMAGES))


def test_one_network_of_two_steps_stays_one(path):
    network = convolutional()
    union = FeatureUnion(
        [
            (
                name,
                make_pipeline(LayerFeatureTransformer(network, name), LayerSelector()),
            )
            for name in ("relu1", "conv2")
        ]
    ).fit(IMAGES)
    loaded = saved_and_loaded(union, path, network=Convolutional())
    parts = [step[0].network for _, step in loaded.transformer_list]
    assert parts[0] is parts[1]
    assert_array_equal(loaded.transform(IMAGES), union.transform(IMAGES))


def test_two_networks_are_given_in_order(path):
    steps = [("one", convolutional()), ("two", Convolutional(3))]
    union = FeatureUnion(
        [
            (n, make_pipeline(LayerFeatureTransformer(net, "logits"), LayerSelector()))
            for n, net in steps
        ]
    ).fit(IMAGES)
    skood.save(union, path)
    loaded = skood.load(path, network=[Convolutional(), Convolutional(3)])
    assert_array_equal(loaded.transform(IMAGES), union.transform(IMAGES))
    with pytest.raises(LoadError, match=r"network has 1 .*\[0\].*\[1\].*in this order"):
        skood.load(path, network=Convolutional())


def test_caches_and_views(tmp_path):
    for number, cache in enumerate([tmp_path / "cache", str(tmp_path / "other")]):
        pipeline = pipeline_of(convolutional(), cache=cache, views={"jigsaw": Jigsaw()})
        pipeline.fit(IMAGES)
        path = tmp_path / str(number)
        loaded = saved_and_loaded(pipeline, path, network=Convolutional())
        assert loaded["features"].cache == cache
        assert_array_equal(loaded.score_samples(IMAGES), pipeline.score_samples(IMAGES))


def test_a_store_is_opened_only_where_it_is_trusted(tmp_path):
    store = FeatureStore(tmp_path / "cache", max_bytes=10**6)
    pipeline = pipeline_of(convolutional(), cache=store).fit(IMAGES)
    path = tmp_path / "saved"
    skood.save(pipeline, path)
    with pytest.raises(LoadError, match="FeatureStore"):
        skood.load(path, network=Convolutional())
    loaded = skood.load(path, network=Convolutional(), trusted=[FeatureStore])
    assert loaded["features"].cache.max_bytes == 10**6
    assert_array_equal(loaded.predict(IMAGES), pipeline.predict(IMAGES))


def test_preprocessing_takes_trust(path):
    pipeline = pipeline_of(convolutional(), preprocess=doubled).fit(IMAGES)
    skood.save(pipeline, path)
    with pytest.raises(LoadError, match=r"saving.doubled"):
        skood.load(path, network=Convolutional())
    loaded = skood.load(path, network=Convolutional(), trusted=[doubled])
    assert_array_equal(loaded.score_samples(IMAGES), pipeline.score_samples(IMAGES))


def test_networks_with_more_than_tensors_are_refused(path):
    class Extra(nn.Linear):
        def get_extra_state(self):
            return {"a": 1}

    features = LayerFeatureTransformer(Extra(2, 2), "logits")
    with pytest.raises(TypeError, match=r"network: '_extra_state' is a dict"):
        skood.save(features, path)
    meta = LayerFeatureTransformer(nn.Linear(2, 2, device="meta"), "logits")
    with pytest.raises(ValueError, match="'weight' is on the device 'meta'"):
        skood.save(meta, path)


def test_a_trained_net_of_a_module(path):
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
    net = AnchoredClassifier(module, max_epochs=1, random_state=0).fit(
        ROWS.astype("float32"), LABELS
    )
    skood.save(net, path)
    with pytest.raises(LoadError, match=r"is a network, a torch.*Sequential.*network="):
        skood.load(path)
    loaded = skood.load(path, network=copy.deepcopy(module))
    X = ROWS.astype("float32")
    assert_array_equal(loaded.predict_proba(X), net.predict_proba(X))


@pytest.mark.filterwarnings("ignore:.*weight_norm:FutureWarning")
def test_a_network_that_cannot_be_copied_is_made_anew(path):
    def make():
        return nn.utils.weight_norm(nn.Linear(6, 3))

    X = torch.from_numpy(ROWS.astype("float32"))
    features = LayerFeatureTransformer(make(), "logits").fit(X)
    skood.save(features, path)
    with pytest.raises(LoadError, match=r"cannot be copied.*a function that makes it"):
        skood.load(path, network=make())
    found = np.asarray(skood.load(path, network=make).transform(X))
    assert_array_equal(found, np.asarray(features.transform(X)))


def test_attributes_may_be_named_as_entries_are(path):
    named = Attributed()
    vars(named).clear()
    for name in ("__loader__", "__class__", "content", "made_of", "file"):
        vars(named)[name] = "os.system"
    del named.__dict__["__class__"]
    kept = {"object": named, "args": partial(doubled, name="x"), "__loader__": "x"}
    found = value_back(kept, path.parent, [Attributed, doubled])
    assert vars(found["object"]) == vars(named)
    assert found["args"].keywords == {"name": "x"}
    assert found["__loader__"] == "x"


def test_what_is_loaded_can_be_pickled_and_cloned(fitted, path):
    loaded = saved_and_loaded(fitted, path, network=Convolutional)
    expected = fitted.score_samples(IMAGES)
    again = pickle.loads(pickle.dumps(loaded))
    assert_array_equal(again.score_samples(IMAGES), expected)
    refitted = clone(loaded).fit(IMAGES)
    assert_array_equal(refitted.score_samples(IMAGES), expected)


def test_dictionaries_as_inputs(path):
    ids = torch.randint(0, 20, (12, 5), generator=torch.Generator().manual_seed(0))
    features = LayerFeatureTransformer(Tokens(), ["attend", "logits"], preprocess=batch)
    features.fit(ids)
    loaded = saved_and_loaded(features, path, network=Tokens, trusted=[batch])
    found = np.asarray(loaded.transform(ids))
    assert_array_equal(found, np.asarray(features.transform(ids)))


def batch(ids):
    """Return tokens as a network takes them."""
    return {"input_ids": ids, "attention_mask": torch.ones(ids.shape)}
