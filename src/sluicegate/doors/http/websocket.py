"""One caller's WebSocket: RFC 6455 on the socket, ASGI's messages to the application.

    HANDSHAKE ──accepted──▶ OPEN ──a close frame, either way──▶ CLOSING ──both are sent──▶ closed
        │                    │                                     │
        │ refused            │ the caller's fault                  └──too late──▶ aborted
        ▼                    ▼
        └──────────────▶ LINGERING ──the caller's end, or 2 s──▶ closed

A ping goes out every 20 s; a caller of whom nothing at all was heard by the next one is gone, however the socket
looks. Above 64 KB unread the caller is not read, above 64 KB unsent `send` waits.
Sources: RFC 6455; ASGI 3.0, WebSocket message format 2.4, and its denial response.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Iterable
from typing import Literal, NamedTuple, Protocol

from starlette.types import ASGIApp, Message, Scope
from websockets.frames import CloseCode, Frame
from websockets.protocol import OPEN, SEND_EOF
from websockets.server import ServerProtocol

from sluicegate.doors.http.answers import DateLine, render_head
from sluicegate.doors.http.asgi import build_scope
from sluicegate.doors.http.connection import HIGH_WATER
from sluicegate.doors.http.handshake import answer_handshake, render_acceptance, subprotocols
from sluicegate.doors.http.messages import Assembler, open_protocol
from sluicegate.doors.http.request import Header, Request
from sluicegate.doors.http.unsent import unsent_bytes
from sluicegate.errors import Draining, SluicegateError
from sluicegate.wire.wheel import Wheel

_log = logging.getLogger(__name__)
_NEVER = float("inf")
_MOST_REASON_BYTES = 123

Phase = Literal["handshake", "open", "write", "closing", "linger"]
"""Which time limit holds; none does before the application has answered the handshake."""


class SocketLimits(NamedTuple):
    """Seconds between pings, for the caller's part of a close, and for the end of one who was refused."""

    ping: float = 20.0
    close: float = 10.0
    linger: float = 2.0


_LIMITS = SocketLimits()


class SocketReception(Protocol):
    """What a WebSocket needs of the server behind it; see `Reception`."""

    loop: asyncio.AbstractEventLoop
    wheel: Wheel
    sockets: "set[WebSocketConnection]"
    max_body_bytes: int
    """The longest message."""
    idle_seconds: float
    is_closing: bool
    date: DateLine

    def refusal(self, error: SluicegateError, request: Request | None) -> bytes:
        """See `Reception.refusal`."""
        ...


