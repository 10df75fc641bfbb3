"""The servers that ours is compared with: nginx before a simple upstream, and uvicorn with a simple application.

What they run answers every request with 200 and names it in X-Ran, so that a hidden request which was run shows.
"""

import asyncio
import contextlib
import logging
import socket
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from tests.nginx import running_nginx

if TYPE_CHECKING:
    from uvicorn._types import ASGIReceiveCallable, ASGISendCallable, Scope


@contextlib.asynccontextmanager
async def running_uvicorn() -> AsyncIterator[int]:
    """uvicorn with httptools in this loop; its port."""
    import uvicorn

    class Server(uvicorn.Server):
        @contextlib.contextmanager
        def capture_signals(self) -> Iterator[None]:
            yield

    config = uvicorn.Config(
        _say_what_ran, http="httptools", ws="none", lifespan="off", log_config=None, access_log=False
    )
    logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
    server = Server(config)
    with socket.create_server(("127.0.0.1", 0), backlog=512) as listener:
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            yield int(listener.getsockname()[1])
        finally:
            server.should_exit = True
            await serving


async def _say_what_ran(scope: "Scope", receive: "ASGIReceiveCallable", send: "ASGISendCallable") -> None:
    assert scope["type"] == "http"
    more = True
    while more:
        message = await receive()
        more = message["type"] == "http.request" and message["more_body"]
    ran = f"{scope['method']} ".encode() + scope["raw_path"][:200]
    fields = [(b"x-ran", ran), (b"content-length", b"0")]
    fields += [each for each in scope["headers"] if each[0] == b"x-request-id"][:1]
    await send({"type": "http.response.start", "status": 200, "headers": fields, "trailers": False})
    await send({"type": "http.response.body", "body": b"", "more_body": False})


@contextlib.asynccontextmanager
async def running_proxy() -> AsyncIterator[int]:
    """nginx as a reverse proxy; its port."""
    async with await asyncio.start_server(_answer_one, "127.0.0.1", 0, backlog=512, limit=1_000_000) as upstream:
        port = upstream.sockets[0].getsockname()[1]
        with tempfile.TemporaryDirectory() as folder:
            nginx = running_nginx(Path(folder), upstream=f"127.0.0.1:{port}")
            proxy = await asyncio.to_thread(nginx.__enter__)
            try:
                yield proxy
            finally:
                await asyncio.to_thread(nginx.__exit__, None, None, None)


async def _answer_one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer one request of nginx's, which are well-formed, and close."""
    with contextlib.suppress(OSError, asyncio.IncompleteReadError):
        line, *rest = (await reader.readuntil(b"\r\n\r\n")).split(b"\r\n")
        fields = dict(field.lower().split(b": ", 1) for field in rest if b": " in field)
        await reader.readexactly(int(fields.get(b"content-length", b"0")))
        ran = b" ".join(line.split(b" ")[:2])[:200]
        mark = fields.get(b"x-request-id", b"")
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n"
            b"X-Ran: %b\r\nX-Request-Id: %b\r\n\r\n" % (ran, mark)
        )
        await writer.drain()
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
