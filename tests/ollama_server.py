"""The process behind `tests.ollama_peer`: HTTP, routes, and answers given as a script says."""

import asyncio
import contextlib
import json
import os
import sys
import threading
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.ollama_models import (
    MODELS,
    VERSION,
    Refused,
    Script,
    check,
    content,
    embedded,
    entry,
    read_body,
    script_for,
    shown,
    timestamp,
)


@dataclass
class _Request:
    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes


class _Server:
    def __init__(self) -> None:
        self._changed = asyncio.Condition()
        self._seen: dict[str, Any] = dict.fromkeys(
            ("connections", "requests", "open", "completed", "cancelled", "probes"), 0
        )
        self._seen["last"] = {}
        self._loaded: dict[str, str] = {}

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, for as long as it is kept alive."""
        served = 0
        try:
            while (request := await _read_request(reader)) is not None:
                if request.path != "/seen" and not served:
                    await self._count("connections")
                if not await self._answer(request, reader, writer):
                    return
                served += 1
        except (ConnectionError, asyncio.IncompleteReadError):
            return
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def _answer(self, request: _Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer one request; whether the connection goes on."""
        match request.method, request.path:
            case "GET", "/seen":
                return await self._tell(request, writer)
            case "GET" | "HEAD", "/":
                return await _send(writer, 200, b"Ollama is running", "text/plain; charset=utf-8", request.method)
            case "GET" | "HEAD", "/api/version" | "/api/tags" | "/api/ps":
                await self._count("probes")
                return await _send_json(writer, 200, self._listing(request.path), request.method)
            case "POST", "/api/chat" | "/api/generate" | "/api/embed" | "/api/embeddings" | "/api/show":
                return await self._work(request, reader, writer)
            case _:
                return await _send(writer, 404, b"404 page not found", "text/plain")

    async def _work(self, request: _Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        try:
            body = read_body(request.body)
            await self._count("requests", last={"path": request.path, "headers": request.headers, "body": body})
            script = script_for(body)
            if request.path == "/api/show":
                return await _send_json(writer, 200, shown(script))
            answer = self._prepare(request.path, body, script)
        except Refused as refused:
            return await _send_json(writer, refused.status, {"error": str(refused)})
        return not script.drop and await self._watched(_Answer(script, body, answer, writer).give(), reader)

    def _prepare(self, path: str, body: dict[str, Any], script: Script) -> Any:
        """The whole answer, or the kind of text that is asked for. Raises `Refused`."""
        if script.status != 200:
            raise Refused(script.status, f"scripted {script.status}")
        if path in ("/api/embed", "/api/embeddings"):
            return embedded(path, body, script)
        kind = path.removeprefix("/api/")
        check(kind, body, script)
        name = str(body["model"])
        unloads = body.get("keep_alive") in (0, "0", "0s")
        self._loaded[name] = timestamp(timedelta(minutes=5))
        if not body.get("messages" if kind == "chat" else "prompt"):
            if unloads:
                del self._loaded[name]
            return {
                "model": name,
                "created_at": timestamp(),
                **content(kind, "", {}),
                "done": True,
                "done_reason": "unload" if unloads else "load",
            }
        return kind

    def _listing(self, path: str) -> dict[str, Any]:
        if path == "/api/version":
            return {"version": VERSION}
        if path == "/api/ps":
            entries = [{**entry(name), "expires_at": until, "size_vram": 0} for name, until in self._loaded.items()]
            return {"models": entries}
        return {"models": [{**entry(f"{name}:latest"), "modified_at": timestamp()} for name in MODELS]}

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

    async def _tell(self, request: _Request, writer: asyncio.StreamWriter) -> bool:
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


class _Answer:
    """One scripted answer; `give` says whether the connection may be kept."""

    def __init__(self, script: Script, body: dict[str, Any], answer: Any, writer: asyncio.StreamWriter) -> None:
        self._script = script
        self._body = body
        self._answer = answer
        self._writer = writer
        options = dict(body.get("options") or {})
        limit = int(options.get("num_predict") or -1)
        self._limit = limit if limit > 0 else None

    async def give(self) -> bool:
        await asyncio.sleep(self._script.head_delay)
        if not isinstance(self._answer, str):
            return await _send_json(self._writer, 200, self._answer)
        if self._body.get("stream") is not False:
            return await self._stream(self._answer)
        words = [word async for word in self._words()]
        more: dict[str, Any] = {"thinking": "hm"} if self._thinks() else {}
        more |= {"tool_calls": calls} if (calls := self._calls()) and self._answer == "chat" else {}
        if self._script.fails_after is not None:
            return await _send_json(self._writer, 500, {"error": "an error was encountered while running the model"})
        said = content(self._answer, "".join(words), more)
        return await _send_json(self._writer, 200, {**self._head(), **said, **self._end(len(words))})

    async def _stream(self, kind: str) -> bool:
        self._writer.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: application/x-ndjson\r\ntransfer-encoding: chunked\r\n\r\n"
        )
        sent = 0
        if self._thinks():
            await self._send(content(kind, "", {"thinking": "hm"}) | {"done": False})
        async for word in self._words():
            if sent == self._script.fails_after:
                await self._chunk(b'{"error":"an error was encountered while running the model"}\n')
                return await self._ended()
            if sent == self._script.break_after:
                return await self._ended() if self._script.clean_end else False
            await self._send(content(kind, word, {}) | {"done": False})
            sent += 1
        if kind == "chat" and (calls := self._calls()):
            await self._send(content(kind, "", {"tool_calls": calls}) | {"done": False})
        await self._send(content(kind, "", {}) | self._end(sent))
        return await self._ended()

    async def _words(self) -> AsyncIterator[str]:
        number = 0
        while self._script.endless or number < self._script.tokens:
            if number == self._limit:
                return
            if number == self._script.gap_after:
                await asyncio.sleep(self._script.gap_seconds)
            elif number:
                await asyncio.sleep(self._script.token_delay)
            yield f"{self._script.word}{number} " + "x" * self._script.token_bytes
            number += 1

    def _thinks(self) -> bool:
        """A model that can think does, unless it is told not to."""
        return "thinking" in self._script.capabilities and self._body.get("think") is not False

    def _calls(self) -> list[dict[str, Any]]:
        tools = self._body.get("tools") or []
        if not tools:
            return []
        name = tools[0]["function"]["name"]
        return [
            {"id": f"call_{number:08}", "function": {"index": number, "name": name, "arguments": {"number": number}}}
            for number in range(self._script.calls)
        ]

    def _end(self, made: int) -> dict[str, Any]:
        is_cut = self._limit is not None and made >= self._limit
        return {
            "done": True,
            "done_reason": "length" if is_cut else "stop",
            "total_duration": 174_560_334,
            "load_duration": 101_397_084,
            "prompt_eval_count": 7,
            "prompt_eval_duration": 13_074_791,
            "eval_count": made,
            "eval_duration": 52_479_709,
        }

    def _head(self) -> dict[str, Any]:
        return {"model": self._body["model"], "created_at": timestamp()}

    async def _send(self, value: dict[str, Any]) -> None:
        line = json.dumps({**self._head(), **value}, ensure_ascii=False, separators=(",", ":"))
        await self._chunk(line.encode() + b"\n")

    async def _chunk(self, data: bytes) -> None:
        self._writer.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        await self._writer.drain()

    async def _ended(self) -> bool:
        self._writer.write(b"0\r\n\r\n")
        await self._writer.drain()
        return True


