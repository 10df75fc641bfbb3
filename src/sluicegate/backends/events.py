"""Reading the server-sent events of OpenAI's dialect."""

from collections.abc import AsyncGenerator, AsyncIterator


async def read_events(pieces: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
    """The `data` of each server-sent event, whatever the splits of `pieces`; ends at ``[DONE]``."""
    rest = b""
    async for piece in pieces:
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            if line.startswith(b"data:"):
                data = line[5:].strip()
                if data == b"[DONE]":
                    return
                yield data
