"""What holds for every detector of the registry, whatever is done to its rows.

Each test is a property and runs for every detector, under all parameters of its entry;
``hard_claims`` says which methods promise what where methods differ.
"""

from __future__ import annotations

import warnings
from functools import cache, partial
from itertools import pairwise

import hard_claims
import numpy as np
import pytest
from hard_claims import SAME, close
from hard_rows import LAYOUTS, mapped, scaled, shifted, with_logits_shifted
from hypothesis import given, settings
from hypothesis import strategies as st
from pyod.models.knn import KNN as PyODKNN
from sklearn.base import clone

from skood import LayerFeatures
from skood.detectors.registry import REGISTRY
from skood.estimator_checks import synthetic_features

FEW = settings(max_examples=2)
"""Examples a detector and property: there are some fifty detectors."""

HIDDEN = {"layer1": 12, "layer2": 16, "penultimate": 10}

VARIANTS = {entry.name: entry.on_features for entry in REGISTRY.values()}
VARIANTS["PyODDetector"] = ({"pyod_model": PyODKNN(n_neighbors=5)},)
VARIANTS["AMP"] = ()  # a network that it trains itself: test_neural_amp.py
DETECTORS = [name for name, parameters in VARIANTS.items() if parameters]

every_detector = pytest.mark.parametrize("name", DETECTORS)
seeds = st.integers(0, 2**32 - 1)

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@cache
def known():
    return synthetic_features(90, 0)


@cache
def held_out():
    return synthetic_features(40, 0, random_state=3)[0]


@cache
def new():
    return synthetic_features(20, 10, random_state=2)[0]


def cases(name):
    """The detectors of a class, not fitted, each with the words of its parameters."""
    for parameters in VARIANTS[name]:
        words = [*parameters, *(v for v in parameters.values() if isinstance(v, str))]
        yield REGISTRY[name].detector(**parameters), words


def claim(table, name, words, otherwise):
    for word in words:
        if f"{name} {word}" in table:
            return table[f"{name} {word}"]
    return table.get(name, otherwise)


def fitted(detector, change=lambda features: features, rows=slice(None)):
    features, y = known()
    return clone(detector).fit(
        change(features[rows]), y[rows], threshold_data=change(held_out())
    )


@cache
def ready(name, dtype="float64"):
    """The detectors of a class, fitted on rows of a type."""
    change = as_type(dtype)
    return [fitted(detector, change) for detector, _ in cases(name)]


def as_type(dtype):
    return lambda features: mapped(features, lambda block: block.astype(dtype))


def scores(detector, change, **options):
    return fitted(detector, change, **options).score_samples(change(new()))


# Rows that are scored ---------------------------------------------------------------


@every_detector
@FEW
@given(seed=seeds, dtype=st.sampled_from(["float64", "float32"]))
def test_rows_keep_their_scores_in_any_order_and_company(name, seed, dtype):
    rng = np.random.default_rng(seed)
    rows = as_type(dtype)(new())
    order = rng.integers(0, len(rows), rng.integers(1, 60))
    for detector in ready(name, dtype):
        close(
            detector.score_samples(rows)[order],
            detector.score_samples(rows[order]),
            1e-13,
        )


@every_detector
@FEW
@given(cuts=st.sets(st.integers(1, 29)), dtype=st.sampled_from(["float64", "float32"]))
def test_rows_keep_their_scores_in_any_batch(name, cuts, dtype):
    rows = as_type(dtype)(new())
    ends = [0, *sorted(cuts), len(rows)]
    for detector in ready(name, dtype):
        parts = [
            detector.score_samples(rows[start:stop]) for start, stop in pairwise(ends)
        ]
        close(detector.score_samples(rows), np.concatenate(parts), 1e-13)


@every_detector
@FEW
@given(seed=seeds, power=st.integers(1, 300))
def test_a_row_far_out_changes_no_other(name, seed, power):
    far = np.random.default_rng(seed).permutation(len(new()))[:5]

    def change(block):
        block = block.copy()
        block[far] *= 10.0**power
        return block

    rows = mapped(new(), change)
    others = np.setdiff1d(np.arange(len(rows)), far)
    for detector in ready(name):
        found = detector.score_samples(rows)
        assert np.isfinite(found).all(), f"{detector!r}: {found[far]}"
        close(detector.score_samples(new())[others], found[others], 1e-13)


@every_detector
@FEW
@given(power=st.integers(1, 37))
def test_rows_far_out_have_finite_scores_in_float32(name, power):
    def change(block):
        return block * np.float32(10.0**power)

    rows = mapped(as_type("float32")(new()), change)
    for detector in ready(name, "float32"):
        assert np.isfinite(detector.score_samples(rows)).all(), repr(detector)


