"""Bytes for a protocol, as an event loop brings them, and from it, without waiting for the loop's turn to end."""

import asyncio

from sluicegate.wire.outbox import Outbox


def prompt_outbox() -> Outbox:
    """Writes at once."""
    return Outbox(most=1)


def arrive(protocol: asyncio.BufferedProtocol, data: bytes) -> None:
    """Let `data` arrive: in one reading where the protocol's buffer holds it."""
    while data:
        buffer = memoryview(protocol.get_buffer(-1))
        count = min(len(buffer), len(data))
        buffer[:count] = data[:count]
        data = data[count:]
        protocol.buffer_updated(count)
