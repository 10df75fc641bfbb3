"""The HTTP client behind every OpenAI-compatible backend, and the only module that knows which library it is.

Foreign errors end here: what leaves is an answer, `BackendUnavailable`, `BackendTimeout` or `BackendFailed`.
"""

import asyncio
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing
from typing import Any, NoReturn, cast

import httpx

from sluicegate.errors import BackendFailed, BackendTimeout, BackendUnavailable
from sluicegate.settings import TimeoutSettings

_KEEP_ALIVE_SECONDS = 4.0
"""Idle connections are dropped sooner than the 5 s after which uvicorn (vLLM) and llama.cpp drop theirs."""


class UpstreamClient:
    """Calls one server, at ``<base_url>/<path>``, over pooled keep-alive connections.

    `name` is the backend's, for messages. The key goes into a header and nowhere else.
    """

    def __init__(
        self, base_url: str, *, name: str, key: str = "", max_connections: int, timeouts: TimeoutSettings
    ) -> None:
        self._name = name
        self._base_url = base_url.rstrip("/")
        self._timeouts = timeouts
        self._headers = {
            "accept-encoding": "identity",
            "user-agent": "sluicegate",
            **({"authorization": f"Bearer {key}"} if key else {}),
        }
        self._place = httpx.URL(self._base_url).netloc.decode("ascii").rpartition("@")[2]
        self._tls = _tls(self._base_url)
        self._pool = self._connections(max_connections, keep=max_connections)
        self._fresh = self._connections(max_connections, keep=0)

    async def get(self, path: str, *, timeout: float) -> tuple[int, bytes]:
        """Status and body, within `timeout` seconds, over a connection made for it. Raises `BackendError`."""
        try:
            async with asyncio.timeout(timeout):
                answer = await self._fresh.get(f"{self._base_url}/{path}", headers=self._headers)
        except TimeoutError:
            raise BackendTimeout(f"{self._name}: {self._place} did not answer within {timeout:g} s") from None
        except httpx.HTTPError as error:
            self._raise(error)
        return answer.status_code, answer.content

    async def post(self, path: str, body: bytes, headers: Mapping[str, str]) -> "HttpAnswer":
        """Send `body` and wait for the head of the answer.

        A connection from the pool that the server had already given up is replaced by a fresh one, once, as long as
        no answer came. Raises `BackendTimeout`; `BackendFailed` for an answer that is no HTTP; `BackendUnavailable`
        when no connection was made, or, with ``details["connected"]``, when it ended before the answer's head.
        """
        deadline = asyncio.get_running_loop().time() + self._timeouts.total
        course = _Course()
        try:
            return await self._send(self._pool, path, body, headers, course=course, deadline=deadline)
        except httpx.HTTPError as error:
            if not (course.reused and _broke(error)):
                self._raise(error)
        try:
            return await self._send(self._fresh, path, body, headers, course=_Course(), deadline=deadline)
        except httpx.HTTPError as error:
            self._raise(error)

    async def close(self) -> None:
        """Close every connection."""
        await self._pool.aclose()
        await self._fresh.aclose()

    async def _send(
        self,
        pool: httpx.AsyncClient,
        path: str,
        body: bytes,
        headers: Mapping[str, str],
        *,
        course: "_Course",
        deadline: float,
    ) -> "HttpAnswer":
        request = pool.build_request(
            "POST",
            f"{self._base_url}/{path}",
            content=body,
            headers={**self._headers, **headers},
            extensions={"trace": course.follow},
        )
        try:
            unsent = self._timeouts.connect + self._timeouts.first_byte
            async with asyncio.timeout_at(min(deadline, self._now() + unsent)) as limit:
                course.sent = lambda: limit.reschedule(min(deadline, self._now() + self._timeouts.first_byte))
                response = await pool.send(request, stream=True)
        except TimeoutError:
            which = "total" if self._now() >= deadline else "first_byte"
            raise self.too_late(which) from None
        return HttpAnswer(self, response, deadline, self._timeouts.idle)

    def too_late(self, which: str) -> BackendTimeout:
        """The error for one of the four limits, by its name in the settings."""
        words = {
            "connect": "no connection",
            "first_byte": "no answer began",
            "idle": "the answer paused and nothing more came",
            "total": "the answer was not complete",
        }
        seconds = getattr(self._timeouts, which)
        return BackendTimeout(
            f"{self._name}: {words[which]} within {seconds:g} s; raise timeout_seconds.{which} of this backend if it "
            "may take longer",
            details={"backend": self._name, "limit": which, "seconds": seconds},
        )

    def broken(self, error: httpx.HTTPError) -> BackendFailed:
        """The error for a connection that ended early."""
        return BackendFailed(f"{self._name}: {self._place} broke off the answer ({_words(error)})")

    def _raise(self, error: httpx.HTTPError) -> NoReturn:
        if isinstance(error, httpx.ConnectTimeout):
            raise self.too_late("connect") from error
        if isinstance(error, httpx.ConnectError | httpx.UnsupportedProtocol):
            raise BackendUnavailable(f"{self._name}: cannot connect to {self._place} ({_words(error)})") from error
        if isinstance(error, httpx.PoolTimeout):
            raise BackendUnavailable(f"{self._name}: every connection to {self._place} is in use") from error
        if _broke(error):
            message = f"{self._name}: {self._place} closed the connection before it answered ({_words(error)})"
            raise BackendUnavailable(message, details={"connected": True}) from error
        raise BackendFailed(
            f"{self._name}: {self._place} does not speak HTTP as it should ({_words(error)})"
        ) from error

    def _connections(self, most: int, *, keep: int) -> httpx.AsyncClient:
        limits = httpx.Limits(
            max_connections=most, max_keepalive_connections=keep, keepalive_expiry=_KEEP_ALIVE_SECONDS
        )
        # Only connecting is timed by the library: the other limits are timed here, each for what it says.
        timeout = httpx.Timeout(None, connect=self._timeouts.connect, pool=self._timeouts.connect)
        return httpx.AsyncClient(
            limits=limits, timeout=timeout, verify=self._tls, trust_env=False, follow_redirects=False
        )

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()


