"""From scikit-learn's ``random_state`` to the one integer that seeds NumPy streams."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import check_random_state

RandomStateLike = int | np.random.RandomState | None


def stream_seed(random_state: RandomStateLike) -> int:
    """Return a non-negative integer seed; an integer is its own seed.

    Parameters
    ----------
    random_state : int, RandomState instance or None
        As everywhere in scikit-learn; None draws from NumPy's global state.

    Returns
    -------
    int
        What ``numpy.random.default_rng`` may be given, alone or in a list.

    Raises
    ------
    ValueError
        If it is negative or of another kind.

    Examples
    --------
    >>> from skood.numerics.seeds import stream_seed
    >>> stream_seed(7)
    7
    """
    if isinstance(random_state, (int, np.integer)):
        if random_state < 0:
            raise ValueError(
                f"random_state must not be negative; got {random_state}. "
                "Pass an integer >= 0, a RandomState or None."
            )
        return int(random_state)
    return int(check_random_state(random_state).randint(2**31 - 1))


def uniform_draws(seed: int, start: int, size: int) -> NDArray[np.float64]:
    """Return some numbers of a stream that is uniform on [0, 1).

    Who draws on and on has to keep how many numbers were drawn, and no generator.

    Parameters
    ----------
    seed : int
        Of the stream.
    start : int
        Numbers of it that were drawn before.
    size : int
        How many are wanted.

    Returns
    -------
    ndarray of shape (size,)

    Examples
    --------
    >>> from skood.numerics.seeds import uniform_draws
    >>> bool((uniform_draws(0, 0, 5)[3:] == uniform_draws(0, 3, 2)).all())
    True
    """
    stream = np.random.PCG64(seed)
    stream.advance(start)
    return np.random.Generator(stream).random(size)
