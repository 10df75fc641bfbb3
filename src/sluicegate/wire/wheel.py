"""One timer for every limit on an event loop.

A timer for each request costs more than the request: it is made, moved at every piece and cancelled. Here everything
that has a limit is looked at ten times a second, which costs a tenth of a microsecond for each.
"""

import asyncio
import logging
from typing import Protocol

_log = logging.getLogger(__name__)

TICK_SECONDS = 0.1
"""How late a limit may be noticed."""


class Timed(Protocol):
    """Something with limits."""

    def tick(self, now: float) -> None:
        """Look whether a limit has passed; `now` is the event loop's time in seconds. May discard itself and others."""
        ...


class Wheel:
    """Calls `tick` of all its entries about every `TICK_SECONDS`; without entries it does nothing."""

    def __init__(self, tick_seconds: float = TICK_SECONDS) -> None:
        self._tick_seconds = tick_seconds
        self._entries: dict[Timed, None] = {}
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, entry: Timed) -> None:
        """Look after the entry from now on. Adding it twice is harmless."""
        self._entries[entry] = None
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._tick_seconds, self._turn)

    def discard(self, entry: Timed) -> None:
        """Forget the entry, if it is there."""
        self._entries.pop(entry, None)

    def _turn(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        for entry in list(self._entries):
            if entry in self._entries:
                try:
                    entry.tick(now)
                except Exception:  # the limits of all others must be kept
                    _log.exception("a limit could not be kept")
        self._timer = loop.call_later(self._tick_seconds, self._turn) if self._entries else None