class HttpAnswer:
    """An answer whose head is here; fulfils `UpstreamAnswer`."""

    def __init__(self, client: UpstreamClient, response: httpx.Response, deadline: float, idle: float) -> None:
        self.status = response.status_code
        self.content_type = response.headers.get("content-type", "")
        told = response.headers.get("retry-after", "")
        self.retry_after = float(told) if told.isascii() and told.isdigit() else None
        self._client = client
        self._response = response
        self._deadline = deadline
        self._idle = idle

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body's bytes as they arrive, without the transfer coding."""
        loop = asyncio.get_running_loop()
        response = self._response
        plain = response.headers.get("content-encoding", "identity") == "identity"
        body = cast("AsyncGenerator[bytes, None]", response.aiter_raw() if plain else response.aiter_bytes())
        try:
            async with aclosing(body) as pieces:
                while True:
                    limit = min(self._deadline, loop.time() + self._idle)
                    async with asyncio.timeout_at(limit):
                        piece = await anext(pieces, None)
                    if piece is None:
                        return
                    yield piece
        except TimeoutError:
            await self.close()
            raise self._client.too_late("total" if loop.time() >= self._deadline else "idle") from None
        except httpx.HTTPError as error:
            raise self._client.broken(error) from error

    async def close(self) -> None:
        """Give the connection back, or break it when the body is unfinished."""
        await self._response.aclose()


class _Course:
    """Follows one exchange through the library's trace: was the connection a used one, when was all sent."""

    def __init__(self) -> None:
        self.reused = True
        self.sent: Callable[[], None] | None = None

    async def follow(self, event: str, _: Mapping[str, Any]) -> None:
        if event == "connection.connect_tcp.started":
            self.reused = False
        elif event == "http11.send_request_body.complete" and self.sent:
            self.sent()


def _broke(error: httpx.HTTPError) -> bool:
    """Whether the connection ended instead of an answer; the library tells a clean end only by its words."""
    if isinstance(error, httpx.RemoteProtocolError):
        return "disconnected" in str(error)
    return isinstance(error, httpx.ReadError | httpx.WriteError)


def _tls(base_url: str) -> ssl.SSLContext:
    """Reading the trusted certificates takes tens of milliseconds, so it is done for https alone."""
    if base_url.startswith("https:"):
        return httpx.create_ssl_context(trust_env=False)
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def _words(error: httpx.HTTPError) -> str:
    """The library's words, or those of the system underneath, which are often all there is."""
    cause: BaseException | None = error
    while cause is not None:
        if text := str(cause).strip().rstrip("."):
            return text
        cause = cause.__cause__ or cause.__context__
    return type(error).__name__
