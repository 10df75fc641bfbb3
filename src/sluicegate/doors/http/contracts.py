"""The two neighbours of a connection: who answers one request, and the server behind all of them."""

import asyncio
from typing import TYPE_CHECKING, Protocol

from sluicegate.doors.http.answers import DateLine
from sluicegate.doors.http.request import Known, Request
from sluicegate.errors import SluicegateError
from sluicegate.wire.outbox import Outbox
from sluicegate.wire.wheel import Wheel

if TYPE_CHECKING:
    from sluicegate.doors.http.connection import HttpConnection


class Responder(Protocol):
    """Answers one request through the connection's `post` or `write`, and `finish`."""

    def body_piece(self, data: bytes) -> None:
        """Some of the request's body."""
        ...

    def body_ended(self) -> None:
        """The request is complete."""
        ...

    def caller_left(self) -> None:
        """Nobody takes the answer any more; nothing of the connection is to be called again."""
        ...

    def caller_half_closed(self) -> None:
        """The caller sends nothing more; most have left."""
        ...

    def pause(self) -> None:
        """The caller takes the answer more slowly than it is written."""
        ...

    def resume(self) -> None:
        """Undo `pause`."""
        ...


class Reception(Protocol):
    """What a connection needs of the server behind it."""

    loop: asyncio.AbstractEventLoop
    wheel: Wheel
    connections: set["HttpConnection"]
    known: Known
    date: DateLine
    inbox: memoryview
    """Where connections read into, one after the other; what stands there is used up before the next one reads."""
    max_body_bytes: int
    limit_digits: int
    """How many digits that number has: a length of fewer is surely below it."""
    head_seconds: float
    """How long a head may take in all."""
    idle_seconds: float
    """How long a body, or the taking of an answer, may pause."""
    keep_alive_seconds: float
    is_closing: bool

    @property
    def outbox(self) -> Outbox:
        """Where connections wait to be flushed."""
        ...

    def is_hot(self, request: Request) -> bool:
        """Whether the lane answers; it gets the request when its body is whole."""
        ...

    def admit(self, request: Request) -> None:
        """Let the request in by its head, before its body is read. Raises `SluicegateError`."""
        ...

    def respond_hot(self, connection: "HttpConnection", request: Request) -> Responder | None:
        """Begin to answer; None when `finish` was called already."""
        ...

    def respond(self, connection: "HttpConnection", request: Request) -> Responder:
        """Begin to answer by the ASGI application; the body follows."""
        ...

    def is_websocket(self, request: Request) -> bool:
        """Whether the request asks for a WebSocket."""
        ...

    def upgrade(self, transport: asyncio.Transport, request: Request, rest: bytes) -> None:
        """Take the socket over; `rest` came behind the request."""
        ...

    def refusal(self, error: SluicegateError, request: Request | None) -> bytes:
        """The whole answer for a request that was refused before anyone answered it; it is also counted and logged."""
        ...
