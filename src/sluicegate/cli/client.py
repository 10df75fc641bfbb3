"""The gateway's HTTP interface as the commands use it, and its refusals in words for people."""

import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from sluicegate.cli.events import EventReader, ServerEvent
from sluicegate.cli.terminal import Failure, size_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx

Json = dict[str, Any]

EVENT_SILENCE_SECONDS = 45.0
"""Event streams carry a heartbeat every 15 s: after three missed ones the connection counts as dead."""


class Unreachable(Failure):
    """The gateway does not answer, or the connection broke."""


class Refused(Failure):
    """The gateway answered with an error. `status` is the HTTP status."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class Client:
    """Calls one gateway. `mend` says how to get one when nothing answers there."""

    http: "httpx.AsyncClient"
    url: str
    mend: str

    async def ask(
        self,
        method: str,
        path: str,
        *,
        body: Json | None = None,
        content: bytes | None = None,
        params: Mapping[str, str | int] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Json:
        """The JSON object that the gateway answers with. Raises `Refused` and `Unreachable`."""
        with self._reached():
            answer = await self.http.request(
                method, path, json=body, content=content, params=params, headers=dict(headers or {})
            )
        self._check(answer, answer.content)
        return self._decode(answer.content)

    async def models(self) -> list[Json]:
        """The models that are served now, each with its `tasks`."""
        return self._rows(await self.ask("GET", "/v1/models"), "data")

    async def job(self, job_id: str) -> Json:
        """One job."""
        return self._as_job(await self.ask("GET", _path(job_id)))

    async def submit(self, body: Json, key: str) -> Json:
        """Submit a job; the same `key` with the same body is the same job."""
        return self._as_job(await self.ask("POST", "/v1/jobs", body=body, headers={"idempotency-key": key}))

    async def jobs(self, params: Mapping[str, str | int]) -> tuple[list[Json], str | None]:
        """A page of jobs, newest first, and the cursor of the next page when there is one."""
        page = await self.ask("GET", "/v1/jobs", params=params)
        return self._rows(page, "data"), page.get("next_cursor")

    async def cancel(self, job_id: str) -> Json:
        """Withdraw a job; the job as it then is."""
        return self._as_job(await self.ask("POST", f"{_path(job_id)}/cancel"))

    async def events(self, job_id: str, last_id: str) -> AsyncGenerator[ServerEvent, None]:
        """The job's events after `last_id`, until the connection ends. Raises `Refused` and `Unreachable`.

        An answer that is no event stream (some proxies do that) ends at once, without events.
        """
        import httpx

        headers = {"accept": "text/event-stream"} | ({"last-event-id": last_id} if last_id else {})
        reader = EventReader(last_id)
        timeout = httpx.Timeout(10.0, read=EVENT_SILENCE_SECONDS)
        with self._reached():
            async with self.http.stream("GET", f"{_path(job_id)}/events", headers=headers, timeout=timeout) as answer:
                if answer.is_error:
                    self._check(answer, await answer.aread())
                if not answer.headers.get("content-type", "").startswith("text/event-stream"):
                    return
                async for piece in answer.aiter_bytes():
                    for event in reader.feed(piece):
                        yield event

    @asynccontextmanager
    async def chat(self, request: Json) -> AsyncGenerator[AsyncIterator[bytes], None]:
        """Begin a streamed chat answer; its bytes as they arrive. Leaving the block cancels what is unfinished."""
        with self._reached():
            async with self.http.stream("POST", "/v1/chat/completions", json=request) as answer:
                if answer.is_error:
                    self._check(answer, await answer.aread())
                yield answer.aiter_bytes()

    @asynccontextmanager
    async def download(self, asset_id: str) -> AsyncGenerator[AsyncIterator[bytes], None]:
        """Begin to read a picture's bytes."""
        with self._reached():
            async with self.http.stream("GET", f"/v1/assets/{quote(asset_id, safe='')}") as answer:
                if answer.is_error:
                    self._check(answer, await answer.aread())
                yield answer.aiter_bytes()

    @contextmanager
    def _reached(self) -> "Iterator[None]":
        """Say in words what httpx raises when there is no answer."""
        import httpx

        try:
            yield
        except httpx.ConnectError as error:
            raise Unreachable(f"no gateway answers at {self.url} ({_cause(error)}); {self.mend}") from error
        except httpx.TimeoutException as error:
            kind = type(error).__name__
            raise Unreachable(f"the gateway at {self.url} was too slow to answer ({kind}); try again") from error
        except httpx.RequestError as error:
            raise Unreachable(f"the connection to {self.url} broke ({_cause(error)}); try again") from error

    def _check(self, answer: "httpx.Response", body: bytes) -> None:
        if answer.is_success:
            return
        if answer.is_redirect:
            place = answer.headers.get("location", "nowhere")
            raise Refused(f"{self.url} sends us on to {place}; give that address as --url", answer.status_code)
        raise Refused(refusal(answer.status_code, body, answer.headers), answer.status_code)

    def _decode(self, body: bytes) -> Json:
        try:
            value = json.loads(body)
        except ValueError:
            value = None
        if not isinstance(value, dict):
            raise Failure(f"{self.url} answered with something else than JSON; is it a Sluicegate gateway? Check --url")
        return value

    def _as_job(self, value: Json) -> Json:
        if not isinstance(value.get("id"), str) or not isinstance(value.get("status"), str):
            raise Failure(
                f"{self.url} answered with something else than a job; is it a Sluicegate gateway? Check --url"
            )
        return value

    def _rows(self, page: Json, name: str) -> list[Json]:
        rows = page.get(name)
        if not isinstance(rows, list):
            raise Failure(f'{self.url} answered without "{name}"; is it a Sluicegate gateway? Check --url')
        return rows


