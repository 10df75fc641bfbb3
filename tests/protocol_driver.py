"""Drive a server's protocol class in process, without sockets: bytes in by any split, answers out.

    talk = await converse(PROTOCOLS["cold"], [b"GET / HT", b"TP/1.1\\r\\nHost: localhost\\r\\n\\r\\n"])

A protocol is plugged in by a function that makes one for an ASGI application (`PROTOCOLS`).
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send
from tests.arrive import arrive, prompt_outbox
from tests.corpus.answers import Answers, read_answers

from sluicegate.doors.http.answers import DateLine
from sluicegate.doors.http.asgi import AsgiResponder
from sluicegate.doors.http.connection import HttpConnection
from sluicegate.doors.http.contracts import Responder
from sluicegate.doors.http.request import Known, Request
from sluicegate.errors import SluicegateError
from sluicegate.wire.wheel import Wheel

_QUIET_TURNS = 25
"""Turns of the loop without a visible change after which nothing more comes of what was fed."""

ProtocolFactory = Callable[[ASGIApp], contextlib.AbstractAsyncContextManager["Speaker"]]


@dataclass(frozen=True, slots=True)
class Seen:
    """A request as the application got it."""

    method: str
    path: str
    query: bytes
    body: bytes


@dataclass(frozen=True, slots=True)
class Talk:
    """What came of one connection."""

    seen: tuple[Seen, ...]
    """The requests that were read to their end."""
    answers: Answers
    hung_up: bool
    """The server ended the connection before the caller did."""
    closed: bool
    """The connection was closed in the end."""

    @property
    def statuses(self) -> tuple[int, ...]:
        """The statuses of the final answers."""
        return tuple(answer.status for answer in self.answers.final)


Speaker = asyncio.Protocol | HttpConnection
"""What is given bytes: `HttpConnection` reads into a buffer of the server, but takes them like this as well."""


class Wire(asyncio.Transport):
    """A transport in memory: keeps what is written, takes all of it at once, tells of its end."""

    def __init__(self, protocol: "Speaker") -> None:
        super().__init__({"peername": ("127.0.0.1", 40_000), "sockname": ("127.0.0.1", 8_000)})
        self._protocol: asyncio.BaseProtocol = protocol
        self._is_closing = False
        self._is_reading = True
        self.written = bytearray()
        self.has_written_eof = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Keep `data`; what is written after the end is lost, as on a socket."""
        if not (self._is_closing or self.has_written_eof):
            self.written += data

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        """Keep each."""
        for data in list_of_data:
            self.write(data)

    def write_eof(self) -> None:
        """Nothing more is written."""
        self.has_written_eof = True

    def can_write_eof(self) -> bool:
        """It can."""
        return True

    def close(self) -> None:
        """Close; the protocol hears of it in the next turn."""
        if not self._is_closing:
            self._is_closing = True
            asyncio.get_running_loop().call_soon(self._protocol.connection_lost, None)

    abort = close

    def is_closing(self) -> bool:
        """Whether it is closed or about to be."""
        return self._is_closing

    def is_reading(self) -> bool:
        """Whether the protocol takes bytes."""
        return self._is_reading

    def pause_reading(self) -> None:
        """Take no bytes for now."""
        self._is_reading = False

    def resume_reading(self) -> None:
        """Take bytes again."""
        self._is_reading = True

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Nothing is ever buffered."""

    def get_write_buffer_size(self) -> int:
        """Nothing is ever buffered."""
        return 0

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Another protocol takes over."""
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        """The protocol that hears of events now."""
        return self._protocol

    def feed(self, data: bytes) -> None:
        """Bytes from the caller."""
        if isinstance(self._protocol, asyncio.BufferedProtocol):
            arrive(self._protocol, data)
        else:
            assert isinstance(self._protocol, asyncio.Protocol)
            self._protocol.data_received(data)

    def end(self) -> None:
        """The caller sends nothing more."""
        assert isinstance(self._protocol, asyncio.Protocol | HttpConnection)
        if not (self._is_closing or self._protocol.eof_received()):
            self.close()


@dataclass(frozen=True, slots=True)
class _Echo:
    """The application: reads the whole body, keeps the request, answers 200."""

    seen: list[Seen] = field(default_factory=list)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = b""
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message.get("body", b"")
            more = message.get("more_body", False)
        self.seen.append(Seen(scope["method"], scope["path"], scope["query_string"], body))
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else b"ok"})


