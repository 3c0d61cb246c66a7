"""Pipelines as modules and files of ONNX: networks, certificates, planted faults."""

from __future__ import annotations

import copy
import json
import pickle
import threading

import numpy as np
import pytest
import torch
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn
from torch.export import Dim

import skood.export
from skood import (
    KNN,
    NAP,
    ConformalDetector,
    DetectorEnsemble,
    Energy,
    LayerFeatureTransformer,
    LayerSelector,
    Mahalanobis,
    NNGuide,
    NormRescaledHead,
    TargetRateThreshold,
    to_module,
)
from skood.estimator_checks import synthetic_features
from skood.export.banks import bounded
from skood.export.onnx import ByPosition
from skood.export.parity import Judgement, Parity

onnx = pytest.importorskip("onnx", reason="needs the extra 'export'")
pytest.importorskip("onnxruntime", reason="needs the extra 'export'")


class Convolutions(nn.Module):
    """Two of them; the second activation works in place on what was captured."""

    def __init__(self):
        super().__init__()
        self.first, self.act = nn.Conv2d(3, 6, 3), nn.ReLU(inplace=True)
        self.second, self.head = nn.Conv2d(6, 8, 3), nn.Linear(8, 3)

    def forward(self, x):
        x = self.act(self.second(self.act(self.first(x))))
        return self.head(x.mean(dim=(2, 3)))


