"""Streamed answers: server-sent events, heartbeats, and callers who leave in the middle.

Source of the event format: https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

import asyncio
from collections.abc import AsyncGenerator, Coroutine, Mapping
from typing import Any, TypeVar

import msgspec
from starlette.types import Receive, Scope, Send

T = TypeVar("T")

HEARTBEAT_SECONDS = 15.0
HEARTBEAT = b": heartbeat\n\n"
SSE_HEADERS: Mapping[str, str] = {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-cache",
    "x-accel-buffering": "no",
}


def sse(data: Any, *, event: str | None = None, event_id: str | int | None = None) -> bytes:
    """One server-sent event whose data is JSON."""
    head = f"id: {event_id}\n" if event_id is not None else ""
    if event is not None:
        head += f"event: {event}\n"
    return b"%sdata: %s\n\n" % (head.encode(), msgspec.json.encode(data))


async def while_connected(receive: Receive, work: Coroutine[Any, Any, None]) -> None:
    """Run `work`; when the caller disconnects first, cancel it and return once it has cleaned up."""
    task = asyncio.ensure_future(work)
    watcher = asyncio.ensure_future(_disconnect(receive))
    try:
        await asyncio.wait({task, watcher}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            task.result()
    finally:
        watcher.cancel()
        if not task.done():
            task.cancel()
            await asyncio.wait({task})


async def _disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def with_heartbeats(
    items: AsyncGenerator[T, None], seconds: float = HEARTBEAT_SECONDS
) -> AsyncGenerator[T | None, None]:
    """The items as they come, and None whenever `seconds` pass without one. Closes `items` at the end."""
    pending: asyncio.Future[T | _End] | None = None
    try:
        while True:
            pending = pending or asyncio.ensure_future(_next(items))
            done, _ = await asyncio.wait({pending}, timeout=seconds)
            if not done:
                yield None
                continue
            item, pending = pending.result(), None
            if isinstance(item, _End):
                return
            yield item
    finally:
        if pending is not None:
            pending.cancel()
            await asyncio.wait({pending})
        await items.aclose()


class _End:
    """Stands for StopAsyncIteration, which cannot be the result of a task."""


async def _next(items: AsyncGenerator[T, None]) -> "T | _End":
    try:
        return await anext(items)
    except StopAsyncIteration:
        return _End()


async def send_head(send: Send, status: int, headers: Mapping[str, str]) -> None:
    """Send the status line and headers of an ASGI answer."""
    raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": raw})


async def send_piece(send: Send, data: bytes, *, more: bool = True) -> None:
    """Send a piece of the body; `more` False ends it."""
    await send({"type": "http.response.body", "body": data, "more_body": more})


class StreamAnswer:
    """An answer whose body is made while it is sent, and no longer when the caller has left."""

    def __init__(self, chunks: AsyncGenerator[bytes, None], *, status: int = 200, headers: Mapping[str, str]) -> None:
        self._chunks = chunks
        self._status = status
        self._headers = headers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the head at once, then each chunk; to HEAD, the head alone."""
        if scope["method"] == "HEAD":
            await self._chunks.aclose()
            await send_head(send, self._status, self._headers)
            await send_piece(send, b"", more=False)
            return
        await while_connected(receive, self._send(send))

    async def _send(self, send: Send) -> None:
        try:
            await send_head(send, self._status, self._headers)
            async for chunk in self._chunks:
                await send_piece(send, chunk)
            await send_piece(send, b"", more=False)
        finally:
            await self._chunks.aclose()