@every_detector
@FEW
@given(size=st.sampled_from([5e-324, 1e-310, 2e-308]), share=st.floats(0, 1))
def test_denormal_numbers_count_as_zeros(name, size, share):
    def with_small(small, kept):
        def change(block):
            chosen = np.random.default_rng(0).uniform(size=block.shape) <= share
            block = np.where(chosen, small, block)
            block[:, :kept] = np.arange(1, 1 + block[:, :kept].shape[1])
            return block

        return mapped(new(), change)

    for (_, words), detector in zip(cases(name), ready(name), strict=True):
        assert np.isfinite(detector.score_samples(with_small(size, 0))).all()
        zeros = detector.score_samples(with_small(0.0, 4))
        assert np.isfinite(zeros).all(), repr(detector)
        if claim(hard_claims.DENORMAL, name, words, SAME):
            close(zeros, detector.score_samples(with_small(size, 4)), 1e-9)


@every_detector
@FEW
@given(seed=seeds)
def test_equal_rows_have_equal_scores(name, seed):
    rows = np.random.default_rng(seed).integers(0, len(new()), 40)
    for detector in ready(name):
        found = detector.score_samples(new()[rows])
        for row in set(rows):
            assert np.ptp(found[rows == row]) <= 1e-13 * np.abs(found).max()


# Rows that are fitted on ------------------------------------------------------------


@every_detector
@FEW
@given(seed=seeds)
def test_training_rows_may_come_in_any_order(name, seed):
    order = np.random.default_rng(seed).permutation(len(known()[1]))
    for (detector, words), before in zip(cases(name), ready(name), strict=True):
        after = fitted(detector, rows=order).score_samples(new())
        if claim(hard_claims.SHUFFLED, name, words, SAME):
            close(before.score_samples(new()), after, 1e-9)
        assert np.isfinite(after).all()


@every_detector
@FEW
@given(seed=seeds)
def test_training_rows_that_come_twice_say_nothing_more(name, seed):
    n = len(known()[1])
    twice = np.random.default_rng(seed).permutation(np.repeat(np.arange(n), 2))
    for (detector, words), before in zip(cases(name), ready(name), strict=True):
        if name == "Gram":
            with pytest.raises(ValueError, match="no row deviates"):
                fitted(detector, rows=twice)
            continue
        after = fitted(detector, rows=twice).score_samples(new())
        if claim(hard_claims.TWICE, name, words, SAME):
            close(before.score_samples(new()), after, 1e-9)
        assert np.isfinite(after).all()


def refusal(call):
    """The message of the ValueError that a call raises, or nothing."""
    try:
        call()
    except ValueError as error:
        return str(error)
    return ""