class Patches(nn.Module):
    """A vision transformer of two layers."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Conv2d(3, 8, 4, stride=4)
        self.start = nn.Parameter(torch.zeros(1, 1, 8))
        self.blocks = nn.ModuleList(Attention() for _ in range(2))
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        x = self.embed(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.start.expand(x.shape[0], -1, -1), x], dim=1)
        for block in self.blocks:
            x = block(x)
        return self.head(x[:, 0])


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm, self.mix, self.out = (
            nn.LayerNorm(8),
            nn.Linear(8, 24),
            nn.Linear(8, 8),
        )

    def forward(self, x, mask=None):
        query, key, value = self.mix(self.norm(x)).chunk(3, dim=-1)
        weights = query @ key.transpose(1, 2) / 8**0.5
        if mask is not None:
            weights = weights.masked_fill(~mask[:, None, :], -1e9)
        return x + self.out(torch.softmax(weights, dim=-1) @ value)


class Texts(nn.Module):
    """An encoder that is called with named tensors, and pools under its mask."""

    def __init__(self):
        super().__init__()
        self.embed, self.block = nn.Embedding(20, 8), Attention()
        self.head = nn.Linear(8, 3)

    def forward(self, input_ids, attention_mask):
        mask = attention_mask.bool()
        x = self.block(self.embed(input_ids), mask)
        kept = x * mask[:, :, None]
        pooled = kept.sum(dim=1) / mask.sum(dim=1, keepdim=True)
        return {"logits": self.head(pooled)}


def images(n, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, 3, 12, 12)).astype(np.float32)


def texts(n, seed=0):
    rng = np.random.default_rng(seed)
    return ["abcdefgh"[: rng.integers(2, 9)] * (1 + k % 2) for k in range(n)]


def tokens(rows):
    """Return what a tokenizer makes of texts: numbers, filled up, and a mask."""
    codes = [torch.tensor([1 + (ord(c) * len(row)) % 19 for c in row]) for row in rows]
    ids = nn.utils.rnn.pad_sequence(codes, batch_first=True)
    return {"input_ids": ids, "attention_mask": (ids > 0).long()}


def panel():
    """Return one of each room, with p-values."""
    members = [
        ("e", Energy()),
        ("m", Mahalanobis()),
        ("k", KNN(3)),
        ("g", NNGuide(n_neighbors=3)),
    ]
    return DetectorEnsemble(members, combine="lda")


NETWORKS = {
    "CNN": (Convolutions, ["first", "second", "penultimate", "logits"], images, (0,)),
    "ViT": (Patches, ["blocks.0", "blocks.1", "penultimate", "logits"], images, (0,)),
    "text": (Texts, ["embed", "block", "penultimate", "logits"], texts, (0, 1)),
}


def fitted(kind, detector):
    make, layers, inputs, _ = NETWORKS[kind]
    torch.manual_seed(0)
    features = LayerFeatureTransformer(
        make().eval(),
        layers,
        ["avg", "max", "l2"],
        preprocess=tokens if kind == "text" else None,
    )
    pipeline = Pipeline([("features", features), ("detector", detector)])
    return pipeline.fit(inputs(150), np.arange(150) % 3)


@pytest.fixture(scope="module", params=list(NETWORKS))
def network(request):
    pipeline = fitted(request.param, panel())
    new = NETWORKS[request.param][2](30, seed=1)
    return request.param, pipeline, new, to_module(pipeline, new)


def called(module, X):
    with torch.no_grad():
        if isinstance(X, list):
            return module(**tokens(X))
        return module(torch.as_tensor(X))


def check(pipeline, X, found):
    scores = pipeline.score_samples(X)
    size = np.maximum(np.abs(scores), scores.std())
    assert (np.abs(np.asarray(found[1]) - scores) <= 1e-4 * size).all()
    clear = np.abs(scores - pipeline[-1].offset_) > 1e-4 * size
    said = pipeline.predict(X) > 0
    assert (np.asarray(found[3]) == said)[clear].all()
    p_values = pipeline[-1].p_values(pipeline[:-1].transform(X))
    assert np.mean(np.abs(np.asarray(found[2]) - p_values) > 1e-9) <= 0.1


# Networks ---------------------------------------------------------------------------


def test_the_module_is_the_pipeline(network):
    kind, pipeline, new, module = network
    found = called(module, new)
    check(pipeline, new, found)
    own = called(pipeline[0].network, new)
    torch.testing.assert_close(found[0], own["logits"] if kind == "text" else own)


def test_it_can_be_exported_for_any_number_of_rows(network):
    kind, pipeline, new, module = network
    some = [*tokens(new[:3]).values()] if kind == "text" else [torch.as_tensor(new[:3])]
    names = ["input_ids", "attention_mask"] if kind == "text" else []
    free = tuple(dict.fromkeys(NETWORKS[kind][3], Dim.DYNAMIC) for _ in some)
    by_position = ByPosition(module, names).eval()
    program = torch.export.export(
        by_position, tuple(some), dynamic_shapes=(free,), strict=False
    )
    all_ = [*tokens(new).values()] if kind == "text" else [torch.as_tensor(new)]
    check(pipeline, new, program.module()(*all_))


def test_it_can_be_compiled_as_a_whole(network):
    _, pipeline, new, module = network
    torch._dynamo.reset()
    compiled = torch.compile(module, backend="eager", fullgraph=True, dynamic=True)
    check(pipeline, new, called(compiled, new))


def test_its_file_says_the_same(network, tmp_path):
    kind, pipeline, new, module = network
    path, dynamic = tmp_path / "detector.onnx", NETWORKS[kind][3]
    made = skood.export.export(
        pipeline, path, new[:4], new, module=module, dynamic=dynamic
    )
    assert made.parity.flips == 0
    assert made.parity.rows == 30
    names = [one.name for one in onnx.load(path).graph.output]
    assert names == ["output", "score", "p_value", "is_inlier"]
    assert skood.export.verify(path, new, pipeline).parity == made.parity
    if kind == "text":
        assert made.preprocess.endswith("tokens")
        assert [one["name"] for one in made.inputs] == ["input_ids", "attention_mask"]
        assert skood.export.verify(path, new[:1], pipeline).parity.flips == 0
        assert skood.export.verify(path, tokens(new)).parity == made.parity


def test_a_graph_of_gram_statistics_is_cut_at_no_number_of_rows(monkeypatch):
    """Without a graph, large maps are taken some rows at a time."""
    monkeypatch.setattr("skood.extraction.statistics.GRAM_ELEMENTS", 500)
    torch.manual_seed(0)
    features = LayerFeatureTransformer(Convolutions().eval(), ["second"], "gram")
    pipeline = make_pipeline(features, KNN(3, statistic="gram")).fit(images(40))
    new = images(12, seed=1)
    module, rows = to_module(pipeline, new), torch.as_tensor(new)
    program = torch.export.export(
        module, (rows[:3],), dynamic_shapes=({0: Dim.DYNAMIC},), strict=False
    )
    scores = pipeline.score_samples(new)
    np.testing.assert_allclose(program.module()(rows)[1], scores, rtol=1e-4)


def test_the_given_network_is_left_alone_and_its_training_changes_nothing():
    pipeline = fitted("CNN", Mahalanobis())
    network, new = pipeline[0].network, images(5, seed=1)
    hooks = [len(part._forward_hooks) for part in network.modules()]
    module = to_module(pipeline)
    assert [len(part._forward_hooks) for part in network.modules()] == hooks
    before = called(module, new)[1]
    with torch.no_grad():
        network.first.weight.mul_(2)
    torch.testing.assert_close(called(module, new)[1], before)


def test_modules_are_copied_and_pickled():
    pipeline, new = fitted("CNN", Mahalanobis()), images(5, seed=1)
    module = to_module(pipeline)
    wanted = called(module, new)[1]
    for other in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        torch.testing.assert_close(called(other.train().eval(), new)[1], wanted)


def test_threads_do_not_see_each_others_rows():
    pipeline = fitted("CNN", Mahalanobis())
    module, inputs = to_module(pipeline), [images(8, seed=n) for n in range(4)]
    wanted = [called(module, x)[1] for x in inputs]
    faults = []

    def score(x, own):
        for _ in range(20):
            if not torch.equal(called(module, x)[1], own):
                faults.append(1)

    pairs = zip(inputs, wanted, strict=True)
    threads = [threading.Thread(target=score, args=pair) for pair in pairs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not faults


def test_steps_between_network_and_detector():
    new = images(20, seed=1)
    between = [[LayerSelector(["first", "second"], "avg"), StandardScaler()]]
    between.append([NormRescaledHead("second")])
    for steps, last in zip(between, [KNN(3), Energy()], strict=True):
        first = fitted("CNN", Energy())[0]
        pipeline = make_pipeline(first, *steps, last).fit(images(60), np.arange(60) % 3)
        scores = called(to_module(pipeline, new), new)[1]
        np.testing.assert_allclose(scores, pipeline.score_samples(new), rtol=1e-4)


def test_a_pipeline_may_stand_inside_of_what_calibrates_it():
    inner, new = fitted("CNN", Mahalanobis()), images(20, seed=1)
    outer = ConformalDetector(inner, 0.1, cv="prefit").fit(images(60, seed=2))
    found = called(to_module(outer, new), new)
    np.testing.assert_allclose(found[2], outer.p_values(new))
    assert (np.asarray(found[3]) == (outer.predict(new) > 0)).all()


def test_a_threshold_of_its_own_stands_in_the_graph():
    inner, new = fitted("CNN", Energy()), images(20, seed=1)
    outer = TargetRateThreshold(inner, max_false_alarm=0.1, cv="prefit")
    outer.fit(images(60, seed=2))
    found = called(to_module(outer, new), new)
    np.testing.assert_allclose(found[1], outer.score_samples(new), rtol=1e-4)
    assert (np.asarray(found[-1]) == (outer.predict(new) > 0)).all()


def test_a_step_without_a_graph_is_named():
    from sklearn.preprocessing import QuantileTransformer

    X = np.random.default_rng(0).normal(size=(60, 3))
    pipeline = make_pipeline(QuantileTransformer(n_quantiles=9), KNN(3)).fit(X)
    with pytest.raises(TypeError, match="QuantileTransformer has no graph"):
        to_module(pipeline)


# Certificates -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """Return a pipeline, its file and the rows held out."""
    pipeline, new = fitted("CNN", Mahalanobis(["first", "second"])), images(60, seed=1)
    path = tmp_path_factory.mktemp("export") / "detector.onnx"
    skood.export.export(pipeline, path, new[:4], new)
    return pipeline, path, new


def test_the_certificate_stands_beside_and_inside(exported):
    pipeline, path, new = exported
    beside = json.loads(path.with_name("detector.onnx.json").read_text())
    (inside,) = onnx.load(path).metadata_props
    assert inside.key == "skood.certificate"
    left_out = {"file_digest": None, "reference": None}
    assert json.loads(inside.value) == {**beside, **left_out}
    assert beside["threshold"] == pipeline[-1].offset_
    assert beside["layers"] == [["first", "avg"], ["second", "avg"]]
    assert beside["network_digest"] == pipeline[0].network_digest_
    assert beside["inputs"][0]["shape"] == ["n", 3, 12, 12]
    assert {"skood", "torch", "onnxruntime"} <= set(beside["versions"])
    assert skood.export.verify(path, new).parity.flips == 0


def tampered(module):
    """Yield modules with a fault each, and what is said of it."""
    other = copy.deepcopy(module)
    last = [name for name, _ in other.formula.named_buffers()][-1]
    other.formula.get_buffer(last).add_(5)
    yield other, "decisions differ"
    other = copy.deepcopy(module)
    network = other.capture.network
    network.act.register_forward_hook(*network.second._forward_hooks.values())
    network.second._forward_hooks.clear()
    yield other, "scores differ"
    other = copy.deepcopy(module)
    for weight in other.capture.network.parameters():
        weight.copy_(weight.half().float())
    yield other, "scores differ"


def test_faults_are_not_written(exported, tmp_path):
    pipeline, _, new = exported
    path = tmp_path / "wrong.onnx"
    with torch.no_grad():
        for module, message in tampered(to_module(pipeline)):
            with pytest.raises(ValueError, match=f"not written.*{message}"):
                skood.export.export(
                    pipeline, path, new[:4], new, module=module, rtol=1e-5
                )
    assert not [*tmp_path.iterdir()]


def test_a_changed_threshold_or_file_is_found_later(exported, tmp_path):
    pipeline, path, new = exported
    other = copy.copy(pipeline[-1])
    other.offset_ = other.offset_ + 1
    changed = Pipeline([pipeline.steps[0], ("detector", other)])
    with pytest.raises(ValueError, match=r"threshold.*was exported"):
        skood.export.verify(path, new, changed)
    damaged = tmp_path / path.name
    damaged.write_bytes(path.read_bytes() + b" ")
    certificate = path.with_name(f"{path.name}.json")
    (tmp_path / certificate.name).write_text(certificate.read_text())
    with pytest.raises(ValueError, match="is not the file that its certificate is of"):
        skood.export.verify(damaged, new)
    with pytest.raises(ValueError, match="are not the rows on which"):
        skood.export.verify(path, new[:9])


def test_one_row_makes_no_graph(exported, tmp_path):
    pipeline, _, new = exported
    with pytest.raises(ValueError, match="example has one row"):
        skood.export.export(pipeline, tmp_path / "a.onnx", new[:1])


def test_without_the_extra_it_says_what_to_install(exported, tmp_path, monkeypatch):
    pipeline, _, new = exported
    monkeypatch.setattr(skood.export.onnx, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"pip install 'skood\[export\]'"):
        skood.export.export(pipeline, tmp_path / "a.onnx", new[:4])


def test_parity_tells_flips_in_the_band_from_others():
    nan = np.full(4, np.nan)
    wanted = Judgement(
        np.array([1.0, 1.00001, 2.0, -np.inf]), nan, np.array([1, 1, 1, 0]) > 0
    )
    scores = np.array([1.0, 0.99999, 2.0, -np.inf])
    found = Judgement(scores, nan, np.array([1, 0, 0, 0]) > 0)
    parity = Parity.of(wanted, found, threshold=1.0)
    assert (parity.rows_in_band, parity.flips_in_band, parity.flips) == (2, 1, 1)
    assert parity.score_difference < 1e-4
    assert "1 of 4 decisions" in parity.faults()
    lost = Judgement(np.full(4, np.nan), nan, found.inliers)
    assert Parity.of(wanted, lost, 1.0).score_difference == np.inf


# Banks ------------------------------------------------------------------------------


def test_banks_are_bounded_and_the_drift_is_reported(tmp_path):
    rng = np.random.default_rng(0)
    X, new = rng.normal(size=(400, 5)), rng.normal(size=(50, 5))
    detector = KNN(20).fit(X)
    made = skood.export.export(
        detector, tmp_path / "knn.onnx", new[:2], new, max_bank=100
    )
    assert len(bounded(detector, 100).banks_["array", "avg"]) == 100
    assert bounded(detector, 100).n_neighbors_ == 5
    assert len(detector.banks_["array", "avg"]) == 400
    assert 0 < made.bank["largest_drift"] < 2
    assert made.parity.score_difference < 1e-9
    assert bounded(detector, 400) is detector


@pytest.mark.parametrize(
    "detector", [NAP(), NNGuide(n_neighbors=10), panel()], ids=repr
)
def test_smaller_banks_still_score(detector):
    X, y = synthetic_features(200, 20)
    detector = detector.fit(X, y)
    smaller = bounded(detector, 30)
    assert smaller is not detector
    wanted, found = detector.score_samples(X), smaller.score_samples(X)
    assert np.corrcoef(wanted, found)[0, 1] > 0.8
    assert bounded(smaller, 30) is smaller
