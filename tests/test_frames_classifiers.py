"""What a classifier may be given to learn from, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from tables import (
    BAD_TABLES,
    CLASSES,
    FRAME,
    NAMES,
    POLARS,
    ROWS,
    TABLES,
    UNNAMED,
    VALUES,
    classifier,
)

from skood import (
    AnchoredClassifier,
    EnergyRegularizedClassifier,
)


@pytest.mark.parametrize("kind", [AnchoredClassifier, EnergyRegularizedClassifier])
@pytest.mark.parametrize("table", TABLES)
def test_a_classifier_learns_from_tables_of_any_library(kind, table):
    X = TABLES[table]
    net = classifier(kind).fit(X, CLASSES)
    expected = classifier(kind).fit(VALUES, CLASSES).predict_proba(VALUES)
    np.testing.assert_allclose(net.predict_proba(X), expected, rtol=1e-4)
    assert hasattr(net, "feature_names_in_") != table.startswith(UNNAMED)


@pytest.mark.parametrize("frame", [FRAME, POLARS], ids=["pandas", "polars"])
def test_a_classifier_knows_its_columns_again(frame):
    net = classifier().set_params(warm_start=True).fit(frame, CLASSES)
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
        classifier().fit(BAD_TABLES[table][0], CLASSES)
