"""Extraction mapped by engines of data sets, and their features back in a detector."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from backends import start_ray
from torch import nn

from skood import Energy, LayerFeatures, LayerFeatureTransformer, Mahalanobis
from skood.features.arrow import read_column
from skood.interop.batches import FeatureBatch

N = 60


@pytest.fixture(scope="module")
def inputs():
    rng = np.random.default_rng(0)
    return rng.normal(size=(N, 4)).astype(np.float32), rng.integers(0, 3, N)


@pytest.fixture(scope="module")
def extractor(inputs):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    return LayerFeatureTransformer(network, ["1", "logits"]).fit(inputs[0])


def assert_fits_alike(features, y, extractor, X):
    expected = extractor.transform(X)
    for detector in (Mahalanobis("1"), Energy()):
        here = detector.fit(expected, y).score_samples(expected)
        there = detector.fit(features, y).score_samples(features)
        np.testing.assert_allclose(there, here, rtol=1e-5)


def test_a_batch_is_a_dict_of_arrays_and_the_network_is_given_back(inputs, extractor):
    X, y = inputs
    with FeatureBatch(extractor, keep=["y"]) as batches:
        found = batches({"x": X, "y": y})
        assert found["1/avg"].shape == (N, 8)
        assert found["logits/logits"].shape == (N, 3)
        assert found["y"] is y
        np.testing.assert_array_equal(batches(X)["1/avg"], found["1/avg"])
        as_lists = batches({"x": X.tolist(), "y": y})
        np.testing.assert_array_equal(as_lists["1/avg"], found["1/avg"])
        other = pickle.loads(pickle.dumps(batches))  # closed by it
        extractor.set_params(batch_size=256)  # which a frozen one refuses
        np.testing.assert_array_equal(other({"x": X, "y": y})["1/avg"], found["1/avg"])
        batches({"x": X, "y": y})
    extractor.set_params(batch_size=256)


def test_an_input_is_named_where_there_are_several(inputs, extractor):
    X, y = inputs
    with pytest.raises(ValueError, match="say which is the network's input"):
        FeatureBatch(extractor)({"x": X, "y": y})
    with pytest.raises(ValueError, match="no column 'z'"):
        FeatureBatch(extractor, "z")({"x": X, "y": y})
    found = FeatureBatch(extractor, "x")({"x": X, "y": y})
    assert [*found] == ["1/avg", "logits/logits"]


def test_several_inputs_are_given_together():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.last = nn.Linear(4, 2)

        def forward(self, one, other):
            return self.last(one + other)

    X = np.ones((5, 4), np.float32)
    extractor = LayerFeatureTransformer(Two(), ["logits"]).fit((X, X))
    found = FeatureBatch(extractor, ["a", "b"])({"a": X, "b": X, "c": X})
    np.testing.assert_array_equal(
        found["logits/logits"], extractor.transform((X, X)).block("logits")
    )


def test_hugging_face_maps_it_and_its_data_set_is_fitted_on(
    inputs, extractor, tmp_path
):
    datasets = pytest.importorskip("datasets")
    X, y = inputs
    rows = datasets.Dataset.from_dict({"x": X.tolist(), "y": y})
    mapped = rows.map(
        FeatureBatch(extractor, keep=["y"]),
        batched=True,
        batch_size=17,
        remove_columns=["x"],
    )
    features = LayerFeatures.from_huggingface(mapped)
    assert_fits_alike(features, y, extractor, X)
    assert_fits_alike(features[::-1][::-1], y, extractor, X)
    assert not features.pickles_as_path
    mapped.save_to_disk(tmp_path / "saved")
    saved = LayerFeatures.from_huggingface(datasets.load_from_disk(tmp_path / "saved"))
    assert saved.pickles_as_path
    assert_fits_alike(pickle.loads(pickle.dumps(saved)), y, extractor, X)
    mapped.to_parquet(tmp_path / "mapped.parquet")
    found = LayerFeatures.from_parquet(tmp_path / "mapped.parquet")
    assert_fits_alike(
        found, read_column(tmp_path / "mapped.parquet", "y"), extractor, X
    )


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_ray_maps_it_and_its_files_are_fitted_on(inputs, extractor, tmp_path):
    ray_data = pytest.importorskip("ray.data")
    start_ray()
    X, y = inputs
    ray_data.DataContext.get_current().enable_progress_bars = False
    mapped = ray_data.from_numpy(X).map_batches(
        FeatureBatch,
        fn_constructor_args=[extractor],
        batch_size=17,
        compute=ray_data.ActorPoolStrategy(size=1),
    )
    mapped.write_parquet(str(tmp_path / "features"))
    features = LayerFeatures.from_parquet(tmp_path / "features")
    assert_fits_alike(features, y, extractor, X)
