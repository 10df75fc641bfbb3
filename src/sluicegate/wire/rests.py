"""Reading several tokens at once while the event loop is behind, as network cards moderate their interrupts.

A token that is relayed by itself costs a read and a write of the system, which is nearly all that it costs. While there
is time for that, each is passed on when it comes. When there is not, tokens queue in front of all sockets alike, and a
new call stands in that queue twice: with its request, and with its first token. So a stream that has just brought a
token late in a long turn rests for a moment. What comes for it meanwhile is read in one piece, new calls go by, and
turns become short again.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Protocol
from weakref import WeakKeyDictionary

from sluicegate.wire.outbox import Outbox, shared_outbox

_log = logging.getLogger(__name__)

REST_SECONDS = 0.03
"""Two or three tokens of a fast model, and less than a reader sees."""
LATE_SECONDS = 0.002
"""How long a turn of the event loop has run when what comes in it is late."""
BUSY_SHARE = 0.75
"""Of the time. Below it nothing rests: a server that sends the tokens of all its streams at once makes long turns on an
idle machine, too."""
LOOK_SECONDS = 0.1
"""How often, at most, the share is taken."""
OVERDUE_SECONDS = 0.01
_MOST_AT_ONCE = 32
"""So many are woken together, and all that are overdue: what they bring must not make the next turn long, but nobody
may sleep long because turns are."""
_BETWEEN_SECONDS = 0.001
_SCHEDULED = Path("/proc/thread-self/schedstat")


class Resting(Protocol):
    """What may rest."""

    def wake(self) -> None:
        """Its rest is over. It may be closed, too, or have been woken by something else."""
        ...


def wanted_seconds(told: Path = _SCHEDULED) -> float:
    """For how long this thread has run or, where the system tells it, waited for a processor that others had."""
    try:
        running, waiting, _ = map(int, told.read_bytes().split())
    except (OSError, ValueError):
        running = waiting = 0
    return (running + waiting) * 1e-9 if running else time.thread_time()


class Rests:
    """Who rests on one event loop, each for `REST_SECONDS`, and `OVERDUE_SECONDS` and a turn longer at most.

    `now` is the outbox's clock; `used` tells how much of the processor the loop's thread has wanted, in seconds.
    """

    __slots__ = ("_is_busy", "_is_waking", "_looked", "_now", "_outbox", "_resting", "_taken", "_used", "_used_before")

    def __init__(
        self,
        outbox: Outbox,
        now: Callable[[], float] = time.monotonic,
        used: Callable[[], float] = wanted_seconds,
    ) -> None:
        self._outbox = outbox
        self._now = now
        self._used = used
        self._resting: deque[tuple[float, Resting]] = deque()
        self._is_waking = False
        self._is_busy = False
        self._looked = now()
        self._used_before = used()
        self._taken = 0

    def is_late(self) -> bool:
        """Whether this turn has run long, in a thread that has no time left."""
        began = self._outbox.turn_began
        if not began:
            return False
        now = self._now()
        if now - began < LATE_SECONDS:
            return False
        if now - self._looked >= LOOK_SECONDS:
            used = self._used()
            self._is_busy = used - self._used_before >= BUSY_SHARE * (now - self._looked)
            self._looked = now
            self._used_before = used
        return self._is_busy

    def rests_taken(self) -> int:
        """How many there were so far."""
        return self._taken

    def add(self, resting: Resting) -> None:
        """It rests from now on."""
        self._taken += 1
        self._resting.append((self._now() + REST_SECONDS, resting))
        if not self._is_waking:
            asyncio.get_running_loop().call_later(REST_SECONDS, self._wake)
            self._is_waking = True

    def _wake(self) -> None:
        resting, now = self._resting, self._now()
        room = _MOST_AT_ONCE
        while resting and resting[0][0] <= (now if room > 0 else now - OVERDUE_SECONDS):
            room -= 1
            try:
                resting.popleft()[1].wake()
            except Exception:  # all others must be woken
                _log.exception("a stream could not be woken")
        self._is_waking = bool(resting)
        if resting:
            asyncio.get_running_loop().call_later(max(_BETWEEN_SECONDS, resting[0][0] - now), self._wake)


_rests: WeakKeyDictionary[asyncio.AbstractEventLoop, Rests] = WeakKeyDictionary()


def shared_rests() -> Rests:
    """Those of the running event loop, by the turns of its shared outbox."""
    loop = asyncio.get_running_loop()
    rests = _rests.get(loop)
    if rests is None:
        rests = _rests[loop] = Rests(shared_outbox())
    return rests
