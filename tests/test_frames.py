"""What may be given as a table, as labels and as scores, and what is refused."""

from __future__ import annotations

from itertools import product

import numpy as np
import pandas as pd
import polars as pl
import pytest
import sklearn
import torch
from instances import SKLEARN_BATTERY
from scipy.sparse import csr_array, csr_matrix
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import IsolationForest
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from skood import (
    KNN,
    AnchoredClassifier,
    ClassHoldout,
    ConformalDetector,
    EnergyRegularizedClassifier,
    FeatureStore,
    InlierKFold,
    LayerFeatures,
    LayerFeatureTransformer,
    LayerSelector,
    LeaveOutlierSourceOut,
    LinearHead,
    Mahalanobis,
    OutliersIgnored,
    ShiftMonitor,
    TargetRateThreshold,
    auroc,
    auroc_scorer,
    conformal_p_values,
    discoveries,
    make_pseudo_outliers,
    ood_report,
)
from skood._arrays import as_array
from skood._labels import inlier_mask
from skood.neural.mlp import MLP
from skood.plotting import DetDisplay, RocDisplay, ScoreHistogramDisplay

ROWS = 40
NAMES = ["a", "b", "c", "d"]
CLASSES = np.arange(ROWS) % 2
VALUES = (
    np.random.default_rng(0).integers(-8, 9, size=(ROWS, 4)) + 5.0 * CLASSES[:, None]
)
"""Whole numbers, which every type holds exactly."""

FRAME = pd.DataFrame(VALUES, columns=NAMES)
POLARS = pl.DataFrame(VALUES, schema=NAMES)
TENSOR = torch.tensor(VALUES)

TABLES = {
    "float32": VALUES.astype(np.float32),
    "float16": VALUES.astype(np.float16),
    "int": VALUES.astype(int),
    "list": VALUES.tolist(),
    "pandas": FRAME,
    "pandas, text index": FRAME.set_axis([f"row {i}" for i in range(ROWS)]),
    "pandas, other index": FRAME.set_axis(np.arange(ROWS)[::-1] + 7),
    "pandas, float32": FRAME.astype(np.float32),
    "pandas, Float64": FRAME.astype("Float64"),
    "pandas, Int64": FRAME.astype("Int64"),
    "pandas, mixed": FRAME.astype({"a": "Int64", "b": np.float32, "c": "category"}),
    "pandas, numbered columns": pd.DataFrame(VALUES),
    "polars": POLARS,
    "polars, float32": POLARS.cast(pl.Float32),
    "polars, mixed": POLARS.cast({"a": pl.Int8, "b": pl.Float32}),
    "tensor": TENSOR,
    "tensor, float32": TENSOR.float(),
    "tensor, float16": TENSOR.half(),
    "tensor, bfloat16": TENSOR.bfloat16(),
    "tensor, int": TENSOR.long(),
    "tensor with a gradient": TENSOR.clone().requires_grad_(),
    "tensor, transposed": torch.tensor(VALUES.T.copy()).T,
    "tensor, negated view": torch._neg_view(-TENSOR),
    "list of tensors": list(TENSOR),
}
UNNAMED = ("float", "int", "list", "pandas, numbered", "tensor")
IN_FLOAT32 = ("float32", "bfloat16")

BAD_TABLES = {
    "sparse matrix": (csr_matrix(VALUES), "parse"),
    "sparse array": (csr_array(VALUES), "parse"),
    "sparse tensor": (TENSOR.to_sparse(), "sparse tensor"),
    "tensor without data": (TENSOR.to("meta"), "device 'meta'"),
    "LazyFrame": (POLARS.lazy(), r"LazyFrame.*collect\(\)"),
    "pandas, texts": (FRAME.assign(d="x"), r"not numbers: 'd' \((str|object)\)"),
    "pandas, dates": (FRAME.assign(d=pd.Timestamp("2026-01-01")), "'d' .datetime64"),
    "polars, dates": (
        POLARS.with_columns(d=pl.lit(1).cast(pl.Date)),
        r"not numbers: 'd' \(Date",
    ),
    "polars, dates only": (
        POLARS.select(pl.all().cast(pl.Int64).cast(pl.Datetime)),
        "not numbers: 'a'",
    ),
    "polars, arrays": (
        POLARS.with_columns(d=pl.lit([1.0, 2.0]).cast(pl.Array(pl.Float64, 2))),
        r"not numbers: 'd' \(Array",
    ),
    "polars, texts": (POLARS.with_columns(d=pl.lit("x")), r"not numbers: 'd' \(String"),
    "pandas, missing": (FRAME.astype("Int64").replace(0, pd.NA), "NaN"),
    "polars, missing": (
        POLARS.with_columns(pl.when(pl.col("a") > 0).then(pl.col("a"))),
        "NaN",
    ),
    "masked": (np.ma.masked_less(VALUES, 0), r"masked entries.*filled"),
    "complex": (VALUES + 1j, "Complex data not supported"),
    "pandas Series": (FRAME["a"], "2-dimensional"),
    "polars Series": (POLARS["a"], "2D array"),
}

