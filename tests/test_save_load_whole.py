"""Whole pipelines through a folder, tokenizers, and what is never brought along."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from contextlib import suppress
from functools import partial
from inspect import signature
from pathlib import Path

import numpy as np
import pytest
import torch
from networks import Convolutional, convolutional
from numpy.testing import assert_allclose, assert_array_equal
from saving import Holder
from scipy.sparse import issparse
from sklearn.ensemble import (
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
)
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF
from sklearn.model_selection import GridSearchCV
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import all_estimators

import skood
from skood import (
    AMP,
    KNN,
    AnchoredClassifier,
    FeatureNorm,
    InlierKFold,
    LayerFeatureTransformer,
    LayerSelector,
    PyODDetector,
    auroc_scorer,
)
from skood.neural import MLP
from skood.persistence import LoadError

RNG = np.random.default_rng(3)
IMAGES = RNG.normal(size=(40, 3, 8, 8)).astype("float32")
IMAGES[30:] *= 3
LABELS = np.where(np.arange(40) < 30, np.arange(40) % 3, -1)


def estimators():
    """Return pipelines from images to scores: all kinds of what has to be kept."""
    pytest.importorskip("pyod")
    from pyod.models.hbos import HBOS

    features = partial(LayerFeatureTransformer, layers=["relu1", "penultimate"])
    sizes = {"module__n_features": 8, "module__n_classes": 3, "module__width": 8}
    net = AnchoredClassifier(MLP, **sizes, max_epochs=2, random_state=0)
    search = GridSearchCV(
        Pipeline([("features", features(convolutional())), ("knn", KNN())]),
        {"knn__n_neighbors": [2, 4], "knn__layers": ["relu1", "penultimate"]},
        scoring=auroc_scorer,
        cv=InlierKFold(2),
    )
    return {
        "amp": make_pipeline(
            features(convolutional()), LayerSelector("penultimate"), AMP(net)
        ),
        "pyod": make_pipeline(
            features(convolutional()), PyODDetector(HBOS(), layers="penultimate")
        ),
        "norm": make_pipeline(
            features(convolutional(), statistics="l2"), FeatureNorm("relu1")
        ),
        "search": search,
    }


def test_whole_pipelines_score_the_same_in_a_fresh_process(tmp_path):
    np.save(tmp_path / "images.npy", IMAGES)
    expected = {}
    for name, estimator in estimators().items():
        skood.save(estimator.fit(IMAGES, LABELS), tmp_path / name)
        expected[name] = estimator.decision_function(IMAGES)
    code = (
        "import sys, numpy as np, skood\n"
        "from pathlib import Path\n"
        "from networks import Convolutional\n"
        f"place = Path({str(tmp_path)!r})\n"
        "X = np.load(place / 'images.npy')\n"
        "trusted = ['pyod.models.hbos.HBOS']\n"
        f"said = {{n: skood.load(place / n, network=Convolutional, trusted=trusted)"
        f".decision_function(X) for n in {list(expected)}}}\n"
        "np.savez(place / 'said.npz', **said)\n"
    )
    folder = str(Path(__file__).parent)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, timeout=240, capture_output=True
    )
    assert done.returncode == 0, done.stderr.decode()
    with np.load(tmp_path / "said.npz") as said:
        for name, scores in expected.items():
            assert_array_equal(said[name], scores, err_msg=name)


@pytest.mark.parametrize(
    ("estimator", "trusted"),
    [
        (GradientBoostingClassifier(n_estimators=3), ["sklearn.tree._tree.Tree"]),
        (
            HistGradientBoostingClassifier(max_iter=3),
            ["sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor"],
        ),
        (MLPClassifier([5], max_iter=5, random_state=0), []),
        (GaussianProcessRegressor(2.0 * RBF([1.0] * 4)), []),
    ],
    ids=lambda value: type(value).__name__,
)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_what_skops_holds_is_saved(estimator, trusted, tmp_path):
    X = RNG.normal(size=(60, 4))
    estimator.fit(X, X[:, 0] > 0)
    skood.save(estimator, tmp_path / "saved")
    if trusted:
        with pytest.raises(LoadError, match=trusted[0]):
            skood.load(tmp_path / "saved")
    loaded = skood.load(tmp_path / "saved", trusted=trusted)
    say = getattr(estimator, "predict_proba", estimator.predict).__name__
    assert_array_equal(getattr(loaded, say)(X), getattr(estimator, say)(X))


# Tokenizers --------------------------------------------------------------------------


class Embedded(torch.nn.Module):
    """A network of tokens, as transformers' are called."""

    def __init__(self, n_tokens):
        super().__init__()
        torch.manual_seed(0)
        self.embed = torch.nn.Embedding(n_tokens, 4)
        self.head = torch.nn.Linear(4, 3)

    def forward(self, input_ids, attention_mask, **more):
        weight = attention_mask[..., None].float()
        return self.head((self.embed(input_ids) * weight).sum(1) / weight.sum(1))


def fast_tokenizer():
    tokenizers = pytest.importorskip("tokenizers")
    transformers = pytest.importorskip("transformers")
    words = ["[PAD]", "[UNK]", "where", "is", "my", "card", "and", "money"]
    model = tokenizers.models.WordLevel({w: i for i, w in enumerate(words)}, "[UNK]")
    backend = tokenizers.Tokenizer(model)
    backend.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="[PAD]", unk_token="[UNK]"
    )


