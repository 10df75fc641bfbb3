"""Writing at the end of a turn of the event loop, or of a part of a long one, instead of in the middle of it.

A write wakes up who reads at the other end. In a turn that serves fifty connections, fifty writes between other work
wake the same process again and again, and each waking costs as much as the write; one after the other they find it
awake. And what one turn has for one connection (a head, events, the end) leaves in one packet.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Protocol
from weakref import WeakKeyDictionary

_log = logging.getLogger(__name__)

_MOST_WAITING = 64
"""More would gain nothing, and the first of a thousand would wait for twenty milliseconds."""


class Posting(Protocol):
    """A connection that has something to be written."""

    def flush(self) -> None:
        """Write it."""
        ...


class Outbox:
    """The connections of one event loop that wait for the end of its turn, at most `most` in each direction.

    What goes to upstreams is written first, then what goes to callers: each direction wakes its readers once.
    """

    __slots__ = ("_answers", "_most", "_now", "_requests", "turn_began")

    def __init__(self, most: int = _MOST_WAITING, now: Callable[[], float] = time.monotonic) -> None:
        self._most = most
        self._now = now
        self._requests: list[Posting] = []
        self._answers: list[Posting] = []
        self.turn_began = 0.0
        """When the first connection of this turn was added, in seconds of `now`; 0 before that."""

    def add_request(self, upstream: Posting) -> None:
        """Flush this connection to an upstream with the others, perhaps now; it adds itself once for each flush."""
        if not self.turn_began:
            self._begin_turn()
        self._requests.append(upstream)
        if len(self._requests) >= self._most:
            self.flush()

    def add_answer(self, caller: Posting) -> None:
        """The same for a caller's connection."""
        if not self.turn_began:
            self._begin_turn()
        self._answers.append(caller)
        if len(self._answers) >= self._most:
            self.flush()

    def flush(self) -> None:
        """Flush all that wait, in their order."""
        requests, self._requests = self._requests, []
        answers, self._answers = self._answers, []
        _flush(requests)
        _flush(answers)

    def _begin_turn(self) -> None:
        asyncio.get_running_loop().call_soon(self._end_turn)
        self.turn_began = self._now()

    def _end_turn(self) -> None:
        self.turn_began = 0.0
        self.flush()


def _flush(postings: list[Posting]) -> None:
    for posting in postings:
        try:
            posting.flush()
        except Exception:  # the bytes of all others must be written
            _log.exception("bytes could not be written")


_outboxes: WeakKeyDictionary[asyncio.AbstractEventLoop, Outbox] = WeakKeyDictionary()


def shared_outbox() -> Outbox:
    """The one of the running event loop. In a long turn a request waits no longer than 64 tokens of others do."""
    loop = asyncio.get_running_loop()
    outbox = _outboxes.get(loop)
    if outbox is None:
        outbox = _outboxes[loop] = Outbox()
    return outbox
