"""A call to an upstream, from the moment it is asked for until its answer has ended."""

import logging
from typing import Protocol

from sluicegate.backends.backend import AnswerHead, AnswerSink, WholeAnswerSink
from sluicegate.errors import BackendError, BackendFailed
from sluicegate.settings import TimeoutSettings

_log = logging.getLogger(__name__)


class Carrier(Protocol):
    """What a call is on its way with: first a dial, perhaps, then a connection."""

    def pause(self) -> None:
        """Take no more bytes."""
        ...

    def resume(self) -> None:
        """Take them again."""
        ...

    def abandon(self) -> None:
        """The call was cancelled."""
        ...


class Call:
    """Fulfils `UpstreamCall`. `carrier` and `sink` are None once it is over; `head` and `body` are what is sent."""

    __slots__ = ("body", "carrier", "head", "is_paused", "limits", "sink", "started")

    def __init__(self, head: bytes, body: bytes, sink: AnswerSink, limits: TimeoutSettings, started: float) -> None:
        self.head = head
        self.body = body
        self.sink: AnswerSink | None = sink
        self.limits = limits
        self.started = started
        self.is_paused = False
        self.carrier: Carrier | None = None

    def pause(self) -> None:
        """See `UpstreamCall.pause`."""
        if not self.is_paused:
            self.is_paused = True
            if self.carrier is not None:
                self.carrier.pause()

    def resume(self) -> None:
        """See `UpstreamCall.resume`."""
        if self.is_paused:
            self.is_paused = False
            if self.carrier is not None:
                self.carrier.resume()

    def cancel(self) -> None:
        """See `UpstreamCall.cancel`."""
        self.sink = None
        carrier, self.carrier = self.carrier, None
        if carrier is not None:
            carrier.abandon()

    def came(self, head: AnswerHead | None, body: bytes) -> None:
        """Tell the sink the rest of the answer, which is whole with that: head and body, unless they were told."""
        sink = self.sink
        if sink is None:
            return
        self.carrier = None
        try:
            if head is not None and isinstance(sink, WholeAnswerSink):
                self.sink = None
                sink.answer_came(head, body)
                return
            if head is not None:
                sink.answer_begun(head)
            if body and self.sink is not None:
                sink.answer_piece(body)
            if self.sink is not None:
                self.sink = None
                sink.answer_ended()
        except Exception:  # nobody else would ever tell the caller, nor free what the call holds
            _log.exception("an answer could not be handled")
            self.sink = None
            sink.answer_failed(BackendFailed("the answer could not be handled; the log has more"))

    def fail(self, error: BackendError) -> None:
        """Tell the sink that nothing more will come."""
        sink, self.sink, self.carrier = self.sink, None, None
        if sink is not None:
            sink.answer_failed(error)