async def converse(factory: ProtocolFactory, pieces: Iterable[bytes], *, at_leisure: bool = True) -> Talk:
    """Feed pieces to a new connection, end it, and tell what came of it.

    `at_leisure`: each piece is worked off before the next one. Raises `AssertionError` when the protocol stops reading
    for good without closing the connection.
    """
    app = _Echo()
    async with factory(app) as protocol:
        wire = Wire(protocol)
        protocol.connection_made(wire)
        for piece in pieces:
            if at_leisure or not wire.is_reading():
                await _settle(wire, app)
            if wire.is_closing():
                break
            assert wire.is_reading(), "reading is paused for good"
            wire.feed(piece)
        await _settle(wire, app)
        hung_up = wire.is_closing() or wire.has_written_eof
        wire.end()
        await _settle(wire, app)
        closed = wire.is_closing()
        if not closed:
            wire.close()
        await _settle(wire, app)
    bodiless = {number for number, request in enumerate(app.seen) if request.method == "HEAD"}
    answers = read_answers(bytes(wire.written), ended=True, bodiless=bodiless)
    return Talk(tuple(app.seen), answers, hung_up, closed)


async def _settle(wire: Wire, app: _Echo) -> None:
    quiet = 0
    while quiet < _QUIET_TURNS:
        before = len(wire.written), len(app.seen), wire.is_closing(), wire.is_reading(), wire.has_written_eof
        await asyncio.sleep(0)
        after = len(wire.written), len(app.seen), wire.is_closing(), wire.is_reading(), wire.has_written_eof
        quiet = quiet + 1 if after == before else 0


@contextlib.asynccontextmanager
async def uvicorn_protocol(app: ASGIApp) -> AsyncIterator[Speaker]:
    """uvicorn's protocol over httptools."""
    from uvicorn import Config
    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
    from uvicorn.server import ServerState

    logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
    plain: Any = app
    config = Config(plain, http="httptools", ws="none", lifespan="off", log_config=None, access_log=False)
    state = ServerState()
    yield HttpToolsProtocol(config, state, {})
    for task in tuple(state.tasks):
        task.cancel()
    await asyncio.gather(*state.tasks, return_exceptions=True)


@contextlib.asynccontextmanager
async def cold_protocol(app: ASGIApp) -> AsyncIterator[Speaker]:
    """Ours, every request answered by the ASGI application."""
    reception = _Reception(app, is_lane=False)
    yield HttpConnection(reception)
    await reception.close()


@contextlib.asynccontextmanager
async def hot_protocol(app: ASGIApp) -> AsyncIterator[Speaker]:
    """Ours, every request handed over with its whole body, as to the lane, and answered from the event loop."""
    reception = _Reception(app, is_lane=True)
    yield HttpConnection(reception)
    await reception.close()


class _Reception:
    """A server of one connection. Fulfils `Reception`."""

    def __init__(self, app: ASGIApp, *, is_lane: bool) -> None:
        self._app = app
        self._is_lane = is_lane
        self._tasks: set[asyncio.Task[None]] = set()
        self.loop = asyncio.get_running_loop()
        self.wheel = Wheel()
        self.connections: set[HttpConnection] = set()
        self.known = Known()
        self.date = DateLine()
        self.max_body_bytes = 16_000_000
        self.limit_digits = 8
        self.inbox = memoryview(bytearray(32_768))
        self.outbox = prompt_outbox()
        self.head_seconds = self.idle_seconds = self.keep_alive_seconds = 60.0
        self.is_closing = False

    def is_hot(self, request: Request) -> bool:
        return self._is_lane

    def admit(self, request: Request) -> None:
        """Everyone is let in."""

    def respond_hot(self, connection: HttpConnection, request: Request) -> Responder | None:
        """Run the application as a task that has the whole request, as the lane's slow path does."""
        responder = self.respond(connection, request)
        for piece in request.pieces:
            responder.body_piece(piece)
        responder.body_ended()
        return responder

    def respond(self, connection: HttpConnection, request: Request) -> Responder:
        responder = AsgiResponder(connection, request, self._app)
        self._tasks.add(responder.task)
        return responder

    def is_websocket(self, request: Request) -> bool:
        return False

    def upgrade(self, transport: asyncio.Transport, request: Request, rest: bytes) -> None:
        raise AssertionError("nothing here is a WebSocket")

    def refusal(self, error: SluicegateError, request: Request | None) -> bytes:
        head = b"HTTP/1.1 %d Refused\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
        return head % error.status

    async def close(self) -> None:
        """Stop what still waits for bytes."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


PROTOCOLS: Mapping[str, ProtocolFactory] = {"cold": cold_protocol, "hot": hot_protocol}
"""Ours, both ways to an answer."""
PEERS: Mapping[str, ProtocolFactory] = {"uvicorn": uvicorn_protocol}
"""Others, to see that the driver is fair."""
