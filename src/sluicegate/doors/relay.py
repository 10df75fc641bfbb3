"""The path of chat bytes: from a backend to the caller, untouched, counted on the way.

A call goes   enter ▶ open at a backend ▶ head ▶ pieces ▶ end   and at every point a caller who leaves, a cancel by id
or a stop of the process closes the upstream connection, which frees the backend's slot.

This is the seam that a protocol-level lane replaces: a door hands over (model, path, body) and a `Rendering`, which
says the answer and its errors in the door's dialect; everything between the two sockets is here.
"""

import asyncio
import re
from collections.abc import AsyncGenerator, Mapping
from typing import Protocol

import msgspec
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from sluicegate.backends.backend import UpstreamAnswer
from sluicegate.domain.clock import Clock
from sluicegate.domain.ids import RequestId
from sluicegate.domain.principal import Principal
from sluicegate.doors.exchanges import Exchange, Exchanges
from sluicegate.doors.streams import send_head, send_piece, while_connected
from sluicegate.errors import (
    BackendError,
    BackendFailed,
    BackendRefused,
    BackendTimeout,
    BackendUnavailable,
    SluicegateError,
)
from sluicegate.observability.metrics import Metrics
from sluicegate.scheduling.balancer import Balancer

_TOTAL_TOKENS = re.compile(rb'"total_tokens"\s*:\s*(\d+)')
_PASSED_ON = frozenset({400, 404, 409, 413, 415, 422, 429})
"""Refusals that are the caller's affair; any other error status of a backend is the backend's failure."""
_ERROR_BODY_LIMIT = 65_536
_TAIL = 4_096
"""`usage` stands in the last bytes of an answer."""


class TokenScan:
    """Counts tokens in passing: `usage.total_tokens` where the answer has it, else its events."""

    def __init__(self) -> None:
        self._events = 0
        self._tail = b""

    def feed(self, piece: bytes) -> None:
        """Look at a piece of the answer."""
        self._events += (self._tail[-6:] + piece).count(b"\ndata: ") - self._tail[-6:].count(b"\ndata: ")
        self._tail = (self._tail + piece)[-_TAIL:]

    def total(self, *, streamed: bool) -> int:
        """Tokens so far; for a stream without usage, one for each event."""
        found = _TOTAL_TOKENS.findall(self._tail)
        if found:
            return int(found[-1])
        return self._events if streamed else 0


class Relayed:
    """An opened call: the head has arrived. `pieces` yields the body."""

    def __init__(self, call: "RelayCall", answer: UpstreamAnswer) -> None:
        self._call = call
        self._answer = answer
        self.content_type = answer.content_type

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        """The body as it arrives. Raises `BackendError` when the backend breaks off or is too late."""
        async for piece in self._answer.chunks():
            self._call.saw(piece)
            yield piece

    async def whole(self) -> bytes:
        """The body at once."""
        return b"".join([piece async for piece in self.pieces()])


class Outlet:
    """The caller's side of an answer. `begun` says whether the head was sent.

    A caller who takes nothing for `idle_seconds` counts as gone: `CallerStalled`.
    """

    def __init__(self, send: Send, idle_seconds: float) -> None:
        self._send = send
        self._idle_seconds = idle_seconds
        self.begun = False

    async def head(self, headers: Mapping[str, str]) -> None:
        """Send status 200 and the headers."""
        self.begun = True
        await send_head(self._send, 200, headers)

    async def piece(self, data: bytes, *, more: bool = True) -> None:
        """Send a piece of the body; waits while the caller reads slower than we write."""
        try:
            async with asyncio.timeout(self._idle_seconds):
                await send_piece(self._send, data, more=more)
        except TimeoutError:
            raise CallerStalled from None


class CallerStalled(ClientDisconnect):
    """The caller still holds the connection, but takes nothing."""


class Rendering(Protocol):
    """How a door says a relayed answer in its dialect."""

    async def render(self, relayed: Relayed, outlet: Outlet) -> None:
        """Send the head, the body and its end."""
        ...

    def broken(self, error: SluicegateError) -> bytes:
        """The last words of a stream that fails after its head was sent."""
        ...


