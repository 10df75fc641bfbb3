"""Memory, descriptors and processor time of a process, read from /proc."""

import asyncio
import os
import time
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

_PAUSE_SECONDS = 0.25


class Sample(NamedTuple):
    """One look: seconds of the monotonic clock, resident kilobytes, open descriptors."""

    at: float
    kilobytes: int
    descriptors: int


class Watch:
    """Looks at a process a few times a second for as long as its block lasts."""

    def __init__(self, pid: int) -> None:
        self.samples: list[Sample] = []
        self._pid = pid

    async def __aenter__(self) -> "Watch":
        self._task = asyncio.create_task(self._look())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _look(self) -> None:
        while True:
            self.samples.append(Sample(time.monotonic(), kilobytes(self._pid), descriptors(self._pid)))
            await asyncio.sleep(_PAUSE_SECONDS)

    def between(self, begin: float, end: float) -> list[Sample]:
        """The samples of a span of time."""
        return [sample for sample in self.samples if begin <= sample.at <= end]


def kilobytes(pid: int) -> int:
    """Resident memory."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0])


def descriptors(pid: int) -> int:
    """How many are open."""
    return len(os.listdir(f"/proc/{pid}/fd"))  # noqa: PTH208 - Path.iterdir makes an object for each


def processor_seconds(pid: int) -> float:
    """Of all its threads, by the user and the system."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def slope(samples: list[Sample]) -> float:
    """Kilobytes a second by which memory grows: the least squares' line."""
    if len(samples) < 2:
        return 0.0
    mid_at = sum(it.at for it in samples) / len(samples)
    mid_size = sum(it.kilobytes for it in samples) / len(samples)
    spread = sum((it.at - mid_at) ** 2 for it in samples)
    return sum((it.at - mid_at) * (it.kilobytes - mid_size) for it in samples) / spread
