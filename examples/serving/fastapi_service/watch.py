"""Two alarms over what a service answers, which survive its restarts."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import skood


class Watch:
    """A shift of the scores, and of the share of rows that are flagged.

    Parameters
    ----------
    folder : Path
        Where the state is kept. What was saved there goes on.
    reference : mapping of str to ndarray
        `scores` and `flags` of in-distribution rows that the detector has not seen.
    level : float, default=0.01
        Probability that either alarm is ever raised while nothing has changed.
    save_every : int, default=1000
        Rows after which the state is written.
    """

    def __init__(self, folder: Path, reference, level=0.01, save_every=1000) -> None:
        self._folder, self._save_every, self._unsaved = folder, save_every, 0
        if (folder / "shift").is_dir() and (folder / "rate").is_dir():
            self.shift = skood.load(folder / "shift")
            self.rate = skood.load(folder / "rate")
        else:
            folder.mkdir(parents=True, exist_ok=True)
            # No detector in it: it compares the scores that the service has anyway.
            self.shift = skood.ShiftMonitor(level=level / 2).fit(reference["scores"])
            self.rate = skood.AlarmRateMonitor(level=level / 2).fit(reference["flags"])

    def update(self, scores: np.ndarray, flags: np.ndarray) -> None:
        """Take in what was answered, in the order in which it was."""
        self.shift.update(scores)
        self.rate.update(flags)
        self._unsaved += len(scores)
        if self._unsaved >= self._save_every:
            self.save()

    def save(self) -> None:
        """Write the state; each part is there whole or not at all."""
        skood.save(self.shift, self._folder / "shift", overwrite=True)
        skood.save(self.rate, self._folder / "rate", overwrite=True)
        self._unsaved = 0

    def said(self) -> dict[str, float]:
        """Return the alarms, and what they are drawn from, as numbers."""
        low, high = self.rate.rate_interval()
        return {
            "shift_alarm": int(self.shift.alarm_),
            "shift_log_capital": float(self.shift.log_martingale_[-1:].sum()),
            "rate_alarm": int(self.rate.alarm_),
            "rate_log_capital": self.rate.log_martingale_,
            "flagged_share_low": float(low),
            "flagged_share_high": float(high),
        }
