"""Calls to one upstream server."""

import asyncio
from collections.abc import Callable

from sluicegate.backends.answer import receive
from sluicegate.backends.backend import AnswerSink, UpstreamCall
from sluicegate.backends.upstream.address import Address
from sluicegate.backends.upstream.call import Call
from sluicegate.backends.upstream.failures import Failures
from sluicegate.backends.upstream.pool import Pool
from sluicegate.backends.upstream.tls import make_context
from sluicegate.errors import BackendUnavailable, Fault, InvalidInput
from sluicegate.settings import TimeoutSettings
from sluicegate.wire.wheel import Wheel

_LONG: float = 86_400.0
_NO_LIMITS = TimeoutSettings(connect=_LONG, first_byte=_LONG, idle=_LONG, total=_LONG)
_MOST_HEADS = 64
_MOST_PROBED = 16_000_000
"""Bytes of an answer that is read at once."""


class UpstreamClient:
    """Calls ``<base_url>/<path>`` over pooled keep-alive connections of the running event loop.

    A path with a slash in front begins at the server's root. `name` is the backend's, for messages. The key, or else
    the user and password of the address, go into a header and nowhere else. `wheel` keeps the limits. `cafile` names
    the only authorities to trust; without it those of the system are. `on_unavailable` hears, before the sink does,
    that a call found no server or got no answer. Raises `ValueError` when the address is none, or the key cannot stand
    in a header.
    """

    def __init__(
        self,
        base_url: str,
        *,
        name: str,
        key: str = "",
        max_connections: int,
        timeouts: TimeoutSettings,
        wheel: Wheel,
        cafile: str | None = None,
        on_unavailable: Callable[[BackendUnavailable], None] | None = None,
    ) -> None:
        self._address = address = Address.parse(base_url)
        self._limits = timeouts
        self._failures = Failures(name, address.authority, timeouts)
        context = make_context(cafile) if address.is_secure else None
        self._pool = Pool(
            address,
            most=max_connections,
            wheel=wheel,
            failures=self._failures,
            context=context,
            on_unavailable=on_unavailable,
        )
        self._probes = Pool(address, most=None, wheel=wheel, failures=self._failures, context=context)
        authorization = f"Bearer {key}" if key else address.credentials
        if not (authorization.isascii() and (authorization.isprintable() or not authorization)):
            raise ValueError("a key cannot have control or non-ASCII characters")
        self._common = (
            f"host: {address.authority}\r\nuser-agent: sluicegate\r\naccept: */*\r\naccept-encoding: identity\r\n"
            + (f"authorization: {authorization}\r\n" if authorization else "")
        )
        self._heads: dict[str, bytes] = {}
        self._now = asyncio.get_running_loop().time

    @property
    def idle(self) -> int:
        """Connections that wait for a call."""
        return self._pool.idle

    def send(self, path: str, body: bytes, headers: bytes, sink: AnswerSink) -> UpstreamCall:
        """POST `body` (JSON); `headers` are more lines of the head, each ended by CRLF, or nothing.

        A connection from the pool that the server had already given up is replaced by a fresh one, once, as long as no
        byte of an answer came. Raises `BackendUnavailable` when every connection is in use, `InvalidInput` for a path
        that cannot be asked for. The sink is told `BackendTimeout`; `BackendFailed` for an answer that is no HTTP or
        breaks off; `BackendUnavailable` when no connection was made, or, with ``details["connected"]``, when it ended
        before the answer's head.
        """
        begin = self._heads.get(path)
        if begin is None:
            begin = self._new_head(path)
        head = b"%b%bcontent-length: %d\r\n\r\n" % (begin, headers, len(body))
        call = Call(head, body, sink, self._limits, self._now())
        self._pool.carry(call)
        return call

    async def get(self, path: str, *, timeout: float) -> tuple[int, bytes]:
        """Status and body, within `timeout` seconds, over a connection made for it. Raises `BackendError`."""
        head = f"GET {self._address.target(path)} HTTP/1.1\r\n{self._common}connection: close\r\n\r\n".encode("ascii")

        def begin(sink: AnswerSink) -> UpstreamCall:
            call = Call(head, b"", sink, _NO_LIMITS, self._now())
            self._probes.dial(call)
            return call

        body: list[bytes] = []
        try:
            async with asyncio.timeout(timeout):
                answer = await receive(begin)
                try:
                    async for piece in answer.chunks():
                        body.append(piece)
                        if sum(map(len, body)) > _MOST_PROBED:
                            raise self._failures.too_long(_MOST_PROBED)
                finally:
                    answer.close()
        except TimeoutError:
            raise self._failures.silent(timeout) from None
        return answer.status, b"".join(body)

    async def close(self) -> None:
        """Close every connection and wait until the sockets are; calls under way fail."""
        await self._pool.close()
        await self._probes.close()

    def _new_head(self, path: str) -> bytes:
        try:
            target = self._address.target(path)
        except ValueError as error:
            raise InvalidInput.of(Fault("path", str(error))) from None
        head = f"POST {target} HTTP/1.1\r\n{self._common}content-type: application/json\r\n".encode("ascii")
        if len(self._heads) < _MOST_HEADS:
            self._heads[path] = head
        return head
