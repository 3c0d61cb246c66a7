"""Pseudo outliers of texts: each kind is what it says, and none is an inlier."""

from __future__ import annotations

import time

import numpy as np
import pandas as pd
import pytest

from skood.model_selection import make_pseudo_outliers
from skood.model_selection._text_kinds import TEXT_KINDS

EACH_KIND = pytest.mark.parametrize("kind", sorted(TEXT_KINDS))

TEXTS = [
    "pay my electricity bill",
    "how much money is on my account",
    "freeze my account",
    "yes",
    "book a table for two at the new place",
    "is there a table by the window",
    "book me a flight to Rome",
    "",
]
INTENTS = ["bank"] * 4 + ["travel"] * 4


def made(X, y=None, **options):
    return list(make_pseudo_outliers(X, y, random_state=0, **options)[0])[len(X) :]


def words_of(texts):
    return [word for text in texts for word in text.split()]


@EACH_KIND
def test_texts_follow_those_given_and_none_is_one_of_them(kind):
    found, y = make_pseudo_outliers(TEXTS, INTENTS, kind=kind, random_state=0)
    assert found[:8] == TEXTS
    assert len(found) == len(y) == 16
    assert y.tolist() == [*INTENTS, *["-1"] * 8]
    assert not set(TEXTS) & set(found[8:])
    assert set(words_of(found[8:])) <= set(words_of(TEXTS))


@EACH_KIND
def test_texts_are_made_by_the_seed_alone(kind):
    first = made(TEXTS, INTENTS, kind=kind)
    assert first == made(TEXTS, INTENTS, kind=kind)
    other = make_pseudo_outliers(TEXTS, INTENTS, kind=kind, random_state=1)[0][8:]
    assert first != other


def test_shuffled_words_are_those_of_their_text():
    for text, shuffled in zip(TEXTS, made(TEXTS, kind="shuffle_words"), strict=True):
        if len(text.split()) > 1:  # a text of one word has no other order
            assert sorted(shuffled.split()) == sorted(text.split())
    two = made(["good morning"], kind="shuffle_words", n_outliers=20)
    assert two == ["morning good"] * 20


