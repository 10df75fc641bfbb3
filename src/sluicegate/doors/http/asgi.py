"""The bridge to the ASGI application: one request as a scope, `receive` and `send`.

Source: ASGI 3.0, HTTP and WebSocket message format 2.4, https://asgi.readthedocs.io/en/latest/specs/www.html
"""

import asyncio
import logging
from collections.abc import Iterable
from typing import Any
from urllib.parse import unquote

from starlette.types import ASGIApp, Message, Scope

from sluicegate.doors.http.answers import CONTINUE, LAST_CHUNK, chunk, render_head
from sluicegate.doors.http.connection import HIGH_WATER, HttpConnection
from sluicegate.doors.http.request import Request

_log = logging.getLogger(__name__)
_HOP_BY_HOP = frozenset({b"connection", b"keep-alive", b"transfer-encoding", b"upgrade"})


def build_scope(request: Request, transport: asyncio.Transport, kind: str = "http") -> Scope:
    """The scope of a request; `kind` is "http" or "websocket"."""
    is_tls = transport.get_extra_info("sslcontext") is not None
    scheme = {"http": "http", "websocket": "ws"}[kind] + ("s" if is_tls else "")
    path = request.path.decode("ascii")
    scope: Scope = {
        "type": kind,
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1" if request.is_11 else "1.0",
        "scheme": scheme,
        "path": unquote(path) if "%" in path else path,
        "raw_path": request.path,
        "query_string": request.query,
        "root_path": "",
        "headers": request.headers,
        "client": _address(transport.get_extra_info("peername")),
        "server": _address(transport.get_extra_info("sockname")),
        "extensions": {},
    }
    if kind == "http":
        scope["method"] = request.method.decode("ascii")
    return scope


