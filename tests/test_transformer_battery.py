"""A battery for what gives or takes layers, which scikit-learn's cannot feed.

Scikit-learn runs one check on an estimator without the tag ``two_d_array``, and says so
in a warning only. These are the contract's rules on layer features and on images.
"""

from __future__ import annotations

import copy
import pickle
import warnings
from inspect import signature

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.utils import get_tags
from sklearn.utils.estimator_checks import check_estimator
from torch import nn

from skood import LayerFeatures, LayerFeatureTransformer, LayerSelector
from skood.detectors.head.norm_rescaled import NormRescaledHead
from skood.estimator_checks import synthetic_features

N = 24


def images():
    return np.random.default_rng(0).normal(size=(N, 1, 6, 6)).astype(np.float32)


def features():
    return synthetic_features(N, 0)[0]


def network():
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3)]
    return nn.Sequential(*layers)


CASES = [
    (LayerFeatureTransformer(network(), ["1", "logits"], device="cpu"), images),
    (
        LayerFeatureTransformer(network(), "1", ["avg", "max", "l2"], device="cpu"),
        images,
    ),
    (NormRescaledHead(), features),
    (NormRescaledHead("layer1", scale="none"), features),
    (LayerSelector(), features),
    (LayerSelector("layer1", "avg"), features),
]


def as_arrays(value):
    """Return the blocks of layer features, or one array, as a dict of arrays."""
    if isinstance(value, LayerFeatures):
        return {name: value.block(*name) for name in value.block_names}
    return {"array": np.asarray(value)}


def assert_same(found, expected, **tolerance):
    found, expected = as_arrays(found), as_arrays(expected)
    assert list(found) == list(expected)
    for name, array in expected.items():
        if tolerance:
            np.testing.assert_allclose(found[name], array, **tolerance)
        else:
            np.testing.assert_array_equal(found[name], array)


def plain_parameters(estimator):
    return {k: v for k, v in estimator.get_params().items() if k != "network"}


def check_constructor_stores_what_it_is_given(estimator, _):
    for name in signature(type(estimator)).parameters:
        for value in (-1, 3.0, "helloworld", [1], {}, None, np.arange(3)):
            changed = clone(estimator).set_params(**{name: value})
            assert getattr(changed, name) is value
    assert set(vars(clone(estimator))) == set(signature(type(estimator)).parameters)


def check_clone_is_bare_and_alike(estimator, X):
    fitted = clone(estimator).fit(X)
    assert plain_parameters(clone(fitted)) == plain_parameters(estimator)
    with pytest.raises(NotFittedError):
        clone(fitted).transform(X)


def check_transform_needs_a_fit(estimator, X):
    with pytest.raises(NotFittedError):
        clone(estimator).transform(X)


def check_fit_returns_itself_and_keeps_parameters(estimator, X):
    fresh = clone(estimator)
    before = copy.deepcopy(plain_parameters(fresh))
    assert fresh.fit(X) is fresh
    assert plain_parameters(fresh) == before
    own = set(vars(fresh)) - set(fresh.get_params())
    assert all(name.startswith("_") or name.endswith("_") for name in own)


def check_transform_changes_nothing(estimator, X):
    fitted = clone(estimator).fit(X)
    before = set(vars(fitted))
    given = as_arrays(X)
    kept = copy.deepcopy(given)
    fitted.transform(X)
    assert set(vars(fitted)) == before
    for name, array in kept.items():
        np.testing.assert_array_equal(given[name], array)


def check_fit_transform_is_fit_and_transform(estimator, X):
    found = clone(estimator).fit_transform(X)
    assert_same(found, clone(estimator).fit(X).transform(X))


def check_a_second_fit_is_the_first(estimator, X):
    once = clone(estimator).fit(X)
    assert_same(once.fit(X).transform(X), clone(estimator).fit(X).transform(X))