WITH_TABLES = [*product(range(len(SKLEARN_BATTERY)), TABLES)]
WITH_BAD_TABLES = [*product(range(len(SKLEARN_BATTERY)), BAD_TABLES)]


def test_the_matrix_is_whole():
    assert len(SKLEARN_BATTERY) >= 18  # each detector that takes bare arrays adds to it
    assert len(WITH_TABLES) == len(SKLEARN_BATTERY) * 24
    assert len(WITH_BAD_TABLES) == len(SKLEARN_BATTERY) * 17
    assert len(WITH_LABELS) == 16 * 26
    assert len(WITH_BAD_LABELS) == 16 * 10


# Tables in detectors -------------------------------------------------------------


@pytest.fixture(scope="module")
def plain_scores():
    """What each detector says of the plain array, by detector and type."""
    known = {}

    def scores(number, dtype):
        if (number, dtype) not in known:
            X = VALUES.astype(dtype)
            detector = clone(SKLEARN_BATTERY[number]).fit(X)
            known[number, dtype] = detector.score_samples(X)
        return known[number, dtype]

    return scores


@pytest.mark.parametrize(("number", "table"), WITH_TABLES)
def test_a_table_of_any_library_is_the_array(number, table, plain_scores):
    X = TABLES[table]
    detector = clone(SKLEARN_BATTERY[number]).fit(X)
    is_float32 = table.endswith(IN_FLOAT32)
    expected = plain_scores(number, np.float32 if is_float32 else np.float64)
    rtol = 1e-5 if is_float32 else 1e-9
    np.testing.assert_allclose(detector.score_samples(X), expected, rtol=rtol)
    is_named = not table.startswith(UNNAMED)
    assert hasattr(detector, "feature_names_in_") == is_named
    if is_named:
        assert detector.feature_names_in_.tolist() == NAMES


@pytest.mark.filterwarnings("ignore:X has feature names")
@pytest.mark.parametrize(("number", "table"), WITH_BAD_TABLES)
def test_what_is_no_table_of_numbers_is_refused(number, table):
    X, text = BAD_TABLES[table]
    with pytest.raises((TypeError, ValueError), match=text):
        clone(SKLEARN_BATTERY[number]).fit(X)
    fitted = clone(SKLEARN_BATTERY[number]).fit(VALUES)
    with pytest.raises((TypeError, ValueError), match=text):
        fitted.score_samples(X)


NAMED = {
    "detector": KNN(3),
    "threshold": TargetRateThreshold(KNN(3), 0.3, cv=0.5),
    "conformal": ConformalDetector(KNN(3), 0.3, cv=0.5),
    "outliers ignored": OutliersIgnored(KNN(3)),
    "selector": LayerSelector(),
    "pipeline": make_pipeline(StandardScaler(), KNN(3)),
}


@pytest.mark.parametrize("frame", [FRAME, POLARS], ids=["pandas", "polars"])
@pytest.mark.parametrize("estimator", NAMED.values(), ids=NAMED)
def test_columns_are_known_again(estimator, frame):
    fitted = clone(estimator).fit(frame)
    method = getattr(fitted, "score_samples", getattr(fitted, "transform", None))
    assert len(method(frame)) == ROWS
    with pytest.raises(ValueError, match="must be in the same order"):
        method(frame[NAMES[::-1]])
    with pytest.raises(ValueError, match="yet now missing:\n- d"):
        method(frame[NAMES[:3]])
    with pytest.raises(ValueError, match="unseen at fit time:\n- e"):
        method(frame.assign(e="x") if frame is FRAME else frame.with_columns(e=1))
    with pytest.warns(UserWarning, match="does not have valid feature names"):
        method(VALUES)