def _path(job_id: str) -> str:
    return f"/v1/jobs/{quote(job_id, safe='')}"


def _cause(error: Exception) -> str:
    """The deepest reason there is: httpx wraps the system's own words."""
    deepest: BaseException = error
    while (below := deepest.__cause__ or deepest.__context__) is not None:
        deepest = below
    words = getattr(deepest, "strerror", None) or str(deepest) or type(deepest).__name__
    return str(words)


def refusal(status: int, body: bytes, headers: Mapping[str, str]) -> str:
    """A server's error in one or two lines: every fault with its field and mend, then status, code and request id."""
    try:
        problem = json.loads(body)
    except ValueError:
        problem = None
    message, code = (
        _words(problem) if isinstance(problem, dict) else (body.decode("utf-8", "replace").strip()[:300], "")
    )
    notes = [f"{status} {code}".strip()]
    if status in (429, 503) and headers.get("retry-after"):
        notes.append(f"try again in {headers['retry-after']} s")
    if status == 401:
        notes.append("set SLUICEGATE_API_KEY to your key")
    if headers.get("x-request-id"):
        notes.append(f"request {headers['x-request-id']}")
    return f"{message or 'the gateway refused without a word'}\n  ({', '.join(notes)})"


def _words(problem: Json) -> tuple[str, str]:
    """Message and code of a problem document (RFC 9457), an OpenAI error or a chat error."""
    error = problem.get("error")
    if isinstance(error, dict):
        return str(error.get("message") or ""), str(error.get("code") or error.get("type") or "")
    if isinstance(error, str):
        return str(problem.get("message") or ""), error
    faults = [fault for fault in problem.get("errors") or [] if isinstance(fault, dict)]
    lines = [_fault_line(fault) for fault in faults]
    message = "\n  ".join(lines) or str(problem.get("detail") or problem.get("title") or problem.get("message") or "")
    return message, str(problem.get("code") or "")


def _fault_line(fault: Json) -> str:
    field, message, mend = (str(fault.get(name) or "") for name in ("field", "message", "suggestion"))
    return (f"{field}: " if field else "") + message + (f" ({mend})" if mend else "")


def content_type_of(data: bytes) -> str:
    """The media type that the first bytes tell; the gateway has the last word."""
    if data.startswith(b"\x89PNG"):
        return "image/png"
    if data.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    return "application/octet-stream"


def describe_output(output: Json) -> str:
    """One output in a line: size in pixels, in bytes, and its address."""
    size = f"{output.get('width')}x{output.get('height')}"
    return f"{size}  {size_text(int(output.get('size_bytes') or 0))}  {output.get('url') or output.get('id')}"
