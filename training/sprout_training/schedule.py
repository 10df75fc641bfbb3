"""How far a training has come, and when to save it: the same for every stage."""

import math
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

_LONGEST_STEP = 30.0
"""Seconds: a machine that slept is not training."""


@dataclass(slots=True)
class Budget:
    """Training ends after `minutes` of work, counted across resumed runs."""

    minutes: float
    seconds: float = 0.0
    _since: float | None = None

    def tick(self) -> float:
        """Count the time since the last call; the share of the budget that is spent, 0 to 1."""
        now = time.monotonic()
        if self._since is not None:
            self.seconds += min(now - self._since, _LONGEST_STEP)
        self._since = now
        return min(1.0, self.seconds / (60 * self.minutes))


def use_threads() -> None:
    """Use ``$SPROUT_THREADS`` threads, by default one for each core."""
    torch.set_num_threads(int(os.environ.get("SPROUT_THREADS") or os.cpu_count() or 1))


def cosine(spent: float, *, constant: float = 0.0, floor: float = 0.02) -> float:
    """1 for the first `constant` share, then along a cosine to `floor`."""
    if spent < constant:
        return 1.0
    along = (spent - constant) / (1 - constant)
    return 0.5 * (1 + math.cos(math.pi * along)) * (1 - floor) + floor


def save(state: dict[str, Any], file: Path) -> None:
    """Write whole or not at all."""
    unfinished = file.with_suffix(".unfinished")
    torch.save(state, unfinished)
    unfinished.replace(file)


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate of every group."""
    for group in optimizer.param_groups:
        group["lr"] = rate
