"""Every detector of the registry as a graph: eager, compiled, and in onnxruntime."""

from __future__ import annotations

import warnings
from itertools import chain

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
from skood.features import LayerFeatures, LinearHead
from skood.interop.pyod.detector import PyODDetector
from skood.numerics.device import array_namespace
from skood.numerics.graph import ascending_order, becoming_graph

RTOL = 1e-4
ONNX = pytest.importorskip("onnxruntime", reason="needs the extra 'export'")


class Panel:
    """Fitted detectors side by side, since a graph of each would take minutes."""

    def __init__(self, detectors, new):
        self.detectors = detectors
        self.blocks = dict.fromkeys(name for d in detectors for name in widths_of(d))
        self.new = new

    def scored(self, X):
        scores = [graph_scored(d, self.given(d, X))[0] for d in self.detectors]
        return array_namespace(scores[0]).stack(scores, axis=1), None

    def given(self, detector, X):
        """Return the only block to detectors of arrays, which give it a name each."""
        return X if isinstance(self.new, LayerFeatures) else X.block("array", "avg")

    def formula(self):
        offsets = np.array([d.offset_ for d in self.detectors])
        return Formula(self.scored, offsets, list(self.widths))

    def traced(self):
        return traced(self.formula(), self.widths, torch.float64)

    @property
    def widths(self):
        if not isinstance(self.new, LayerFeatures):
            return {("array", "avg"): self.new.shape[1]}
        found = self.new.widths  # in this order detectors take what they read
        return {name: found[name] for name in found if name in self.blocks}

    @property
    def tensors(self):
        if not isinstance(self.new, LayerFeatures):
            return (torch.as_tensor(self.new),)
        return tuple(torch.as_tensor(self.new.block(*name)) for name in self.widths)

    @property
    def wanted(self):
        return np.column_stack([d.score_samples(self.new) for d in self.detectors])

    def check(self, scores, decisions):
        """Compare with the detectors; return how many scores and decisions."""
        wanted, scores = self.wanted, np.asarray(scores)
        size = np.maximum(np.abs(wanted), wanted.std(axis=0))
        worst = (np.abs(scores - wanted) / size).max(axis=0)
        faults = {
            f"{type(d).__name__}: {w:.1e}"
            for d, w in zip(self.detectors, worst, strict=True)
            if not w <= RTOL
        }
        assert not faults
        offsets = np.array([d.offset_ for d in self.detectors])
        clear = np.abs(wanted - offsets) > RTOL * size
        said = np.column_stack([d.predict(self.new) > 0 for d in self.detectors])
        assert (np.asarray(decisions) == said)[clear].all()
        return wanted.size, int((~clear).sum())


def widths_of(detector):
    while hasattr(detector, "_any_fitted"):
        detector = detector._any_fitted()
    return detector._widths


def exported(battery):
    return [clone(d) for d in battery if type(d).__name__ not in REFUSED]


REFUSED = {name for name, entry in REGISTRY.items() if entry.no_graph}
WRAPPED = [
    ConformalDetector(Mahalanobis(), 0.2, class_conditional=True),
    ConformalDetector(Energy(), 0.2, method="cross", cv=3),
    TargetRateThreshold(KNN(5)),
    DetectorEnsemble([("a", Energy()), ("b", KNN(5))], combine="logistic"),
]


@pytest.fixture(scope="module")
def on_features():
    X, y = synthetic_features()
    new, _ = synthetic_features(40, 10, random_state=3)
    battery = chain(exported(OOD_BATTERY), map(clone, WRAPPED))
    return Panel([d.fit(X, y) for d in battery], new)


@pytest.fixture(scope="module")
def on_arrays():
    rng = np.random.default_rng(0)
    X, new = rng.normal(size=(200, 6)), 1.5 * rng.normal(size=(50, 6))
    return Panel([d.fit(X) for d in exported(SKLEARN_BATTERY)], new)


@pytest.fixture(scope="module")
def graph(on_features):
    """One of each class as a graph: the parameters change little of what it holds."""
    first = {type(d).__name__: d for d in reversed(on_features.detectors)}
    del first["AutoOOD"]  # twelve of the others at once, half of all operations
    panel = Panel([*first.values()], on_features.new)
    return panel, panel.traced()


def test_every_detector_is_a_graph_or_says_why_not(on_features, on_arrays, graph):
    both = [*on_features.detectors, *on_arrays.detectors]
    seen = {type(d).__name__ for d in graph[0].detectors}
    assert seen >= set(REGISTRY) - REFUSED
    assert {"AMP", "PyODDetector"} == REFUSED
    print(f"{len(both)} detectors of {len(seen)} classes; refused: {sorted(REFUSED)}")


@pytest.fixture(scope="module")
def program(graph):
    """The graph, exported once more for rows of any number."""
    panel, module = graph
    some = tuple(x[:3] for x in panel.tensors)
    free = tuple({0: Dim.DYNAMIC} for _ in some)
    return torch.export.export(module, some, dynamic_shapes=free, strict=False)


@pytest.mark.parametrize("name", ["on_features", "on_arrays"])
def test_formulas_on_tensors_score_as_the_detectors_do(name, request):
    panel = request.getfixturevalue(name)
    scores, p_values, decisions = panel.formula()(*panel.tensors)
    n, near = panel.check(scores, decisions)
    assert p_values.isnan().all()
    print(f"{name}: {n} scores of {len(panel.detectors)} detectors, {near} near")


def test_graphs_score_as_the_detectors_do(graph):
    panel, module = graph
    scores, _, decisions = module(*panel.tensors)
    n, near = panel.check(scores, decisions)
    print(f"eager graph: {n} scores of {len(panel.detectors)} classes, {near} near")


def test_it_can_be_exported_again(graph, program):
    panel, again = graph[0], program.module()
    scores, _, decisions = again(*panel.tensors)
    panel.check(scores, decisions)
    one, _, _ = again(*(x[:1] for x in panel.tensors))
    torch.testing.assert_close(one, scores[:1], rtol=1e-9, atol=1e-12)


def test_it_can_be_compiled(graph):
    panel, module = graph
    torch._dynamo.reset()
    compiled = torch.compile(module, backend="eager", fullgraph=True, dynamic=True)
    scores, _, decisions = compiled(*panel.tensors)
    panel.check(scores, decisions)


def test_it_runs_in_onnxruntime(graph, program):
    panel, run = graph[0], in_onnxruntime(program)
    for rows in (slice(None), slice(1)):
        scores, _, decisions = run(*(x[rows] for x in panel.tensors))
        if rows == slice(None):
            n, near = panel.check(scores, decisions)
            print(f"onnxruntime: {n} scores, {near} near the threshold")


def in_onnxruntime(program):
    """Return a function that runs an exported program as a graph of ONNX."""
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's, on its own deprecated parts
        made = torch.onnx.export(program, dynamo=True, verbose=False)
    session = ONNX.InferenceSession(made.model_proto.SerializeToString())
    names = [one.name for one in session.get_inputs()]
    return lambda *given: session.run(
        None, dict(zip(names, map(np.asarray, given), strict=True))
    )


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
