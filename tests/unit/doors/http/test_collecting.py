"""Connections that are over are free at once, without the collector, which runs seldom in a gateway."""

import asyncio
import gc
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import uvloop
from tests.lane_driver import CHAT, Plant, WiredBackend, chat, echo_app, eventually, post, request, served, whole
from tests.websocket_house import Echo, dial, serving

from sluicegate.doors.http.connection import HttpConnection
from sluicegate.doors.http.request import Request


@pytest.fixture(autouse=True)
def _no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def alive() -> int:
    """Connections and requests in memory."""
    return sum(type(each) in (HttpConnection, Request) for each in gc.get_objects())


UPGRADE = ("Connection: Upgrade", "Upgrade: h2c")


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])
@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"", b""),
        (b"GET / HT", b""),
        (request("GET", "/x", b"", "X-Long: " + "v" * 20_000), b"200"),
        (post(CHAT, chat()), b"200"),
        (post(CHAT, b"{"), b"400"),
        (post(CHAT, chat())[:-5], b""),
        (request("GET", "/x", b"", *UPGRADE), b"200"),
        (post(CHAT, chat(), *UPGRADE), b"200"),
        (request("GET", "/x") * 3, b"200"),
        (b"nonsense\r\n\r\n", b"501"),
        (request("GET", "/x", b"", "Connection: close"), b"200"),
    ],
)
def test_a_connection_that_is_closed_is_free(loop: Callable[[], Any], sent: bytes, status: bytes) -> None:
    async def scene(plant: Plant, backend: WiredBackend) -> None:
        for _ in range(3):
            reader, writer = await asyncio.open_connection("127.0.0.1", plant.port)
            writer.write(sent)
            if sent.startswith(post(CHAT, b"")[:20]) and status == b"200":
                await eventually(lambda: bool(backend.calls))
                backend.calls.pop().say(whole(b"{}"))
            if status:
                assert (await reader.readexactly(12)).endswith(status)
            await eventually(lambda: len(plant.server.connections) == 1 or bool(status))
            writer.close()
            await writer.wait_closed()
            await eventually(lambda: not plant.server.connections)
        await eventually(lambda: alive() == 0, timeout=5)

    play(loop, scene)


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_a_connection_that_became_a_websocket_is_free_when_that_is_closed(loop: Callable[[], Any]) -> None:
    async def scenario() -> None:
        echo = Echo()
        async with serving(echo) as house:
            async with dial(house.url) as client:
                await client.send("hello")
                assert await client.recv() == "hello"
                assert not house.server.connections
            await eventually(lambda: alive() == 0, timeout=5)

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(scenario())


def play(loop: Callable[[], Any], scene: Callable[[Plant, WiredBackend], Any]) -> None:
    """Play a scene before a server that listens, with one backend in memory."""

    async def scenario() -> None:
        backend = WiredBackend()
        async with served(backend, app=echo_app()) as plant:
            await plant.listen()
            await scene(plant, backend)

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(scenario())