@pytest.mark.parametrize("frame", [FRAME, POLARS], ids=["pandas", "polars"])
def test_a_search_takes_frames_and_text_labels(frame):
    marked = np.where(np.arange(ROWS) < 6, "-1", np.where(CLASSES, "dog", "cat"))
    y = pd.Series(marked, index=np.arange(ROWS) + 100)
    y = y if frame is FRAME else pl.Series(marked.tolist(), dtype=pl.Categorical)
    search = GridSearchCV(
        OutliersIgnored(KNN()),
        {"estimator__n_neighbors": [2, 3]},
        scoring=auroc_scorer,
        cv=InlierKFold(3),
        error_score="raise",
    ).fit(frame, y)
    assert search.best_estimator_.class_labels_.tolist() == ["cat", "dog"]
    assert search.feature_names_in_.tolist() == NAMES


# Labels --------------------------------------------------------------------------

MARKED = np.where(np.arange(ROWS) < 6, -1, CLASSES)
TEXTS = np.where(MARKED == -1, "-1", np.where(CLASSES, "dog", "cat"))
INDEX = np.arange(ROWS)[::-1] + 7

NUMBERS_AS = {
    "list": MARKED.tolist(),
    "int8": MARKED.astype(np.int8),
    "float": MARKED.astype(float),
    "objects": MARKED.astype(object),
    "column": MARKED[:, None],
    "pandas": pd.Series(MARKED, index=INDEX),
    "pandas, Int64": pd.Series(MARKED, dtype="Int64"),
    "pandas, Float64": pd.Series(MARKED, dtype="Float64"),
    "pandas, category": pd.Series(MARKED, dtype="category"),
    "pandas frame": pd.DataFrame({"y": MARKED}),
    "polars": pl.Series(MARKED),
    "polars frame": pl.DataFrame({"y": MARKED}),
    "tensor": torch.tensor(MARKED),
    "tensor, bfloat16": torch.tensor(MARKED).bfloat16(),
    "tensor with a gradient": torch.tensor(MARKED).float().requires_grad_(),
    "list of tensors": list(torch.tensor(MARKED)),
}
TEXTS_AS = {
    "list": TEXTS.tolist(),
    "array": TEXTS,
    "objects": TEXTS.astype(object),
    "objects with -1": np.array([v if v != "-1" else -1 for v in TEXTS], dtype=object),
    "pandas": pd.Series(TEXTS, index=INDEX),
    "pandas, string": pd.Series(TEXTS, dtype="string"),
    "pandas, category": pd.Series(TEXTS, dtype="category"),
    "polars": pl.Series(TEXTS.tolist()),
    "polars, Categorical": pl.Series(TEXTS.tolist(), dtype=pl.Categorical),
    "polars, Enum": pl.Series(TEXTS.tolist(), dtype=pl.Enum(["-1", "cat", "dog"])),
}
LABELS = {
    **{("numbers", name): y for name, y in NUMBERS_AS.items()},
    **{("texts", name): y for name, y in TEXTS_AS.items()},
}
HOLE = np.arange(ROWS) == 9
BAD_LABELS = {
    "pandas, NaN": (pd.Series(MARKED).mask(HOLE), "NaN: 1 of 40.*row 9"),
    "pandas, NA": (pd.Series(MARKED, dtype="Int64").mask(HOLE), "NaN: 1 of 40"),
    "pandas, missing text": (pd.Series(TEXTS).mask(HOLE), "NaN: 1 of 40"),
    "polars, null": (pl.Series([None, *TEXTS[1:].tolist()]), "NaN: 1 of 40.*row 0"),
    "texts and numbers": (["cat", 3] * 20, "mixes texts and numbers"),
    "a float as text": (np.where(HOLE, -1.0, MARKED).astype(str), "'-1.0', a number"),
    "texts and NaN": (["cat", np.nan] * 20, "NaN: 20 of 40.*row 1"),
    "tensor without data": (torch.tensor(MARKED).to("meta"), "'meta', without any"),
    "one-hot": (nn.functional.one_hot(torch.tensor(CLASSES)), "1d array"),
    "infinite": (np.where(HOLE, np.inf, MARKED), "infinity"),
}
SOURCES = np.where(np.arange(ROWS) < 3, "near", "far")


