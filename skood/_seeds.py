"""From scikit-learn's ``random_state`` to the one integer that seeds NumPy streams."""

from __future__ import annotations

import numpy as np
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
    >>> from skood._seeds import stream_seed
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
