"""The largest inner products with known rows, against all products in float64."""

from __future__ import annotations

import numpy as np
import pytest

from skood import ActSub, NNGuide
from skood.detectors.head import bank
from skood.estimator_checks import synthetic_features
from skood.neighbors.products import LargestProducts


def cases():
    rng = np.random.default_rng(0)
    rows, queries = rng.normal(size=(700, 12)), rng.normal(size=(40, 12))
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    close = 1 + 1e-12 * rng.normal(size=(700, 12))  # float32 cannot tell them apart
    return {
        "plain": (rows, queries),
        "lengths of all sizes": (rows * np.geomspace(1e-9, 1, 700)[:, None], queries),
        "beyond float32": (1e60 * rows, queries),
        "below float32": (1e-60 * rows, queries),
        "alike but for rounding": (close, queries),
        "each many times": (np.repeat(rows[:10], 70, axis=0), queries),
        "a row that is zero": (np.concatenate([rows, np.zeros((1, 12))]), queries),
        "all zero": (np.zeros((50, 12)), queries),
        "a query that is zero": (rows, np.zeros((2, 12))),
        "few rows": (rows[:12], queries),
    }


@pytest.mark.parametrize("k", [1, 10])
@pytest.mark.parametrize("name", cases())
def test_they_are_those_of_all_products(name, k):
    rows, queries = cases()[name]
    search = LargestProducts(rows)
    # Twice, of which the second has more rows than the first had room for.
    for some in (queries[:3], queries):
        products, columns = search(some, k)
        every = some @ rows.T
        np.testing.assert_allclose(
            np.sort(products), np.sort(every)[:, -k:], rtol=1e-12, atol=1e-320
        )
        np.testing.assert_allclose(
            np.take_along_axis(every, columns, axis=1), products, rtol=1e-12
        )
        assert all(len(set(row)) == k for row in columns)


@pytest.mark.parametrize("detector", [NNGuide(), ActSub(), NNGuide(max_rows=90)])
def test_the_search_scores_and_leaves_out_as_all_products_do(detector, monkeypatch):
    known, y = synthetic_features(200, 0)
    new, _ = synthetic_features(60, 20, random_state=1)

    def found(few_rows):
        monkeypatch.setattr(bank, "FEW_ROWS", few_rows)
        fitted = detector.fit(known, y)
        return np.append(fitted.score_samples(new), fitted.offset_)

    np.testing.assert_allclose(found(1), found(1000), rtol=1e-12)