def _classifier(kind=AnchoredClassifier):
    return kind(
        MLP,
        module__n_features=4,
        module__n_classes=2,
        max_epochs=1,
        train_split=None,
        random_state=0,
    )


def _classes_and_scores(detector, fit="fit"):
    def use(y):
        fitted = getattr(clone(detector), fit)(VALUES, y)
        return fitted.class_labels_.tolist(), fitted.score_samples(VALUES)

    return use


def _test_sides(splitter, *groups):
    return lambda y: [test for _, test in splitter.split(VALUES, y, *groups)]


def _classifier_of(y):
    net = _classifier().fit(VALUES, y)
    return net.classes_.tolist(), net.predict(VALUES).tolist()


FITTED = Mahalanobis().fit(VALUES)
LABEL_USES = {
    "fit": _classes_and_scores(Mahalanobis()),
    "partial_fit": _classes_and_scores(Mahalanobis(), "partial_fit"),
    "outliers ignored": _classes_and_scores(OutliersIgnored(KNN(3))),
    "threshold": _classes_and_scores(TargetRateThreshold(KNN(3), 0.3)),
    "conformal": _classes_and_scores(
        ConformalDetector(KNN(3), 0.3, method="cross", class_conditional=True)
    ),
    "monitor": lambda y: ShiftMonitor(KNN(3)).fit(VALUES, y).calibration_scores_,
    "classifier": _classifier_of,
    "folds": _test_sides(InlierKFold(3)),
    "class holdout": _test_sides(ClassHoldout()),
    "source holdout": _test_sides(LeaveOutlierSourceOut(2), SOURCES),
    "scorer": lambda y: auroc_scorer(FITTED, VALUES, y),
    "metric": lambda y: auroc(y, VALUES[:, 0]),
    "report": lambda y: ood_report(y, VALUES[:, 0], n_bootstrap=0).to_numpy(),
    "pseudo outliers": lambda y: make_pseudo_outliers(
        VALUES, y, kind="extrapolate", random_state=0
    ),
    "held-out class": lambda y: make_pseudo_outliers(
        VALUES, y, kind="class_holdout", random_state=0
    ),
    "plot": lambda y: (
        ScoreHistogramDisplay.from_predictions(y, VALUES[:, 0]).outlier_scores
    ),
}
WITH_LABELS = [*product(LABEL_USES, LABELS)]
WITH_BAD_LABELS = [*product(LABEL_USES, BAD_LABELS)]


@pytest.mark.filterwarnings("ignore:A column-vector y was passed")
@pytest.mark.parametrize(("use", "labels"), WITH_LABELS)
def test_labels_of_any_library_are_the_array(use, labels):
    plain = {"numbers": MARKED, "texts": TEXTS}[labels[0]]
    found, expected = LABEL_USES[use](LABELS[labels]), LABEL_USES[use](plain)
    for one, other in zip(_parts(found), _parts(expected), strict=True):
        np.testing.assert_array_equal(one, other)


def _parts(value):
    return value if isinstance(value, (tuple, list)) else [value]


@pytest.mark.parametrize(("use", "labels"), WITH_BAD_LABELS)
def test_labels_that_say_nothing_are_refused(use, labels):
    y, text = BAD_LABELS[labels]
    with pytest.raises((TypeError, ValueError), match=text):
        LABEL_USES[use](y)


def test_labels_of_other_objects_stay_as_they_are():
    from decimal import Decimal

    y = np.array([Decimal(1), Decimal(-1), Decimal(2)], dtype=object)
    assert inlier_mask(y).tolist() == [True, False, True]
    assert inlier_mask(np.array([True, False])).all()


# Features ------------------------------------------------------------------------


@pytest.mark.parametrize("table", TABLES)
def test_a_block_is_a_table_of_any_library(table):
    features = LayerFeatures({"conv1": TABLES[table], ("conv2", "max"): VALUES})
    assert features.block("conv1").dtype.kind in "iuf"
    np.testing.assert_array_equal(features.block("conv1"), VALUES)
    np.testing.assert_array_equal(features[3:5].block("conv1"), VALUES[3:5])


BAD_BLOCKS = {
    **{name: X for name, (X, _) in BAD_TABLES.items() if "missing" not in name},
    "objects": VALUES.astype(object),
    "nothing": None,
}


