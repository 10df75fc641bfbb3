"""The process of tests/upstream.py: ``python upstream_server.py HOST PORT KEY CERTIFICATE CERTIFICATE_KEY MODEL…``.

It ends when its standard input does.
"""

import asyncio
import contextlib
import gzip
import json
import os
import ssl
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, fields, replace
from typing import Any, cast
from urllib.parse import parse_qs, urlsplit


@dataclass(frozen=True)
class Script:
    """How one answer is given. Seconds, counts and bytes; None means never."""

    status: int = 200
    head_delay: float = 0.0
    tokens: int = 5
    token_delay: float = 0.0
    gap_after: int | None = None
    gap_seconds: float = 60.0
    break_after: int | None = None
    clean_end: bool = False
    """Where it breaks, end the body as if it were whole."""
    token_bytes: int = 0
    endless: bool = False
    encoding: str = ""
    location: str = ""
    raw: str = ""
    drop_reused: bool = False
    """End a connection that has served before, as a server does that gave it up just now."""
    drop: bool = False
    """End any connection without a byte."""
    keeps: bool = False
    """After `raw`, take the next request on the same connection."""
    headers: str = ""
    """More lines of the head, each ended by CRLF."""


_OK = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n"

MODELS: dict[str, Script] = {
    "steady": Script(),
    "slow-head": Script(head_delay=60.0),
    "idle-gap": Script(gap_after=2),
    "breaks": Script(break_after=2),
    "drops": Script(drop=True),
    "drops-reused": Script(drop_reused=True),
    "endless": Script(endless=True, token_delay=0.01),
    "huge": Script(tokens=2, token_bytes=3_000_000),
    "error-400": Script(status=400),
    "error-401": Script(status=401),
    "error-429": Script(status=429),
    "error-500": Script(status=500),
    "error-503": Script(status=503),
    "gzip": Script(encoding="gzip"),
    "redirects": Script(status=307, location="/v1/elsewhere"),
    "empty": Script(status=204),
    "cut": Script(break_after=2, clean_end=True),
    "page": Script(raw="HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 5\r\n\r\nhello"),
    "nonsense": Script(raw="this is no HTTP\r\n\r\n"),
    "flood": Script(endless=True, token_bytes=65_536),
    "until-close": Script(raw=f"{_OK}\r\nuntil the end"),
    "http-1.0": Script(raw="HTTP/1.0 200 OK\r\n\r\nuntil the end"),
    "trailers": Script(
        raw=f"{_OK}Transfer-Encoding: chunked\r\n\r\n5;ext=1\r\nhello\r\n0\r\nX-Sum: 1\r\nContent-Type: no\r\n\r\n",
        keeps=True,
    ),
    "interim": Script(
        raw="HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
        f"{_OK}Content-Length: 5\r\n\r\nhello",
        keeps=True,
    ),
    "switches": Script(raw="HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\nhello"),
    "too-much": Script(raw=f"{_OK}Content-Length: 5\r\n\r\nhello, and more", keeps=True),
    "cut-head": Script(raw=f"{_OK}Content-Le"),
    "cut-body": Script(raw=f"{_OK}Content-Length: 10\r\n\r\nhello"),
    "cut-chunk-size": Script(raw=f"{_OK}Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n1"),
    "cut-chunk": Script(raw=f"{_OK}Transfer-Encoding: chunked\r\n\r\n5\r\nhel"),
    "bad-chunk": Script(raw=f"{_OK}Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nzz\r\n"),
    "two-lengths": Script(raw=f"{_OK}Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello"),
    "long-head": Script(raw=_OK + "X-Long: " + "x" * 200_000 + "\r\n\r\n"),
    "odd-coding": Script(raw=f"{_OK}Content-Encoding: br\r\nContent-Length: 5\r\n\r\nhello"),
}


_COUNTS = ("connections", "requests", "open", "completed", "cancelled", "probes", "sent", "closed")
_CONTROLS = ("/seen", "/forget", "/tell")


