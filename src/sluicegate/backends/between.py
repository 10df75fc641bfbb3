"""What stands between a connection and who takes its answer."""

from collections.abc import Callable
from typing import Self

from sluicegate.backends.backend import AnswerHead, AnswerSink, UpstreamCall
from sluicegate.errors import BackendError


class Between:
    """An `AnswerSink` that hands everything on to another, and the `UpstreamCall` that the other's owner holds.

        return SomethingBetween(sink).follow(lambda between: client.send(path, body, headers, between))

    Nothing is handed on after `cancel`, nor after the end. Made to be derived from.
    """

    __slots__ = ("_call", "_sink")

    def __init__(self, sink: AnswerSink) -> None:
        self._sink: AnswerSink | None = sink
        self._call: UpstreamCall | None = None

    def follow(self, begin: Callable[[AnswerSink], UpstreamCall]) -> Self:
        """Make the call whose answer comes here. Raises what `begin` raises."""
        self._call = begin(self)
        return self

    def pause(self) -> None:
        """See `UpstreamCall`."""
        if self._call is not None:
            self._call.pause()

    def resume(self) -> None:
        """See `UpstreamCall`."""
        if self._call is not None:
            self._call.resume()

    def cancel(self) -> None:
        """See `UpstreamCall`."""
        self._sink = None
        if self._call is not None:
            self._call.cancel()

    def answer_begun(self, head: AnswerHead) -> None:
        """See `AnswerSink`."""
        if self._sink is not None:
            self._sink.answer_begun(head)

    def answer_piece(self, data: bytes) -> None:
        """See `AnswerSink`."""
        if self._sink is not None and data:
            self._sink.answer_piece(data)

    def answer_ended(self) -> None:
        """See `AnswerSink`."""
        sink, self._sink = self._sink, None
        if sink is not None:
            sink.answer_ended()

    def answer_failed(self, error: BackendError) -> None:
        """See `AnswerSink`."""
        sink, self._sink = self._sink, None
        if sink is not None:
            sink.answer_failed(error)
