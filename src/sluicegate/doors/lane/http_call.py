"""A call's answer on an HTTP connection: heads, chunks, refusals; counted and logged at its end."""

import time
from typing import TYPE_CHECKING

from sluicegate.doors.http.answers import LAST_CHUNK, chunk, render_head
from sluicegate.doors.http.connection import HttpConnection
from sluicegate.doors.http.request import Request
from sluicegate.doors.lane.orders import HotRoute, Reply
from sluicegate.doors.lane.relay_call import LEFT, RelayCall
from sluicegate.doors.problems import render_error
from sluicegate.errors import SluicegateError

if TYPE_CHECKING:
    from sluicegate.doors.lane.lane import Lane

_WHOLE_BYTES = 1_048_576
"""An answer that is not streamed is kept up to this size, so that a failure on its way can still be told by status."""


class HttpCall(RelayCall):
    """Fulfils `Responder` towards the connection. A request of which no call can be made is answered by `refuse`, one
    that needs none by `reply`."""

    __slots__ = (
        "_connection",
        "_content_type",
        "_is_chunked",
        "_is_complete",
        "_is_gone",
        "_is_sent",
        "_kept",
        "_kept_bytes",
        "_length",
        "_request",
        "_request_id",
        "_route",
        "_status",
        "is_over",
        "tenant",
    )

    def __init__(
        self, lane: "Lane", connection: HttpConnection, request: Request, route: HotRoute, request_id: str
    ) -> None:
        super().__init__(lane)
        self._connection = connection
        self._request = request
        self._request_id = request_id
        self._route = route
        self.tenant = "-"
        self._content_type = ""
        self._length: int | None = None
        self._kept: list[bytes] | None = None
        self._kept_bytes = 0
        self._is_sent = False
        """Whether the head is."""
        self._is_chunked = False
        self._is_complete = False
        """Whether all of the answer was posted at once."""
        self._is_gone = False
        self.is_over = False
        """Whether the connection was told that the answer is finished."""
        self._status = 0

    def reply(self, reply: Reply) -> None:
        """Answer without a call."""
        self._status = 200
        self._post_whole(reply.content_type, reply.body)
        self._conclude(keep=True)

    # --- the connection's side ---

    def body_piece(self, data: bytes) -> None:
        """Never: the lane gets whole requests."""

    def body_ended(self) -> None:
        """See `body_piece`."""

    def caller_left(self) -> None:
        """See `Responder.caller_left`."""
        self._is_gone = True
        super().caller_left()

    def caller_half_closed(self) -> None:
        """Who sends nothing more has left: work that nobody waits for is ended at once."""
        self._connection.transport.abort()

    # --- the call's side ---

    def begin(self, content_type: str, length: int | None) -> None:
        """See `RelayCall.begin`."""
        if self.order.stream:
            self._begin_stream(content_type)
        else:
            self._content_type = content_type
            self._length = length
            self._kept = []

    def piece(self, data: bytes) -> None:
        """See `RelayCall.piece`."""
        kept = self._kept
        if kept is None:
            self._connection.post(b"%x\r\n%b\r\n" % (len(data), data) if self._is_chunked else data)
            return
        kept.append(data)
        self._kept_bytes += len(data)
        if self._kept_bytes > _WHOLE_BYTES:
            self._begin_long()

    def whole(self, content_type: str, data: bytes) -> None:
        """See `RelayCall.whole`."""
        self._is_complete = True
        self._status = 200
        if not self.order.stream:
            self._post_whole(content_type, data)
            return
        head = self._stream_head(content_type)
        if self._is_chunked:
            self._connection.post(b"%b%x\r\n%b\r\n0\r\n\r\n" % (head, len(data), data) if data else head + LAST_CHUNK)
        else:
            self._connection.post(head + data)

    def end(self, error: SluicegateError | None) -> None:
        """See `RelayCall.end`."""
        if self._is_gone:
            self._record(self._status or LEFT)
        elif error is not None:
            self._fail(error)
        elif self._is_complete:
            self._conclude(keep=self._is_chunked or not self.order.stream)
        elif self._kept is not None:
            self._status = 200
            self._post_whole(self._content_type, b"".join(self._kept))
            self._conclude(keep=True)
        else:
            if self._is_chunked:
                self._connection.post(LAST_CHUNK)
            self._conclude(keep=self._is_chunked or self._length is not None)

    def refuse(self, error: SluicegateError) -> None:
        """Answer with an error, of a request for which no call runs."""
        self._fail(error)

    # --- on the wire ---

    def _begin_stream(self, content_type: str) -> None:
        self._is_sent = True
        self._status = 200
        self._connection.post(self._stream_head(content_type))

    def _stream_head(self, content_type: str) -> bytes:
        is_chunked = self._is_chunked = self._request.is_11
        return (
            b"HTTP/1.1 200 OK\r\ncontent-type: %b\r\ncache-control: no-cache\r\nx-accel-buffering: no\r\n%b%b\r\n"
            % (
                content_type.encode("latin-1"),
                b"transfer-encoding: chunked\r\n" if is_chunked else b"",
                self._common_lines(is_framed=is_chunked),
            )
        )

    def _begin_long(self) -> None:
        """A whole answer that is too long to be kept: what is here goes out, the rest follows."""
        kept, self._kept = self._kept or [], None
        request = self._request
        self._is_sent = True
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
        self._connection.post(head + (chunk(data) if self._is_chunked else data))

    def _post_whole(self, content_type: str, data: bytes) -> None:
        self._connection.post(
            b"HTTP/1.1 200 OK\r\ncontent-type: %b\r\ncontent-length: %d\r\n%b\r\n%b"
            % (content_type.encode("latin-1"), len(data), self._common_lines(), data)
        )

    def _fail(self, error: SluicegateError) -> None:
        if self._is_sent:
            self._break_off(error)
            return
        status, headers, body = render_error(error, self._route.dialect_of(self._request), self._request_id)
        self._status = status
        is_last = headers.pop("connection", "") == "close"
        lines = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
        common = self._common_lines(is_framed=not is_last)
        head = render_head(status, [*lines, (b"content-length", b"%d" % len(body))])
        self._connection.post(head[:-2] + common + b"\r\n" + body)
        self._conclude(keep=not is_last)

    def _break_off(self, error: SluicegateError) -> None:
        """Tell an error inside a stream, then close: the answer is not what its head promised."""
        if not self.order.stream:
            self.is_over = True
            self._record(self._status)
            self._connection.transport.abort()
            return
        words = self.order.wording.broken(error)
        if not self.ends_an_event:
            words = b"\n\n" + words
        self._connection.post(chunk(words) + LAST_CHUNK if self._is_chunked else words)
        self._conclude(keep=False)

    def _common_lines(self, *, is_framed: bool = True) -> bytes:
        """Header lines of every answer; `is_framed`: its end can be told without closing the connection."""
        lines = b"x-request-id: %b\r\n%b" % (self._request_id.encode("latin-1"), self._connection.server.date.line())
        request = self._request
        if not (is_framed and request.keep_alive) or self._connection.server.is_closing:
            lines += b"connection: close\r\n"
        elif not request.is_11:
            lines += b"connection: keep-alive\r\n"
        if b"origin" in self._request.fields:
            lines += self._lane.cors_lines(self._request.fields[b"origin"])
        return lines

    def _conclude(self, *, keep: bool) -> None:
        self._record(self._status)
        self.is_over = True
        self._connection.finish(keep=keep)

    def _record(self, status: int) -> None:
        seconds = time.perf_counter() - self.started
        self._lane.record(self._route.path, self.tenant, status, seconds, self._request_id)
