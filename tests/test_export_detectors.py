"""Every detector of the registry as a graph: eager, compiled, and in onnxruntime."""

from __future__ import annotations

import importlib.util
import re
import shutil
import warnings
from functools import cached_property
from pathlib import Path

import numpy as np
import pytest
import torch
from instances import OOD_BATTERY, SKLEARN_BATTERY
from sklearn.base import clone
from torch.export import Dim

from skood import (
    KNN,
    RAS,
    AutoOOD,
    ConformalDetector,
    DetectorEnsemble,
    Energy,
    LayerEnsemble,
    Mahalanobis,
    TargetRateThreshold,
    all_detectors,
    to_module,
)
from skood.detectors.in_graph import graph_scored
from skood.detectors.registry import REGISTRY
from skood.ensemble.comparable import Comparable
from skood.ensemble.in_graph import combined_in_graph
from skood.ensemble.rules import RULES
from skood.estimator_checks import synthetic_features
from skood.export.formula import Formula, traced
from skood.export.module import DetectorModule, _captured
from skood.export.onnx import ByPosition
from skood.features import LayerFeatures, LinearHead
from skood.interop.pyod.detector import PyODDetector
from skood.numerics.device import array_namespace
from skood.numerics.graph import ascending_order, becoming_graph

BENCHMARK = Path(__file__).parents[1] / "benchmarks" / "export_matrix.py"
RTOL = 1e-4
ONNX = pytest.importorskip("onnxruntime", reason="needs the extra 'export'")


class Panel:
    """Fitted detectors side by side, since a graph of each would take minutes."""

    def __init__(self, detectors, blocks):
        self.detectors, self.blocks = detectors, blocks
        self.offsets = np.array([d.offset_ for d in detectors])

    def scored(self, X):
        # A detector of arrays takes the only block, whatever its name.
        given = X if len(self.blocks) > 1 else X.block(*next(iter(self.blocks)))
        scores = [graph_scored(d, given)[0] for d in self.detectors]
        return array_namespace(scores[0]).stack(scores, axis=1), None

    @property
    def formula(self):
        return Formula(self.scored, self.offsets, [*self.blocks])

    def graph(self, dtype):
        module = DetectorModule(
            None, traced(self.formula, self.blocks, dtype), [*self.blocks], dtype
        )
        return Graph(module, tuple(torch.rand(3, n).to(dtype) for n in self.widths))

    @property
    def widths(self):
        return self.blocks.values()

    def check(self, new, scores, decisions):
        """Compare with the detectors; return how many scores, and how many near."""
        wanted = np.column_stack([d.score_samples(new) for d in self.detectors])
        scores, decisions = np.asarray(scores), np.asarray(decisions)
        size = np.maximum(np.abs(wanted), wanted.std(axis=0))
        worst = (np.abs(scores - wanted) / size).max(axis=0)
        names = [type(d).__name__ for d in self.detectors]
        assert not {n: w for n, w in zip(names, worst, strict=True) if not w <= RTOL}
        clear = np.abs(wanted - self.offsets) > RTOL * size
        said = np.column_stack([d.predict(new) > 0 for d in self.detectors])
        assert (decisions == said)[clear].all()
        return wanted.size, int((~clear).sum())


REFUSED = {name for name, entry in REGISTRY.items() if entry.no_graph}
TOGETHER = [
    ConformalDetector(Mahalanobis(), 0.2, class_conditional=True),
    TargetRateThreshold(KNN(5)),
    DetectorEnsemble([("a", Energy()), ("b", KNN(5))], combine="logistic"),
    LayerEnsemble(KNN(5), layers=["layer1", "layer2"], combine="lda", calibration=0.4),
]
CROSSED = ConformalDetector(Energy(), 0.2, method="cross", cv=3)


def exported(battery):
    return [clone(d) for d in battery if type(d).__name__ not in REFUSED]


def tensors(X, blocks):
    """Return blocks of features, or a plain array, as a graph takes them."""
    if not isinstance(X, LayerFeatures):
        return (torch.as_tensor(X),)
    return tuple(torch.as_tensor(X.block(*name)) for name in blocks)


# Every parameter, without a graph -----------------------------------------------------


def on_features():
    X, y = synthetic_features()
    battery = [*exported(OOD_BATTERY), *map(clone, TOGETHER), clone(CROSSED)]
    new, _ = synthetic_features(40, 10, random_state=3)
    return [d.fit(X, y) for d in battery], X.widths, new


