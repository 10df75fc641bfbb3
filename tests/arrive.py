"""Bytes for a protocol, as an event loop brings them, and from it, without waiting for the loop's turn to end."""

import asyncio

from sluicegate.wire.outbox import Outbox
from sluicegate.wire.rests import Rests


def prompt_outbox() -> Outbox:
    """Writes at once."""
    return Outbox(most=1)


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
