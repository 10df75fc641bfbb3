"""Connections that want to speak TLS and do not."""

import asyncio
import ssl
from collections.abc import Callable
from typing import Any

import pytest
import trustme
import uvloop
from tests.lane_driver import Plant, WiredBackend, echo_app, served

from sluicegate.doors.http.limits import HttpLimits

HASTY = HttpLimits(max_body_bytes=1_000, head_seconds=0.2, idle_seconds=60.0)
PATIENCE = 20.0
"""Less than the minute that an event loop waits by itself."""


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])
@pytest.mark.parametrize("sent", [b"", b"\x16\x03\x01\x02\x00\x01"])
def test_who_never_shakes_hands_is_let_go_as_early_as_who_sends_no_head(loop: Callable[[], Any], sent: bytes) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("localhost").configure_cert(context)

    async def scenario() -> None:
        async with served(WiredBackend(), app=echo_app(), limits=HASTY) as plant:
            await plant.listen(context)
            async with asyncio.timeout(PATIENCE):
                assert await heard(plant, sent) == b""

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(scenario())


async def heard(plant: Plant, sent: bytes) -> bytes:
    """All that the server says on a new connection until it closes that."""
    reader, writer = await asyncio.open_connection("127.0.0.1", plant.port)
    writer.write(sent)
    try:
        return await reader.read(-1)
    except ConnectionResetError:
        return b""
    finally:
        writer.close()
