"""Rates and percentiles: how many steps a second some callers take together, and how long one step lasts."""

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence

import msgspec


class Rate(msgspec.Struct, frozen=True):
    """So many steps were done in so many seconds, of which processors worked for `cpu_seconds`."""

    done: int
    seconds: float
    cpu_seconds: float

    @property
    def per_second(self) -> float:
        """Steps a second; 0 when nothing was done."""
        return self.done / self.seconds if self.seconds > 0 else 0.0

    @property
    def cpu_microseconds(self) -> float:
        """Processor time of one step; 0 when nothing was done."""
        return self.cpu_seconds / self.done * 1e6 if self.done else 0.0


class Spread(msgspec.Struct, frozen=True):
    """Percentiles of one step's duration, in milliseconds."""

    p50: float
    p99: float
    samples: int


async def race(
    callers: int, seconds: float, step: Callable[[int], Awaitable[int]], *, cpu: Callable[[], float]
) -> Rate:
    """Have so many callers repeat `step(caller)` for `seconds`; a step says how many it did, and 0 that none is left.

    The clock stops when the last caller has ended its last step. `cpu` tells the processor time used so far, in
    seconds.
    """
    worked = cpu()
    begin = time.perf_counter()
    end = begin + seconds

    async def caller(number: int) -> int:
        done = 0
        while time.perf_counter() < end:
            count = await step(number)
            if count == 0:
                break
            done += count
        return done

    done = await asyncio.gather(*(caller(number) for number in range(callers)))
    return Rate(sum(done), time.perf_counter() - begin, cpu() - worked)


async def stopped(work: Awaitable[object]) -> float:
    """Milliseconds that the work takes."""
    begin = time.perf_counter()
    await work
    return (time.perf_counter() - begin) * 1000


def spread(milliseconds: Sequence[float]) -> Spread:
    """The percentiles of the samples; at least two."""
    parts = statistics.quantiles(milliseconds, n=100, method="inclusive")
    return Spread(parts[49], parts[98], len(milliseconds))
