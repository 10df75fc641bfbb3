"""A gateway whose answers are written down beforehand: real sockets and real HTTP, answer by answer.

    async with scripted_gateway() as gateway:
        gateway.script("GET", "/v1/jobs/job_1", json_answer(job))

A route gives its answers in order and repeats the last one; each answer ends its connection.
"""

import asyncio
import contextlib
import json
from collections import defaultdict
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Answer:
    """Bytes to send as they are; `hold` keeps the connection open until the client leaves."""

    raw: bytes
    hold: bool = False


@dataclass(frozen=True)
class Seen:
    """One request."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class ScriptedGateway:
    """Its address, its script and what it saw."""

    url: str = ""
    seen: list[Seen] = field(default_factory=list)
    left: asyncio.Event = field(default_factory=asyncio.Event)
    arrived: dict[str, asyncio.Event] = field(default_factory=lambda: defaultdict(asyncio.Event))
    _answers: dict[tuple[str, str], list[Answer]] = field(default_factory=lambda: defaultdict(list))

    def script(self, method: str, path: str, *answers: Answer) -> None:
        """Add answers to a route."""
        self._answers[method, path].extend(answers)

    def requests(self, method: str, path: str) -> list[Seen]:
        """The requests that a route has had."""
        return [seen for seen in self.seen if (seen.method, seen.path) == (method, path)]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection: one request, one answer."""
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            seen = await self._read(reader)
            answers = self._answers[seen.method, seen.path]
            answer = (answers.pop(0) if len(answers) > 1 else answers[0]) if answers else problem_answer(404, "nothing")
            self.seen.append(seen)
            self.arrived[seen.path].set()
            writer.write(answer.raw)
            await writer.drain()
            if answer.hold:
                await reader.read()
                self.left.set()
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    async def _read(self, reader: asyncio.StreamReader) -> Seen:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        method, target, _ = head[0].split(" ")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        return Seen(method, target.partition("?")[0], headers, body)


@contextlib.asynccontextmanager
async def scripted_gateway() -> AsyncIterator[ScriptedGateway]:
    """A listening gateway on a free port."""
    gateway = ScriptedGateway()
    server = await asyncio.start_server(gateway.serve, "127.0.0.1", 0)
    gateway.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server:
        yield gateway


def json_answer(value: Any, status: int = 200, kind: str = "application/json", **headers: str) -> Answer:
    """A whole JSON answer."""
    body = json.dumps(value).encode()
    lines = {"content-type": kind, "content-length": str(len(body)), "connection": "close", **headers}
    head = "".join(f"{name.replace('_', '-')}: {text}\r\n" for name, text in lines.items())
    return Answer(f"HTTP/1.1 {status} Said\r\n{head}\r\n".encode() + body)


def problem_answer(status: int, detail: str, **headers: str) -> Answer:
    """A problem document."""
    value = {"status": status, "detail": detail, "code": "scripted"}
    return json_answer(value, status, "application/problem+json", **headers)


def bytes_answer(body: bytes, kind: str) -> Answer:
    """A whole answer of any kind."""
    head = f"HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
    return Answer(head.encode() + body)


def stream_answer(*pieces: str, ends: bool = True, hold: bool = False) -> Answer:
    """An event stream; with `ends` False it breaks off without its last chunk."""
    raw = (
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n"
    )
    for piece in pieces:
        data = piece.encode()
        raw += f"{len(data):x}\r\n".encode() + data + b"\r\n"
    return Answer(raw + (b"0\r\n\r\n" if ends and not hold else b""), hold)


def job_value(status: str, **more: Any) -> dict[str, Any]:
    """A job as the gateway shows it."""
    return {
        "id": "job_1",
        "status": status,
        "model": "style-transfer",
        "task": "stylize",
        "created_at": "2026-01-01T00:00:00.000Z",
        "started_at": None,
        "completed_at": None,
        "queue_position": None,
        "progress": None,
        "outputs": [],
        "error": None,
        "metrics": {"queue_ms": None, "execution_ms": None, "attempts": 1, "backend": "local-image"},
        "degraded": [],
        **more,
    }