def check_rows_do_not_depend_on_their_company(estimator, X):
    fitted = clone(estimator).fit(X)
    whole = as_arrays(fitted.transform(X))
    for rows in (slice(0, 1), slice(3, 10), slice(10, N)):
        part = as_arrays(fitted.transform(X[rows]))
        for name, array in part.items():
            np.testing.assert_allclose(array, whole[name][rows], rtol=1e-5, atol=1e-6)


def check_rows_keep_their_order(estimator, X):
    fitted = clone(estimator).fit(X)
    order = np.random.default_rng(0).permutation(N)
    whole, found = fitted.transform(X), fitted.transform(X[order])
    for name, array in as_arrays(found).items():
        expected = as_arrays(whole)[name][order]
        np.testing.assert_allclose(array, expected, rtol=1e-5, atol=1e-6)


def check_as_many_rows_come_out(estimator, X):
    found = clone(estimator).fit_transform(X)
    assert len(found) == N
    for array in as_arrays(found).values():
        assert array.ndim == 2
        assert array.dtype.kind == "f"
        assert np.isfinite(array).all()


def check_labels_do_no_harm(estimator, X):
    expected = clone(estimator).fit(X).transform(X)
    for y in (np.zeros(N), np.arange(N) % 3, np.array(["a", "b"] * (N // 2))):
        assert_same(clone(estimator).fit(X, y).transform(X), expected)


def check_no_rows_are_refused(estimator, X):
    with pytest.raises(ValueError, match=r"0 rows|no rows|empty|0 sample"):
        clone(estimator).fit(X[:0])
    with pytest.raises(ValueError, match=r"0 rows|no rows|empty|0 sample"):
        clone(estimator).fit(X).transform(X[:0])


def check_other_kinds_are_refused(estimator, X):
    for other in (3, None, "rows", object()):
        with pytest.raises((TypeError, ValueError)):
            clone(estimator).fit(other)


def check_it_survives_pickle(estimator, X):
    fitted = clone(estimator).fit(X)
    again = pickle.loads(pickle.dumps(fitted))
    assert_same(again.transform(X), fitted.transform(X), rtol=1e-6)


def check_it_works_in_a_pipeline(estimator, X):
    pipeline = make_pipeline(clone(estimator)).fit(X, np.zeros(N))
    assert_same(pipeline.transform(X), clone(estimator).fit(X).transform(X))
    name = type(estimator).__name__.lower()
    assert f"{name}__layers" in pipeline.get_params()


def check_it_can_be_shown(estimator, X):
    for shown in (clone(estimator), clone(estimator).fit(X)):
        assert type(estimator).__name__ in repr(shown)
        assert shown._repr_html_()


def check_tags_are_a_transformers(estimator, _):
    tags = get_tags(estimator)
    assert tags.transformer_tags is not None
    assert tags.estimator_type is None
    assert not tags.target_tags.required


def check_memory_that_may_not_be_written_will_do(estimator, X):
    arrays = as_arrays(X)
    for array in arrays.values():
        array.flags.writeable = False
    clone(estimator).fit(X).transform(X)


CHECKS = [value for name, value in list(globals().items()) if name.startswith("check_")]
CHECKS.remove(check_estimator)


def name_of(case):
    """Without addresses: both processes of a run must name the tests alike."""
    return getattr(case, "__name__", None) or repr(case)[:60]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize(("estimator", "make"), CASES, ids=name_of)
def test_battery(estimator, make, check):
    check(estimator, make())


def test_it_is_not_empty(capsys):
    assert len(CHECKS) == 18
    with capsys.disabled():
        print(f"\n{len(CASES)} estimators, {len(CHECKS)} checks each", end=" ")


@pytest.mark.parametrize(
    "estimator", [CASES[0][0], NormRescaledHead()], ids=["transformer", "head"]
)
def test_scikit_learn_has_but_one_check_for_them(estimator):
    """So that nobody takes its green for an answer."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        report = check_estimator(estimator, on_skip=None)
    assert len(report) < 3