def on_arrays():
    rng = np.random.default_rng(0)
    X, new = rng.normal(size=(200, 6)), 1.5 * rng.normal(size=(50, 6))
    return [d.fit(X) for d in exported(SKLEARN_BATTERY)], {("array", "avg"): 6}, new


@pytest.mark.parametrize("fitted", [on_features, on_arrays])
def test_formulas_on_tensors_score_as_the_detectors_do(fitted):
    detectors, blocks, new = fitted()
    panel = Panel(detectors, blocks)
    scores, p_values, decisions = panel.formula(*tensors(new, blocks))
    n, near = panel.check(new, scores, decisions)
    assert p_values.isnan().all()
    assert n == len(detectors) * 50
    print(f"{fitted.__name__}: {n} scores of {len(detectors)} detectors, {near} near")


# The matrix: detectors, ways and kinds of networks ------------------------------------

WAYS = ["module", "torch.export", "torch.compile", "onnxruntime"]
NETWORKS = {"CNN": (0,), "ViT": (0,), "text": (0, 1)}
"""The axes whose size may be any, of the input of each kind of network."""

GROUPS = 5
"""Of detectors: what makes a graph of all takes a time that grows with its square."""


class Graph:
    """A module, and what is made of it in each way, for rows of any number."""

    def __init__(self, module, some, axes=(0,)):
        self.module, self.some, self.axes = module.eval(), some, axes

    @cached_property
    def program(self):
        free = tuple(dict.fromkeys(self.axes, Dim.DYNAMIC) for _ in self.some)
        by_position = ByPosition(self.module, [])
        return torch.export.export(
            by_position, self.some, dynamic_shapes=(free,), strict=False
        )

    def by(self, way):
        """Return a function of tensors."""
        if way == "onnxruntime":
            return self._session()
        made = self.module
        if way == "torch.export":
            made = self.program.module()
        elif way == "torch.compile":
            torch._dynamo.reset()
            made = torch.compile(made, backend="eager", fullgraph=True, dynamic=True)
        return lambda *given: made(*map(torch.as_tensor, given))

    def _session(self):
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's, on its own deprecated parts
            made = torch.onnx.export(self.program, dynamo=True, verbose=False)
        session = ONNX.InferenceSession(made.model_proto.SerializeToString())
        names = [one.name for one in session.get_inputs()]
        return lambda *given: session.run(
            None, dict(zip(names, map(np.asarray, given), strict=True))
        )


class Blocks(torch.nn.Module):
    """The part of a module that runs the network: from its inputs to the blocks."""

    def __init__(self, capture, names):
        super().__init__()
        self.capture, self.names = capture, names

    def forward(self, *inputs):
        args = () if self.names else inputs
        named = dict(zip(self.names, inputs, strict=False))
        return self.capture(*args, **named)[1]


@pytest.fixture(scope="module")
def matrix():
    """The command that exports every detector over every network in full."""
    spec = importlib.util.spec_from_file_location("benchmark_export_matrix", BENCHMARK)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def networks(matrix):
    """Of each kind: the transformer, its graph, and what it is called with."""
    found = {}
    for kind, axes in NETWORKS.items():
        first = matrix.features_of(kind).fit(matrix.inputs(kind, 60, 0))
        new = matrix.inputs(kind, 30, 1)
        called = matrix.tokens(new) if kind == "text" else {"": torch.as_tensor(new)}
        blocks = Blocks(_captured(first, first.blocks_), [n for n in called if n])
        tensors = [*called.values()]
        graph = Graph(blocks, tuple(x[:3] for x in tensors), axes)
        found[kind] = first, graph, tensors, first.transform(new)
    return found


@pytest.fixture(scope="module")
def over_networks(matrix, networks):
    """One detector of each class, fitted on the features of all networks together.

    A graph of theirs does for each network then.
    """
    parts = [
        first.transform(matrix.inputs(kind, 60, 0))
        for kind, (first, *_) in networks.items()
    ]
    blocks = {
        name: np.concatenate([part.block(*name) for part in parts])
        for name in parts[0].block_names
    }
    X = LayerFeatures(blocks, head=parts[0].head)
    known = [d.fit(X, np.arange(len(X)) % 3) for d in one_of_each(matrix, "CNN")]
    return grouped(known, X.widths, torch.float32)


