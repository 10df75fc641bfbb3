"""Writing at the end of a turn of the event loop, or of a part of a long one, instead of in the middle of it.

A write wakes up who reads at the other end. In a turn that serves fifty connections, fifty writes between other work
wake the same process again and again, and each waking costs as much as the write; one after the other they find it
awake. And what one turn has for one connection (a head, events, the end) leaves in one packet.
"""

import asyncio
import logging
from typing import Protocol

_log = logging.getLogger(__name__)

_MOST_WAITING = 64
"""More would gain nothing, and the first of a thousand would wait for twenty milliseconds."""


class Posting(Protocol):
    """A connection that has something to be written."""

    def flush(self) -> None:
        """Write it."""
        ...


class Outbox:
    """The connections of one event loop that wait for the end of its turn, at most `most` of them."""

    __slots__ = ("_most", "_waiting")

    def __init__(self, most: int = _MOST_WAITING) -> None:
        self._most = most
        self._waiting: list[Posting] = []

    def add(self, posting: Posting) -> None:
        """Flush this one with the others, perhaps now; it adds itself once for each flush."""
        waiting = self._waiting
        if not waiting:
            asyncio.get_running_loop().call_soon(self.flush)
        waiting.append(posting)
        if len(waiting) >= self._most:
            self.flush()

    def flush(self) -> None:
        """Flush all that wait, in their order."""
        waiting, self._waiting = self._waiting, []
        for posting in waiting:
            try:
                posting.flush()
            except Exception:  # the bytes of all others must be written
                _log.exception("bytes could not be written")
