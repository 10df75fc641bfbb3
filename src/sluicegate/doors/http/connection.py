"""One caller's connection: bytes in, requests out, answers back in their order.

      ┌────────────── next request ──────────────┐
      ▼                                          │
    HEAD ──head complete──▶ BODY ──complete──▶ ANSWERING ──answer finished, not kept──▶ LINGERING ──▶ closed
      │                       │                  │
      └──────── refused ──────┴──────────────────┘

Requests that come while one is answered (pipelining) are parsed, kept in order, and reading stops until their turn.
After a refusal nothing on the connection can be trusted: the answer says `connection: close`, and what still comes is
thrown away for a moment, because closing at once would destroy the answer on its way (RFC 9112, section 9.6).
"""

import asyncio
from collections import deque
from typing import Literal, cast

from sluicegate.doors.http.answers import CONTINUE
from sluicegate.doors.http.contracts import Reception, Responder
from sluicegate.doors.http.reading import RequestReading
from sluicegate.doors.http.request import Request, check_length
from sluicegate.doors.http.unsent import unsent_bytes
from sluicegate.errors import BodyTooLarge, RequestTimeout, SluicegateError

HIGH_WATER = 32_768
"""Unsent bytes above which who answers is told to pause; unread ones above which the caller is. What one reading brings
may come on top, which makes 64 KB for a caller who takes nothing, and at worst `_MOST_POSTED` more."""
_MOST_POSTED = 16_384
"""Bytes that may wait for the end of a turn."""
_LINGER_SECONDS = 2.0
_NEVER = float("inf")

Phase = Literal["head", "body", "answer", "write", "idle", "linger"]
"""Which time limit holds: see the settings of `server`. None holds while an answer is being made."""


