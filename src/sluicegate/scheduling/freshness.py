"""A value read from the store now and then: fresh enough for hints, cheap enough for every request."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from sluicegate.domain.clock import Clock
from sluicegate.errors import StoreUnavailable
from sluicegate.observability.logs import Log

T = TypeVar("T")

PATIENCE_SECONDS: Final = 1.0
"""How long a caller waits for the first reading, or for one that replaces what is far too old."""
REST: Final = 4.0
"""For how many times as long as a reading took none begins after it, however fresh a value is asked for."""
_log = Log("sluicegate.scheduling.freshness")


@dataclass(frozen=True, slots=True)
class Reading(Generic[T]):
    """What was read, and how many seconds ago it was asked for."""

    value: T
    age: float


class Fresh(Generic[T]):
    """Reads at most once in `seconds`, one reading at a time.

    Up to `tolerated` seconds (None: at any age) the last value is given at once and read again beside; after that the
    caller waits a little for the next one. When the reading fails, the last value stays.
    """

    def __init__(
        self, read: Callable[[], Awaitable[T]], clock: Clock, *, seconds: float, tolerated: float | None = None
    ) -> None:
        self._read = read
        self._clock = clock
        self._seconds = seconds
        self._tolerated = tolerated
        self._value: T | None = None
        self._read_at: float | None = None
        self._tried_at: float | None = None
        self._took = 0.0
        self._begun = 0
        self._reading: asyncio.Task[None] | None = None

    async def get(self, *, newest: bool = False) -> Reading[T] | None:
        """The value, or None when none could be read yet. Raises nothing.

        `newest` waits for a reading that begins after the call; such readings take a fifth of the time at most.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE_SECONDS):
                await (self._read_anew() if newest else self._read_when_due())
        if self._value is None or self._read_at is None:
            return None
        return Reading(self._value, max(0.0, self._clock.monotonic() - self._read_at))

    async def _read_when_due(self) -> None:
        now = self._clock.monotonic()
        if self._tried_at is None or now - self._tried_at >= self._seconds:
            self._begin()
        too_old = self._read_at is None or (self._tolerated is not None and now - self._read_at >= self._tolerated)
        if too_old and self._reading is not None:
            await asyncio.shield(self._reading)

    async def _read_anew(self) -> None:
        begun = self._begun
        while self._begun == begun:
            rest = 0.0
            if self._tried_at is not None:
                rest = self._tried_at + (1 + REST) * self._took - self._clock.monotonic()
            if self._reading is not None:
                await asyncio.shield(self._reading)
            elif rest > 0:
                await asyncio.sleep(rest)
            else:
                self._begin()
        if self._reading is not None:
            await asyncio.shield(self._reading)

    def _begin(self) -> None:
        if self._reading is None:
            self._begun += 1
            self._tried_at = self._clock.monotonic()
            self._reading = asyncio.create_task(self._renew(self._tried_at))

    async def _renew(self, asked_at: float) -> None:
        try:
            self._value = await self._read()
            self._read_at = asked_at
        except StoreUnavailable:
            pass  # whoever has to write will say so
        except Exception:  # a defect here must not fail submissions, which do without
            _log.error("a reading failed", trace=True)
        finally:
            self._took = self._clock.monotonic() - asked_at
            self._reading = None
