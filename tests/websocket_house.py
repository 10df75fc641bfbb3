"""A server with one WebSocket, on a real socket or in memory, for tests that look at frames.

async with serving(Echo()) as house, dial(house.url) as client: …
async with in_memory(Echo()) as (wire, connection): wire.feed(frame(Opcode.TEXT, b"hello"))
"""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

from starlette.types import ASGIApp
from starlette.websockets import WebSocketDisconnect
from tests.protocol_driver import Wire
from websockets.asyncio.client import ClientConnection, connect
from websockets.client import ClientProtocol
from websockets.exceptions import ConnectionClosed
from websockets.frames import Frame, Opcode
from websockets.protocol import OPEN
from websockets.uri import parse_uri

from sluicegate.admission.gate import Gate
from sluicegate.domain.fairness import Tier
from sluicegate.doors.endpoint import Answer, Call, Endpoint, json_response
from sluicegate.doors.http.connection import HttpConnection
from sluicegate.doors.http.contracts import Responder
from sluicegate.doors.http.limits import HttpLimits
from sluicegate.doors.http.request import Request
from sluicegate.doors.http.server import HttpServer
from sluicegate.doors.http.websocket import WebSocketConnection
from sluicegate.doors.problems import render_error
from sluicegate.doors.server import build_server
from sluicegate.doors.websocket_endpoint import SocketCall, SocketHandler, WebSocketEndpoint
from sluicegate.errors import SluicegateError
from sluicegate.observability.access_log import AccessLog
from sluicegate.observability.metrics import Metrics
from sluicegate.wire.wheel import Wheel

PATIENCE = 20.0
MOST_BYTES = 1_000_000
FIELDS = (
    (b"Host", b"localhost"),
    (b"Connection", b"Upgrade"),
    (b"Upgrade", b"websocket"),
    (b"Sec-WebSocket-Version", b"13"),
    (b"Sec-WebSocket-Key", b"dGhlIHNhbXBsZSBub25jZQ=="),
)
"""The handshake of RFC 6455's own example; it is accepted with s3pPLMBiTxaQ9kYGzzhZRbK+xOo=."""


def opening(changes: Mapping[str, bytes | None] | None = None) -> bytes:
    """A handshake for /echo, with headers (names in lower case) changed, added, or left out (None)."""
    fields: dict[bytes, bytes | None] = {name.lower(): value for name, value in FIELDS}
    fields.update({name.encode(): value for name, value in (changes or {}).items()})
    lines = [b"%b: %b\r\n" % (name, value) for name, value in fields.items() if value is not None]
    return b"GET /echo HTTP/1.1\r\n%b\r\n" % b"".join(lines)


def frame(opcode: Opcode, data: bytes = b"", *, fin: bool = True) -> bytes:
    """A frame as callers send it."""
    return Frame(opcode, data, fin=fin).serialize(mask=True)


class _NoLane:
    is_closing = False

    def is_hot(self, request: Request) -> bool:
        return False

    def admit(self, request: Request) -> None:
        raise AssertionError("nothing is hot here")

    def respond(self, connection: HttpConnection, request: Request) -> Responder | None:
        raise AssertionError("nothing is hot here")

    def refusal(self, error: SluicegateError, request: Request | None) -> tuple[int, dict[str, str], bytes]:
        return render_error(error, "chat", "req_refused")


class House:
    """The server: a WebSocket at /echo, and a page at /health. Make it on the running loop."""

    def __init__(self, handler: SocketHandler, *, idle_seconds: float = 60.0) -> None:
        self.wheel = Wheel()
        self.metrics = Metrics()
        self.port = 0
        self._handler = handler
        limits = HttpLimits(max_body_bytes=MOST_BYTES, head_seconds=20.0, idle_seconds=idle_seconds)
        self.server = HttpServer(_NoLane(), self._build, limits, self.wheel)

    @property
    def url(self) -> str:
        """Of the WebSocket."""
        return f"ws://127.0.0.1:{self.port}/echo"

    async def open(self) -> None:
        """Listen on a free port."""
        listener = socket.create_server(("127.0.0.1", 0))
        self.port = listener.getsockname()[1]
        await self.server.listen(listener)

    def _build(self) -> ASGIApp:
        async def health(call: Call) -> Answer:
            return json_response({"status": "ok"})

        return build_server(
            [Endpoint(method="GET", path="/health", handler=health, dialect="chat", tag="Test", summary="A page")],
            Gate(host="127.0.0.1", cors_origins=("https://app.example",), local_tier=Tier()),
            self.metrics,
            AccessLog(),
            max_body_bytes=MOST_BYTES,
            client_idle_seconds=60.0,
            sockets=[
                WebSocketEndpoint(path="/echo", handler=self._handler, dialect="chat", tag="Test", summary="Echo")
            ],
        )