def test_spliced_texts_are_halves_of_two_classes():
    halves = [(text.split(), len(text.split())) for text in TEXTS]
    for row, text in enumerate(made(TEXTS, INTENTS, kind="splice", n_outliers=8)):
        words = text.split()
        heads = {
            tuple(own[: (n + 1) // 2])
            for number, (own, n) in enumerate(halves)
            if number == row or n < 2  # others take the place of what is an inlier
        }
        begins = [head for head in heads if tuple(words[: len(head)]) == head]
        assert begins
        tails = {
            tuple(own[n // 2 :])
            for (own, n), intent in zip(halves, INTENTS, strict=True)
            if intent != INTENTS[row]
        }
        assert any(tuple(words[len(head) :]) in tails for head in begins)


def test_random_words_come_as_often_as_in_the_texts():
    texts = ["a a a b", "a c d e f", "b a"]
    found = made(texts, kind="random_words", n_outliers=3000)
    lengths = np.array([len(text.split()) for text in found])
    assert {length: (lengths == length).sum() for length in (2, 4, 5)} == {
        2: 1000,
        4: 1000,
        5: 1000,
    }
    words, counts = np.unique(words_of(found), return_counts=True)
    assert dict(zip(words, counts / counts.sum(), strict=True)) == pytest.approx(
        {"a": 5 / 11, "b": 2 / 11, "c": 1 / 11, "d": 1 / 11, "e": 1 / 11, "f": 1 / 11},
        abs=0.02,
    )


@EACH_KIND
def test_outliers_make_no_texts(kind):
    y = [0, 0, 0, 1, 1, 1, -1, -1]
    found, labels = make_pseudo_outliers(TEXTS, y, kind=kind, random_state=0)
    assert labels.tolist() == [*y, *[-1] * 6]
    assert found[:8] == TEXTS
    assert not {"Rome", "flight", "me"} & set(words_of(found[8:]))


@EACH_KIND
@pytest.mark.parametrize("n_outliers", [1, 5, 30])
def test_any_number_of_texts(kind, n_outliers):
    assert len(made(TEXTS, INTENTS, kind=kind, n_outliers=n_outliers)) == n_outliers


@EACH_KIND
def test_texts_stay_what_they_come_in(kind):
    pl = pytest.importorskip("polars")
    expected = made(TEXTS, kind=kind)
    containers = [
        TEXTS,
        tuple(TEXTS),
        np.array(TEXTS),
        np.array(TEXTS, dtype=object),
        np.array(TEXTS, dtype=np.dtypes.StringDType()),
        pd.Series(TEXTS, index=[3] * 8, name="query"),
        pd.Series(TEXTS, dtype="string"),
        pl.Series("query", TEXTS),
    ]
    for X in containers:
        found = make_pseudo_outliers(X, kind=kind, random_state=0)[0]
        assert type(found) is (list if isinstance(X, tuple) else type(X))
        assert list(found) == [*TEXTS, *expected]
        if not isinstance(X, (list, tuple)) and X.dtype != np.array(TEXTS).dtype:
            assert found.dtype == X.dtype
        assert getattr(found, "name", None) == getattr(X, "name", None)
    # the categories of a column have no room for new texts
    for X in (
        pd.Series(TEXTS, dtype="category"),
        pl.Series(TEXTS, dtype=pl.Categorical),
    ):
        found = make_pseudo_outliers(X, kind=kind, random_state=0)[0]
        assert list(found) == [*TEXTS, *expected]


def test_held_out_intents_are_relabelled():
    found, y = make_pseudo_outliers(
        TEXTS, INTENTS, kind="class_holdout", classes=["travel"]
    )
    assert found is TEXTS
    assert y.tolist() == ["bank"] * 4 + ["-1"] * 4


@EACH_KIND
def test_thousands_of_texts_take_no_time(kind):
    rng = np.random.default_rng(0)
    words = np.array([f"word{number}" for number in range(2000)])
    texts = [" ".join(rng.choice(words, 10)) for _ in range(5000)]
    start = time.process_time()
    made(texts, np.arange(5000) % 50, kind=kind)
    assert time.process_time() - start < 2


@pytest.mark.parametrize(
    ("X", "kind", "error", "text"),
    [
        (["a b", "c d"], "jigsaw", ValueError, r"for texts of.*class_holdout, rand"),
        (np.eye(3), "splice", ValueError, r"for features.*Texts are given as a list"),
        (np.zeros((2, 4, 4)), "random_words", ValueError, "for images.*Texts are giv"),
        (
            pd.DataFrame({"a": ["b c", "d e"]}),
            "shuffle_words",
            ValueError,
            r"for features of shape \(2, 1\).*or a column",
        ),
        (np.zeros(4), "splice", ValueError, r"or texts, \(n,\); got shape \(4,\)"),
        ("one text", "splice", TypeError, "X is one text, 'one text': give a list"),
        (["a b", None], "splice", ValueError, "row 1 is None: give a text for each"),
        (["a b", 3], "splice", ValueError, "X has texts, but row 1 is 3"),
        (pd.Series(["a", None]), "splice", ValueError, "X has texts, but row 1 is"),
        ([b"a b", b"c"], "splice", ValueError, r"row 0 is b'a b'.*decode"),
        (np.array([b"a b", b"c"]), "splice", ValueError, r"row 0 is b'a b'.*decode"),
        (["a b"], "splice", ValueError, "needs 2 inliers at least"),
        (["yes", "no"], "shuffle_words", ValueError, "2 of 2 texts.*few different"),
        (["", " "], "random_words", ValueError, "few different words"),
        (["ja ja"] * 3, "random_words", ValueError, "3 of 3 texts that are inliers"),
    ],
)
def test_what_are_no_texts_is_said(X, kind, error, text):
    with pytest.raises(error, match=text):
        make_pseudo_outliers(X, kind=kind, random_state=0)


def test_options_and_numbers_are_checked_for_texts_too():
    with pytest.raises(TypeError, match="has no option grid; its options: none"):
        make_pseudo_outliers(TEXTS, kind="splice", grid=3)
    with pytest.raises(ValueError, match="channel_axis=1 is for X of 4 axes"):
        make_pseudo_outliers(TEXTS, kind="splice", channel_axis=1)
    with pytest.raises(ValueError, match="n_outliers must be an integer >= 1"):
        make_pseudo_outliers(TEXTS, kind="splice", n_outliers=0)