@pytest.fixture(scope="module")
def over_arrays(matrix):
    X, known = matrix.inputs("arrays", 120, 0), []
    for detector in one_of_each(matrix, "arrays"):
        try:
            known.append(detector.fit(X, np.arange(120) % 3))
        except (TypeError, ValueError) as error:  # of those that need a network's own
            assert re.search("head|logits|layer|block", str(error)), detector  # noqa: PT017
    return grouped(known, {("array", "avg"): 6}, torch.float64)


def one_of_each(matrix, kind):
    """Return a detector of each class: parameters change little of what a graph has."""
    left_out = {*REFUSED, "AutoOOD"}  # an ensemble like the other
    return [make() for name, make in matrix.detectors(kind) if name not in left_out]


def grouped(detectors, blocks, dtype):
    panels = [Panel(detectors[k::GROUPS], blocks) for k in range(GROUPS)]
    return [(panel, panel.graph(dtype)) for panel in panels]


@pytest.mark.parametrize("way", WAYS)
def test_every_detector_over_every_network(way, networks, over_networks):
    graphs = [(panel, graph.by(way)) for panel, graph in over_networks]
    for kind, (_, network, tensors, features) in networks.items():
        blocks, n, near = network.by(way)(*tensors), 0, 0
        for panel, graph in graphs:
            _, scores, _, decisions = graph(*blocks)
            found = panel.check(features, scores, decisions)
            n, near = n + found[0], near + found[1]
        assert n == 30 * sum(len(panel.detectors) for panel, _ in over_networks)
        print(f"{way}, {kind}: {n} scores, {near} in the band")


@pytest.mark.parametrize("way", WAYS)
def test_every_detector_of_arrays(way, over_arrays):
    new = 1.5 * np.random.default_rng(1).normal(size=(50, 6))
    for panel, graph in over_arrays:
        run = graph.by(way)
        _, scores, _, decisions = run(new)
        panel.check(new, scores, decisions)
        _, one, _, _ = run(new[:1])
        np.testing.assert_allclose(one, np.asarray(scores)[:1], rtol=1e-9, atol=1e-12)