class RelayCall:
    """One call, an ASGI answer: opens a backend, lets the door render what comes, and releases everything."""

    def __init__(self, relay: "Relay", order: "Order", rendering: Rendering) -> None:
        self._relay = relay
        self._order = order
        self._rendering = rendering
        self._scan = TokenScan()
        self._started = relay.clock.monotonic()
        self._first = False
        self._backend = ""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve the call for as long as the caller stays.

        Raises, before the head was sent: `UnknownModel`, `Overloaded`, `BackendUnavailable`, `BackendTimeout`,
        `BackendFailed`, and `BackendRefused` with the backend's own words and status. Later failures are told in
        the stream.
        """
        await while_connected(receive, self._serve(Outlet(send, self._relay.client_idle_seconds)))

    def saw(self, piece: bytes) -> None:
        """Count a piece of the answer."""
        if not self._first:
            self._first = True
            if self._order.stream:
                seconds = self._relay.clock.monotonic() - self._started
                self._relay.metrics.first_token_seconds.labels(self._order.model).observe(seconds)
        self._scan.feed(piece)

    async def _serve(self, outlet: Outlet) -> None:
        order = self._order
        with self._relay.exchanges.enter(order.request_id, order.principal.tenant, order.model) as exchange:
            try:
                await self._exchange(exchange, outlet)
            except asyncio.CancelledError:
                if exchange.reason is None:
                    raise
                task = asyncio.current_task()
                if task is not None:
                    task.uncancel()
                await self._tell(exchange.reason, outlet)
            except SluicegateError as error:
                exchange.ending = "error"
                if isinstance(error, BackendError):
                    self._count_error(error)
                await self._tell(error, outlet)

    async def _exchange(self, exchange: Exchange, outlet: Outlet) -> None:
        order = self._order
        opened = await self._relay.balancer.open(order.model, order.path, order.body, request_id=order.request_id)
        self._backend = opened.backend
        try:
            if opened.status != 200:
                raise await self._refusal(opened)
            await self._rendering.render(Relayed(self, opened), outlet)
            exchange.ending = "completed"
        finally:
            await opened.close()
            self._observe()

    async def _tell(self, error: SluicegateError, outlet: Outlet) -> None:
        if not outlet.begun:
            raise error
        await outlet.piece(self._rendering.broken(error), more=False)

    def _count_error(self, error: BackendError) -> None:
        """Count a failure at the backend that was chosen; without one the model may be the caller's invention."""
        backend = error.backend or self._backend
        if backend:
            self._relay.metrics.backend_errors.labels(backend, self._order.model, _reason(error)).inc()

    def _observe(self) -> None:
        metrics, model = self._relay.metrics, self._order.model
        metrics.inference_seconds.labels(model).observe(self._relay.clock.monotonic() - self._started)
        metrics.tokens.labels(model).inc(self._scan.total(streamed=self._order.stream))

    async def _refusal(self, answer: UpstreamAnswer) -> BackendError:
        """The error that an upstream's error answer stands for."""
        body = b""
        async for piece in answer.chunks():
            body += piece
            if len(body) > _ERROR_BODY_LIMIT:
                break
        words = _error_words(body) or f"status {answer.status}"
        if answer.status < 400:
            mend = "is its url the right base address?"
            return BackendFailed(f'backend "{self._backend}" answered with status {answer.status}; {mend}')
        if answer.status in _PASSED_ON:
            retry_after = answer.retry_after or (1.0 if answer.status == 429 else None)
            return BackendRefused(words, status=answer.status, retry_after=retry_after)
        if answer.status in (401, 403):
            return BackendFailed(f'backend "{self._backend}" refused the gateway itself ({answer.status}): {words}')
        if answer.status == 503:
            return BackendUnavailable(f'backend "{self._backend}": {words}', retry_after=answer.retry_after or 1.0)
        return BackendFailed(f'backend "{self._backend}" failed with status {answer.status}: {words}')


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What a door asks for: `body` (JSON) POSTed to ``<backend>/<path>``; `stream` says that events are expected."""

    principal: Principal
    request_id: RequestId
    model: str
    path: str
    body: bytes
    stream: bool


class Relay:
    """Opens chat calls. One for each process."""

    def __init__(
        self,
        balancer: Balancer,
        exchanges: Exchanges,
        metrics: Metrics,
        clock: Clock,
        *,
        client_idle_seconds: float,
    ) -> None:
        self.client_idle_seconds = client_idle_seconds
        self.balancer = balancer
        self.exchanges = exchanges
        self.metrics = metrics
        self.clock = clock

    def answer(self, order: Order, rendering: Rendering) -> RelayCall:
        """The answer to an order, as the ASGI application that makes it."""
        return RelayCall(self, order, rendering)


class _Words(msgspec.Struct):
    message: str = ""


class _ErrorBody(msgspec.Struct):
    error: _Words | str = ""
    message: str = ""
    detail: str = ""


def _error_words(body: bytes) -> str:
    """The sentence inside an error body of any usual form."""
    try:
        decoded = msgspec.json.decode(body, type=_ErrorBody)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ""
    inner = decoded.error if isinstance(decoded.error, str) else decoded.error.message
    return (inner or decoded.message or decoded.detail)[:2_000]


def _reason(error: BackendError) -> str:
    match error:
        case BackendTimeout():
            return "timeout"
        case BackendUnavailable():
            return "refused"
        case BackendRefused():
            return "http_4xx"
        case _:
            return "http_5xx"
