"""Well-behaved callers: each reads one stream after the other and tells how long every token was under way."""

import asyncio
import json
import re
import time
from types import TracebackType
from typing import Any

_TOKEN = re.compile(rb"~(\d{19})")
_END = b"data: [DONE]\n\n\r\n0\r\n\r\n"
_KEPT_BYTES = 64
"""Of what was searched already, so that what is cut between two pieces is found."""


class Heard:
    """What was heard while one phase lasted. Seconds."""

    def __init__(self) -> None:
        self.delays: list[float] = []
        self.first: list[float] = []
        """From the request sent to the first token."""


class Listeners:
    """Holds `count` streams at once, of `tokens` tokens each; what they hear goes to `heard`, which may be changed."""

    def __init__(self, port: int, count: int, *, gap: float = 0.02, tokens: int = 100) -> None:
        self.heard = Heard()
        self.whole = 0
        self.broken: list[str] = []
        self._port = port
        self._count = count
        self._script = {"gap": gap, "tokens": tokens}
        self._tasks: list[asyncio.Task[None]] = []
        self._is_over = False

    async def __aenter__(self) -> "Listeners":
        self._tasks = [asyncio.create_task(self._listen(f"good-{number}")) for number in range(self._count)]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Each stream is heard to its end."""
        self._is_over = True
        if error is not None:
            for task in self._tasks:
                task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=error is not None)

    async def _listen(self, name: str) -> None:
        number = 0
        while not self._is_over:
            reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
            try:
                while not self._is_over:
                    number += 1
                    await self._hear(f"{name}-{number}", reader, writer)
            except (OSError, EOFError) as error:
                self.broken.append(f"{name}-{number}: {error!r}")
            finally:
                writer.close()

    async def _hear(self, call: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(request(call, self._script))
        began = time.monotonic_ns()
        tail, count = b"", 0
        while not tail.endswith(_END):
            data = await reader.read(65_536)
            now = time.monotonic_ns()
            if not data:
                raise EOFError(f"the stream ended after {count} tokens with {tail!r}")
            if not count and not tail and not data.startswith(b"HTTP/1.1 200"):
                raise EOFError(f"the answer was {data[:300]!r}")
            told = [int(match[1]) for match in _TOKEN.finditer(tail + data)]
            if told and not count:
                self.heard.first.append((now - began) / 1e9)
            self.heard.delays += [(now - at) / 1e9 for at in told]
            count += len(told)
            tail = _unsearched(tail + data)
        if count != self._script["tokens"]:
            raise EOFError(f"{count} tokens came of {self._script['tokens']}")
        self.whole += 1


def request(call: str, script: dict[str, Any]) -> bytes:
    """A whole request for a stream that is answered by the script; see `tests/chaos/talking_model_process.py`."""
    words = {"model": "talks", "stream": True, "user": call, "script": script}
    body = json.dumps({**words, "messages": [{"role": "user", "content": "Talk to me."}]}).encode()
    head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
    return head + b"content-length: %d\r\n\r\n%b" % (len(body), body)


def _unsearched(data: bytes) -> bytes:
    """The end of what was read, without the last token that was found in it."""
    found = [match.end() for match in _TOKEN.finditer(data)]
    return data[max(found[-1] if found else 0, len(data) - _KEPT_BYTES) :]
