"""Bytes for a protocol, as an event loop brings them, and from it, without waiting for the loop's turn to end."""

import asyncio

from sluicegate.wire.outbox import Outbox
from sluicegate.wire.rests import Rests


def prompt_outbox() -> Outbox:
    """Writes at once."""
    return Outbox(most=1)


class DeadEnd:
    """A transport that leads nowhere. `unsent`: bytes that the system has not taken, as a test says."""

    def __init__(self) -> None:
        self.unsent = 0
        self.reads = True
        self.resumed = asyncio.Event()
        self.aborted = False

    def write(self, data: bytes) -> None:
        """Take the request."""

    def is_closing(self) -> bool:
        return self.aborted

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def pause_reading(self) -> None:
        assert not self.aborted
        self.reads = False

    def resume_reading(self) -> None:
        assert not self.aborted
        self.reads = True
        self.resumed.set()

    def abort(self) -> None:
        self.aborted = True


class Overwork:
    """An event loop that has been in one turn for long and has no time left, until it `is_over`."""

    def __init__(self) -> None:
        self.clock = 100.0
        self.is_over = False
        outbox = Outbox(now=lambda: self.clock)
        outbox.turn_began = self.clock
        self.rests = Rests(outbox, now=lambda: self.clock, used=lambda: 0.0 if self.is_over else self.clock)
        self.clock += 1.0


def arrive(protocol: asyncio.BufferedProtocol, data: bytes) -> None:
    """Let `data` arrive: in one reading where the protocol's buffer holds it."""
    while data:
        buffer = memoryview(protocol.get_buffer(-1))
        count = min(len(buffer), len(data))
        buffer[:count] = data[:count]
        data = data[count:]
        protocol.buffer_updated(count)
