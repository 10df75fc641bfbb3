"""A scripted OpenAI-compatible server, run as a second process: the real far end of a real connection.

    with scripted_upstream() as upstream:
        backend = OpenAIBackend(BackendSettings(name="up", kind="openai", url=upstream.url))

A request's ``model`` picks a behaviour from `MODELS`; a ``script`` object in the body, with the fields of `Script`,
changes it. Models that are not in the list behave as "steady". What the server saw is told by `Upstream.seen`, and
`Upstream.wait_until` waits for it.
"""

import asyncio
import contextlib
import gzip
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, fields, replace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx


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
}


class Upstream:
    """The running server, as tests see it."""

    def __init__(self, models: tuple[str, ...], key: str) -> None:
        self.port = _free_port()
        self.url = f"http://127.0.0.1:{self.port}/v1"
        self._models = models
        self._key = key
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start, or start again on the same port, and wait until it listens. What was seen before is forgotten."""
        command = [sys.executable, __file__, str(self.port), self._key, *self._models]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"listening\n"

    def kill(self) -> None:
        """SIGKILL: the port refuses from now on."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            for pipe in (self._process.stdin, self._process.stdout):
                assert pipe is not None
                pipe.close()
            self._process = None

    def freeze(self) -> None:
        """SIGSTOP: connections are still taken by the kernel, but nobody answers."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Undo `freeze`."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def seen(self) -> dict[str, Any]:
        """connections, requests, open, completed, cancelled, probes (counts) and last (headers and body)."""
        answer: dict[str, Any] = httpx.get(f"http://127.0.0.1:{self.port}/seen", trust_env=False).json()
        return answer

    async def wait_until(self, field: str, at_least: int, timeout: float = 10.0) -> dict[str, Any]:
        """What was seen, as soon as a count has come so far; fails after `timeout` seconds."""
        address = f"http://127.0.0.1:{self.port}/seen?field={field}&at_least={at_least}&timeout={timeout}"
        async with httpx.AsyncClient(trust_env=False, timeout=timeout + 5) as client:
            answer: dict[str, Any] = (await client.get(address)).json()
        assert answer[field] >= at_least, answer
        return answer


@contextlib.contextmanager
def scripted_upstream(*models: str, key: str = "") -> Iterator[Upstream]:
    """A running server that lists `models` (all of `MODELS` when none are named) and wants `key`, if any."""
    upstream = Upstream(models or tuple(MODELS), key)
    try:
        upstream.start()
        yield upstream
    finally:
        upstream.kill()


async def eventually(condition: Callable[[], bool], timeout: float = 20.0) -> None:
    """Return once the condition holds, looked at often; for state that has no event to wait for."""
    deadline = time.monotonic() + timeout
    while True:
        if condition():
            return
        assert time.monotonic() < deadline, f"not so within {timeout:g} s"
        await asyncio.sleep(0.005)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class _Server:
    def __init__(self, key: str, models: list[str]) -> None:
        self._key = key
        self._models = models
        self._changed = asyncio.Condition()
        self._seen: dict[str, Any] = dict.fromkeys(
            ("connections", "requests", "open", "completed", "cancelled", "probes"), 0
        )
        self._seen["last"] = {}

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, for as long as it is kept alive."""
        served = 0
        try:
            while (request := await _read_request(reader)) is not None:
                if request.path != "/seen" and not served:
                    await self._count("connections")
                if not await self._answer(request, reader, writer, served):
                    return
                served += 1
        except (ConnectionError, asyncio.IncompleteReadError):
            return
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def _answer(
        self, request: "_Request", reader: asyncio.StreamReader, writer: asyncio.StreamWriter, served: int
    ) -> bool:
        """Answer one request; whether the connection goes on."""
        if request.path == "/seen":
            return await self._tell(request, writer)
        if self._key and request.headers.get("authorization") != f"Bearer {self._key}":
            return await _send_json(writer, 401, _error("wrong key"))
        if request.path == "/v1/models":
            await self._count("probes")
            return await _send_json(writer, 200, {"object": "list", "data": [{"id": name} for name in self._models]})
        try:
            body = json.loads(request.body)
        except ValueError:
            return await _send_json(writer, 400, _error("the body is not JSON"))
        await self._count("requests", last={"path": request.path, "headers": request.headers, "body": body})
        script = _script(body)
        if script.drop or (script.drop_reused and served):
            return False
        return await self._watched(_Answer(script, body, writer).give(), reader)

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

    async def _tell(self, request: "_Request", writer: asyncio.StreamWriter) -> bool:
        query = request.query
        if "field" in query:
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
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    target = urlsplit(first.split(" ")[1])
    query = {name: values[0] for name, values in parse_qs(target.query).items()}
    return _Request(path=target.path, query=query, headers=headers, body=body)


def _script(body: dict[str, Any]) -> Script:
    known = {field.name for field in fields(Script)}
    changes = {name: value for name, value in dict(body.get("script") or {}).items() if name in known}
    return replace(MODELS.get(str(body.get("model")), Script()), **changes)


def _error(message: str) -> dict[str, Any]:
    return {"error": {"message": message, "type": "scripted", "param": None, "code": None}}


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

    def __init__(self, script: Script, body: dict[str, Any], writer: asyncio.StreamWriter) -> None:
        self._script = script
        self._body = body
        self._writer = writer

    async def give(self) -> bool:
        script = self._script
        await asyncio.sleep(script.head_delay)
        if script.raw:
            self._writer.write(script.raw.encode())
            return False
        if script.status != 200:
            more = [f"location: {script.location}"] if script.location else []
            more += ["retry-after: 7"] if script.status == 429 else []
            return await _send_json(self._writer, script.status, _error(f"scripted {script.status}"), *more)
        if self._body.get("stream"):
            return await self._stream()
        content = "".join([word async for word in self._words()])
        whole = self._object("chat.completion", {"message": {"role": "assistant", "content": content}}, "stop")
        return await _send_json(self._writer, 200, {**whole, "usage": self._usage()}, encoding=script.encoding)

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


async def _main(port: int, key: str, models: list[str]) -> None:
    server = _Server(key, models)
    listener = await asyncio.start_server(server.serve, "127.0.0.1", port, limit=2**24)
    sys.stdout.write("listening\n")
    sys.stdout.flush()
    async with listener:
        await listener.serve_forever()


def _end_with_parent() -> None:
    sys.stdin.buffer.read()
    os._exit(0)


if __name__ == "__main__":
    threading.Thread(target=_end_with_parent, daemon=True).start()
    asyncio.run(_main(int(sys.argv[1]), sys.argv[2], sys.argv[3:]))