@pytest.mark.skipif(
    not (shutil.which("g++") or shutil.which("clang++")),
    reason="inductor compiles with a C++ compiler, and there is none",
)
def test_inductor_makes_machine_code_of_it(monkeypatch, tmp_path):
    """The others are compiled as graphs: machine code of each would take minutes."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    X, y = synthetic_features(120, 12)
    blocks = {
        name: X.widths[name] for name in [("layer1", "avg"), ("logits", "logits")]
    }
    known = [Energy(), Mahalanobis("layer1"), KNN(5, layers="layer1")]
    panel = Panel([d.fit(X, y) for d in known], blocks)
    torch._dynamo.reset()
    with torch._inductor.config.patch(compile_threads=1):
        compiled = torch.compile(panel.graph(torch.float64).module, dynamic=True)
        with torch.no_grad():
            _, scores, _, decisions = compiled(*tensors(X, blocks))
    panel.check(X, scores, decisions)


def test_every_detector_is_in_the_matrix_or_says_why_not(over_networks, over_arrays):
    on_networks, on_arrays = (
        {type(d).__name__ for panel, _ in panels for d in panel.detectors}
        for panels in (over_networks, over_arrays)
    )
    assert on_networks >= {*REGISTRY} - REFUSED
    assert on_arrays >= {name for name, e in REGISTRY.items() if e.on_arrays} - REFUSED
    assert {"AMP", "PyODDetector"} == REFUSED
    print(f"{len(on_networks)} over networks, {len(on_arrays)} of arrays")
    for name in REFUSED:
        print(f"{name} has no graph: {REGISTRY[name].no_graph}")


# One by one -------------------------------------------------------------------------


def test_the_table_of_detectors_says_which_have_a_graph():
    table = all_detectors()
    assert set(table.index[~table["exports"]]) == REFUSED


def test_what_has_no_graph_is_refused_with_the_reason():
    X = np.random.default_rng(0).normal(size=(60, 3))
    from pyod.models.hbos import HBOS
    from sklearn.ensemble import IsolationForest

    with pytest.raises(TypeError, match=r"PyODDetector has no graph.*NumPy"):
        to_module(PyODDetector(HBOS()).fit(X))
    with pytest.raises(TypeError, match=r"IsolationForest has no graph.*no detector"):
        to_module(IsolationForest(n_estimators=2, contamination=0.1).fit(X))
    ensemble = DetectorEnsemble([("a", KNN(3)), ("b", IsolationForest())]).fit(X)
    with pytest.raises(TypeError, match="IsolationForest has no graph"):
        to_module(ensemble)
    mixed = DetectorEnsemble([("a", KNN(3))], combine="fisher", scale="z").fit(X)
    with pytest.raises(TypeError, match="scale='z' has no graph"):
        to_module(mixed)


def test_p_values_and_the_features_come_with_the_scores():
    X = np.random.default_rng(0).normal(size=(200, 4))
    new = np.random.default_rng(1).normal(size=(40, 4)) * 2
    for detector in (
        ConformalDetector(KNN(3), 0.1).fit(X),
        DetectorEnsemble([("a", KNN(3)), ("b", Mahalanobis())]).fit(X),
    ):
        output, _, p_values, _ = to_module(detector, new)(torch.as_tensor(new))
        np.testing.assert_allclose(p_values, detector.p_values(new), rtol=1e-12)
        np.testing.assert_array_equal(output, new)


def test_a_module_of_several_blocks_takes_them_in_order():
    X, y = synthetic_features(60, 6)
    detector = Mahalanobis(["layer1", "layer2"]).fit(X, y)
    module = to_module(detector, X)
    assert module.blocks == [("layer1", "avg"), ("layer2", "avg")]
    blocks = [torch.as_tensor(X.block(*name)) for name in module.blocks]
    output, scores, _, _ = module(*blocks)
    np.testing.assert_allclose(scores, detector.score_samples(X), rtol=1e-9)
    assert output.shape == (66, sum(block.shape[1] for block in blocks))


@pytest.mark.parametrize("width", [1, 10, 64, 512])
def test_ties_keep_their_order(width):
    """Units behind a ReLU tie at zero, and a sort of many columns moves them."""
    rng = np.random.default_rng(0)
    x = np.maximum(rng.normal(size=(40, width)).round(1), 0)
    with becoming_graph():
        found = ascending_order(torch.as_tensor(x))
    np.testing.assert_array_equal(found, np.argsort(x, axis=1, kind="stable"))


def test_detectors_that_sort_units_are_graphs_of_wide_layers():
    rng = np.random.default_rng(0)
    head = LinearHead(rng.normal(size=(4, 64)), np.zeros(4))
    h = np.maximum(rng.normal(size=(90, 64)), 0)
    X = LayerFeatures({"penultimate": h, "logits": head.logits(h)}, head=head)
    detector = RAS().fit(X)
    to_module(detector, X)  # raises if it scores as another


def test_nan_is_no_inlier():
    X = np.random.default_rng(0).normal(size=(99, 3))
    _, score, _, is_inlier = to_module(Mahalanobis().fit(X))(torch.full((2, 3), np.nan))
    assert score.isnan().all()
    assert not is_inlier.any()


def test_auto_is_a_graph_of_all_its_members():
    X, y = synthetic_features(120, 12)
    detector = AutoOOD([("a", Energy()), ("b", Mahalanobis())]).fit(X, y)
    module = to_module(detector, X)
    assert module.blocks == [*detector._widths]
    assert len(detector.members_) == 2


@pytest.mark.parametrize("n", [5, 12, 300])
@pytest.mark.parametrize("rule", ["stouffer", "min", "fisher", "simes", "cauchy"])
def test_rules_of_ensembles_are_those_of_a_graph(n, rule):
    rng = np.random.default_rng(n)
    scales = [Comparable.of(scores) for scores in rng.normal(size=(3, n)).round(1)]
    edges = [scale.edge for scale in scales]
    far = [[-1e9] * 3, [-40.0] * 3, [9.0] * 3, edges, np.nextafter(edges, -np.inf)]
    scores = np.concatenate([rng.normal(size=(500, 3)), far])
    gaussian = [s.gaussian(x) for s, x in zip(scales, scores.T, strict=True)]
    wanted = RULES[rule](np.column_stack(gaussian))
    with becoming_graph():
        args = (scales, torch.as_tensor(scores), rule, "gaussian", None)
        found = combined_in_graph(*args).numpy()
    np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-6)
