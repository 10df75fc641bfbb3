"""Time, injected so that tests own it (`sluicegate.testing.ManualClock`)."""

import time
from typing import Protocol


class Clock(Protocol):
    """Where every room reads the time."""

    def now(self) -> float:
        """Seconds since the epoch, for what is stored and shown."""
        ...

    def monotonic(self) -> float:
        """Seconds that never go backwards, for durations."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> float:
        """Seconds since the epoch."""
        return time.time()

    def monotonic(self) -> float:
        """Seconds since an arbitrary start."""
        return time.monotonic()
