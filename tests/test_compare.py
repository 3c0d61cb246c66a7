"""compare: what is no comparison is refused by name; the tables in their units."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from skood import KNN, Mahalanobis, compare, ood_report
from skood.detectors import BaseDetector

RNG = np.random.default_rng(0)
X, ODD, NEW = (RNG.normal(size=(n, 4)) for n in (200, 60, 50))
ODD += 3.0
DETECTORS = {"knn": KNN(3), "distance": Mahalanobis()}


def compared(detectors=None, features=X, y=None, outliers=None, **options):
    sets = {"near/a": ODD} if outliers is None else outliers
    options = {"n_bootstrap": 5, **options}
    return compare(detectors or DETECTORS, features, y, outliers=sets, **options)


@pytest.mark.parametrize(
    ("names", "text"),
    [
        (["", "b"], "outliers has the name ''"),
        (["mean", "b"], "outliers has the name 'mean'"),
        (["near", "near/a"], "outliers has the name 'near'.*group of another"),
        (["mean/a", "b"], "outliers has the name 'mean/a', of the group 'mean'"),
        (["/a", "b"], "outliers has the name '/a', of the group ''"),
        ([1, "b"], "outliers has the name 1: give text"),
    ],
)
def test_names_that_are_those_of_other_rows_are_refused(names, text):
    sets = {name: ODD + number for number, name in enumerate(names)}
    with pytest.raises(ValueError, match=text):
        compared(outliers=sets)


def test_rows_that_were_fitted_on_are_no_rows_to_compare_on():
    with pytest.raises(ValueError, match="inliers shares 200 rows with features"):
        compared(inliers=X)
    with pytest.raises(ValueError, match="inliers shares 90 rows with features"):
        compared(inliers=np.vstack([NEW, X[:90]]))
    few = np.vstack([NEW, X[:9]])  # rows of a table may be equal by chance
    assert (compared(inliers=few).table["n_id"] == 59).all()


class NotANumber(BaseDetector):
    """NaN far out."""

    def _fit(self, training):
        self.value_ = np.array(1.0)

    def _score(self, chunk):
        sums = chunk.block("array").sum(axis=1)
        return np.where(sums > 9, np.nan, sums)


@pytest.mark.parametrize(
    ("bad", "text"),
    [
        (KNN(layers="a"), r"detectors\['bad'\], fitted on features: layers='a'"),
        (LogisticRegression(), r"detectors\['bad'\], .* scores of shape \(40, 3\)"),
        (NotANumber(), r"detectors\['bad'\], of outliers\['far'\]: .* are NaN"),
    ],
)
def test_the_detector_that_cannot_is_named(bad, text):
    y = np.arange(200) % 3
    with pytest.raises(ValueError, match=text):
        compared({"knn": KNN(3), "bad": bad}, y=y, outliers={"far": ODD + 9})


def test_the_set_that_cannot_be_scored_is_named():
    with pytest.raises(ValueError, match=r"'knn'\], of outliers\['a'\]: X has 2 feat"):
        compared(outliers={"a": ODD[:, :2]})
    with pytest.raises(
        ValueError, match=r"'knn'\], of the in-distribution rows: X has"
    ):
        compared(inliers=NEW[:, :2])
    with pytest.raises(TypeError, match=r"^outliers\['a'\]: "):
        compared(outliers={"a": None})
    with pytest.raises(
        ValueError, match="n_bootstrap must be an integer >= 0; got Tru"
    ):
        compared(n_bootstrap=True)


def test_texts_are_rows():
    texts = [f"word{n % 7} and word{n % 5} {n}" for n in range(100)]
    dense = FunctionTransformer(lambda rows: rows.toarray())
    detectors = {"words": make_pipeline(TfidfVectorizer(), dense, KNN(2))}
    found = compared(detectors, texts, outliers={"odd": ["foo bar", "not any"]})
    assert found.table["n_ood"].tolist() == [2]
    with pytest.raises(ValueError, match="shares 3 rows with"):
        compared(detectors, texts, outliers={"odd": texts[:3]})


def test_a_frozen_detector_is_compared_as_it_is():
    frozen = FrozenEstimator(KNN(3).fit(X))
    found = compared({"frozen": frozen}, inliers=NEW)
    assert found.table["auroc"].iloc[0] > 0.9


def test_seconds_and_rows_are_no_shares():
    found = compared()
    seconds = found.table.loc[("knn", "near/a"), "fit_seconds"]
    assert found.wide("fit_seconds").loc["knn", "near/a"] == seconds
    assert found.wide("n_ood").loc["knn", "near/a"] == 60
    assert found.wide("auroc").loc["knn", "near/a"] > 50
    assert found.plot("fit_seconds").ax_.get_xlabel() == "FIT SECONDS"
    assert found.plot("fpr95").ax_.get_xlabel() == "FPR95, %"
    times = found.table["fit_seconds"].groupby("detector").first()
    assert times.nunique() == 2
    (line,) = [x for x in found.to_latex("fit_seconds").split("\n") if "bfseries" in x]
    assert line.startswith(times.idxmin())  # the fastest is the best


def test_a_bar_in_a_name_makes_no_column():
    written = compared({"a|b": KNN(3)}, outliers={"c|d": ODD}).to_markdown()
    for line in written.split("\n"):
        assert line.replace("\\|", "").count("|") == 3


def test_groups_are_a_mapping_and_may_be_none():
    y, sources = np.repeat([0, -1], [9, 4]), [""] * 9 + ["a", "a", "b", "b"]
    scores = np.arange(13.0)
    report = ood_report(
        y, scores, sources=sources, groups={"a": "near", "b": None}, n_bootstrap=0
    )
    assert report.index.tolist() == ["a", "b", "near", "mean"]
    for wrong in ("near", [("a", "near")]):
        with pytest.raises(ValueError, match=r"^groups=.*give a mapping from sources"):
            ood_report(y, scores, sources=sources, groups=wrong)
