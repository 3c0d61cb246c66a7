"""Paths as users write them, wherever one is taken."""

from __future__ import annotations

import numpy as np
import pytest

import skood
from skood import FeatureStore, LayerFeatures
from skood.detectors.score_file import written_scores
from skood.features.arrow import parquet_files
from skood.files.paths import user_path


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def features():
    return LayerFeatures({"a": np.random.default_rng(0).normal(size=(30, 3))})


TAKERS = {
    "FeatureStore": FeatureStore,
    "save": lambda path: skood.save(skood.MSP(), path),
    "load": skood.load,
    "LayerFeatures.load": LayerFeatures.load,
    "Parquet": parquet_files,
    "scores": lambda path: written_scores(path, None, np.zeros((3, 1))),
    "a name with ~": user_path,
}


@pytest.mark.parametrize("taker", TAKERS)
@pytest.mark.parametrize(
    ("path", "reason"),
    [("~nobody-of-this-name/a", "no home folder"), ("a\0b", "null character")],
)
def test_a_path_that_cannot_be_is_named(taker, path, reason):
    with pytest.raises(ValueError, match=reason) as error:
        TAKERS[taker](path)
    assert repr(path) in str(error.value)


def test_home_is_home_everywhere(home, features):
    features.save("~/features")
    assert LayerFeatures.load("~/features").shape == (30, 3)
    features.to_parquet("~/features.parquet")
    assert parquet_files("~/features.parquet") == [home / "features.parquet"]
    detector = skood.Mahalanobis().fit(features)
    detector.score_to("~/scores.npy", features)
    skood.save(detector, "~/detector")
    scores = skood.load("~/detector").score_samples(features)
    np.testing.assert_array_equal(np.load(home / "scores.npy"), scores)
    assert FeatureStore("~/store").path == home / "store"
    made = {path.name for path in home.iterdir()}
    assert {"features", "features.parquet", "scores.npy", "detector"} <= made