@contextlib.asynccontextmanager
async def serving(handler: SocketHandler, *, idle_seconds: float = 60.0) -> AsyncIterator[House]:
    """The server on a loopback port while the block runs; nothing of any socket may be left at its end."""
    house = House(handler, idle_seconds=idle_seconds)
    await house.open()
    try:
        yield house
    finally:
        await house.server.close()
    assert not house.server.sockets
    assert not len(house.wheel)


@contextlib.asynccontextmanager
async def in_memory(handler: SocketHandler) -> AsyncIterator[tuple[Wire, WebSocketConnection]]:
    """A socket on a transport in memory, its handshake sent and answered."""
    house = House(handler)
    protocol = HttpConnection(house.server)
    wire = Wire(protocol)
    protocol.connection_made(wire)
    wire.feed(opening())
    (connection,) = house.server.sockets
    assert connection.task is not None
    try:
        while not wire.written:  # noqa: ASYNC110 - the answer comes within a few turns of the loop
            await asyncio.sleep(0)
        yield wire, connection
    finally:
        wire.close()
        async with asyncio.timeout(PATIENCE):
            await asyncio.wait({connection.task})
    assert not len(house.wheel)


def heard(wire: Wire) -> list[str | bytes | Opcode]:
    """What the server has sent behind its head, by the client's half of the library: messages, and other opcodes."""
    protocol = ClientProtocol(parse_uri("ws://localhost/echo"), state=OPEN, max_size=None)
    protocol.receive_data(bytes(wire.written).partition(b"\r\n\r\n")[2])
    seen: list[str | bytes | Opcode] = []
    for event in protocol.events_received():
        assert isinstance(event, Frame)
        match event.opcode:
            case Opcode.TEXT:
                seen.append(bytes(event.data).decode())
            case Opcode.BINARY:
                seen.append(bytes(event.data))
            case other:
                seen.append(other)
    return seen


class Echo:
    """A handler that sends every message back, and keeps how each socket ended."""

    def __init__(self) -> None:
        self._ends: asyncio.Queue[tuple[int, str]] = asyncio.Queue()

    async def __call__(self, call: SocketCall) -> None:
        await call.socket.accept()
        while (message := await call.socket.receive())["type"] == "websocket.receive":
            with contextlib.suppress(WebSocketDisconnect):
                if message["text"] is not None:
                    await call.socket.send_text(message["text"])
                else:
                    await call.socket.send_bytes(message["bytes"])
        self._ends.put_nowait((message["code"], message["reason"]))

    async def end(self) -> tuple[int, str]:
        """The code and reason with which the next socket ended."""
        async with asyncio.timeout(PATIENCE):
            return await self._ends.get()


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    """Run a test's body, and no longer than is patient."""

    async def patiently() -> None:
        async with asyncio.timeout(2 * PATIENCE):
            await scenario()

    asyncio.run(patiently())


def dial(url: str, **more: Any) -> connect:
    """The real client."""
    return connect(url, proxy=None, open_timeout=PATIENCE, max_size=None, **more)


@contextlib.asynccontextmanager
async def raw(port: int, data: bytes) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection on which `data` is sent as it is."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(data)
        await writer.drain()
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def closed(client: ClientConnection) -> ConnectionClosed:
    """How the socket ended, as the caller sees it."""
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                await client.recv()
            except ConnectionClosed as end:
                return end


async def until(condition: Callable[[], bool]) -> None:
    """Let the loop turn until it is so."""
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110 - what is in memory has no event
            await asyncio.sleep(0)
