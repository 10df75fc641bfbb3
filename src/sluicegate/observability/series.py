"""One series of a metric: what is counted under one combination of its labels."""

from bisect import bisect_left
from collections.abc import Sequence


class Tally:
    """One series of a counter or a gauge. `value` is a whole number; write it directly."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0

    def add(self, number: int) -> None:
        """Count `number` at once."""
        self.value += number


class Spread:
    """One series of a histogram: how many values fell in each bucket, and their sum."""

    __slots__ = ("_bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        """By bucket, not cumulative; the last one holds what is above every bound."""
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Count one value, in the bucket of the first bound that it does not exceed."""
        self.counts[bisect_left(self._bounds, value)] += 1
        self.total += value
