"""The listening sockets of one process, every connection on them, and their end.

A request for a hot route goes to the lane, every other one to the ASGI application, which is made when the first of
them comes: a gateway that relays chat is up before that is even imported.
"""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from sluicegate.doors.http.answers import DateLine, render_head
from sluicegate.doors.http.connection import HttpConnection
from sluicegate.doors.http.contracts import Responder
from sluicegate.doors.http.limits import HttpLimits
from sluicegate.doors.http.request import Known, Request
from sluicegate.errors import SluicegateError
from sluicegate.wire.outbox import shared_outbox
from sluicegate.wire.wheel import Wheel

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from sluicegate.doors.http.websocket import WebSocketConnection

_CLOSE_SECONDS = 1.0
_BACKLOG = 2_048
_READ_AT_ONCE = 32_768
_TLS_END_SECONDS = 5.0


class HotLane(Protocol):
    """Who answers the hot routes."""

    def is_hot(self, request: Request) -> bool:
        """Whether the request is for one of them."""
        ...

    def admit(self, request: Request) -> None:
        """See `Reception.admit`."""
        ...

    def respond(self, connection: HttpConnection, request: Request) -> Responder | None:
        """Begin to answer; None when all is answered already."""
        ...

    def refusal(self, error: SluicegateError, request: Request | None) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body for a request that nobody answered."""
        ...


class HttpServer:
    """Serves one application and one lane. Make it on the running loop. Fulfils `Reception`."""

    def __init__(self, lane: HotLane, make_app: Callable[[], "ASGIApp"], limits: HttpLimits, wheel: Wheel) -> None:
        self.loop = asyncio.get_running_loop()
        self.wheel = wheel
        self.connections: set[HttpConnection] = set()
        self.known = Known()
        self.date = DateLine()
        self.inbox = memoryview(bytearray(_READ_AT_ONCE))
        self.outbox = shared_outbox()
        self.max_body_bytes = limits.max_body_bytes
        self.limit_digits = len(str(limits.max_body_bytes))
        self.head_seconds = limits.head_seconds
        self.idle_seconds = limits.idle_seconds
        self.keep_alive_seconds = limits.keep_alive_seconds
        self.is_closing = False
        self.is_hot = lane.is_hot
        self.admit = lane.admit
        self.respond_hot = lane.respond
        self._lane = lane
        self._make_app = make_app
        self._app: ASGIApp | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.sockets: set[WebSocketConnection] = set()
        self._listening: list[asyncio.Server] = []

    async def listen(self, listener: socket.socket, tls: ssl.SSLContext | None = None) -> None:
        """Take connections from a bound socket, with TLS where a context is given."""
        server = await self.loop.create_server(
            lambda: HttpConnection(self),
            sock=listener,
            ssl=tls,
            backlog=_BACKLOG,
            ssl_handshake_timeout=self.head_seconds if tls else None,
            ssl_shutdown_timeout=_TLS_END_SECONDS if tls else None,
        )
        self._listening.append(server)

    @property
    def app(self) -> "ASGIApp":
        """The application, made when it is first asked for."""
        if self._app is None:
            self._app = self._make_app()
        return self._app

    def say_goodbye(self) -> None:
        """Go on, but let each connection end after the answer that is next on it."""
        self.is_closing = True

    async def close(self, seconds: float = _CLOSE_SECONDS) -> None:
        """Take no more connections, let answers end for `seconds`, then break the rest off."""
        self.say_goodbye()
        for server in self._listening:
            server.close()
        for connection in list(self.connections):
            connection.close_idle()
        for connected in list(self.sockets):
            connected.go_away("this gateway is stopping")
        await self._gone(seconds)
        for task in self._tasks:
            task.cancel()
        await self._gone(_CLOSE_SECONDS)
        for connection in list(self.connections):
            connection.transport.abort()
        for connected in list(self.sockets):
            connected.abort()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_CLOSE_SECONDS)

    # --- the connections' side ---

    def respond(self, connection: HttpConnection, request: Request) -> Responder:
        """See `Reception.respond`."""
        from sluicegate.doors.http.asgi import AsgiResponder

        responder = AsgiResponder(connection, request, self.app)
        self._tasks.add(responder.task)
        responder.task.add_done_callback(self._tasks.discard)
        return responder

    def is_websocket(self, request: Request) -> bool:
        """See `Reception.is_websocket`."""
        return not request.has_body and b"websocket" in request.fields.get(b"upgrade", b"").lower()

    def upgrade(self, transport: asyncio.Transport, request: Request, rest: bytes) -> None:
        """See `Reception.upgrade`."""
        from sluicegate.doors.http.websocket import WebSocketConnection

        WebSocketConnection(self, transport, request, rest, self.app)

    def refusal(self, error: SluicegateError, request: Request | None) -> bytes:
        """See `Reception.refusal`."""
        status, headers, body = self._lane.refusal(error, request)
        headers = {**headers, "content-length": str(len(body)), "connection": "close"}
        lines = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
        head = render_head(status, lines, self.date)
        return head if request is not None and request.method == b"HEAD" else head + body

    async def _gone(self, seconds: float) -> None:
        """Until every connection is closed, at most so long."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self.connections or self._tasks or self.sockets:
                    if self._tasks:
                        await asyncio.wait(self._tasks)
                    await asyncio.sleep(0.01)
