"""Reading the server-sent events of OpenAI's dialect."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator

_LAST_BYTES_SECONDS = 0.25
"""How long the end of a body may take after its last event; worth it, since only a finished connection is reused."""


class EventReader:
    """The `data` of each server-sent event, whatever the splits of `pieces`, up to ``[DONE]``.

    `is_done` tells, after the iteration, whether ``[DONE]`` came.
    """

    def __init__(self, pieces: AsyncIterator[bytes]) -> None:
        self._pieces = pieces
        self.is_done = False

    async def __aiter__(self) -> AsyncGenerator[bytes, None]:
        rest = b""
        async for piece in self._pieces:
            *lines, rest = (rest + piece).split(b"\n")
            for line in lines:
                if line.startswith(b"data:"):
                    data = line[5:].strip()
                    if data == b"[DONE]":
                        self.is_done = True
                        return
                    yield data

    async def finish(self) -> None:
        """Read what follows the last event, so that the connection can serve again; give up when it takes long."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LAST_BYTES_SECONDS):
                async for _ in self._pieces:
                    pass
