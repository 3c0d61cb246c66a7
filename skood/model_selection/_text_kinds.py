"""One small function per kind of pseudo outlier that is made of texts.

Words are what stands between spaces. Each function gets the words of the texts, as
:mod:`skood.model_selection._outlier_kinds` has it for images, and returns words; what
says the same as an inlier is no outlier, and is made anew.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain

import numpy as np

from skood.model_selection._inliers import Inliers, Rows, Values
from skood.model_selection._outlier_kinds import Batch, Kind, Rng

Words = Sequence[Sequence[str]]
Maker = Callable[[Inliers, Words, Rows, Rng], list[list[str]]]

SAME_SOURCE = 8
"""Attempts at another text from the same inlier, before other inliers are taken."""

ATTEMPTS = 32


def shuffle_words(data: Inliers, words: Words, rows: Rows, rng: Rng) -> list[list[str]]:
    """Return the words of each text in a random order."""
    return [[words[r][place] for place in rng.permutation(len(words[r]))] for r in rows]


def splice(data: Inliers, words: Words, rows: Rows, rng: Rng) -> list[list[str]]:
    """Return the first half of each text and the second of one of another class."""
    if len(words) < 2:
        raise ValueError('kind="splice" needs 2 inliers at least.')
    partners = data.partners(rows, rng)
    heads = [words[row][: (len(words[row]) + 1) // 2] for row in rows]
    tails = [words[row][len(words[row]) // 2 :] for row in partners]
    return [[*head, *tail] for head, tail in zip(heads, tails, strict=True)]


def random_words(data: Inliers, words: Words, rows: Rows, rng: Rng) -> list[list[str]]:
    """Return texts as long, each word drawn on its own from those of all texts."""
    every = list(chain.from_iterable(words))
    lengths = np.array([len(words[row]) for row in rows])
    drawn = [every[place] for place in rng.integers(len(every), size=lengths.sum())]
    ends = lengths.cumsum().tolist()
    return [drawn[end - n : end] for end, n in zip(ends, lengths.tolist(), strict=True)]


def _unlike_inliers(name: str, make: Maker) -> Kind:
    """Return the kind whose texts are none of the inliers, whatever the spaces."""

    def kind(data: Inliers, batch: Batch, rng: Rng) -> Values:
        words = [text.split() for text in data.values]
        known = {" ".join(own) for own in words}
        out = np.empty(len(batch.rows), dtype=object)
        left, rows = np.arange(len(out)), batch.rows
        for attempt in range(ATTEMPTS if known - {""} else 0):
            made = [" ".join(new) for new in make(data, words, rows, rng)]
            out[left] = made
            again = np.array([text in known for text in made], dtype=bool)
            left, rows = left[again], rows[again]
            if len(left) == 0:
                return out
            if attempt >= SAME_SOURCE:
                rows = rng.integers(len(words), size=len(left))
        raise ValueError(
            f"kind={name!r} made {len(left)} of {len(out)} texts that are inliers "
            "themselves, and found no others: the inliers have too few different words "
            "(words are what stands between spaces). Give more texts, or part their "
            "words by spaces."
        )

    return kind


TEXT_KINDS: dict[str, Kind] = {
    make.__name__: _unlike_inliers(make.__name__, make)
    for make in (random_words, shuffle_words, splice)
}
