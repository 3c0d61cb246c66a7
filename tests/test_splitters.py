"""What each splitter promises about its folds, and that searches take it."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pandas as pd
import pytest
import sklearn
from hypothesis import given
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.ensemble import IsolationForest
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.model_selection import (
    GridSearchCV,
    HalvingRandomSearchCV,
    RandomizedSearchCV,
    cross_val_score,
    cross_validate,
)
from sklearn.utils.metadata_routing import get_routing_for_object

from skood.model_selection import (
    ClassHoldout,
    InlierKFold,
    LeaveOutlierSourceOut,
    OODScorer,
    OutliersIgnored,
    auroc_scorer,
)

ROUTING = pytest.mark.parametrize("routing", [False, True], ids=["plain", "routing"])
SPLITTERS = [InlierKFold, LeaveOutlierSourceOut, ClassHoldout]


@st.composite
def labels(draw, min_inliers=6, min_outliers=6):
    """Class labels of very unequal classes, with outliers, in any order."""
    inliers = draw(
        st.lists(st.sampled_from([0, 0, 0, 1, 2, 7]), min_size=min_inliers, max_size=40)
    )
    n_outliers = draw(st.integers(min_outliers, 20))
    return np.array(draw(st.permutations([*inliers, *[-1] * n_outliers])))


def rows_of(n):
    return np.zeros((n, 1))


def folds(splitter, y, groups=None):
    return list(splitter.split(rows_of(len(y)), y, groups))


@given(y=labels(), k=st.integers(2, 6), shuffle=st.booleans(), seed=st.integers(0, 9))
def test_inlier_k_fold_partitions_and_never_trains_on_outliers(y, k, shuffle, seed):
    cv = InlierKFold(k, shuffle=shuffle, random_state=seed)
    found = folds(cv, y)
    assert len(found) == cv.get_n_splits() == k
    tested = np.concatenate([test for _, test in found])
    assert sorted(tested) == list(range(len(y)))
    for train, test in found:
        assert (y[train] != -1).all()
        assert (y[test] == -1).any()
        assert (y[test] != -1).any()
        assert not set(train) & set(test)
        assert set(train) | set(test[y[test] != -1]) == set(np.flatnonzero(y != -1))
        for rows in (train, test):
            assert rows.dtype == np.intp
            assert (np.diff(rows) > 0).all()


@given(y=labels(), k=st.integers(2, 6), shuffle=st.booleans())
def test_inlier_k_fold_spreads_every_class_evenly(y, k, shuffle):
    found = folds(InlierKFold(k, shuffle=shuffle), y)
    for label in np.unique(y):
        counts = [np.sum(y[test] == label) for _, test in found]
        assert max(counts) - min(counts) <= 1
    inliers = [np.sum(y[test] != -1) for _, test in found]
    assert max(inliers) - min(inliers) <= 1


def test_inlier_k_fold_shuffles_by_its_seed():
    y = np.repeat([0, 1, -1], 20)

    def tests(**options):
        return [test.tolist() for _, test in folds(InlierKFold(4, **options), y)]

    assert tests() == tests() == tests(random_state=0)
    assert tests() != tests(random_state=1)
    assert tests(shuffle=False) == tests(shuffle=False, random_state=1)
    state = np.random.RandomState(0)
    assert tests(random_state=state) != tests(random_state=state)


@pytest.mark.parametrize("kind", [list, pd.Series, lambda y: y.astype(str), np.float32])
def test_inlier_k_fold_takes_any_labels(kind):
    y = np.repeat([0, 1, -1], [5, 4, 3])
    for given_as, plain in zip(
        folds(InlierKFold(3), kind(y)), folds(InlierKFold(3), y), strict=True
    ):
        np.testing.assert_array_equal(given_as[0], plain[0])
        np.testing.assert_array_equal(given_as[1], plain[1])
    assert len(list(InlierKFold(3).split(None, y))) == 3


def test_inlier_k_fold_says_what_is_wrong():
    y = np.repeat([0, -1], [9, 3])
    with pytest.raises(ValueError, match="InlierKFold needs y: class labels, with -1"):
        list(InlierKFold().split(rows_of(3)))
    with pytest.raises(ValueError, match=r"y has no outliers.*make_pseudo_outliers"):
        folds(InlierKFold(2), np.zeros(9))
    with pytest.raises(ValueError, match=r"y has 3 outliers, fewer than the 4 folds"):
        folds(InlierKFold(4), y)
    with pytest.raises(
        ValueError, match=r"y has 3 inliers to spread, fewer than the 4 folds"
    ):
        folds(InlierKFold(4), -1 - y)
    with pytest.raises(ValueError, match="n_splits must be an integer >= 2; got 1"):
        InlierKFold(1).get_n_splits()
    with pytest.raises(ValueError, match=r"n_splits must be an integer >= 2; got 2\.5"):
        folds(InlierKFold(2.5), y)
    with pytest.raises(ValueError, match="random_state must not be negative"):
        folds(InlierKFold(2, random_state=-1), y)
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        list(InlierKFold(2).split(rows_of(5), y))
    with pytest.warns(UserWarning, match=r"groups is ignored.*LeaveOutlierSourceOut"):
        folds(InlierKFold(3), y, groups=y)


@st.composite
def sourced_labels(draw):
    y = draw(labels())
    names = st.sampled_from(["a", "b", "c"])
    groups = np.array(draw(st.lists(names, min_size=len(y), max_size=len(y))))
    outliers = np.flatnonzero(y == -1)
    groups[outliers[0]], groups[outliers[1]] = "a", "b"
    return y, groups


@given(data=sourced_labels(), k=st.integers(2, 6), shuffle=st.booleans())
def test_source_left_out_is_on_the_test_side_only(data, k, shuffle):
    y, groups = data
    cv = LeaveOutlierSourceOut(k, shuffle=shuffle)
    found = folds(cv, y, groups)
    sources = cv.left_out(y, groups)
    assert len(found) == cv.get_n_splits(None, y, groups) == len(sources)
    assert sources == sorted(set(groups[y == -1]))
    for (train, test), source in zip(found, sources, strict=True):
        outliers = y == -1
        assert set(test[outliers[test]]) == set(
            np.flatnonzero(outliers & (groups == source))
        )
        assert set(train[outliers[train]]) == set(
            np.flatnonzero(outliers & (groups != source))
        )
        assert sorted([*train, *test]) == list(range(len(y)))
        n_tested = np.sum(~outliers[test])
        n_inliers = np.sum(~outliers)
        assert n_inliers // k <= n_tested <= -(-n_inliers // k)


def test_sources_of_inliers_are_ignored():
    y = np.array([0, 0, 0, 0, -1, -1])
    groups = np.array([None, np.nan, 3, "x", "near", "far"], dtype=object)
    assert LeaveOutlierSourceOut(2).left_out(y, groups) == ["far", "near"]
    assert len(folds(LeaveOutlierSourceOut(2), y, groups)) == 2


def test_source_holdout_says_what_is_wrong():
    y = np.array([0, 0, 0, -1, -1, -1])
    cv = LeaveOutlierSourceOut(2)
    with pytest.raises(
        ValueError, match=r"needs groups.*params=\{\"groups\": \.\.\.\}"
    ):
        folds(cv, y)
    with pytest.raises(ValueError, match=r"2 sources at least; groups has 1.*InlierKF"):
        folds(cv, y, ["", "", "", "a", "a", "a"])
    with pytest.raises(ValueError, match=r"2 sources at least; groups has 0"):
        folds(cv, [0] * 6, ["a"] * 6)
    with pytest.raises(ValueError, match="groups has 2 missing names among the outlie"):
        folds(cv, y, np.array(["", "", "", "a", None, np.nan], dtype=object))
    with pytest.raises(ValueError, match="needs y: class labels"):
        list(cv.split(rows_of(3), None, [1, 2, 3]))
    with pytest.raises(
        ValueError, match="y has 3 inliers to spread, fewer than the 5 folds"
    ):
        folds(LeaveOutlierSourceOut(), y, list("aaaabc"))
    with pytest.raises(ValueError, match="n_inlier_folds must be an integer >= 2"):
        folds(LeaveOutlierSourceOut(1), y, list("aaaabc"))


@given(
    sizes=st.lists(st.integers(5, 9), min_size=3, max_size=6),
    n_splits=st.sampled_from([None, 2, 3]),
    k=st.integers(2, 5),
    shuffle=st.booleans(),
)
def test_class_left_out_is_on_the_test_side_only(sizes, n_splits, k, shuffle):
    y = np.random.default_rng(0).permutation(
        [*np.repeat(np.arange(len(sizes)), sizes), -1, -1]
    )
    cv = ClassHoldout(n_splits, n_inlier_folds=k, shuffle=shuffle)
    found, left_out = folds(cv, y), cv.left_out(y)
    assert len(found) == len(left_out) == cv.get_n_splits(None, y)
    assert sorted(label for classes in left_out for label in classes) == list(
        range(len(sizes))
    )
    for (train, test), classes in zip(found, left_out, strict=True):
        unseen = np.isin(y, classes)
        assert not unseen[train].any()
        assert set(np.flatnonzero(unseen)) <= set(test)
        # each known class is learned, and no outlier of another kind is anywhere
        assert set(y[train]) == set(range(len(sizes))) - set(classes)
        assert {*train, *test} == set(np.flatnonzero(y != -1))
        assert not set(train) & set(test)
        assert (~unseen[test]).any()


def test_classes_are_dealt_out_by_seed():
    y = np.repeat(np.arange(10), 2)
    assert ClassHoldout().left_out(y) == [[c] for c in range(10)]
    assert ClassHoldout(2, shuffle=False).left_out(y) == [
        [0, 2, 4, 6, 8],
        [1, 3, 5, 7, 9],
    ]
    first = ClassHoldout(5).left_out(y)
    assert [len(classes) for classes in first] == [2] * 5
    assert first == ClassHoldout(5).left_out(y)
    assert first != ClassHoldout(5, random_state=1).left_out(y)


def test_class_holdout_says_what_is_wrong():
    with pytest.raises(ValueError, match=r"y has 1 classes beside -1; 2 are needed"):
        ClassHoldout().left_out([0, 0, -1])
    with pytest.raises(ValueError, match=r"y has 2 classes beside -1; 3 are needed"):
        ClassHoldout(3).left_out([0, 0, 1, 1])
    with pytest.raises(ValueError, match=r"class 4 has one row, which cannot be both"):
        ClassHoldout().left_out([0, 0, 4])
    with pytest.raises(ValueError, match="ClassHoldout needs y"):
        ClassHoldout().get_n_splits()
    with pytest.raises(ValueError, match="n_splits must be an integer >= 2; got 1"):
        ClassHoldout(1).left_out([0, 0, 1, 1])
    with pytest.raises(
        ValueError, match="y has 2 inliers to spread, fewer than the 5 folds"
    ):
        folds(ClassHoldout(), [0, 0, 1, 1])


@pytest.mark.parametrize("splitter", SPLITTERS)
def test_splitters_are_plain_objects(splitter):
    cv = splitter(3, shuffle=False, random_state=5)
    assert repr(cv).startswith(f"{splitter.__name__}(")
    assert "random_state=5, shuffle=False" in repr(cv)
    for twin in (copy.deepcopy(cv), pickle.loads(pickle.dumps(cv))):
        assert vars(twin) == vars(cv)
    assert vars(clone(cv, safe=False)) == vars(cv)
    assert splitter("kept").__init__ is not None  # construction never validates


@pytest.fixture
def blobs():
    """Two classes near each other, and outliers of two sources far off."""
    rng = np.random.default_rng(0)
    centres = np.repeat([[0, 0], [3, 3], [9, -9], [-9, 9]], [60, 60, 20, 20], axis=0)
    X = centres + rng.normal(size=centres.shape)
    y = np.repeat([0, 1, -1, -1], [60, 60, 20, 20])
    source = np.repeat(["", "down", "up"], [120, 20, 20])
    return X, y, source


def forest():
    return IsolationForest(n_estimators=8, random_state=0)


@ROUTING
@pytest.mark.parametrize(
    "search",
    [
        lambda detector, **options: GridSearchCV(
            detector, {"max_samples": [8, 24]}, **options
        ),
        lambda detector, **options: RandomizedSearchCV(
            detector, {"max_samples": [8, 16, 24]}, n_iter=2, random_state=0, **options
        ),
        lambda detector, **options: HalvingRandomSearchCV(
            detector,
            {"max_samples": [4, 8, 16]},
            min_resources=60,
            return_train_score=False,
            random_state=0,
            **options,
        ),
    ],
    ids=["grid", "random", "halving"],
)
def test_inlier_k_fold_in_every_search(blobs, search, routing):
    X, y, _ = blobs
    with sklearn.config_context(enable_metadata_routing=routing):
        found = search(
            forest(), cv=InlierKFold(3), scoring=auroc_scorer, error_score="raise"
        ).fit(X, y)
    assert found.n_splits_ == 3
    assert found.best_score_ > 0.95


def test_halving_search_refuses_folds_that_change(blobs):
    X, y, _ = blobs
    search = HalvingRandomSearchCV(
        forest(),
        {"max_samples": [4, 8]},
        cv=InlierKFold(3, random_state=None),
        scoring=auroc_scorer,
    )
    with pytest.raises(ValueError, match="must yield consistent folds"):
        search.fit(X, y)


def outer_scores(X, y, source, routing):
    """Tune on one source with the inner splitter, test on the other."""
    search = GridSearchCV(
        OutliersIgnored(forest()),
        {"estimator__max_samples": [8, 24]},
        scoring=auroc_scorer,
        cv=InlierKFold(2),
        error_score="raise",
    )
    groups = {"params": {"groups": source}} if routing else {"groups": source}
    return cross_validate(
        search,
        X,
        y,
        cv=LeaveOutlierSourceOut(),
        scoring=auroc_scorer,
        error_score="raise",
        return_estimator=True,
        **groups,
    )


@ROUTING
def test_tuned_detector_is_tested_on_a_source_it_has_not_seen(blobs, routing):
    X, y, source = blobs
    with sklearn.config_context(enable_metadata_routing=routing):
        result = outer_scores(X, y, source, routing)
    assert result["test_score"].shape == (2,)
    assert (result["test_score"] > 0.9).all()
    # the outliers of the other source were there to tune on, and were not learned
    for fitted in result["estimator"]:
        assert fitted.best_estimator_.class_labels_.tolist() == [0, 1]


def test_sources_are_asked_for_when_metadata_is_routed():
    request = get_routing_for_object(LeaveOutlierSourceOut()).split.requests
    assert request == {"groups": True}
    for splitter in (InlierKFold(), ClassHoldout()):
        assert get_routing_for_object(splitter).split.requests == {}
    with sklearn.config_context(enable_metadata_routing=True):
        quiet = LeaveOutlierSourceOut().set_split_request(groups=False)
    assert get_routing_for_object(quiet).split.requests == {"groups": False}


@ROUTING
def test_held_out_classes_count_as_outliers(blobs, routing):
    X, y, _ = blobs
    scorer = OODScorer("auroc", unseen_as_outliers=True)
    with sklearn.config_context(enable_metadata_routing=routing):
        scores = cross_val_score(
            OutliersIgnored(forest()),
            X,
            y,
            cv=ClassHoldout(),
            scoring=scorer,
            error_score="raise",
        )
        search = GridSearchCV(
            OutliersIgnored(forest()),
            {"estimator__max_samples": [8, 24]},
            cv=ClassHoldout(),
            scoring=scorer,
            error_score="raise",
        ).fit(X, y)
    assert (scores > 0.85).all()
    assert search.n_splits_ == 2
    # relabelling by hand says the same of the first split
    (train, test), *_ = ClassHoldout().split(X, y)
    truth = np.where(y[test] == 0, -1, 1)
    assert scores[0] == auroc_scorer(forest().fit(X[train]), X[test], truth)
