"""Progress: what is shown, and that nothing is shown unless asked for."""

from __future__ import annotations

import time

import numpy as np
import pytest
from torch import nn
from torch.utils.data import Dataset

from skood import LSGM, LayerFeatureTransformer, Mahalanobis, progress
from skood._progress import Bar, Meter, tracked


class Slow(Dataset):
    def __len__(self):
        return 6

    def __getitem__(self, row):
        time.sleep(0.005)
        return np.ones(3, np.float32)


def test_a_meter_measures_reading_alone():
    meter = Meter()
    assert meter.rate is None
    with meter.reading(10):
        time.sleep(0.02)
    time.sleep(0.05)
    assert 200 < meter.rate <= 500


def test_a_meter_counts_what_failed_to_be_read_as_time():
    meter = Meter()
    with pytest.raises(OSError, match="gone"), meter.reading(5):
        raise OSError("gone")
    assert meter.rows == 5


@pytest.mark.parametrize("cache", [None, "memory"])
def test_extraction_shows_the_rate_of_its_input(cache, capsys):
    features = LayerFeatureTransformer(
        nn.Linear(3, 2), "logits", batch_size=2, cache=cache
    )
    features.fit_transform(Slow())
    assert capsys.readouterr().err == ""
    features.set_params(verbose=1).fit_transform(Slow())
    shown = capsys.readouterr().err
    assert "extract" in shown
    assert "6/6" in shown
    assert "input" in shown
    assert "rows/s" in shown


def test_what_has_no_known_length_is_counted(capsys, tmp_path):
    rows = (np.ones(3, np.float32) * n for n in range(5))
    LayerFeatureTransformer(nn.Linear(3, 2), "logits").extract_to(tmp_path, rows)
    assert "5 rows" in capsys.readouterr().err


def test_steps_are_tracked(capsys):
    assert [*tracked(range(3), "fit", shown=True)] == [0, 1, 2]
    assert "3/3" in capsys.readouterr().err
    assert [*tracked(iter("ab"), "fit", shown=False, total=2)] == ["a", "b"]
    with Bar(None, "fit", shown=True, unit="epochs") as bar:
        bar.update(7)
    assert "7 epochs" in capsys.readouterr().err


def test_fits_and_scores_show_their_progress_when_asked(capsys):
    X = np.random.default_rng(0).normal(size=(200, 3))
    LSGM(3, random_state=0).fit(X).score_samples(X)
    assert capsys.readouterr().err == ""
    with progress():
        LSGM(3, random_state=0).fit(X).score_samples(X)
        Mahalanobis().fit(X)
    shown = capsys.readouterr().err
    assert all(title in shown for title in ("mixture", "bound", "fit", "score"))
    Mahalanobis().fit(X)
    assert capsys.readouterr().err == ""