async def _read_request(reader: asyncio.StreamReader) -> _Request | None:
    begin = await reader.read(1)
    if not begin:
        return None
    head = (begin + await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = head.strip().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    if headers.get("transfer-encoding", "").lower() == "chunked":
        body = await _read_chunks(reader)
    else:
        body = await reader.readexactly(int(headers.get("content-length", "0")))
    method, address, _ = first.split(" ")
    target = urlsplit(address)
    query = {name: values[0] for name, values in parse_qs(target.query).items()}
    return _Request(method=method, path=target.path, query=query, headers=headers, body=body)


async def _read_chunks(reader: asyncio.StreamReader) -> bytes:
    body = b""
    while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
        body += await reader.readexactly(size)
        await reader.readexactly(2)
    await reader.readuntil(b"\r\n")
    return body


async def _send_json(writer: asyncio.StreamWriter, status: int, value: object, method: str = "POST") -> bool:
    return await _send(writer, status, json.dumps(value).encode(), "application/json; charset=utf-8", method)


async def _send(writer: asyncio.StreamWriter, status: int, data: bytes, kind: str, method: str = "POST") -> bool:
    head = f"HTTP/1.1 {status} Scripted\r\ncontent-type: {kind}\r\ncontent-length: {len(data)}\r\n\r\n"
    writer.write(head.encode() + (b"" if method == "HEAD" else data))
    await writer.drain()
    return True


async def _main(port: int) -> None:
    listener = await asyncio.start_server(_Server().serve, "127.0.0.1", port, limit=2**24)
    sys.stdout.write("listening\n")
    sys.stdout.flush()
    async with listener:
        await listener.serve_forever()


def _end_with_parent() -> None:
    sys.stdin.buffer.read()
    os._exit(0)


if __name__ == "__main__":
    threading.Thread(target=_end_with_parent, daemon=True).start()
    asyncio.run(_main(int(sys.argv[1])))
