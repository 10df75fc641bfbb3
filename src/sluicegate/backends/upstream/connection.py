"""One connection to an upstream."""

import asyncio
from typing import Final, Protocol, cast

from sluicegate.backends.upstream.call import Call
from sluicegate.backends.upstream.failures import Failures
from sluicegate.backends.upstream.reader import AnswerReader
from sluicegate.errors import BackendError, BackendUnavailable
from sluicegate.wire.outbox import Outbox
from sluicegate.wire.rests import Rests
from sluicegate.wire.wheel import Wheel

_CONNECTING: Final = 0
_IDLE: Final = 1
_ASKED: Final = 2
_ANSWERING: Final = 3
_CLOSED: Final = 4

_KEEP_SECONDS = 4.0
"""Idle connections are dropped sooner than the 5 s after which uvicorn (vLLM) and llama.cpp drop theirs."""
_SHARE_OF_TOLD = 0.8
"""Of the seconds that a server says it keeps a connection, so many are used: the last call would cross its closing."""
_STREAMS = ("text/event-stream", "application/x-ndjson")
_FIRST_READINGS = 3
"""Of a stream, which never rests before: it begins with a role or nothing, and its first token is waited for most."""
_SINGLE_BYTES = 4_096
"""A reading that brings more is no single token: nothing is gained by waiting for still more."""
_JOINED_BYTES = 65_536
"""Bodies up to this size are copied behind their head, which costs less than handing over two buffers."""


class Home(Protocol):
    """Where a connection belongs to: the pool."""

    inbox: memoryview
    """Where connections read into, one after the other; what stands there is used up before the next one reads."""

    @property
    def rests(self) -> Rests | None:
        """Where streams rest while the event loop is behind; None where they cannot."""
        ...

    @property
    def outbox(self) -> Outbox:
        """Where connections wait to be flushed."""
        ...

    def made(self, connection: "UpstreamConnection") -> None:
        """Its socket is open."""
        ...

    def keep(self, connection: "UpstreamConnection") -> None:
        """It is idle and may serve again."""
        ...

    def drop(self, connection: "UpstreamConnection") -> None:
        """It serves no more; its socket is about to be closed."""
        ...

    def gone(self, connection: "UpstreamConnection") -> None:
        """Its socket is closed."""
        ...

    def again(self, call: Call) -> None:
        """The server had given up the connection before the call came: make the call on a fresh one."""
        ...

    def refuse(self, call: Call, error: BackendUnavailable) -> None:
        """The server ended the connection instead of answering the call, which fails."""
        ...