@pytest.mark.parametrize("table", BAD_BLOCKS)
def test_a_block_that_is_no_table_of_numbers_is_refused(table):
    with pytest.raises((TypeError, ValueError), match=r"^block conv1/avg (is a|has) "):
        LayerFeatures({"conv1": BAD_BLOCKS[table]})


EVERY_THIRD = np.arange(ROWS) % 3 == 0
INDICES = {
    "pandas mask": pd.Series(EVERY_THIRD),
    "pandas mask, other index": pd.Series(EVERY_THIRD, index=INDEX),
    "pandas boolean": pd.Series(EVERY_THIRD, dtype="boolean"),
    "polars mask": pl.Series(EVERY_THIRD),
    "tensor mask": torch.tensor(EVERY_THIRD),
    "pandas Int64": pd.Series(np.flatnonzero(EVERY_THIRD), dtype="Int64"),
    "pandas Index": pd.Index(np.flatnonzero(EVERY_THIRD)),
    "polars numbers": pl.Series(np.flatnonzero(EVERY_THIRD)),
    "tensor": torch.tensor(np.flatnonzero(EVERY_THIRD), dtype=torch.int32),
    "list of tensors": list(torch.tensor(np.flatnonzero(EVERY_THIRD))),
}


@pytest.mark.parametrize("key", INDICES.values(), ids=INDICES)
def test_rows_are_chosen_by_columns_and_tensors(key):
    features = LayerFeatures({"conv1": VALUES})
    np.testing.assert_array_equal(np.asarray(features[key]), VALUES[EVERY_THIRD])
    np.testing.assert_array_equal(np.asarray(features.take(key)), VALUES[EVERY_THIRD])


@pytest.mark.parametrize("key", [np.int32(3), np.array(3), torch.tensor(3)], ids=type)
def test_a_single_row_by_a_scalar_of_any_library(key):
    np.testing.assert_array_equal(LayerFeatures({"conv1": VALUES})[key], VALUES[3])


