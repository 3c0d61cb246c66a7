"""NormRescaledHead against loops, alone and in a pipeline with a logit detector."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from references import feature_norm as reference
from references import logits as logit_reference
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.pipeline import Pipeline, make_pipeline
from torch import nn

from skood import (
    MSP,
    Energy,
    FeatureNorm,
    LayerFeatures,
    LayerFeatureTransformer,
    LinearHead,
    MaxLogit,
    NormRescaledHead,
)
from skood.estimator_checks import synthetic_features
from skood.features import chunks
from skood.model_selection.jigsaw import Jigsaw


@pytest.fixture
def blocks():
    rng = np.random.default_rng(0)
    return {
        "penultimate": rng.normal(size=(40, 5)),
        ("early", "l2"): rng.uniform(1, 2, size=(40, 6)),
        ("late", "l2"): rng.uniform(3, 9, size=(40, 7)),
    }


@pytest.fixture
def head():
    rng = np.random.default_rng(1)
    return LinearHead(rng.normal(size=(3, 5)), rng.normal(size=3))


@pytest.fixture
def features(blocks, head):
    views = {"jigsaw": LayerFeatures({**blocks, ("late", "l2"): np.ones((40, 7))})}
    return LayerFeatures(blocks, head, views)


@pytest.mark.parametrize("scale", ["match", "none"])
def test_logits_equal_the_loops(blocks, features, head, scale):
    rescaled = NormRescaledHead(scale=scale).fit(features)
    norms = blocks["late", "l2"].mean(axis=1)
    factor = 1.0
    if scale == "match":
        factor = reference.matching_scale(blocks["penultimate"], norms)
    assert rescaled.scale_ == pytest.approx(factor, rel=1e-12)
    np.testing.assert_allclose(
        rescaled.transform(features).block("logits"),
        reference.rescaled_logits(
            blocks["penultimate"], norms, head.weight, head.bias, factor
        ),
        rtol=1e-9,
    )


def test_layer_is_chosen_as_feature_norm_does(features):
    rescaled, detector = NormRescaledHead().fit(features), FeatureNorm().fit(features)
    assert rescaled.norm_ratios_ == detector.norm_ratios_
    assert rescaled.selected_layer_ == detector.selected_layer_ == "late"
    assert NormRescaledHead("early").fit(features).selected_layer_ == "early"


def test_outliers_choose_and_scale_nothing(blocks, features, head):
    y = np.where(np.arange(40) < 30, 0, -1)
    marked, known = (
        NormRescaledHead().fit(features, y),
        NormRescaledHead().fit(features[:30]),
    )
    assert (marked.norm_ratios_, marked.scale_) == (known.norm_ratios_, known.scale_)
    assert marked.scale_ != NormRescaledHead().fit(features).scale_


def test_length_of_penultimate_features_is_no_matter(blocks, features, head):
    stretched = blocks["penultimate"] * np.linspace(0.1, 10, 40)[:, None]
    other = LayerFeatures({**blocks, "penultimate": stretched}, head)
    rescaled = NormRescaledHead().fit(features)
    np.testing.assert_allclose(
        rescaled.transform(other).block("logits"),
        rescaled.transform(features).block("logits"),
        rtol=1e-12,
    )


def test_with_match_the_unit_of_the_norm_is_no_matter(blocks, head):
    scaled = {**blocks, ("late", "l2"): 1000 * blocks["late", "l2"]}
    one, other = (
        NormRescaledHead("late").fit_transform(LayerFeatures(b, head)).block("logits")
        for b in (blocks, scaled)
    )
    np.testing.assert_allclose(one, other, rtol=1e-12)


def test_a_row_of_zeros_has_the_bias_as_logits(blocks, head):
    blocks["penultimate"][3] = 0
    new = NormRescaledHead("late").fit_transform(LayerFeatures(blocks, head))
    np.testing.assert_array_equal(new.block("logits")[3], head.bias)


def test_chunks_equal_the_whole(features, monkeypatch):
    whole = NormRescaledHead().fit_transform(features).block("logits")
    monkeypatch.setattr(chunks, "CHUNK_ELEMENTS", 60)
    chunked = NormRescaledHead().fit_transform(features).block("logits")
    np.testing.assert_allclose(chunked, whole, rtol=1e-12)


def test_float32_stays(blocks, features, head):
    narrow = {name: block.astype(np.float32) for name, block in blocks.items()}
    light = LinearHead(head.weight.astype("f4"), head.bias.astype("f4"))
    new = NormRescaledHead("late").fit_transform(LayerFeatures(narrow, light))
    assert new.dtype == np.float32
    wide = NormRescaledHead("late").fit_transform(features)
    np.testing.assert_allclose(
        new.block("logits"), wide.block("logits"), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize(
    ("detector", "score"),
    [
        (MSP(), logit_reference.msp),
        (MaxLogit(), logit_reference.max_logit),
        (Energy(), logit_reference.energy),
    ],
    ids=lambda part: getattr(part, "__name__", str(part)),
)
def test_any_logit_detector_follows(features, detector, score):
    pipeline = make_pipeline(NormRescaledHead(), detector).fit(features)
    logits = NormRescaledHead().fit_transform(features).block("logits")
    np.testing.assert_allclose(
        pipeline.score_samples(features), score(logits), rtol=1e-9
    )


def test_the_layer_can_be_searched():
    features, y = synthetic_features()
    pipeline = Pipeline([("rescaled", NormRescaledHead()), ("detector", Energy())])
    grid = {
        "rescaled__layers": ["norm_ratio", "layer1", ["layer1", "layer2"]],
        "rescaled__scale": ["match", "none"],
    }

    def auroc(estimator, X, labels):
        scores = estimator.score_samples(X)
        return np.mean(scores[labels >= 0][:, None] > scores[labels < 0])

    search = GridSearchCV(
        pipeline,
        grid,
        scoring=auroc,
        cv=KFold(3, shuffle=True, random_state=0),
        error_score="raise",
    )
    assert search.fit(features, y).best_score_ > 0.9


def test_clone_and_pickle(features):
    fitted = NormRescaledHead(["early", "late"], scale="none").fit(features)
    copy = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(
        copy.transform(features).block("logits"),
        fitted.transform(features).block("logits"),
    )
    assert clone(fitted).get_params() == {"layers": ["early", "late"], "scale": "none"}


def test_transform_needs_the_selected_layer_only(blocks, features):
    fitted = NormRescaledHead().fit(features)
    fewer = {name: blocks[name] for name in ("penultimate", ("late", "l2"))}
    np.testing.assert_array_equal(
        fitted.transform(LayerFeatures(fewer)).block("logits"),
        fitted.transform(features).block("logits"),
    )


# What goes wrong -----------------------------------------------------------------


def test_what_is_no_features():
    with pytest.raises(TypeError, match="X is of type ndarray, but NormRescaledHead"):
        NormRescaledHead().fit(np.eye(3))


def test_what_is_not_there(blocks, features, head):
    with pytest.raises(ValueError, match=r"X.head is None.*from_samples"):
        NormRescaledHead("late").fit(LayerFeatures(blocks))
    with pytest.raises(ValueError, match="not the head's input, 'penultimate'"):
        NormRescaledHead("late").fit(features.select(["early", "late"]))
    unsigned = {("penultimate", "l2"): blocks["penultimate"], **blocks}
    del unsigned["penultimate"]
    with pytest.raises(ValueError, match="'l2' statistic only, which has lost its sig"):
        NormRescaledHead("late").fit(LayerFeatures(unsigned, head))
    with pytest.raises(ValueError, match="no layer has the statistic 'l2'"):
        NormRescaledHead().fit(features.select("penultimate"))
    with pytest.raises(ValueError, match=r"X carries none. Give LayerFeatureTransf"):
        NormRescaledHead().fit(LayerFeatures(blocks, head))
    with pytest.raises(ValueError, match="'scale' parameter of NormRescaledHead"):
        NormRescaledHead(scale="half").fit(features)


def test_widths_that_do_not_fit(blocks, features, head):
    narrow = LayerFeatures({**blocks, "penultimate": np.ones((40, 4))}, head)
    with pytest.raises(ValueError, match="'penultimate' has 4 columns, but 5 were"):
        NormRescaledHead("late").fit(narrow)
    other = LayerFeatures({**blocks, ("late", "l2"): np.ones((40, 3))})
    with pytest.raises(ValueError, match="'late' has 3 columns, but 7 were expected"):
        NormRescaledHead("late").fit(features).transform(other)


def test_rows_that_do_not_serve(blocks, features, head):
    with pytest.raises(ValueError, match="every row of y is -1"):
        NormRescaledHead("late").fit(features, np.full(40, -1))
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        NormRescaledHead("late").fit(features, np.zeros(39))
    with pytest.raises(ValueError, match="X has 0 rows"):
        NormRescaledHead("late").fit(features).transform(features[:0])
    blocks["penultimate"][2, 1] = np.nan
    with pytest.raises(ValueError, match="layer 'penultimate' contains NaN"):
        NormRescaledHead("late").fit(LayerFeatures(blocks, head))


def test_a_layer_without_a_norm(blocks, head):
    blocks["late", "l2"][:] = 0
    with pytest.raises(ValueError, match="layer 'late' has norm zero in all"):
        NormRescaledHead("late").fit(LayerFeatures(blocks, head))


# From images ---------------------------------------------------------------------


def test_one_pipeline_from_images():
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(1, 4, 3),
        nn.ReLU(),
        nn.Conv2d(4, 6, 3),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(6, 3),
    ).eval()
    images = torch.randn(20, 1, 9, 9).numpy()
    transformer = LayerFeatureTransformer(
        network,
        ["1", "3", "penultimate"],
        ["avg", "l2"],
        views={"jigsaw": Jigsaw(grid=3)},
    )
    pipeline = Pipeline(
        [
            ("features", transformer),
            ("rescaled", NormRescaledHead(["1", "3"], scale="none")),
            ("detector", Energy()),
        ]
    ).fit(images)
    selected = int(pipeline["rescaled"].selected_layer_)
    with torch.inference_mode():
        maps = network[: selected + 1](torch.from_numpy(images)).numpy()
        penultimate = network[:6](torch.from_numpy(images)).numpy()
    logits = reference.rescaled_logits(
        penultimate,
        reference.feature_norm(maps),
        network[6].weight.detach().numpy(),
        network[6].bias.detach().numpy(),
        scale=1.0,
    )
    np.testing.assert_allclose(
        pipeline.score_samples(images), logit_reference.energy(logits), rtol=1e-5
    )