class UpstreamConnection(asyncio.BufferedProtocol):
    """Carries one call at a time; fulfils `Carrier` for it.

        connecting ─made─▶ idle ─ask─▶ asked ─head─▶ answering ─end─▶ idle (when both sides keep it)
                            │            │               │      └────▶ closed
                            └────────────┴───────────────┴─ lost, cancelled, too late, nonsense ─▶ closed

    Bytes that come while it is idle, or behind the end of an answer, close it. A call that finds a used connection dead
    goes back to the pool, once, as long as not one byte of an answer came. Limits are kept by the wheel: `first_byte`
    counts from the moment when the system has taken the last of the request, and neither it nor `idle` counts while
    the call is paused.
    """

    __slots__ = (
        "_call", "_expires", "_failures", "_has_served", "_heard", "_home", "_is_stream", "_now", "_phase", "_posted",
        "_reader", "_readings", "_rests", "_since", "_transport", "_unsent", "_wheel",
    )  # fmt: skip

    def __init__(self, home: Home, wheel: Wheel, failures: Failures, types: dict[bytes, str]) -> None:
        self._home = home
        self._rests = home.rests
        self._wheel = wheel
        self._failures = failures
        self._reader = AnswerReader(types)
        self._now = asyncio.get_running_loop().time
        self._phase = _CONNECTING
        self._call: Call | None = None
        self._posted = b""
        """What is written at the end of this turn of the event loop."""
        self._has_served = False
        self._heard = False
        self._is_stream = False
        self._readings = 0
        """Of the body of a stream, so far."""
        self._unsent = 0
        self._since = 0.0
        self._expires = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`."""
        self._transport = cast("asyncio.Transport", transport)
        self._phase = _IDLE
        self._expires = self._now() + _KEEP_SECONDS
        self._wheel.add(self)
        self._home.made(self)

    @property
    def is_made(self) -> bool:
        """Whether it was ever connected."""
        return self._phase != _CONNECTING

    def is_fit(self, now: float) -> bool:
        """Whether it may be asked."""
        return self._phase == _IDLE and now < self._expires and not self._transport.is_closing()

    def ask(self, call: Call, now: float) -> None:
        """Send a call's request; the connection must be idle and fit."""
        call.carrier = self
        self._call = call
        self._phase = _ASKED
        self._since = now
        self._heard = False
        self._unsent = 0
        if not self._reader.is_fresh:
            self._reader.begin()
        if len(call.body) <= _JOINED_BYTES:
            self._posted = call.head + call.body
            self._home.outbox.add_request(self)
        else:
            self._transport.writelines((call.head, call.body))
        if call.is_paused:
            self.pause()

    def flush(self) -> None:
        """See `Posting`."""
        posted, self._posted = self._posted, b""
        if posted and not self._transport.is_closing():
            self._transport.write(posted)

    def pause(self) -> None:
        """See `Carrier`."""
        if self._phase != _CLOSED and not self._transport.is_closing():
            self._transport.pause_reading()

    def resume(self) -> None:
        """See `Carrier`."""
        self._since = self._now()
        if self._phase != _CLOSED and not self._transport.is_closing():
            self._transport.resume_reading()

    def abandon(self) -> None:
        """See `Carrier`."""
        self.close()

    def close(self) -> None:
        """Close the socket at once; a call under way hears nothing more."""
        if self._phase not in (_CONNECTING, _CLOSED):
            self._phase = _CLOSED
            self._call = None
            self._posted = b""
            self._home.drop(self)
            self._transport.abort()

    def stop(self) -> None:
        """Close the socket; a call under way fails."""
        self._fail(self._failures.stopped(begun=self._phase == _ANSWERING))

    def get_buffer(self, sizehint: int) -> memoryview:
        """See `asyncio.BufferedProtocol`. What is read at once is bounded: it is all written to a caller, who may take
        nothing."""
        return self._home.inbox

    def buffer_updated(self, nbytes: int) -> None:
        """See `asyncio.BufferedProtocol`: some bytes of an answer, or of what is none."""
        data = self._home.inbox[:nbytes]
        call = self._call
        if call is None or call.sink is None:
            self.close()
            return
        reader = self._reader
        if reader.is_fresh:
            recalled = reader.recall(data)
            if recalled is not None:
                self._since = self._now()
                self._free(call, keeps=True)
                call.came(*recalled)
                return
        body = reader.feed(data)
        head = None
        if self._phase == _ASKED:
            self._heard = True
            head = reader.head
            if head is not None:
                self._phase = _ANSWERING
                self._is_stream = head.status == 200 and head.content_type.startswith(_STREAMS)
                self._readings = 0
                call.body = b""
        if body or head is not None:
            self._since = self._now()
        if reader.is_whole:
            self._free(call, keeps=reader.keeps)
            call.came(head, body)
            return
        if head is not None:
            call.sink.answer_begun(head)
        if body and self._call is call:
            call.sink.answer_piece(body)
        if reader.fault and self._call is call:
            self._fail(self._failures.nonsense(reader.fault))
        elif self._is_stream and body and self._call is call:
            self._readings += 1
            if self._readings > _FIRST_READINGS and nbytes <= _SINGLE_BYTES:
                self._rest_if_late()

    def wake(self) -> None:
        """See `Resting`. What rested may have been closed since, or be paused, or be at work for another call."""
        call = self._call
        if call is not None and not call.is_paused and not self._transport.is_closing():
            self._transport.resume_reading()

    def eof_received(self) -> None:
        """See `asyncio.Protocol`: the server will send nothing more."""
        self._lose(None)

    def connection_lost(self, error: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        self._lose(error)
        self._wheel.discard(self)
        self._reader.close()
        self._home.gone(self)

    def tick(self, now: float) -> None:
        """See `Timed`."""
        call = self._call
        if call is None:
            if now >= self._expires:
                self.close()
        elif now - call.started >= call.limits.total:
            self._fail(self._failures.too_late("total"))
        elif call.is_paused:
            self._since = now
        elif self._phase == _ANSWERING:
            if now - self._since >= call.limits.idle:
                self._fail(self._failures.too_late("idle"))
        elif (unsent := self._transport.get_write_buffer_size()) != self._unsent:
            self._unsent = unsent
            self._since = now
        elif now - self._since >= call.limits.first_byte:
            self._fail(self._failures.too_late("first_byte"))

    def _rest_if_late(self) -> None:
        """Read nothing for a moment; see `Rests`. A pause of the call that ends meanwhile ends the rest, too.

        Never while the request is still going out: a server that then closes makes the write fail, which ends the
        connection with what has not been read.
        """
        rests, transport = self._rests, self._transport
        if rests is None or not rests.is_late():
            return
        if not transport.is_closing() and not transport.get_write_buffer_size():
            transport.pause_reading()
            rests.add(self)

    def _free(self, call: Call, *, keeps: bool) -> None:
        """The answer is whole: be ready for the next call, or close. Only then is its end told."""
        self._has_served = True
        told = self._reader.keeps_seconds
        seconds = _KEEP_SECONDS if told is None else min(_KEEP_SECONDS, told * _SHARE_OF_TOLD)
        is_sent = not self._posted and not self._transport.get_write_buffer_size()
        if keeps and seconds > 0 and is_sent and not self._transport.is_closing():
            self._call = None
            self._phase = _IDLE
            self._expires = self._since + seconds
            if call.is_paused:
                self._transport.resume_reading()
            self._home.keep(self)
        else:
            self.close()

    def _lose(self, error: Exception | None) -> None:
        """The connection has ended, with an error or without one."""
        call, phase = self._call, self._phase
        if phase == _CLOSED:
            return
        self.close()
        if call is None:
            return
        if phase == _ASKED:
            if self._has_served and not self._heard:
                self._home.again(call)
            else:
                self._home.refuse(call, self._failures.unanswered(error))
        elif error is None and self._reader.ends_with_connection():
            call.came(None, b"")
        else:
            call.fail(self._failures.broken(error))

    def _fail(self, error: BackendError) -> None:
        call = self._call
        self.close()
        if call is not None:
            call.fail(error)