class AsgiResponder:
    """Answers one request by the application, which runs as a task of its own. Fulfils `Responder`."""

    def __init__(self, connection: HttpConnection, request: Request, app: ASGIApp) -> None:
        self._connection = connection
        self._request = request
        self._body: list[bytes] = []
        self._unread = 0
        self._is_complete = False
        """The request's body is here."""
        self._is_told_complete = False
        self._has_left = False
        self._is_gone = False
        self._wake = asyncio.Event()
        self._may_write = asyncio.Event()
        self._may_write.set()
        self._head: Message | None = None
        self._is_begun = False
        self._is_chunked = False
        self._has_body = request.method != b"HEAD"
        self._due: int | None = None
        """Bytes of the body that the head has promised and that are not sent yet."""
        self._is_finished = False
        self._keep = request.keep_alive
        scope = build_scope(request, connection.transport)
        self.task = asyncio.get_running_loop().create_task(self._run(app, scope))

    # --- the connection's side ---

    def body_piece(self, data: bytes) -> None:
        """See `Responder.body_piece`."""
        self._body.append(data)
        self._unread += len(data)
        if self._unread > HIGH_WATER:
            self._connection.transport.pause_reading()
        self._wake.set()

    def body_ended(self) -> None:
        """See `Responder.body_ended`."""
        self._is_complete = True
        self._wake.set()

    def caller_left(self) -> None:
        """See `Responder.caller_left`."""
        self._is_gone = True
        self.caller_half_closed()
        self._may_write.set()

    def caller_half_closed(self) -> None:
        """Tell the application that the caller has left; what it still says is sent as long as there is a socket."""
        self._has_left = True
        self._wake.set()

    def pause(self) -> None:
        """See `Responder.pause`."""
        self._may_write.clear()

    def resume(self) -> None:
        """See `Responder.resume`."""
        self._may_write.set()

    # --- the application's side ---

    async def _run(self, app: ASGIApp, scope: Scope) -> None:
        try:
            await app(scope, self._receive, self._send)
        except asyncio.CancelledError:
            self._abort()
            raise
        except Exception:
            if not self._is_gone:
                _log.exception("the application failed")
            self._abort()
        else:
            if not self._is_finished:
                self._abort()

    async def _receive(self) -> Message:
        if not (self._body or self._is_complete or self._has_left):
            if self._request.expects and not self._is_begun:
                self._request.expects = False
                self._connection.write(CONTINUE)
            await self._wait()
        while True:
            if self._body:
                data, self._body = b"".join(self._body), []
                if self._unread > HIGH_WATER and not self._is_gone:
                    self._connection.transport.resume_reading()
                self._unread = 0
                self._is_told_complete = self._is_complete
                return {"type": "http.request", "body": data, "more_body": not self._is_complete}
            if self._is_complete and not self._is_told_complete:
                self._is_told_complete = True
                return {"type": "http.request", "body": b"", "more_body": False}
            if self._has_left or self._is_finished:
                return {"type": "http.disconnect"}
            await self._wait()

    async def _wait(self) -> None:
        self._wake.clear()
        await self._wake.wait()

    async def _send(self, message: Message) -> None:
        if self._is_gone or self._is_finished:
            return
        match message["type"]:
            case "http.response.start":
                self._head = message
            case "http.response.body":
                self._send_body(message.get("body", b""), more=message.get("more_body", False))
                if not self._may_write.is_set():
                    await self._may_write.wait()
            case other:
                raise RuntimeError(f"an application may not send {other} here")

    def _send_body(self, data: bytes, *, more: bool) -> None:
        out = b""
        if not self._is_begun:
            out = self._render_head(len(data) if not more else None)
            self._is_begun = True
        if self._has_body:
            self._count(len(data), more=more)
            if data:
                out += chunk(data) if self._is_chunked else bytes(data)
            if not more and self._is_chunked:
                out += LAST_CHUNK
        if out:
            self._connection.write(out)
        if not more:
            self._finish()

    def _count(self, size: int, *, more: bool) -> None:
        """Hold the body against the head's content-length: what the caller reads next would begin at another byte."""
        if self._due is None:
            return
        self._due -= size
        if self._due < 0 or (self._due and not more):
            raise RuntimeError(f"the body differs from its content-length by {-self._due} bytes")

    def _finish(self) -> None:
        self._is_finished = True
        self._wake.set()
        if self._unread > HIGH_WATER:
            # The application did not want the rest of the body; the next request still has to be read.
            self._connection.transport.resume_reading()
        self._connection.finish(keep=self._keep)

    def _render_head(self, length: int | None) -> bytes:
        """The head; `length` is that of a body which is here as a whole."""
        assert self._head is not None
        status: int = self._head["status"]
        given: Iterable[tuple[bytes, bytes]] = self._head.get("headers", ())
        headers = []
        is_framed = status in (204, 304)
        self._has_body = self._has_body and not is_framed
        for raw_name, value in given:
            name = raw_name.lower()
            if name == b"content-length":
                is_framed = True
                self._due = int(value)
            self._keep = self._keep and not (name == b"connection" and b"close" in value.lower())
            if name not in _HOP_BY_HOP:
                headers.append((name, value))
        if not is_framed and length is not None:
            headers.append((b"content-length", b"%d" % length))
        elif not is_framed and self._request.is_11:
            self._is_chunked = True
            headers.append((b"transfer-encoding", b"chunked"))
        elif not is_framed:
            self._keep = False
        if not self._request.is_whole or self._connection.server.is_closing:
            # What is still being sent is not waited for, so nothing can follow it.
            self._keep = False
        if not self._keep:
            headers.append((b"connection", b"close"))
        elif not self._request.is_11:
            headers.append((b"connection", b"keep-alive"))
        return render_head(status, headers, self._connection.server.date)

    def _abort(self) -> None:
        """End an answer that will not be complete, so that the caller can tell."""
        if not (self._is_gone or self._is_finished):
            self._is_finished = True
            if self._is_begun:
                self._connection.transport.abort()
            else:
                self._connection.give_up()


def _address(name: Any) -> tuple[str, int] | None:
    return (str(name[0]), int(name[1])) if isinstance(name, tuple) and len(name) >= 2 else None
