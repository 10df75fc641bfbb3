"""An answer for code that waits for it: probes, tests, whatever is no hot path.

answer = await ask(backend.send, call)
async for chunk in answer.chunks(): …
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable

from sluicegate.backends.backend import AnswerHead, AnswerSink, ChatCall, UpstreamCall
from sluicegate.errors import BackendError

_MOST_UNREAD = 65_536
"""Bytes; above it the upstream is paused."""


async def ask(send: Callable[[ChatCall, AnswerSink], UpstreamCall], call: ChatCall) -> "Answer":
    """Make a call by `ChatBackend.send` and wait for the head of its answer.

    Raises what `send` raises, and `BackendError` when no answer began. Cancelling the waiting task cancels the call.
    """
    return await receive(lambda sink: send(call, sink))


async def receive(begin: Callable[[AnswerSink], UpstreamCall]) -> "Answer":
    """As `ask`, for anything that sends to a sink."""
    inbox = _Inbox()
    call = begin(inbox)
    inbox.call = call
    try:
        while inbox.head is None:
            await inbox.news()
    except BaseException:
        call.cancel()
        raise
    return Answer(inbox, call, inbox.head)


class Answer:
    """An answer whose head is here. Close it, or read it to its end."""

    def __init__(self, inbox: "_Inbox", call: UpstreamCall, head: AnswerHead) -> None:
        self.status = head.status
        self.content_type = head.content_type
        self.retry_after = head.retry_after
        self.length = head.length
        self._inbox = inbox
        self._call = call

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body as it arrives; ends at once after `close`. Raises `BackendError` when it breaks off or is too late.

        Cancelling the task that waits here cancels the call.
        """
        try:
            while (piece := await self._inbox.take()) is not None:
                yield piece
        except asyncio.CancelledError:
            self.close()
            raise

    async def read(self) -> bytes:
        """All that is left of the body; raises as `chunks` does."""
        return b"".join([piece async for piece in self.chunks()])

    def close(self) -> None:
        """Cancel the call, if it has not ended. Safe to repeat."""
        self._call.cancel()
        self._inbox.shut()


class _Inbox:
    """The sink: keeps what has arrived until it is taken."""

    def __init__(self) -> None:
        self.head: AnswerHead | None = None
        self.call: UpstreamCall | None = None
        self._pieces: deque[bytes] = deque()
        self._unread = 0
        self._ended = False
        self._error: BackendError | None = None
        self._waiter: asyncio.Future[None] | None = None

    async def news(self) -> None:
        """Wait until something has come. Raises the error that the answer ended with."""
        if self._error is not None:
            raise self._error
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    async def take(self) -> bytes | None:
        """The next piece; None behind the last."""
        while not self._pieces:
            if self._ended:
                return None
            await self.news()
        piece = self._pieces.popleft()
        self._unread -= len(piece)
        if self._unread <= _MOST_UNREAD and self.call is not None:
            self.call.resume()
        return piece

    def shut(self) -> None:
        """Forget what has not been taken."""
        self._pieces.clear()
        self._ended = True
        self._wake()

    def answer_begun(self, head: AnswerHead) -> None:
        """See `AnswerSink`."""
        self.head = head
        self._wake()

    def answer_piece(self, data: bytes) -> None:
        """See `AnswerSink`."""
        self._pieces.append(data)
        self._unread += len(data)
        if self._unread > _MOST_UNREAD and self.call is not None:
            self.call.pause()
        self._wake()

    def answer_ended(self) -> None:
        """See `AnswerSink`."""
        self._ended = True
        self._wake()

    def answer_failed(self, error: BackendError) -> None:
        """See `AnswerSink`."""
        self._error = error
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