@pytest.mark.parametrize("added", [False, True])
def test_a_tokenizer_is_saved(added, tmp_path):
    tokenizer = fast_tokenizer()
    if added:
        tokenizer.add_special_tokens({"cls_token": "[CLS]"})
        tokenizer.add_tokens(["account"])
    texts = ["where is my card", "my money", "and where is my account"] * 2
    take = partial(tokenizer, padding=True, return_tensors="pt")
    network = Embedded(len(tokenizer))
    features = LayerFeatureTransformer(network, "logits", preprocess=take)
    pipeline = make_pipeline(features, KNN(2, layers="logits")).fit(texts)
    skood.save(pipeline, tmp_path / "saved")
    with pytest.raises(LoadError, match=r"trusted=\[.*'transformers\..*'\]"):
        skood.load(tmp_path / "saved", network=network)
    loaded = skood.load(
        tmp_path / "saved",
        network=network,
        trusted=[type(tokenizer), "tokenizers.AddedToken"],
    )
    assert_array_equal(loaded.score_samples(texts), pipeline.score_samples(texts))
    other = loaded[0].preprocess.func
    assert other.get_vocab() == tokenizer.get_vocab()
    assert other(texts).input_ids == tokenizer(texts).input_ids
    assert loaded[0].preprocess.keywords == take.keywords


# Caches and compilers ----------------------------------------------------------------


def test_a_search_over_caches_is_not_saved(tmp_path):
    """Its next fit would unpickle what lies at the path that a folder names."""
    X = RNG.normal(size=(30, 3))
    search = GridSearchCV(
        make_pipeline(StandardScaler(), KNN(2)),
        {"memory": [str(tmp_path / "pickles"), None]},
        scoring=auroc_scorer,
        cv=InlierKFold(2),
    ).fit(X, np.where(np.arange(30) % 3 == 0, -1, 0))
    with pytest.raises(
        TypeError, match=r"param_grid\['memory'\].*save best_estimator_"
    ):
        skood.save(search, tmp_path / "saved")
    skood.save(search.best_estimator_, tmp_path / "saved")
    assert skood.load(tmp_path / "saved").memory is None
    pipeline = make_pipeline(StandardScaler(), KNN(), memory=str(tmp_path / "pickles"))
    skood.save(Holder({"pipe__memory": "x", "a": pipeline}), tmp_path / "holder")
    held = skood.load(tmp_path / "holder", trusted=[Holder]).value
    assert held["pipe__memory"] is None
    assert held["a"].memory is None


def test_a_compiler_is_not_started(tmp_path):
    net = AnchoredClassifier(MLP, module__n_features=3, module__n_classes=2)
    net.set_params(compile=True)
    skood.save(net, tmp_path / "saved")
    assert skood.load(tmp_path / "saved").compile is False


def test_networks_are_described(tmp_path):
    pipeline = make_pipeline(
        LayerFeatureTransformer(convolutional(), ["relu1", "logits"]), KNN(2)
    ).fit(IMAGES)
    skood.save(pipeline, tmp_path / "saved")
    [about] = json.loads((tmp_path / "saved" / "about.json").read_text())["networks"]
    assert about["layers"] == ["relu1", "logits"]
    assert about["class"] == "networks.Convolutional"
    assert about["digest"] == pipeline[0].network_digest_
    loaded = skood.load(tmp_path / "saved", network=Convolutional)
    assert_array_equal(loaded.predict(IMAGES), pipeline.predict(IMAGES))


# Scikit-learn ------------------------------------------------------------------------


def asked_for(path):
    """Return what a folder asks to be trusted."""
    try:
        skood.load(path)
    except LoadError as error:
        return ast.literal_eval(str(error).rpartition("trusted=")[2].rstrip("."))
    return []


def said(estimator, X):
    """Return what the methods of an estimator say of rows, where they say anything."""
    for name in ("predict", "transform", "score_samples"):
        with suppress(AttributeError, TypeError, ValueError):
            found = getattr(estimator, name)(X)
            yield found.toarray() if issparse(found) else np.asarray(found)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_estimators_of_scikit_learn_say_the_same(tmp_path):
    X = np.abs(RNG.normal(size=(60, 4)))
    y = (X[:, 0] > X[:, 1]).astype(int)
    refused, trusted, n_saved = [], [], 0
    for name, kind in all_estimators():
        few = (
            {"n_estimators": 5} if "n_estimators" in signature(kind).parameters else {}
        )
        try:
            estimator = kind(**few).fit(X, y)
        except (TypeError, ValueError, ImportError, AttributeError, IndexError):
            continue  # it wants other parameters or other data
        try:
            skood.save(estimator, tmp_path / name)
        except TypeError:
            refused.append(name)
            continue
        names = asked_for(tmp_path / name)
        loaded = skood.load(tmp_path / name, trusted=names)
        trusted += [name] * bool(names)
        n_saved += 1
        if name == "BernoulliRBM":
            continue  # it transforms by chance
        for expected, found in zip(said(estimator, X), said(loaded, X), strict=True):
            # Sums differ in the last digits with the place of an array in memory.
            assert_allclose(found, expected, rtol=1e-9, atol=1e-12, err_msg=name)
    assert n_saved >= 150
    assert refused == ["Birch"]  # its leaves know one another
    assert len(trusted) < n_saved / 3
