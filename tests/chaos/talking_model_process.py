"""A model server that talks as it is told and notes who leaves: ``python talking_model_process.py``.

It prints its port, and ends when its standard input does. A chat call's body tells how it is answered: ``user`` is the
call's name in the notes, ``script`` has the fields of `Script`. Every token begins with ~ and 19 digits: the monotonic
clock in nanoseconds, so that a reader on this machine sees how long it was under way. ``GET /notes`` tells what has
happened since the start.
"""

import asyncio
import json
import socket
import sys
import time
from dataclasses import dataclass
from typing import Any, cast

_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
_EVENT = (
    '{"id":"c","object":"chat.completion.chunk","created":1,"model":"talks",'
    '"choices":[{"index":0,"delta":{"content":"%s"},"finish_reason":%s}]}'
)
_DONE = b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n"
_TURN_BYTES = 65_536
_SEND_BUFFER = 65_536
"""A small one: what lies in the system's buffers is not the gateway's to answer for."""


@dataclass(frozen=True)
class Script:
    """How one stream is answered: seconds before the head, before the first token and between tokens; how many tokens,
    and how many bytes more than its time each has."""

    head: float = 0.0
    first: float = 0.0
    gap: float = 0.02
    tokens: int = 1_000_000_000
    size: int = 0


class Notes:
    """Which calls came and which were left, by their names, in seconds of the monotonic clock."""

    def __init__(self) -> None:
        self.began: dict[str, float] = {}
        self.left: dict[str, float] = {}
        self.ended = 0
        self.open = 0

    def told(self) -> bytes:
        """As an HTTP answer."""
        body = json.dumps(vars(self)).encode()
        return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body) + body


class Speaker(asyncio.Protocol):
    """One connection: a call at a time, as the gateway's pool makes them."""

    def __init__(self, notes: Notes) -> None:
        self._notes = notes
        self._loop = asyncio.get_running_loop()
        self._read = b""
        self._name = ""
        self._script = Script()
        self._due: asyncio.TimerHandle | None = None
        self._is_full = False
        self._said = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The gateway has connected."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=_TURN_BYTES)

    def data_received(self, data: bytes) -> None:
        """Some of a request."""
        self._read += data
        head, mark, rest = self._read.partition(b"\r\n\r\n")
        length = next((int(it[15:]) for it in head.lower().split(b"\r\n") if it.startswith(b"content-length:")), 0)
        if not mark or len(rest) < length:
            return
        self._read = rest[length:]
        if head.startswith(b"GET /notes"):
            self._transport.write(self._notes.told())
        elif head.startswith(b"GET"):
            self._transport.write(b'HTTP/1.1 200 OK\r\ncontent-length: 11\r\n\r\n{"data":[]}')
        else:
            self._begin(json.loads(rest[:length]))

    def eof_received(self) -> None:
        """The gateway has left: noted now, not once what lies unsent has found no taker."""
        self._note_leaving()
        self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """The gateway has left, perhaps in the middle of a call."""
        self._note_leaving()

    def pause_writing(self) -> None:
        """The gateway takes no more."""
        self._is_full = True

    def resume_writing(self) -> None:
        """The gateway takes more."""
        self._is_full = False
        if self._name and self._due is None:
            self._talk()

    def _note_leaving(self) -> None:
        if self._due is not None:
            self._due.cancel()
        if self._name:
            self._notes.left[self._name] = time.monotonic()
            self._notes.open -= 1
            self._name = ""

    def _begin(self, body: dict[str, Any]) -> None:
        self._name = body["user"]
        self._script = Script(**body["script"])
        self._said = 0
        self._notes.began[self._name] = time.monotonic()
        self._notes.open += 1
        self._due = self._loop.call_later(self._script.head, self._send_head)

    def _send_head(self) -> None:
        self._transport.write(_HEAD)
        self._due = self._loop.call_later(self._script.first, self._talk)

    def _talk(self) -> None:
        """Say what is due: a token, or without a gap as much as the gateway takes, a little each turn of the loop."""
        self._due = None
        script = self._script
        if self._said < script.tokens:
            event = (
                b"data: " + (_EVENT % (f"~{time.monotonic_ns():019d}" + "x" * script.size, "null")).encode() + b"\n\n"
            )
            count = 1 if script.gap else min(script.tokens - self._said, 1 + _TURN_BYTES // len(event))
            self._transport.write(b"%x\r\n%b\r\n" % (len(event), event) * count)
            self._said += count
        if self._said < script.tokens:
            if script.gap or not self._is_full:
                self._due = self._loop.call_later(script.gap, self._talk)
            return
        self._transport.write(_DONE)
        self._notes.ended += 1
        self._notes.open -= 1
        self._name = ""


async def serve() -> None:
    """Until standard input ends."""
    notes, loop = Notes(), asyncio.get_running_loop()
    listener = socket.create_server(("127.0.0.1", 0), backlog=2_048)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
    server = await loop.create_server(lambda: Speaker(notes), sock=listener, backlog=2_048)
    print(listener.getsockname()[1], flush=True)  # noqa: T201 - how the port is told
    await loop.run_in_executor(None, sys.stdin.read)
    server.close()


if __name__ == "__main__":
    import uvloop

    uvloop.run(serve())