class _Server:
    def __init__(self, key: str, models: list[str]) -> None:
        self._key = key
        self._models = models
        self._changed = asyncio.Condition()
        self._seen: dict[str, Any] = dict.fromkeys(_COUNTS, 0)
        self._seen["last"] = {}
        self._told: dict[str, tuple[int, str]] = {}

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, for as long as it is kept alive."""
        served = 0
        is_callers = False
        try:
            while (request := await _read_request(reader)) is not None:
                is_callers = request.path not in _CONTROLS
                if is_callers and not served:
                    await self._count("connections")
                if not await self._answer(request, reader, writer, served):
                    return
                served += 1
        except (ConnectionError, ssl.SSLError, asyncio.IncompleteReadError):
            return
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                await writer.wait_closed()
            if is_callers:
                await self._count("closed")

    async def _answer(
        self, request: "_Request", reader: asyncio.StreamReader, writer: asyncio.StreamWriter, served: int
    ) -> bool:
        """Answer one request; whether the connection goes on."""
        if request.path in _CONTROLS:
            return await self._control(request, writer)
        if request.path in _UNREAD:
            return await self._answer_early(request, reader, writer)
        if request.path in self._told:
            return await _send_text(writer, *self._told[request.path])
        if self._key and request.headers.get("authorization") != f"Bearer {self._key}":
            return await _send_json(writer, 401, _error("wrong key"))
        if request.path == "/v1/models":
            await self._count("probes")
            return await _send_json(writer, 200, {"object": "list", "data": [{"id": name} for name in self._models]})
        return await self._answer_call(request, reader, writer, served)

    async def _answer_call(
        self, request: "_Request", reader: asyncio.StreamReader, writer: asyncio.StreamWriter, served: int
    ) -> bool:
        try:
            body = json.loads(request.body)
        except ValueError:
            return await _send_json(writer, 400, _error("the body is not JSON"))
        await self._count("requests", last={"path": request.path, "headers": request.headers, "body": body})
        script = _script(body)
        if script.drop or (script.drop_reused and served):
            return False
        return await self._watched(_Answer(script, body, writer, self._count).give(), reader)

    async def _answer_early(
        self, request: "_Request", reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        if request.path == "/v1/deaf":
            cast("asyncio.ReadTransport", writer.transport).pause_reading()
            await asyncio.sleep(60.0)
        await _send_json(writer, 413, _error("too large"))
        left = int(request.headers["content-length"])
        while left > 0 and (data := await reader.read(min(left, 65_536))):
            left -= len(data)
        return left == 0

    async def _watched(self, answer: Any, reader: asyncio.StreamReader) -> bool:
        """Give an answer while watching for the caller to leave."""
        await self._count("open")
        giving = asyncio.ensure_future(answer)
        leaving = asyncio.ensure_future(reader.read(1))
        try:
            await asyncio.wait({giving, leaving}, return_when=asyncio.FIRST_COMPLETED)
            gone = leaving.done() or (giving.done() and isinstance(giving.exception(), ConnectionError))
            await self._count("cancelled" if gone else "completed")
            return not gone and bool(giving.result())
        finally:
            await self._count("open", -1)
            giving.cancel()
            leaving.cancel()
            await asyncio.gather(giving, leaving, return_exceptions=True)

    async def _control(self, request: "_Request", writer: asyncio.StreamWriter) -> bool:
        query = request.query
        if request.path == "/forget":
            self._seen.update(dict.fromkeys(_COUNTS, 0), last={})
        elif request.path == "/tell":
            told = json.loads(request.body)
            self._told[told["path"]] = (told["status"], told["text"])
        elif "field" in query:
            field, least = query["field"], int(query["at_least"])
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(float(query["timeout"])), self._changed:
                    await self._changed.wait_for(lambda: self._seen[field] >= least)
        return await _send_json(writer, 200, self._seen)

    async def _count(self, field: str, by: int = 1, **more: Any) -> None:
        async with self._changed:
            self._seen[field] += by
            self._seen.update(more)
            self._changed.notify_all()


_TLS_HELLO = b"\x16"
_UNREAD = ("/v1/early", "/v1/deaf")
"""Answered, or not, before the body is read."""


@dataclass
class _Request:
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes


async def _read_request(reader: asyncio.StreamReader) -> _Request | None:
    begin = await reader.read(1)
    if begin in (b"", _TLS_HELLO):
        return None
    head = (begin + await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = head.strip().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    target = urlsplit(first.split(" ")[1])
    length = 0 if target.path in _UNREAD else int(headers.get("content-length", "0"))
    body = await reader.readexactly(length)
    query = {name: values[0] for name, values in parse_qs(target.query).items()}
    return _Request(path=target.path, query=query, headers=headers, body=body)


def _script(body: dict[str, Any]) -> Script:
    known = {field.name for field in fields(Script)}
    changes = {name: value for name, value in dict(body.get("script") or {}).items() if name in known}
    return replace(MODELS.get(str(body.get("model")), Script()), **changes)


def _error(message: str) -> dict[str, Any]:
    return {"error": {"message": message, "type": "scripted", "param": None, "code": None}}


async def _send_text(writer: asyncio.StreamWriter, status: int, text: str) -> bool:
    head = f"HTTP/1.1 {status} Told\r\ncontent-type: text/plain\r\ncontent-length: {len(text)}\r\n\r\n"
    writer.write(head.encode() + text.encode())
    await writer.drain()
    return True


async def _send_json(writer: asyncio.StreamWriter, status: int, value: object, *more: str, encoding: str = "") -> bool:
    data = json.dumps(value).encode()
    if encoding == "gzip":
        data = gzip.compress(data)
    lines = [f"HTTP/1.1 {status} Scripted", "content-type: application/json", f"content-length: {len(data)}", *more]
    if encoding:
        lines.append(f"content-encoding: {encoding}")
    writer.write("\r\n".join([*lines, "", ""]).encode() + data)
    await writer.drain()
    return True


class _Answer:
    """One scripted answer; `give` says whether the connection may be kept."""

    def __init__(
        self, script: Script, body: dict[str, Any], writer: asyncio.StreamWriter, count: Callable[..., Any]
    ) -> None:
        self._script = script
        self._body = body
        self._writer = writer
        self._count = count

    async def give(self) -> bool:
        script = self._script
        await asyncio.sleep(script.head_delay)
        if script.raw:
            self._writer.write(script.raw.encode())
            await self._writer.drain()
            return script.keeps
        if script.status != 200:
            more = [f"location: {script.location}"] if script.location else []
            more += ["retry-after: 7"] if script.status == 429 else []
            more += [line for line in script.headers.split("\r\n") if line]
            return await _send_json(self._writer, script.status, _error(f"scripted {script.status}"), *more)
        if self._body.get("stream"):
            return await self._stream()
        content = "".join([word async for word in self._words()])
        whole = self._object("chat.completion", {"message": {"role": "assistant", "content": content}}, "stop")
        more = [line for line in script.headers.split("\r\n") if line]
        return await _send_json(self._writer, 200, {**whole, "usage": self._usage()}, *more, encoding=script.encoding)

    async def _stream(self) -> bool:
        head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
        self._writer.write(head.encode())
        await self._event({"delta": {"role": "assistant", "content": ""}})
        sent = 0
        async for word in self._words():
            if sent == self._script.break_after:
                if self._script.clean_end:
                    self._writer.write(b"0\r\n\r\n")
                    await self._writer.drain()
                return self._script.clean_end
            await self._event({"delta": {"content": word}})
            sent += 1
        await self._event({"delta": {}}, "stop")
        if dict(self._body.get("stream_options") or {}).get("include_usage"):
            await self._send({**self._object("chat.completion.chunk", None), "usage": self._usage()})
        await self._chunk(b"data: [DONE]\n\n")
        self._writer.write(b"0\r\n\r\n")
        await self._writer.drain()
        return True

    async def _words(self) -> AsyncIterator[str]:
        number = 0
        while self._script.endless or number < self._script.tokens:
            if number == self._script.gap_after:
                await asyncio.sleep(self._script.gap_seconds)
            elif number:
                await asyncio.sleep(self._script.token_delay)
            yield f"word{number} " + "x" * self._script.token_bytes
            number += 1

    async def _event(self, choice: dict[str, Any], finish: str | None = None) -> None:
        await self._send(self._object("chat.completion.chunk", choice, finish))

    async def _send(self, value: object) -> None:
        await self._chunk(b"data: " + json.dumps(value).encode() + b"\n\n")

    async def _chunk(self, data: bytes) -> None:
        self._writer.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        await self._writer.drain()
        await self._count("sent", len(data))

    def _object(self, kind: str, choice: dict[str, Any] | None, finish: str | None = None) -> dict[str, Any]:
        choices = [] if choice is None else [{"index": 0, **choice, "finish_reason": finish}]
        model = self._body.get("model")
        return {
            "id": "chatcmpl-scripted",
            "object": kind,
            "created": int(time.time()),
            "model": model,
            "choices": choices,
        }

    def _usage(self) -> dict[str, int]:
        made = self._script.tokens
        return {"prompt_tokens": 7, "completion_tokens": made, "total_tokens": made + 7}


async def _main(host: str, port: int, key: str, tls: tuple[str, str], models: list[str]) -> None:
    server = _Server(key, models)
    context = None
    if tls[0]:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(*tls)
    listener = await asyncio.start_server(server.serve, host, port, limit=2**24, ssl=context)
    sys.stdout.write("listening\n")
    sys.stdout.flush()
    async with listener:
        await listener.serve_forever()


def _end_with_parent() -> None:
    sys.stdin.buffer.read()
    os._exit(0)


if __name__ == "__main__":
    threading.Thread(target=_end_with_parent, daemon=True).start()
    asyncio.run(_main(sys.argv[1], int(sys.argv[2]), sys.argv[3], (sys.argv[4], sys.argv[5]), sys.argv[6:]))