class WebSocketConnection(asyncio.Protocol):
    """Takes over the socket of a request that asked for a WebSocket, and runs the application for it as `task`.

    `rest` is what came behind the request.
    """

    def __init__(  # noqa: PLR0917 - the server's words for an upgrade, in their order
        self,
        server: SocketReception,
        transport: asyncio.Transport,
        request: Request,
        rest: bytes,
        app: ASGIApp,
        limits: SocketLimits = _LIMITS,
    ) -> None:
        self._server = server
        self._transport = transport
        self._request = request
        self._limits = limits
        self._early = rest
        """What came before the handshake was answered."""
        self._protocol: ServerProtocol | None = None
        """None unless the handshake was accepted."""
        self._agreed: list[Header] = []
        self._is_denied = False
        """The head of another answer than an acceptance is sent."""
        self._assembler = Assembler()
        self._inbox: deque[tuple[Message, int]] = deque([({"type": "websocket.connect"}, 0)])
        self._unread = 0
        self._is_read_paused = False
        self._farewell: Message | None = None
        self._wake = asyncio.Event()
        self._may_write = asyncio.Event()
        self._may_write.set()
        self._unsent = 0
        self._owed_pong = b""
        self._is_pinged = False
        self._is_heard = False
        self._phase: Phase = "handshake"
        self._deadline = _NEVER
        self.task: asyncio.Task[None] | None = None
        transport.set_protocol(self)
        server.sockets.add(self)
        server.wheel.add(self)
        try:
            self._start(app)
        except SluicegateError as error:
            self._refuse(error)

    def _start(self, app: ASGIApp) -> None:
        if self._server.is_closing:
            raise Draining("this gateway is stopping", retry_after=2)
        self._agreed = answer_handshake(self._request)
        scope = build_scope(self._request, self._transport, "websocket")
        scope["subprotocols"] = subprotocols(self._request)
        scope["extensions"]["websocket.http.response"] = {}
        self.task = self._server.loop.create_task(self._run(app, scope))

    # --- the socket's side ---

    def data_received(self, data: bytes) -> None:
        """Some bytes of frames."""
        self._is_heard = True
        protocol = self._protocol
        if protocol is None:
            self._keep_early(data)
            return
        protocol.receive_data(data)
        try:
            for event in protocol.events_received():
                if isinstance(event, Frame):
                    self._take(event)
        except UnicodeDecodeError as error:
            protocol.fail(CloseCode.INVALID_DATA, f"a text message is no UTF-8: {error.reason} at byte {error.start}")
        self._flush()

    def eof_received(self) -> bool:
        """The caller sends nothing more, without a close frame or after it; either way the socket is over."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is gone. The server knows of it until the application has ended, too."""
        self._server.wheel.discard(self)
        if self.task is None or self.task.done():
            self._server.sockets.discard(self)
        else:
            self.task.add_done_callback(lambda _: self._server.sockets.discard(self))
        self._phase = "linger"
        self._say_farewell(CloseCode.ABNORMAL_CLOSURE, "the connection was lost")

    def pause_writing(self) -> None:
        """More than `HIGH_WATER` bytes are unsent."""
        self._unsent = unsent_bytes(self._transport)
        if self._farewell is None:
            self._may_write.clear()
        if self._phase == "open":
            self._enter("write", self._server.idle_seconds)

    def resume_writing(self) -> None:
        """The caller has taken enough."""
        self._may_write.set()
        if self._phase == "write":
            self._is_pinged = False
            self._enter("open", self._limits.ping)
        if self._owed_pong:
            pong, self._owed_pong = self._owed_pong, b""
            self._transport.write(pong)

    def tick(self, now: float) -> None:
        """See `Timed.tick`."""
        if now < self._deadline:
            return
        unsent = unsent_bytes(self._transport)
        if self._phase == "open" and self._protocol is not None:
            self._ping(self._protocol, now)
        elif self._phase == "write" and unsent < self._unsent:
            self._unsent = unsent
            self._deadline = now + self._server.idle_seconds
        else:
            self._transport.abort()

    def go_away(self, reason: str) -> None:
        """The server stops: close with code 1001, and tell the application at once."""
        if self._protocol is None:
            self._refuse(Draining(reason, retry_after=2))
        else:
            self._close(self._protocol, CloseCode.GOING_AWAY, reason)

    def abort(self) -> None:
        """Break off at once, and end the application."""
        self._transport.abort()
        if self.task is not None:
            self.task.cancel()

    # --- frames ---

    def _take(self, frame: Frame) -> None:
        made = self._assembler.take(frame)
        if made is None or self._farewell is not None:
            return
        self._inbox.append(made)
        self._unread += made[1]
        if self._unread > HIGH_WATER:
            self._pause_reading()
        self._wake.set()

    def _flush(self) -> None:
        """Send what the protocol has to say, and follow it where the connection ends."""
        protocol = self._protocol
        if protocol is None:
            return
        writes = protocol.data_to_send()
        is_open = protocol.state is OPEN
        if is_open and writes and not self._may_write.is_set():
            # Only answers to pings come here unasked; of these the last one is enough (RFC 6455, section 5.5.3).
            self._owed_pong = writes[-1]
        elif data := b"".join(writes):
            self._transport.write(data)
        if is_open:
            return
        close = protocol.close_rcvd or protocol.close_sent
        if close is not None:
            self._say_farewell(close.code, close.reason)
        if SEND_EOF not in writes:
            if self._phase in ("open", "write"):
                self._enter("closing", self._limits.close)
                self._resume_reading()
        elif protocol.close_rcvd is not None and protocol.close_sent is not None:
            self._enter("closing", self._limits.close)
            self._transport.close()
        else:
            self._linger()

    def _ping(self, protocol: ServerProtocol, now: float) -> None:
        if self._is_pinged and not (self._is_heard or self._is_read_paused):
            self._say_farewell(CloseCode.ABNORMAL_CLOSURE, f"no answer to a ping within {self._limits.ping:g} s")
            self._transport.abort()
            return
        self._is_pinged = True
        self._is_heard = False
        self._deadline = now + self._limits.ping
        protocol.send_ping(b"")
        self._flush()

    def _close(self, protocol: ServerProtocol, code: int, reason: str) -> None:
        if protocol.state is OPEN:
            cut = reason.encode()[:_MOST_REASON_BYTES].decode(errors="ignore")
            protocol.send_close(code, cut)
            self._flush()

    # --- the application's side ---

    async def _run(self, app: ASGIApp, scope: Scope) -> None:
        failure: SluicegateError | None = None
        try:
            await app(scope, self._receive, self._send)
        except asyncio.CancelledError:
            self._transport.abort()
            raise
        except Exception:
            if self._farewell is None:
                _log.exception("the application failed")
            failure = SluicegateError("something went wrong here")
        if self._farewell is not None:
            return
        if self._protocol is None:
            self._refuse(failure or SluicegateError("nobody answered the handshake"))
        elif failure is not None:
            self._close(self._protocol, CloseCode.INTERNAL_ERROR, failure.message)
        else:
            self._close(self._protocol, CloseCode.NORMAL_CLOSURE, "")

    async def _receive(self) -> Message:
        while not self._inbox:
            if self._farewell is not None:
                return self._farewell
            self._wake.clear()
            await self._wake.wait()
        message, size = self._inbox.popleft()
        self._unread -= size
        if self._unread <= HIGH_WATER and self._protocol is not None:
            self._resume_reading()
        return message

    async def _send(self, message: Message) -> None:
        kind = message["type"]
        protocol = self._protocol
        if self._farewell is not None:
            if protocol is not None:
                raise BrokenPipeError(f"the WebSocket is closed ({self._farewell['code']})")
        elif protocol is None:
            self._answer(kind, message)
        elif kind == "websocket.send":
            text = message.get("text")
            if text is not None:
                protocol.send_text(text.encode())
            else:
                protocol.send_binary(message["bytes"])
            self._transport.write(b"".join(protocol.data_to_send()))
        elif kind == "websocket.close":
            self._close(protocol, message.get("code", CloseCode.NORMAL_CLOSURE), message.get("reason") or "")
        else:
            raise RuntimeError(f"an application may not send {kind} on an open WebSocket")
        await self._may_write.wait()

    # --- the handshake ---

    def _answer(self, kind: str, message: Message) -> None:
        """The application's word on the handshake."""
        match kind:
            case "websocket.accept":
                self._accept(message)
            case "websocket.close":
                self._deny(403, [(b"content-length", b"0")])
                self._denied()
            case "websocket.http.response.start":
                self._deny(message["status"], message.get("headers", ()))
            case "websocket.http.response.body" if self._is_denied:
                self._transport.write(message.get("body", b""))
                if not message.get("more_body", False):
                    self._denied()
            case _:
                raise RuntimeError(f"an application may not send {kind} before it has accepted the WebSocket")

    def _accept(self, message: Message) -> None:
        more = [(name.lower(), value) for name, value in message.get("headers") or ()]
        self._transport.write(render_acceptance(self._agreed, message.get("subprotocol"), more))
        self._protocol = open_protocol(self._server.max_body_bytes)
        self._enter("open", self._limits.ping)
        early, self._early = self._early, b""
        self._resume_reading()
        if early:
            self.data_received(early)

    def _deny(self, status: int, given: Iterable[Header]) -> None:
        """The head of an answer that is no WebSocket; its body ends with the connection."""
        self._is_denied = True
        headers = [(name.lower(), value) for name, value in given if name.lower() != b"connection"]
        self._transport.write(render_head(status, [*headers, (b"connection", b"close")], self._server.date))

    def _denied(self) -> None:
        self._say_farewell(CloseCode.ABNORMAL_CLOSURE, "the handshake was refused")
        self._linger()

    def _refuse(self, error: SluicegateError) -> None:
        """Answer the handshake with an error, unless another answer has begun."""
        if self._is_denied:
            self._transport.abort()
        elif self._farewell is None:
            self._transport.write(self._server.refusal(error, self._request))
            self._denied()

    def _keep_early(self, data: bytes) -> None:
        if self._phase == "handshake":
            self._early += data
            if len(self._early) > HIGH_WATER:
                self._pause_reading()

    # --- reading, time, and the end ---

    def _pause_reading(self) -> None:
        if not self._is_read_paused:
            self._is_read_paused = True
            self._transport.pause_reading()

    def _resume_reading(self) -> None:
        if self._is_read_paused and not self._transport.is_closing():
            self._is_read_paused = False
            self._transport.resume_reading()

    def _enter(self, phase: Phase, seconds: float) -> None:
        self._phase = phase
        self._deadline = self._server.loop.time() + seconds

    def _say_farewell(self, code: int, reason: str) -> None:
        """Tell the application that it is over; only the first reason counts."""
        if self._farewell is None:
            self._farewell = {"type": "websocket.disconnect", "code": int(code), "reason": reason}
        self._wake.set()
        self._may_write.set()

    def _linger(self) -> None:
        """Close once all is sent; until then what comes is thrown away, or closing would destroy what was said last."""
        if not self._transport.can_write_eof():
            self._transport.close()
            return
        self._transport.write_eof()
        self._resume_reading()
        self._enter("linger", self._limits.linger)