def refused_or_finite(detector, features, y, unseen):
    """Fit and score; a ValueError has to say something, and nothing else may come."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        warnings.simplefilter("ignore", RuntimeWarning)
        fit = clone(detector)
        reason = refusal(lambda: fit.fit(features, y, threshold_data=unseen))
        if reason:
            assert len(reason) > 40, f"{detector!r}: {reason}"
            return
        found = fit.score_samples(new())
    assert np.isfinite(found).all(), f"{detector!r}: {found}"
    assert np.isfinite(fit.offset_)


@every_detector
@FEW
@given(n=st.integers(1, 7), seed=seeds, own=st.booleans())
def test_few_rows_are_enough_or_refused(name, n, seed, own):
    features, y = known()
    rows = np.random.default_rng(seed).permutation(len(y))[:n]
    for detector, _ in cases(name):
        unseen = None if own else held_out()
        refused_or_finite(detector, features[rows], y[rows], unseen)


TIED = {
    "one row": lambda b: np.repeat(b[:1], len(b), axis=0),
    "two rows": lambda b: b[np.arange(len(b)) % 2],
    "zeros": lambda b: 0 * b,
    "whole numbers": np.round,
    "ones and zeros": lambda b: np.sign(b),
    "constant columns": lambda b: np.where(np.arange(b.shape[1]) % 2, b, 1.0),
}


@every_detector
@FEW
@given(kind=st.sampled_from([*TIED]), own=st.booleans())
def test_ties_are_taken_or_refused(name, kind, own):
    features, y = known()
    for detector, _ in cases(name):
        unseen = None if own else mapped(held_out(), TIED[kind])
        refused_or_finite(detector, mapped(features, TIED[kind]), y, unseen)


@every_detector
@FEW
@given(
    size=st.one_of(
        st.integers(-322, 300).map(lambda power: ("float64", 10.0**power)),
        st.integers(-44, 37).map(lambda power: ("float32", 10.0**power)),
    )
)
def test_training_rows_of_any_size_are_taken_or_refused(name, size):
    dtype, factor = size

    def change(block):
        return (block * factor).astype(dtype)

    features, y = known()
    for detector, _ in cases(name):
        unseen = mapped(held_out(), change)
        refused_or_finite(detector, mapped(features, change), y, unseen)


# Units and zeros --------------------------------------------------------------------


def check_claim(table, otherwise, name, change, by):
    for (detector, words), plain in zip(cases(name), ready(name), strict=True):
        promised = claim(table, name, words, otherwise)
        after = scores(detector, change)
        assert np.isfinite(after).all()
        before = plain.score_samples(new())
        if promised == SAME:
            close(before, after, 1e-8)
        elif promised:
            close(*promised(before, by, after), 1e-8)


@every_detector
@FEW
@given(power=st.integers(-20, 20))
def test_one_unit_for_all(name, power):
    by = dict.fromkeys(HIDDEN, 2.0**power)
    check_claim(
        hard_claims.SCALE, SAME, name, lambda f: scaled(f, by), by["penultimate"]
    )


@every_detector
@FEW
@given(seed=seeds)
def test_units_of_columns(name, seed):
    rng = np.random.default_rng(seed)
    by = {layer: 2.0 ** rng.integers(-3, 4, width) for layer, width in HIDDEN.items()}
    check_claim(hard_claims.UNITS, None, name, lambda f: scaled(f, by), by)


@every_detector
@FEW
@given(amount=st.sampled_from([0.5, 3.0, 10.0]))
def test_another_zero(name, amount):
    by = dict.fromkeys(HIDDEN, amount)
    check_claim(hard_claims.SHIFT, SAME, name, lambda f: shifted(f, by), amount)


@every_detector
@FEW
@given(amount=st.sampled_from([-4.0, 0.5, 8.0]))
def test_all_logits_larger(name, amount):
    check_claim(
        hard_claims.LOGITS_PLUS,
        SAME,
        name,
        lambda features: with_logits_shifted(features, amount),
        amount,
    )


# The same numbers, held otherwise ---------------------------------------------------


def halves(features):
    """Rows whose entries float16 holds, in float64."""
    return as_type("float64")(as_type("float16")(features))


@cache
def scores_of_halves(name, dtype):
    def change(features):
        return as_type(dtype)(halves(features))

    return [scores(detector, change) for detector, _ in cases(name)]


@every_detector
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_types_of_floats(name, dtype):
    tolerance = 0 if dtype == "float16" else 5e-5
    exact = scores_of_halves(name, "float32" if dtype == "float16" else "float64")
    for expected, found in zip(exact, scores_of_halves(name, dtype), strict=True):
        close(expected, found, tolerance)


@every_detector
@pytest.mark.parametrize("dtype", ["int64", "uint8"])
def test_whole_numbers_are_numbers(name, dtype):
    """As after quantising: the same as floats of these values, or refused as they."""

    def whole(kind):
        def change(features):
            def levels(block):
                return np.round(np.clip(block, 0, 12) * 20).astype(kind)

            changed = mapped(features, levels)
            changed.head = None
            return changed

        return change

    types = "float64", dtype
    for detector, _ in cases(name):
        reasons = [refusal(partial(scores, detector, whole(k))) for k in types]
        assert bool(reasons[0]) == bool(reasons[1]), reasons
        if not any(reasons):
            close(*(scores(detector, whole(kind)) for kind in types), 1e-5)


@every_detector
@FEW
@given(layout=st.sampled_from([*LAYOUTS]))
def test_order_and_strides_in_memory(name, layout):
    def change(features):
        return mapped(features, LAYOUTS[layout])

    for (detector, _), plain in zip(cases(name), ready(name), strict=True):
        found = scores(detector, change)
        np.testing.assert_array_equal(found, plain.score_samples(new()))


@pytest.fixture(scope="module")
def on_disk(tmp_path_factory):
    """Known, held-out and new rows as files: mapped by NumPy, and saved by skood."""
    folder = tmp_path_factory.mktemp("rows")
    number = iter(range(1000))

    def as_map(block):
        path = folder / f"{next(number)}.npy"
        np.save(path, block)
        return np.load(path, mmap_mode="r")

    def saved(features):
        path = folder / f"features{next(number)}"
        features.save(path)
        loaded = LayerFeatures.load(path)
        loaded.head = features.head
        return loaded

    found = [known()[0], held_out(), new()]
    return [[mapped(part, as_map) for part in found], [saved(part) for part in found]]


@every_detector
def test_rows_on_disk(name, on_disk):
    for features, unseen, rows in on_disk:
        for (detector, _), plain in zip(cases(name), ready(name), strict=True):
            fit = clone(detector).fit(features, known()[1], threshold_data=unseen)
            np.testing.assert_array_equal(
                fit.score_samples(rows), plain.score_samples(new())
            )


# How much of it there is ------------------------------------------------------------


def test_how_many_pairs_of_detector_and_property_there_are():
    properties = [
        value
        for key, value in globals().items()
        if key.startswith("test_")
        and any(m.args[0] == "name" for m in getattr(value, "pytestmark", []))
    ]
    assert {*DETECTORS} == {*REGISTRY} - {"AMP"}
    assert len(properties) == 19
    assert len(properties) * len(DETECTORS) >= 900


def test_every_claim_is_of_a_detector():
    tables = ["SCALE", "SHIFT", "UNITS", "LOGITS_PLUS", "TWICE", "SHUFFLED"]
    for table in tables:
        for key in getattr(hard_claims, table):
            name, *word = key.split()
            words = [w for _, listed in cases(name) for w in listed]
            assert not word or word[0] in words, f"{table}: {key}"
