"""llama.cpp's server answers 500 to some requests that are the caller's fault; here they become the 400 they are."""

import re
from collections.abc import AsyncIterator

from sluicegate.backends.backend import UpstreamAnswer

_CALLERS_FAULT = re.compile(
    rb"json\.exception|(image|audio) input|not supported|unsupported|missing|must be|invalid|failed to parse",
    re.IGNORECASE,
)
_LONGEST = 65_536


async def told_as_refusal(answer: UpstreamAnswer) -> UpstreamAnswer:
    """The answer itself, or, when it is a 500 whose words blame the request, the same body with status 400."""
    if answer.status != 500:
        return answer
    body = b""
    async for piece in answer.chunks():
        body += piece
        if len(body) > _LONGEST:
            break
    return _Read(answer, body, 400 if _CALLERS_FAULT.search(body) else 500)


class _Read:
    """An answer whose body was read already; fulfils `UpstreamAnswer`."""

    def __init__(self, answer: UpstreamAnswer, body: bytes, status: int) -> None:
        self.status = status
        self.content_type = answer.content_type
        self.retry_after = answer.retry_after
        self._answer = answer
        self._body = body

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body."""
        yield self._body

    async def close(self) -> None:
        """See `UpstreamAnswer.close`."""
        await self._answer.close()