class HttpConnection(RequestReading, asyncio.BufferedProtocol):
    """The protocol of one accepted socket."""

    __slots__ = (
        "_answering",
        "_deadline",
        "_fault",
        "_is_eof",
        "_is_write_paused",
        "_loop",
        "_phase",
        "_posted",
        "_queue",
        "_responder",
        "_unsent",
        "server",
        "transport",
    )

    def __init__(self, server: Reception) -> None:
        super().__init__(server.known)
        self.server = server
        self._loop = server.loop
        self._answering: Request | None = None
        """Whose turn it is: its body is read, or it is being answered."""
        self._responder: Responder | None = None
        self._queue: deque[Request] | None = None
        """Requests that came before their turn."""
        self._fault: SluicegateError | None = None
        """A refusal that waits for the answers before it."""
        self._is_eof = False
        self._is_write_paused = False
        self._unsent = 0
        self._posted = b""
        """What is written at the end of this turn of the event loop."""
        self._phase: Phase = "head"
        self._deadline = _NEVER

    # --- the socket's side ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A caller has connected."""
        self.transport = cast("asyncio.Transport", transport)
        self.transport.set_write_buffer_limits(high=HIGH_WATER)
        server = self.server
        server.connections.add(self)
        server.wheel.add(self)
        self._deadline = self._loop.time() + server.head_seconds

    def get_buffer(self, sizehint: int) -> memoryview:
        """See `asyncio.BufferedProtocol`. Bounded, since what comes before its turn is kept."""
        return self.server.inbox

    def buffer_updated(self, nbytes: int) -> None:
        """See `asyncio.BufferedProtocol`: some bytes of requests."""
        data = self.server.inbox[:nbytes].tobytes()
        is_between = self._phase == "idle" and self._answering is None and not self._queue and not self._later
        if is_between:
            known = self.recall(data)
            if known is not None and known.size <= self.server.max_body_bytes:
                self._answering = known
                self._answer_hot(known)
                if self._responder is not None and not self._is_write_paused:
                    self._phase = "answer"
                    self._deadline = _NEVER
                return
        self.read(data)
        answering = self._answering
        if is_between and answering is not None and answering.is_whole and self.server.is_hot(answering):
            self.learn(data, answering)
        if len(self._later) > HIGH_WATER and not self._is_deaf:
            # Until then reading goes on although a request waits: that a caller has left is told only to who reads.
            self.transport.pause_reading()
        self._look()

    def eof_received(self) -> bool:
        """The caller sends nothing more. What runs for it may still be answered, unless its responder gives up."""
        self._is_eof = True
        self.flush()  # whoever ends the connection now must not lose what was answered before
        if self._responder is None:
            return bool(self._queue)
        self._responder.caller_half_closed()
        return self._responder is not None

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is gone."""
        self.server.connections.discard(self)
        self.server.wheel.discard(self)
        self.forget()
        self._posted = b""
        self._queue = self._answering = None
        responder, self._responder = self._responder, None
        if responder is not None:
            responder.caller_left()

    def pause_writing(self) -> None:
        """More than `HIGH_WATER` bytes are unsent."""
        self._is_write_paused = True
        self._enter_write()
        if self._responder is not None:
            self._responder.pause()

    def resume_writing(self) -> None:
        """The caller has taken enough."""
        self._is_write_paused = False
        if self._is_deaf and self._responder is None and not self._queue:
            return
        self._phase = "answer"
        self._deadline = _NEVER
        if self._responder is not None:
            self._responder.resume()
        elif self._queue:
            self._loop.call_soon(self._serve_next)
        self._look()

    def tick(self, now: float) -> None:
        """See `Timed.tick`."""
        if self._phase == "write":
            unsent = unsent_bytes(self.transport)
            if unsent < self._unsent:
                self._deadline = now + self.server.idle_seconds
            self._unsent = unsent
        if now < self._deadline:
            return
        if self._phase == "body":
            seconds = self.server.idle_seconds
            self.refuse(RequestTimeout(f"the body paused for {seconds:g} s (setting server.client_idle_seconds)"))
        elif self._phase == "head" and self._head_bytes:
            seconds = self.server.head_seconds
            self.refuse(RequestTimeout(f"the head was not complete within {seconds:g} s (setting server.head_seconds)"))
        else:
            self.transport.abort()

    # --- the reading's side ---

    def takes_over(self, request: Request) -> bool:
        """See `RequestReading.takes_over`."""
        return self._answering is None and self.server.is_websocket(request)

    @property
    def is_busy(self) -> bool:
        """See `RequestReading.is_busy`."""
        return bool(self._queue)

    def request_began(self, request: Request) -> None:
        """See `RequestReading.request_began`."""
        if self._is_deaf:
            return
        if self._answering is None and not self._is_write_paused and not self._queue:
            self._begin(request)
            return
        if self._queue is None:
            self._queue = deque()
        self._queue.append(request)

    def body_came(self, request: Request, data: bytes) -> None:
        """See `RequestReading.body_came`."""
        if request is self._answering and self._responder is not None:
            self._responder.body_piece(data)
            return
        limit = self.server.max_body_bytes
        if request.size > limit:
            raise BodyTooLarge(
                f"the body has {request.size} bytes or more; at most {limit} are taken (setting server.max_body_bytes)"
            )
        request.pieces.append(data)

    def request_came(self, request: Request) -> None:
        """See `RequestReading.request_came`."""
        if request is not self._answering:
            return
        if self._responder is not None:
            self._responder.body_ended()
            return
        self._answer_hot(request)

    def nonsense_came(self, error: SluicegateError) -> None:
        """See `RequestReading.nonsense_came`."""
        if self._answering is not None and self._answering.is_whole and not self._answering.keep_alive:
            self._is_deaf = True  # bytes behind a request that said it is the last
        else:
            self.refuse(error)

    def hand_over(self, request: Request, rest: bytes) -> None:
        """See `RequestReading.hand_over`."""
        self.server.wheel.discard(self)
        self.server.connections.discard(self)
        self.flush()
        self.server.upgrade(self.transport, request, rest)

    # --- the responder's side ---

    def post(self, data: bytes) -> None:
        """Write `data` at the end of this turn of the event loop, with what else is posted until then; or sooner, when
        that is much: libuv reads an upstream that has much to say many times in one turn, unless it is paused."""
        if len(self._posted) + len(data) > _MOST_POSTED:
            self.write(data)
        elif self._posted:
            self._posted += data
        else:
            self._posted = data
            self.server.outbox.add_answer(self)

    def write(self, data: bytes) -> None:
        """Write `data` now."""
        if self._posted:
            self.flush()
        self.transport.write(data)

    def flush(self) -> None:
        """Write what was posted."""
        posted, self._posted = self._posted, b""
        if posted and not self.transport.is_closing():
            self.transport.write(posted)

    def finish(self, *, keep: bool = True) -> None:
        """The answer is complete; with `keep` False it said that the connection ends."""
        request, self._answering, self._responder = self._answering, None, None
        if request is None:
            return
        request.pieces = []  # the connection may remember the request, but not its body
        keep = keep and request.keep_alive and request.is_whole and not self.server.is_closing
        if self._queue:
            if keep:
                self._loop.call_soon(self._serve_next)
                return
            self._queue = None
        if self._fault is not None and keep:
            self._send_refusal(self._fault)
        elif not keep or self._is_eof:
            self._end(is_clean=request.is_whole)
        else:
            self._look()

    def give_up(self) -> None:
        """There is no answer, or none that can be ended as it began."""
        request, fault = self._answering, self._fault
        if request is not None and fault is not None and not request.is_whole:
            self._responder = None
            self._send_refusal(fault)
        else:
            self.transport.abort()

    def refuse(self, error: SluicegateError) -> None:
        """Answer with the error as soon as the answers before it are sent, and close. Nothing more is read."""
        self._is_deaf = True
        responder, request = self._responder, self._answering
        if responder is None and not self._queue:
            self._send_refusal(error)
        elif responder is not None and request is not None and self._reading is request:
            # Its own body is broken: what the responder says then is the answer, and the error only if it says nothing.
            request.keep_alive = False
            self._fault = error
            responder.caller_half_closed()
        else:
            self._fault = error

    def close_idle(self) -> None:
        """The server stops: close unless a request is under way, which is then the connection's last."""
        if self._answering is None and not self._queue:
            self.flush()
            self.transport.close()

    # --- turns ---

    def _begin(self, request: Request) -> None:
        """It is this request's turn."""
        self._answering = request
        server = self.server
        if server.is_hot(request):
            server.admit(request)
            if len(request.fields.get(b"content-length", b"")) >= server.limit_digits:
                check_length(request, server.max_body_bytes, "server.max_body_bytes")
            if request.expects and not request.is_whole:
                self.write(CONTINUE)
            if request.is_whole:
                self.request_came(request)
            return
        responder = self._responder = server.respond(self, request)
        if self._is_write_paused:
            responder.pause()
        for piece in request.pieces:
            responder.body_piece(piece)
        request.pieces = []
        if request.is_whole:
            responder.body_ended()

    def _answer_hot(self, request: Request) -> None:
        """Let the lane answer a whole request."""
        responder = self._responder = self.server.respond_hot(self, request)
        if self._is_write_paused and responder is not None:
            responder.pause()

    def _serve_next(self) -> None:
        """The turn of the oldest request that waits."""
        queue = self._queue
        if not queue or self._answering is not None or self._is_write_paused or self.transport.is_closing():
            return
        request = queue.popleft()
        if self._fault is not None and not request.is_whole:
            self._queue = None
            self._send_refusal(self._fault)
            return
        try:
            self._begin(request)
        except SluicegateError as error:
            queue.clear()
            self.refuse(error)
        if not queue and not self._is_deaf:
            self.transport.resume_reading()
            self.read_on()
        self._look()

    # --- time, and the end ---

    def _look(self) -> None:
        """Find out which limit holds now."""
        if self._is_write_paused:
            return
        if self._responder is not None or self._queue:
            self._phase = "answer"
            self._deadline = _NEVER
        elif self._is_deaf:
            return
        elif self._reading is not None:
            self._enter("body", self.server.idle_seconds)
        elif not self._head_bytes:
            self._phase = "idle"
            self._deadline = self._loop.time() + self.server.keep_alive_seconds
        elif self._phase != "head":
            self._enter("head", self.server.head_seconds)

    def _enter(self, phase: "Phase", seconds: float) -> None:
        self._phase = phase
        self._deadline = self._loop.time() + seconds

    def _enter_write(self) -> None:
        """The caller must take something of what is unsent, again and again."""
        self._unsent = unsent_bytes(self.transport)
        self._enter("write", self.server.idle_seconds)

    def _send_refusal(self, error: SluicegateError) -> None:
        request = self._answering or self._reading
        self._answering = self._reading = None
        self.write(self.server.refusal(error, request))
        self._end(is_clean=False)

    def _end(self, *, is_clean: bool) -> None:
        """Close once all is sent. Where the caller may still be sending, closing at once would destroy the answer."""
        self._is_deaf = True
        self.flush()
        if is_clean or self._is_eof or not self.transport.can_write_eof():
            self._enter_write()
            self.transport.close()
            return
        self._enter("linger", _LINGER_SECONDS)
        self.transport.write_eof()
        self.transport.resume_reading()