@pytest.mark.parametrize(
    "key",
    [
        True,
        0.5,
        np.float64(1.5),
        None,
        pd.Series([True, pd.NA] * (ROWS // 2), dtype="boolean"),
        pl.Series([None, *EVERY_THIRD[1:].tolist()]),
    ],
    ids=repr,
)
def test_what_chooses_no_rows_is_refused(key):
    with pytest.raises(IndexError):
        LayerFeatures({"conv1": VALUES})[key]


def test_features_as_a_frame():
    features = LayerFeatures({"conv1": VALUES, ("conv1", "max"): VALUES[:, :1]})[5:8]
    frame = features.to_frame()
    assert [*frame] == [*(f"conv1__avg__{i}" for i in range(4)), "conv1__max__0"]
    assert frame.index.tolist() == [0, 1, 2]
    np.testing.assert_array_equal(frame, np.asarray(features))


@pytest.mark.parametrize("library", ["pandas", "polars"])
@pytest.mark.parametrize("X", [FRAME, POLARS, TENSOR, LayerFeatures({"l": VALUES})])
def test_the_selector_honours_set_output(X, library):
    selector = LayerSelector().set_output(transform=library)
    frame = selector.fit_transform(X)
    assert type(frame).__module__.startswith(library)
    np.testing.assert_array_equal(frame.to_numpy(), VALUES)
    assert [*frame.columns] == [*selector.get_feature_names_out()]


def test_the_selector_keeps_the_index():
    selector = LayerSelector().set_output(transform="pandas")
    frame = TABLES["pandas, text index"]
    pd.testing.assert_frame_equal(selector.fit_transform(frame), frame)


def test_a_head_is_made_of_a_torch_module():
    linear = nn.Linear(4, 3)
    head = LinearHead(linear.weight, linear.bias)
    assert type(head.weight) is np.ndarray
    logits = linear(TENSOR.float())
    np.testing.assert_allclose(head.logits(TENSOR.float()), logits.detach(), rtol=1e-5)
    again = LinearHead.from_samples(TENSOR.float().requires_grad_(), logits)
    np.testing.assert_allclose(again.weight, head.weight, atol=1e-5)


# Networks ------------------------------------------------------------------------


@pytest.fixture
def network():
    torch.manual_seed(0)
    layers = {"first": nn.Linear(4, 5), "relu": nn.ReLU(), "last": nn.Linear(5, 3)}
    net = nn.Sequential()
    for name, layer in layers.items():
        net.add_module(name, layer)
    return net


def _extractor(network, **options):
    return LayerFeatureTransformer(network, ["first", "logits"], **options)


FLOAT_TABLES = [name for name in TABLES if "int" not in name.lower()]


@pytest.mark.parametrize("cache", [None, "memory"])
@pytest.mark.parametrize("table", FLOAT_TABLES)
def test_a_network_reads_tables_of_any_library(network, table, cache):
    X = TABLES[table]
    if table == "pandas, mixed":
        X = X.astype({"c": float})
    transformer = _extractor(network, cache=cache, batch_size=16)
    features = transformer.fit(X).transform(X)
    expected = _extractor(network).fit_transform(TENSOR)
    np.testing.assert_allclose(features, expected, rtol=1e-5)
    is_named = not table.startswith(UNNAMED)
    assert hasattr(transformer, "feature_names_in_") == is_named


@pytest.mark.parametrize(
    ("table", "text"),
    [
        ("sparse matrix", "X is a csr_matrix; wanted is an array"),
        ("sparse tensor", r"sparse tensor.*to_dense\(\)"),
        ("tensor without data", "device 'meta'"),
        ("LazyFrame", r"LazyFrame.*collect\(\)"),
        ("pandas, texts", "not numbers: 'd'.*preprocess"),
        ("polars, texts", "not numbers: 'd'.*preprocess"),
        ("pandas, missing", "NaN or infinity in row"),
        ("polars, missing", "NaN or infinity in row"),
        ("masked", "masked entries"),
    ],
)
def test_what_a_network_cannot_read_is_refused(network, table, text):
    with pytest.raises((TypeError, ValueError), match=text):
        _extractor(network).fit_transform(BAD_TABLES[table][0])


@pytest.mark.parametrize("frame", [FRAME, POLARS], ids=["pandas", "polars"])
def test_columns_of_a_network_are_known_again(network, frame, tmp_path):
    transformer = _extractor(network).fit(frame)
    with pytest.raises(ValueError, match="must be in the same order"):
        transformer.transform(frame[NAMES[::-1]])
    with pytest.raises(ValueError, match="must be in the same order"):
        transformer.extract_to(tmp_path, frame[NAMES[::-1]], progress=False)
    by_name = _extractor(network, preprocess=lambda part: part[NAMES].to_numpy())
    more = frame.assign(e="x") if frame is FRAME else frame.with_columns(e=pl.lit("x"))
    expected = by_name.fit_transform(frame)
    np.testing.assert_array_equal(
        by_name.transform(more[["e", *NAMES[::-1]]]), expected
    )


LETTERS = [f"text {i}" for i in range(ROWS)]
COLUMNS = {
    "list": LETTERS,
    "array": np.array(LETTERS),
    "pandas": pd.Series(LETTERS, index=INDEX),
    "pandas, string": pd.Series(LETTERS, dtype="string"),
    "pandas, category": pd.Series(LETTERS, dtype="category"),
    "pandas, column": pd.DataFrame({"text": LETTERS})["text"],
    "polars": pl.Series(LETTERS),
    "polars, Categorical": pl.Series(LETTERS, dtype=pl.Categorical),
    "polars, column": pl.DataFrame({"text": LETTERS})["text"],
}


@pytest.mark.parametrize("cache", [None, "memory"])
@pytest.mark.parametrize("column", COLUMNS)
def test_preprocess_gets_a_column_as_a_list(network, column, cache):
    def numbers(texts):
        assert type(texts) is list
        return torch.tensor([[float(text.split()[1])] * 4 for text in texts])

    transformer = _extractor(network, preprocess=numbers, cache=cache, batch_size=16)
    features = transformer.fit_transform(COLUMNS[column])
    expected = _extractor(network).fit_transform(np.arange(ROWS)[:, None] + np.zeros(4))
    np.testing.assert_allclose(features, expected, rtol=1e-5)


@pytest.mark.parametrize("labels", LABELS)
def test_a_store_keeps_labels_and_ids_of_any_library(network, labels, tmp_path):
    y = LABELS[labels]
    if np.ndim(y) > 1 or labels[1].startswith("objects"):
        y = as_array(y).ravel().astype(str)
    store = FeatureStore(tmp_path)
    _extractor(network).extract_to(store, FRAME, y, ids=y, progress=False)
    for kept in (store.labels, store.ids):
        np.testing.assert_array_equal(kept, as_array(y).astype(kept.dtype))


@pytest.mark.parametrize("library", ["default", "pandas", "polars"])
def test_set_config_leaves_layer_features_as_they_are(network, library):
    y = np.where(np.arange(ROWS) < 8, -1, CLASSES)
    with sklearn.config_context(transform_output=library):
        assert isinstance(_extractor(network).fit_transform(FRAME), LayerFeatures)
        to_detector = make_pipeline(_extractor(network), KNN(3, layers="first"))
        assert to_detector.fit(FRAME, y).score_samples(FRAME).shape == (ROWS,)
        to_matrix = make_pipeline(
            _extractor(network),
            LayerSelector("first"),
            StandardScaler(),
            IsolationForest(n_estimators=3, random_state=0),
        ).fit(FRAME)
        table = to_matrix[:-1].transform(FRAME)
        assert type(table).__module__.startswith(library.replace("default", "numpy"))
        if library != "default":
            assert to_matrix[-1].feature_names_in_[0] == "first__avg__0"
        beside = ColumnTransformer([("net", _extractor(network), NAMES)])
        assert beside.fit_transform(FRAME).shape == (ROWS, 8)


def test_set_output_of_layer_features_is_refused_with_the_mend(network):
    pipeline = make_pipeline(_extractor(network), LayerSelector("first"))
    with pytest.raises(ValueError, match=r"put LayerSelector\(\) behind it"):
        pipeline.set_output(transform="pandas")
    assert pipeline.set_output(transform="default") is pipeline
    pipeline[1:].set_output(transform="polars")
    frame = pipeline.fit_transform(FRAME)
    assert isinstance(frame, pl.DataFrame)
    assert frame.columns == [f"first__avg__{i}" for i in range(5)]


@pytest.mark.parametrize("kind", [AnchoredClassifier, EnergyRegularizedClassifier])
@pytest.mark.parametrize("table", TABLES)
def test_a_classifier_learns_from_tables_of_any_library(kind, table):
    X = TABLES[table]
    net = _classifier(kind).fit(X, CLASSES)
    expected = _classifier(kind).fit(VALUES, CLASSES).predict_proba(VALUES)
    np.testing.assert_allclose(net.predict_proba(X), expected, rtol=1e-4)
    assert hasattr(net, "feature_names_in_") != table.startswith(UNNAMED)


@pytest.mark.parametrize("frame", [FRAME, POLARS], ids=["pandas", "polars"])
def test_a_classifier_knows_its_columns_again(frame):
    net = _classifier().set_params(warm_start=True).fit(frame, CLASSES)
    turned = frame[NAMES[::-1]]
    for use in (net.predict_proba, net.predict, net.anchored_logits):
        with pytest.raises(ValueError, match="must be in the same order"):
            use(turned)
    for use in (net.fit, net.partial_fit, net.score):
        with pytest.raises(ValueError, match="must be in the same order"):
            use(turned, CLASSES)
    assert 0 <= net.score(frame, CLASSES) <= 1
    assert len(net.fit(frame, CLASSES).history) == 2
    assert net.predict(VALUES).shape == (ROWS,)
    net.set_params(warm_start=False).fit(VALUES, CLASSES)
    assert not hasattr(net, "feature_names_in_")


@pytest.mark.parametrize("table", ["pandas, texts", "polars, texts"])
def test_a_classifier_names_columns_of_texts(table):
    with pytest.raises(ValueError, match=r"in the columns 'd' .*real numbers"):
        _classifier().fit(BAD_TABLES[table][0], CLASSES)


# Pseudo outliers, metrics and plots ----------------------------------------------


@pytest.mark.parametrize("kind", ["permute_columns", "extrapolate"])
@pytest.mark.parametrize("table", [t for t in TABLES if t.startswith(("pan", "pol"))])
def test_a_frame_stays_one_with_outliers_below(table, kind):
    X = TABLES[table]
    if table == "pandas, mixed":
        X = X.astype({"c": float})
    made, y = make_pseudo_outliers(X, kind=kind, n_outliers=5, random_state=0)
    assert type(made) is type(X)
    assert [*made.columns] == [*X.columns]
    assert [*made.dtypes] == [*X.dtypes]
    assert (y[-5:] == -1).all()
    np.testing.assert_array_equal(as_array(made)[:ROWS], VALUES)
    assert np.isfinite(as_array(made)).all()


def test_outliers_of_whole_numbers_are_rounded_and_kept_in_range():
    frame = pd.DataFrame({"a": np.array([-128, -100, 127], np.int8), "b": [0.0, 2, 4]})
    for X in (frame, pl.DataFrame(frame)):
        made, _ = make_pseudo_outliers(X, kind="extrapolate", factor=2.5)
        assert made["a"].to_list()[3:] == [-128, -128, 127]
        assert made["b"].to_list()[3:] == [-3.0, 2.0, 7.0]


def test_columns_of_texts_are_permuted_and_not_extrapolated():
    pandas = FRAME.assign(d=pd.Categorical(TEXTS), c=pd.Series(TEXTS))
    polars = POLARS.with_columns(d=pl.Series(TEXTS.tolist()))
    holed = POLARS.with_columns(a=pl.Series([None, *[1] * (ROWS - 1)]))
    for X in (pandas, polars, holed):
        made, _ = make_pseudo_outliers(X, kind="permute_columns", random_state=0)
        assert [*made.dtypes] == [*X.dtypes]
        assert set(made["d"]) == set(X["d"])
    assert made["a"].null_count() >= 1
    assert not made["a"].cast(pl.Float64).is_nan().any()
    for X in (pandas, polars):
        with pytest.raises(ValueError, match="needs numbers"):
            make_pseudo_outliers(X, kind="extrapolate")


def test_outliers_of_tensors_are_arrays():
    images = torch.rand(6, 1, 5, 5).requires_grad_()
    for X, dtype in ((images, np.float32), (images.bfloat16(), np.float32)):
        made, _ = make_pseudo_outliers(X, kind="invert")
        assert type(made) is np.ndarray
        assert made.dtype == dtype
        assert made.shape == (12, 1, 5, 5)
    with pytest.raises(TypeError, match="sparse csr_matrix"):
        make_pseudo_outliers(csr_matrix(VALUES), kind="extrapolate")


SCORES = VALUES[:, 0]
SCORES_AS = {
    "list": SCORES.tolist(),
    "pandas": pd.Series(SCORES, index=INDEX),
    "pandas, Float64": pd.Series(SCORES, dtype="Float64"),
    "polars": pl.Series(SCORES),
    "tensor, bfloat16": torch.tensor(SCORES).bfloat16(),
    "tensor with a gradient": torch.tensor(SCORES, requires_grad=True),
}


@pytest.mark.parametrize("scores", SCORES_AS.values(), ids=SCORES_AS)
def test_scores_of_any_library_are_the_array(scores):
    y = pd.Series(MARKED, index=INDEX)
    assert auroc(y, scores) == auroc(MARKED, SCORES)
    table = ood_report(y, {"one": scores}, sources=pl.Series(SOURCES), n_bootstrap=0)
    expected = ood_report(MARKED, {"one": SCORES}, sources=SOURCES, n_bootstrap=0)
    pd.testing.assert_frame_equal(table, expected)
    p_values = conformal_p_values(scores, scores)
    np.testing.assert_array_equal(p_values, conformal_p_values(SCORES, SCORES))
    assert discoveries(torch.tensor(p_values), 0.1).shape == (ROWS,)
    for display in (RocDisplay, DetDisplay, ScoreHistogramDisplay):
        assert display.from_predictions(y, scores).ax_ is not None


@pytest.mark.parametrize("library", [pd.DataFrame, pl.DataFrame])
def test_a_frame_of_scores_compares_detectors(library):
    scores = {"one": SCORES, "two": -SCORES}
    table = ood_report(MARKED, library(scores), n_bootstrap=0)
    pd.testing.assert_frame_equal(table, ood_report(MARKED, scores, n_bootstrap=0))


def test_a_missing_source_is_refused():
    sources = pd.Series(SOURCES, dtype="string").mask(np.arange(ROWS) == 2)
    with pytest.raises(ValueError, match="sources has 1 missing names"):
        ood_report(MARKED, SCORES, sources=sources, n_bootstrap=0)
