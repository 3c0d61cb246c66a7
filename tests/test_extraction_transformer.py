"""LayerFeatureTransformer: right values, in a pipeline, and clear refusals."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from networks import Convolutional, Hungry, Tokens, convolutional
from sklearn.base import clone
from sklearn.ensemble import IsolationForest
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.pipeline import Pipeline
from torch import nn

from skood import LayerFeatures, LayerFeatureTransformer
from skood.extraction.forward import extract, probed
from skood.extraction.inputs import Inputs
from skood.extraction.network import as_module
from skood.extraction.statistics import STATISTICS
from skood.features import LOGITS

LAYERS = [
    *("conv1", "bn1", "relu1", "block.0", "block.1", "block"),
    *("conv2", "pool", "penultimate"),
]


@pytest.fixture
def network():
    return convolutional()


@pytest.fixture
def X():
    return np.random.default_rng(0).normal(size=(23, 3, 8, 8)).astype(np.float32)


# Values ----------------------------------------------------------------------------


def test_every_layer_is_what_the_network_computes_by_hand(network, X):
    features = LayerFeatureTransformer(
        network, [*LAYERS, "logits"], ["avg", "max", "l2"], batch_size=7
    ).fit_transform(X)
    with torch.no_grad():
        stages = network.eval().stages(torch.from_numpy(X))
    assert features.layers == [*LAYERS, "logits"]
    for layer in LAYERS:
        units = stages[layer].numpy().reshape(*stages[layer].shape[:2], -1)
        expected = {
            "avg": units.mean(2),
            "max": units.max(2),
            "l2": np.sqrt((np.maximum(units, 0) ** 2).sum(2)),
        }
        for statistic, values in expected.items():
            found = features.block(layer, statistic)
            np.testing.assert_allclose(found, values, atol=1e-5, err_msg=layer)
    np.testing.assert_allclose(features.block(LOGITS), stages["logits"], atol=1e-5)


def test_activations_changed_in_place_later_are_caught_before(network, X):
    flat = LayerFeatureTransformer(network, ["bn1", "relu1", "block"], "flatten")
    features = flat.fit_transform(X)
    assert features.block("bn1").min() < 0 <= features.block("relu1").min()
    with torch.no_grad():
        stages = network.eval().stages(torch.from_numpy(X))
    for layer in ("bn1", "relu1", "block"):
        expected = stages[layer].flatten(1)
        np.testing.assert_allclose(features.block(layer), expected, atol=1e-6)


TOKENS = ("cls", "first", "last")


@pytest.mark.parametrize("batch_size", [1, 5, 1000])
def test_values_do_not_depend_on_the_batch_size(network, X, batch_size):
    statistics = [name for name in STATISTICS if name not in TOKENS]
    # An activation: where signs differ, a tenth root magnifies what is rounded off.
    features = LayerFeatureTransformer(network, ["block.1", "logits"], statistics)
    whole = np.asarray(features.fit_transform(X))
    parts = np.asarray(features.set_params(batch_size=batch_size).transform(X))
    np.testing.assert_allclose(parts, whole, rtol=1e-5, atol=1e-6)


def test_one_layer_may_be_given_by_name_alone(network, X):
    features = LayerFeatureTransformer(network, "block", "max").fit(X)
    assert features.layers_ == ("block",)
    assert features.transform(X).block_names == [("block", "max")]


def test_a_layer_may_be_given_with_its_own_statistic(network, X):
    layers = ["conv1", ("block", "max"), ("penultimate", "avg"), ("block", "l2")]
    features = LayerFeatureTransformer(network, [*layers, "logits"], ["avg", "max"])
    found = features.fit_transform(X)
    assert found.block_names == [
        *(("conv1", "avg"), ("conv1", "max"), ("block", "max")),
        *(("penultimate", "avg"), ("block", "l2"), ("logits", "logits")),
    ]
    assert features.layers_ == ("conv1", "block", "penultimate", "logits")
    whole = LayerFeatureTransformer(network, "block", ["max", "l2"]).fit_transform(X)
    for name in whole.block_names:
        np.testing.assert_allclose(found.block(*name), whole.block(*name))
    again = clone(features).set_params(layers=found.block_names).fit_transform(X)
    assert again.block_names == found.block_names


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (("blok", "avg"), r"no layer 'blok'\. Did you mean 'block'"),
        (("block", "avgs"), r"statistics has 'avgs'.*Did you mean 'avg'"),
        (("penultimate", "cls"), "'cls' is the first token .* 'penultimate' puts out"),
    ],
)
@pytest.mark.parametrize("cached", [False, True])
def test_pairs_that_cannot_be_had_are_refused_by_fit(
    network, X, layer, message, cached, tmp_path
):
    features = LayerFeatureTransformer(network, ["block", layer])
    features.set_params(cache=tmp_path if cached else None)
    # what is noted of other statistics of the layer says nothing of this one
    clone(features).set_params(layers=["block", "penultimate"]).fit(X)
    with pytest.raises(ValueError, match=message):
        features.fit(X)


def test_the_last_linear_map_comes_along(network, X):
    transformer = LayerFeatureTransformer(network, ["penultimate", "logits"])
    features = transformer.fit(X).transform(X)
    head = features.head
    assert head.layer in features.layers
    found = head.logits(features.block(head.layer))
    np.testing.assert_allclose(found, features.block(LOGITS), atol=1e-5)
    network.fc.weight.data.zero_()
    assert transformer.head_.weight.any()  # a copy, not the network's memory


def test_a_head_without_bias_gets_zeros():
    features = LayerFeatureTransformer(nn.Linear(3, 2, bias=False), "logits")
    wrapped = features.set_params(network=nn.Sequential(features.network))
    assert not wrapped.fit(np.ones((2, 3))).head_.bias.any()


def test_without_a_final_linear_map_there_is_no_head():
    network = nn.Sequential(nn.Linear(3, 3), nn.LogSoftmax(1))
    X = np.ones((4, 3))
    assert LayerFeatureTransformer(network, "0").fit(X).head_ is None
    with pytest.raises(ValueError, match=r"'penultimate', .* Name the layer instead"):
        LayerFeatureTransformer(network, "penultimate").fit(X)


def test_a_map_that_does_more_than_its_weights_say_is_no_head():
    class Cosine(nn.Linear):
        def forward(self, x):
            return super().forward(x / x.norm(dim=1, keepdim=True))

    network = nn.Sequential(Cosine(3, 2))
    assert LayerFeatureTransformer(network, "0").fit(np.ones((4, 3))).head_ is None


def test_sequences_are_pooled_under_the_mask():
    torch.manual_seed(0)
    network = Tokens()
    texts = [[3, 4, 5, 6, 7], [8, 9], [1, 2, 3]]

    def padded(rows):
        longest = max(map(len, rows))
        ids = torch.tensor([row + [0] * (longest - len(row)) for row in rows])
        return {"input_ids": ids, "attention_mask": (ids > 0).long()}

    features = LayerFeatureTransformer(
        network, ["norm", "feed", "logits"], ["avg", "max", "cls"], preprocess=padded
    )
    together = features.fit_transform(texts)
    alone = [features.transform([text]) for text in texts]
    for block in together.block_names:
        rows = np.concatenate([one.block(*block) for one in alone])
        np.testing.assert_allclose(together.block(*block), rows, atol=1e-5)


def test_torchs_encoder_gives_its_layers_in_spite_of_its_fused_kernels():
    encoder = nn.TransformerEncoder(
        nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 2
    )

    class Masked(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder = encoder

        def forward(self, x, attention_mask):
            return self.encoder(x, src_key_padding_mask=attention_mask == 0)

    mask = torch.tensor([[1, 1, 1, 0], [1, 1, 0, 0]])
    X = torch.randn(2, 4, 8)
    fused = torch.backends.mha.get_fastpath_enabled()
    layers = ["encoder.layers.0", "encoder.layers.1.linear1"]
    features = LayerFeatureTransformer(
        Masked(),
        layers,
        preprocess=lambda x: {"x": x, "attention_mask": mask[: len(x)]},
    ).fit_transform(X)
    assert torch.backends.mha.get_fastpath_enabled() == fused
    encoder.eval()
    with torch.no_grad():
        for row, length in enumerate((3, 2)):
            out = encoder.layers[0](X[row : row + 1, :length])
            expected = out.mean(1)[0]
            found = features.block("encoder.layers.0")[row]
            np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_features_have_the_asked_type(network, X, dtype):
    features = LayerFeatureTransformer(network, ["block"], dtype=dtype).fit_transform(X)
    assert features.dtype == dtype


@pytest.mark.parametrize("autocast", [True, "bfloat16"])
def test_mixed_precision_is_close_and_its_statistics_are_float32(network, X, autocast):
    full = LayerFeatureTransformer(network, ["block.1", "logits"], ["avg", "gram"])
    mixed = clone(full).set_params(autocast=autocast)
    a, b = np.asarray(full.fit_transform(X)), np.asarray(mixed.fit_transform(X))
    assert not np.array_equal(a, b)
    np.testing.assert_allclose(b, a, rtol=0.1, atol=0.1)
    row_sums = mixed.transform(X).block("block.1", "gram")
    rounded = torch.from_numpy(row_sums).bfloat16().float().numpy()
    assert not np.array_equal(row_sums, rounded)


# One pass --------------------------------------------------------------------------


def test_a_pass_can_be_had_for_some_rows_and_some_blocks(network, X):
    features = LayerFeatureTransformer(network, LAYERS, ["avg", "max"])
    whole = features.fit_transform(X)
    module = as_module(network)
    inputs = Inputs(X)
    rows = np.array([20, 3, 3, 11])
    keys = [("bn1", "max"), ("block", "avg")]
    found, values = probed(module, inputs, keys)
    for key in keys:
        np.testing.assert_allclose(values[key], whole.block(*key)[:2], atol=1e-6)
    parts = list(extract(module, inputs.take(rows), keys, found))
    assert [part[0] for part in parts] == [slice(0, 4)]
    for key in keys:
        expected = whole.block(*key)[rows]
        np.testing.assert_allclose(parts[0][1][key], expected, atol=1e-6)


def test_a_batch_that_does_not_fit_is_halved_for_the_rest():
    network = Hungry(limit=5)
    X = np.random.default_rng(0).normal(size=(30, 3))
    features = LayerFeatureTransformer(network, "logits", batch_size=16).fit(X)
    network.seen.clear()
    found = features.transform(X).block(LOGITS)
    assert network.seen == [16, 8, 4, 4, 4, 4, 4, 4, 4, 2]
    expected = LayerFeatureTransformer(Hungry(99), "logits").fit(X)
    expected.network.fc = network.fc
    np.testing.assert_allclose(found, expected.fit_transform(X), atol=1e-6)


def test_a_single_row_that_does_not_fit_is_an_error():
    network = Hungry(limit=2)
    features = LayerFeatureTransformer(network, "logits", batch_size=2)
    features.fit(np.ones((8, 3)))
    network.limit = 0
    with pytest.raises(torch.cuda.OutOfMemoryError, match="by design"):
        features.transform(np.ones((8, 3)))
    assert network.seen[-1] == 1


def test_views_are_paired_rows_of_fit_transform_only(network, X):
    seen = []

    def flipped(batch, rows):
        seen.append(rows)
        return batch.flip(3)

    features = LayerFeatureTransformer(
        network, ["block", "logits"], batch_size=10, views={"flip": flipped}
    )
    result = features.fit_transform(X)
    np.testing.assert_array_equal(np.concatenate(seen), np.arange(len(X)))
    expected = features.transform(X[..., ::-1].copy())
    assert expected.views == {}
    np.testing.assert_allclose(result.views["flip"], expected, atol=1e-6)
    assert not np.allclose(result, expected)


def test_a_view_that_writes_into_its_batch_leaves_X_alone(network, X):
    before = X.copy()
    views = {"zero": lambda batch, rows: batch.zero_()}
    LayerFeatureTransformer(network, "block", views=views).fit_transform(X)
    np.testing.assert_array_equal(X, before)


def test_views_that_are_no_such_thing_are_errors(network, X):
    features = LayerFeatureTransformer(network, "block", views={"a": "jigsaw"})
    with pytest.raises(ValueError, match="views has 'a': 'jigsaw', which cannot be"):
        features.fit(X)
    features.set_params(views={"a": lambda batch, rows: batch[:, :1]})
    with pytest.raises(ValueError, match=r"returned \(23, 1, 8, 8\) for a batch of"):
        features.fit_transform(X)
    features.set_params(
        views={"a": lambda batch, rows: batch}, preprocess=lambda x: {"x": x}
    )
    with pytest.raises(TypeError, match=r"0 positional arguments and \['x'\]"):
        features.fit_transform(X)


def test_progress_is_shown_when_asked_for(network, X, capsys):
    LayerFeatureTransformer(network, "block").fit_transform(X)
    assert capsys.readouterr().err == ""
    LayerFeatureTransformer(network, "block", verbose=1).fit_transform(X)
    shown = capsys.readouterr().err
    assert "extract" in shown
    assert "23/23" in shown
    assert "rows/s" in shown


# As an estimator -------------------------------------------------------------------


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_layers_are_searched_in_a_pipeline(network, X, n_jobs):
    pipeline = Pipeline(
        [
            ("features", LayerFeatureTransformer(network, ["block"], batch_size=8)),
            ("detector", IsolationForest(n_estimators=5, random_state=0)),
        ]
    )
    grid = {"features__layers": [["conv1"], ["block", "logits"], "penultimate"]}
    search = GridSearchCV(
        pipeline,
        grid,
        cv=KFold(2),
        scoring=lambda est, X, y=None: est.score_samples(X).mean(),
        n_jobs=n_jobs,
        error_score="raise",
    ).fit(X)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert search.best_estimator_.named_steps["features"].network is network
    assert set(search.predict(X)) <= {-1, 1}


def test_transform_wants_a_fitted_transformer(network, X):
    with pytest.raises(NotFittedError):
        LayerFeatureTransformer(network, "block").transform(X)


def test_what_comes_out_is_not_wrapped_by_set_output(network, X):
    import sklearn

    with sklearn.config_context(transform_output="pandas"):
        features = LayerFeatureTransformer(network, "block").fit_transform(X)
    assert isinstance(features, LayerFeatures)


def test_tags_say_that_inputs_are_no_plain_table(network):
    tags = LayerFeatureTransformer(network, "block").__sklearn_tags__().input_tags
    assert (tags.two_d_array, tags.three_d_array) == (False, True)


def test_the_constructor_only_stores():
    given = object()
    features = LayerFeatureTransformer(given, given, given, batch_size=-3, dtype=given)
    assert features.get_params()["network"] is given


def test_the_representation_is_short(network):
    assert len(repr(LayerFeatureTransformer(network, ["block"]))) < 1000


# Refusals --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ("blok", r"no layer 'blok'\. Did you mean 'block'.* skood\.layer_names\("),
        (["conv1", "con2"], r"no layer 'con2'\. Did you mean 'conv2' or 'conv1'"),
        (["qqq"], r"no layer 'qqq'\. skood\.layer_names\(network\) lists all names"),
        ([], "layers is empty: name at least one, or 'logits'"),
        (["conv1", "block", "conv1"], "layers names 'conv1' twice"),
    ],
)
def test_wrong_layers_are_errors_that_help(network, X, layers, message):
    with pytest.raises(ValueError, match=message):
        LayerFeatureTransformer(network, layers).fit(X)


def test_a_layer_is_given_by_name(network, X):
    with pytest.raises(TypeError, match="layers are given by name"):
        LayerFeatureTransformer(network, [network.conv1]).fit(X)


def test_a_layer_that_does_not_run_is_an_error(network, X):
    network.unused = nn.Linear(2, 2)
    message = "layer 'unused' did not run in the network's forward pass"
    with pytest.raises(ValueError, match=message):
        LayerFeatureTransformer(network, "unused").fit(X)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"statistics": ["avgs"]}, r"has 'avgs'; .* Did you mean 'avg'\?"),
        ({"batch_size": 0}, "'batch_size' parameter"),
        ({"autocast": "int8"}, "'autocast' parameter"),
        ({"channels": "middle"}, "'channels' parameter"),
        ({"dtype": "int32"}, "dtype='int32': features are one of"),
        ({"device": "nowhere"}, "nowhere"),
        ({"preprocess": 3}, "'preprocess' parameter"),
        ({"views": 3}, "'views' parameter"),
    ],
)
def test_wrong_parameters_are_errors_that_name_them(network, X, parameters, message):
    features = LayerFeatureTransformer(network, "block").set_params(**parameters)
    with pytest.raises(ValueError, match=message):
        features.fit(X)


def test_parameters_changed_after_fit_are_checked_too(network, X):
    features = LayerFeatureTransformer(network, "block").fit(X)
    with pytest.raises(ValueError, match="'batch_size' parameter"):
        features.set_params(batch_size=0).transform(X)


def test_flattened_maps_of_several_sizes_are_an_error():
    network = nn.Sequential(nn.Conv1d(1, 2, 1), nn.Identity())

    def growing(rows):
        return torch.ones(len(rows), 1, 4 + rows[0])

    features = LayerFeatureTransformer(
        network, "1", "flatten", preprocess=growing, batch_size=2
    )
    message = r"gave 12 columns of 'flatten' for rows 2 to 3, and 8 before"
    with pytest.raises(ValueError, match=message):
        features.fit_transform([0, 1, 2, 3])


@pytest.mark.parametrize("cached", [False, True])
def test_an_output_that_is_no_vector_is_not_taken_for_logits(cached, tmp_path):
    network = nn.Sequential(nn.Conv2d(3, 2, 1))
    features = LayerFeatureTransformer(network, "logits")
    features.set_params(cache=tmp_path if cached else None)
    with pytest.raises(ValueError, match=r"shape \(2, 2, 4, 4\); 'logits' are never"):
        features.fit(np.ones((2, 3, 4, 4)))


@pytest.mark.parametrize("cached", [False, True])
def test_sequences_whose_first_axis_is_time_are_refused_by_fit(cached, tmp_path):
    class TimeFirst(nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm, self.head = nn.LSTM(4, 5), nn.Linear(5, 2)

        def forward(self, x):
            return self.head(self.lstm(x.transpose(0, 1))[0][-1])

    features = LayerFeatureTransformer(TimeFirst(), "lstm")
    features.set_params(cache=tmp_path if cached else None)
    for rows in (7, 5):  # with as many rows as steps a whole batch looks right
        with pytest.raises(ValueError, match=r"shape \(7, 2, 5\) for 2 rows of input"):
            features.fit(torch.randn(rows, 7, 4))


def test_a_store_given_in_the_place_of_inputs_is_an_error(network, X, tmp_path):
    features = LayerFeatureTransformer(network, "block")
    with pytest.raises(TypeError, match=r"^store=3 is a int; wanted is a folder"):
        features.extract_to(3, X)
    with pytest.raises(TypeError, match=r"^store is a ndarray; wanted is a folder"):
        features.extract_to(X, tmp_path)


def test_an_output_with_axes_of_one_is_a_vector():
    network = nn.Sequential(nn.Conv2d(3, 2, 1), nn.AdaptiveAvgPool2d(1))
    X = np.ones((2, 3, 4, 4))
    assert LayerFeatureTransformer(network, "logits").fit_transform(X).shape == (2, 2)
    flat = nn.Sequential(nn.Linear(3, 1), nn.Flatten(0))
    X = np.ones((4, 3))
    assert LayerFeatureTransformer(flat, "logits").fit_transform(X).shape == (4, 1)


def test_the_reference_network_agrees_with_itself(network, X):
    """The stages by hand are the network: else the tests above compare nothing."""
    x = torch.from_numpy(X)
    network.eval()
    assert torch.allclose(
        network(x.clone()), Convolutional.stages(network, x)["logits"]
    )
