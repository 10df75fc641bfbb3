"""A call's answer on an HTTP connection: heads, chunks, refusals; counted and logged at its end."""

import time
from typing import TYPE_CHECKING

from sluicegate.doors.http.answers import LAST_CHUNK, chunk, render_head
from sluicegate.doors.http.connection import HttpConnection
from sluicegate.doors.http.request import Request
from sluicegate.doors.lane.orders import HotRoute, Order, Reply
from sluicegate.doors.lane.relay_call import RelayCall
from sluicegate.doors.problems import render_error
from sluicegate.errors import SluicegateError

if TYPE_CHECKING:
    from sluicegate.doors.lane.lane import Lane

_WHOLE_BYTES = 1_048_576
"""An answer that is not streamed is kept up to this size, so that a failure on its way can still be told by status."""
_LEFT = 499
"""As nginx has it: the caller left before an answer."""


class HttpOutlet:
    """Fulfils `Outlet` towards the call and `Responder` towards the connection."""

    __slots__ = (
        "_connection",
        "_content_type",
        "_is_begun",
        "_is_chunked",
        "_is_gone",
        "_kept",
        "_kept_bytes",
        "_lane",
        "_length",
        "_order",
        "_request",
        "_request_id",
        "_route",
        "_started",
        "_status",
        "_tenant",
        "call",
        "is_over",
    )

    def __init__(
        self, lane: "Lane", connection: HttpConnection, request: Request, route: HotRoute, request_id: str
    ) -> None:
        self._lane = lane
        self._connection = connection
        self._request = request
        self._request_id = request_id
        self._route = route
        self._started = time.perf_counter()
        self._order: Order | None = None
        self._tenant = "-"
        self._content_type = ""
        self._length: int | None = None
        self._kept: list[bytes] | None = None
        self._kept_bytes = 0
        self._is_begun = False
        self._is_chunked = False
        self._is_gone = False
        self.is_over = False
        """Whether the connection was told that the answer is finished."""
        self._status = 0
        self.call: RelayCall | None = None

    def serve(self, order: Order) -> None:
        """Relay the order. Raises as `RelayCall.start`."""
        self._order = order
        self._tenant = order.principal.tenant
        call = self.call = RelayCall(self._lane, order, self, self._started)
        try:
            call.start()
        except SluicegateError:
            self.call = None
            raise

    def reply(self, reply: Reply) -> None:
        """Answer without a call."""
        self._tenant = reply.principal.tenant
        self._content_type = reply.content_type
        self._send_whole([reply.body])

    # --- the connection's side ---

    def body_piece(self, data: bytes) -> None:
        """Never: the lane gets whole requests."""

    def body_ended(self) -> None:
        """See `body_piece`."""

    def caller_left(self) -> None:
        """See `Responder.caller_left`."""
        self._is_gone = True
        if self.call is not None:
            self.call.caller_left()

    def caller_half_closed(self) -> None:
        """Who sends nothing more has left: work that nobody waits for is ended at once."""
        self._connection.transport.abort()

    def pause(self) -> None:
        """See `Responder.pause`."""
        if self.call is not None:
            self.call.pause()

    def resume(self) -> None:
        """See `Responder.resume`."""
        if self.call is not None:
            self.call.resume()

    # --- the call's side ---

    def begin(self, content_type: str, length: int | None) -> None:
        """See `Outlet.begin`."""
        order = self._order
        assert order is not None
        if order.stream:
            self._begin_stream(content_type)
        else:
            self._content_type = content_type
            self._length = length
            self._kept = []

    def piece(self, data: bytes) -> None:
        """See `Outlet.piece`."""
        kept = self._kept
        if kept is None:
            self._connection.write(b"%x\r\n%b\r\n" % (len(data), data) if self._is_chunked else data)
            return
        kept.append(data)
        self._kept_bytes += len(data)
        if self._kept_bytes > _WHOLE_BYTES:
            self._begin_long()

    def end(self, error: SluicegateError | None) -> None:
        """See `Outlet.end`."""
        call, self.call = self.call, None  # each holds the other; without this only the collector could free them
        if self._is_gone:
            self._record(self._status or _LEFT)
        elif error is not None:
            self._fail(error, is_between=call is None or call.ends_an_event)
        elif self._kept is not None:
            self._send_whole(self._kept)
        else:
            if self._is_chunked:
                self._connection.write(LAST_CHUNK)
            self._finish(keep=self._is_chunked or self._length is not None)

    def refuse(self, error: SluicegateError) -> None:
        """Answer with an error, of a request for which no call runs."""
        self._fail(error)

    # --- on the wire ---

    def _begin_stream(self, content_type: str) -> None:
        request = self._request
        self._is_begun = True
        self._status = 200
        self._is_chunked = request.is_11
        self._connection.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: %b\r\ncache-control: no-cache\r\nx-accel-buffering: no\r\n%b%b\r\n"
            % (
                content_type.encode("latin-1"),
                b"transfer-encoding: chunked\r\n" if request.is_11 else b"",
                self._common_lines(is_framed=request.is_11),
            )
        )

    def _begin_long(self) -> None:
        """A whole answer that is too long to be kept: what is here goes out, the rest follows."""
        kept, self._kept = self._kept or [], None
        request = self._request
        self._is_begun = True
        self._status = 200
        self._is_chunked = self._length is None and request.is_11
        framing = b"transfer-encoding: chunked\r\n" if self._is_chunked else b""
        if self._length is not None:
            framing = b"content-length: %d\r\n" % self._length
        head = b"HTTP/1.1 200 OK\r\ncontent-type: %b\r\n%b%b\r\n" % (
            self._content_type.encode("latin-1"),
            framing,
            self._common_lines(is_framed=bool(framing)),
        )
        data = b"".join(kept)
        self._connection.write(head + (chunk(data) if self._is_chunked else data))

    def _send_whole(self, kept: list[bytes]) -> None:
        data = kept[0] if len(kept) == 1 else b"".join(kept)
        self._status = 200
        self._connection.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: %b\r\ncontent-length: %d\r\n%b\r\n%b"
            % (
                self._content_type.encode("latin-1"),
                len(data),
                self._common_lines(),
                data,
            )
        )
        self._finish(keep=True)

    def _fail(self, error: SluicegateError, *, is_between: bool = True) -> None:
        if self._is_begun:
            self._break_off(error, is_between=is_between)
            return
        status, headers, body = render_error(error, self._route.dialect_of(self._request), self._request_id)
        self._status = status
        is_last = headers.pop("connection", "") == "close"
        lines = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
        common = self._common_lines(is_framed=not is_last)
        head = render_head(status, [*lines, (b"content-length", b"%d" % len(body))])
        self._connection.write(head[:-2] + common + b"\r\n" + body)
        self._finish(keep=not is_last)

    def _break_off(self, error: SluicegateError, *, is_between: bool) -> None:
        """Tell an error inside a stream, then close: the answer is not what its head promised. `is_between`: what was
        sent so far ends where an event ends."""
        order = self._order
        assert order is not None
        if not order.stream:
            self.is_over = True
            self._record(self._status)
            self._connection.transport.abort()
            return
        words = order.wording.broken(error)
        if not is_between:
            words = b"\n\n" + words
        self._connection.write(chunk(words) + LAST_CHUNK if self._is_chunked else words)
        self._finish(keep=False)

    def _common_lines(self, *, is_framed: bool = True) -> bytes:
        """Header lines of every answer; `is_framed`: its end can be told without closing the connection."""
        lines = b"x-request-id: %b\r\n%b" % (self._request_id.encode("latin-1"), self._connection.date.line())
        request = self._request
        if not (is_framed and request.keep_alive) or self._connection.is_last:
            lines += b"connection: close\r\n"
        elif not request.is_11:
            lines += b"connection: keep-alive\r\n"
        if b"origin" in self._request.fields:
            lines += self._lane.cors_lines(self._request.fields[b"origin"])
        return lines

    def _finish(self, *, keep: bool) -> None:
        self._record(self._status)
        self.is_over = True
        self._connection.finish(keep=keep)

    def _record(self, status: int) -> None:
        seconds = time.perf_counter() - self._started
        self._lane.record(self._route.path, self._tenant, status, seconds, self._request_id)
