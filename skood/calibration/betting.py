"""A bet against uniform p-values whose capital is a martingale."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

POWERS = np.array([[0.2], [0.4], [0.6], [0.8]])
TINY = 2.0**-53


@dataclass
class ChangeMixture:
    r"""Capital 1 spread over when a change may come and what it may look like.

    A bet multiplies its capital by a density at each p-value: :math:`\epsilon
    p^{\epsilon - 1}` gains from small p-values and :math:`\epsilon (1-p)^{\epsilon-1}`
    from large ones, with :math:`\epsilon` from 0.2 to 0.8. The share
    :math:`1 / (t (t + 1))` of the capital sleeps until step t and is then divided
    evenly among the bets. If the p-values are independent and uniform, no bet is
    expected to gain, so the whole is a martingale; and a change at step t costs no more
    than about :math:`2 \log t` of the logarithm, however long nothing happened before.

    Parameters
    ----------
    steps : int, default=0
        P-values so far.
    log_capital : ndarray of shape (bets, 1), optional
        Each bet's own that is awake; by default none, of as many bets on p-values as
        there are.

    References
    ----------
    Vovk, Nouretdinov and Gammerman, "Testing exchangeability on-line", ICML 2003 (power
    and mixture martingales). Volkhonskiy, Burnaev, Nouretdinov, Gammerman and Vovk,
    "Inductive conformal martingales for change-point detection", COPA 2017.

    Examples
    --------
    >>> import numpy as np
    >>> from skood.calibration.betting import ChangeMixture
    >>> ChangeMixture().after(np.array([0.5, 0.01, 0.01, 0.01])).round(1)
    array([-0.2,  0.5,  1.9,  3.8])
    """

    steps: int = 0
    log_capital: Floats = field(
        default_factory=lambda: np.full((2 * len(POWERS), 1), -np.inf)
    )

    def after(self, p_values: Floats) -> Floats:
        """Bet on further p-values and return the log capital after each.

        Parameters
        ----------
        p_values : ndarray of shape (m,)
            In their order.

        Returns
        -------
        ndarray of shape (m,)
            Natural logarithms.
        """
        return self.after_gains(_log_densities(p_values))

    def after_gains(self, log_gains: Floats) -> Floats:
        """Take in what further steps bring each bet and return the log capital after.

        Parameters
        ----------
        log_gains : ndarray of shape (bets, m)
            Natural logarithm of the factor by which each bet's capital is multiplied;
            as many bets as before.

        Returns
        -------
        ndarray of shape (m,)
            Natural logarithms.
        """
        if log_gains.shape[1] == 0:
            return np.zeros(0)
        gains = np.cumsum(log_gains, axis=1)
        before = np.hstack([np.zeros((len(gains), 1)), gains[:, :-1]])
        steps = self.steps + np.arange(1, gains.shape[1] + 1)
        woken = -np.log(steps * (steps + 1.0)) - np.log(len(gains))
        # Capital that wakes at step t misses the gains of the steps before.
        stakes = np.hstack([self.log_capital, woken - before])
        capital = gains + np.logaddexp.accumulate(stakes, axis=1)[:, 1:]
        self.steps, self.log_capital = int(steps[-1]), capital[:, -1:]
        asleep = -np.log(steps + 1.0)
        return np.logaddexp.reduce(np.vstack([capital, asleep]), axis=0)


def _log_densities(p_values: Floats) -> Floats:
    p = np.clip(p_values, TINY, 1 - TINY)
    return np.vstack(
        [
            np.log(POWERS) + (POWERS - 1) * np.log(p),
            np.log(POWERS) + (POWERS - 1) * np.log1p(-p),
        ]
    )
