"""One end of the line between two processes: letters over a Unix-domain socket, each behind its length (4 bytes)."""

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable
from typing import cast

import msgspec

from sluicegate.app.messages import Answer, Letter, News, Question

_LENGTH_BYTES = 4
_MOST_BYTES = 64_000_000
_MOST_UNSENT = 4_000_000

_log = logging.getLogger(__name__)


class LineLost(Exception):
    """The process at the other end is gone, or does not answer."""


class Channel(asyncio.Protocol):
    """Sends and takes letters. `on_news` and `on_question` get those of the other end, on the event loop."""

    def __init__(
        self, on_news: Callable[[News], None], on_question: Callable[[Question], Awaitable[Answer | None]]
    ) -> None:
        self._on_news = on_news
        self._on_question = on_question
        self._encoder = msgspec.msgpack.Encoder()
        self._decoder = msgspec.msgpack.Decoder(Letter)
        self._transport: asyncio.Transport | None = None
        self._received = bytearray()
        self._tickets = 0
        self._asked: dict[int, asyncio.Future[Answer]] = {}
        self._answering: set[asyncio.Task[None]] = set()
        self.lost = asyncio.Event()
        """Set once the other end is gone and all that it sent was handled."""

    @classmethod
    async def over(
        cls,
        end: socket.socket,
        on_news: Callable[[News], None],
        on_question: Callable[[Question], Awaitable[Answer | None]],
    ) -> "Channel":
        """A channel over one end of a socket pair, which it closes."""
        end.setblocking(False)
        channel = cls(on_news, on_question)
        await asyncio.get_running_loop().create_unix_connection(lambda: channel, sock=end)
        return channel

    @property
    def unsent(self) -> int:
        """Bytes that the other end has yet to read."""
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    def tell(self, news: News) -> None:
        """Send news. They are dropped when the other end has not read for long: newer ones will come."""
        if self.unsent < _MOST_UNSENT:
            self._send(Letter("news", 0, news))

    async def ask(self, question: Question, timeout: float) -> Answer:
        """The other end's answer. Raises `LineLost` when none comes within `timeout` seconds."""
        if self._transport is None or self.lost.is_set():
            raise LineLost
        self._tickets += 1
        ticket = self._tickets
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._asked[ticket] = answer
        self._send(Letter("question", ticket, question))
        try:
            async with asyncio.timeout(timeout):
                await answer
        except TimeoutError:
            raise LineLost from None
        finally:
            self._asked.pop(ticket, None)
        return answer.result()

    async def close(self) -> None:
        """Hang up, after what was told has been sent; nothing that still comes is handled."""
        if self._transport is not None:
            self._transport.close()
            await self.lost.wait()

    # --- asyncio.Protocol ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The line stands."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Some bytes of letters."""
        self._received += data
        try:
            while (letter := self._next()) is not None:
                self._take(letter)
        except (msgspec.DecodeError, ValueError):
            _log.exception("a process of this gateway sent something that is no letter; the line is cut")
            if self._transport is not None:
                self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """The other end is gone."""
        self._transport = None
        for waiting in self._asked.values():
            if not waiting.done():
                waiting.set_exception(LineLost())
        for task in self._answering:
            task.cancel()
        self.lost.set()

    def _next(self) -> Letter | None:
        if len(self._received) < _LENGTH_BYTES:
            return None
        length = int.from_bytes(self._received[:_LENGTH_BYTES])
        if length > _MOST_BYTES:
            raise ValueError(f"a letter of {length} bytes, at most {_MOST_BYTES} are taken")
        if len(self._received) < _LENGTH_BYTES + length:
            return None
        whole = bytes(self._received[_LENGTH_BYTES : _LENGTH_BYTES + length])
        del self._received[: _LENGTH_BYTES + length]
        return self._decoder.decode(whole)

    def _take(self, letter: Letter) -> None:
        if letter.kind == "news":
            self._on_news(cast("News", letter.body))
        elif letter.kind == "question":
            task = asyncio.create_task(self._answer(letter.ticket, cast("Question", letter.body)))
            self._answering.add(task)
            task.add_done_callback(self._answering.discard)
        elif (waiting := self._asked.get(letter.ticket)) is not None and not waiting.done():
            waiting.set_result(cast("Answer", letter.body))

    async def _answer(self, ticket: int, question: Question) -> None:
        try:
            answer = await self._on_question(question)
        except Exception:
            _log.exception("a question of another process failed: %s", type(question).__name__)
            return
        if answer is not None:
            self._send(Letter("answer", ticket, answer))

    def _send(self, letter: Letter) -> None:
        if self._transport is not None:
            body = self._encoder.encode(letter)
            self._transport.write(len(body).to_bytes(_LENGTH_BYTES) + body)
