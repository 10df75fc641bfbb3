"""The server on real sockets: TLS, many callers, CORS, and how it ends."""

import asyncio
import contextlib
import json
import ssl
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest
import trustme
from starlette.types import Receive, Scope, Send
from tests.corpus.answers import Answer, read_answers
from tests.lane_driver import (
    CHAT,
    Plant,
    WiredBackend,
    chat,
    chunk_event,
    chunked,
    echo_app,
    eventually,
    post,
    request,
    served,
    settled,
    stream_head,
    whole,
)

from sluicegate.doors.http.limits import HttpLimits
from sluicegate.doors.server import Observed
from sluicegate.observability.access_log import AccessLog
from sluicegate.observability.metrics import Metrics

Scene = Callable[[Plant, WiredBackend], Awaitable[None]]
ORIGIN = "https://app.example"


def play(scene: Scene, tls: ssl.SSLContext | None = None, **more: Any) -> None:
    """Play a scene with a server that listens, and one backend in memory."""

    async def run() -> None:
        backend = WiredBackend()
        async with served(backend, **more) as plant:
            await plant.listen(tls)
            await scene(plant, backend)

    asyncio.run(run())


async def talk(plant: Plant, sent: bytes, tls: ssl.SSLContext | None = None) -> tuple[Answer, ...]:
    """Send bytes over a new connection, and read until the server ends it."""
    name = "localhost" if tls else None
    reader, writer = await asyncio.open_connection("127.0.0.1", plant.port, ssl=tls, server_hostname=name)
    writer.write(sent)
    data = await reader.read(-1)
    writer.close()
    with contextlib.suppress(ConnectionError, ssl.SSLError):
        await writer.wait_closed()
    answers = read_answers(data, ended=True)
    assert answers.junk == b""
    return answers.final


def test_hot_and_cold_requests_are_answered_on_a_socket() -> None:
    async def scene(plant: Plant, backend: WiredBackend) -> None:
        last = request("GET", "/b", b"", "Connection: close")
        talking = asyncio.create_task(talk(plant, request("GET", "/a") + post(CHAT, chat()) + last))
        await eventually(lambda: bool(backend.calls))
        backend.last.say(whole(b"{}"))
        assert [answer.body for answer in await talking] == [b"GET /a ", b"{}", b"GET /b "]

    play(scene, app=echo_app())


def test_many_callers_stream_at_once() -> None:
    async def scene(plant: Plant, backend: WiredBackend) -> None:
        sent = post(CHAT, chat(stream=True), "Connection: close")
        talking = [asyncio.create_task(talk(plant, sent)) for _ in range(50)]
        await eventually(lambda: len(backend.calls) == 50)
        assert plant.calls()["active"] == 50
        for far in backend.calls:
            far.say(stream_head())
        for number, far in enumerate(backend.calls):
            far.say(chunked(chunk_event(str(number)), last=True))
        bodies = [answer.body for (answer,) in await asyncio.gather(*talking)]
        assert sorted(bodies) == sorted(chunk_event(str(number)) for number in range(50))

    play(scene)


def test_a_caller_who_sends_too_much_still_hears_why() -> None:
    async def scene(plant: Plant, backend: WiredBackend) -> None:
        (answer,) = await talk(plant, post(CHAT, b"x" * 3_000_000))
        assert (answer.status, answer.fields["connection"]) == (413, "close")

    play(scene, limits=HttpLimits(max_body_bytes=1_000, head_seconds=20.0, idle_seconds=60.0))


@pytest.mark.parametrize("sent", [b"", b"GET / HT", request("POST", CHAT, b"", "Content-Length: 9")])
def test_limits_are_kept_without_anybody_asking(sent: bytes) -> None:
    async def scene(plant: Plant, backend: WiredBackend) -> None:
        answers = await talk(plant, sent)
        assert [answer.status for answer in answers] == ([408] if sent else [])

    play(scene, limits=HttpLimits(max_body_bytes=1_000, head_seconds=0.05, idle_seconds=0.05))


def test_a_connection_that_nobody_uses_is_closed() -> None:
    async def scene(plant: Plant, backend: WiredBackend) -> None:
        assert len(await talk(plant, request("GET", "/x"))) == 1

    limits = HttpLimits(max_body_bytes=1_000, head_seconds=20.0, idle_seconds=60.0, keep_alive_seconds=0.05)
    play(scene, app=echo_app(), limits=limits)


def contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A server's and its callers'."""
    authority = trustme.CA()
    servers = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(servers)
    callers = ssl.create_default_context()
    authority.configure_trust(callers)
    return servers, callers


def test_everything_works_over_tls() -> None:
    servers, callers = contexts()
    seen: list[dict[str, Any]] = []

    async def scene(plant: Plant, backend: WiredBackend) -> None:
        sent = post(CHAT, chat(stream=True)) + request("GET", "/b", b"", "Connection: close")
        talking = asyncio.create_task(talk(plant, sent, callers))
        await eventually(lambda: bool(backend.calls))
        backend.last.say(stream_head() + chunked(b"data: 1\n\n" * 50_000, last=True))
        hot, cold = await talking
        assert hot.body == b"data: 1\n\n" * 50_000
        assert cold.body == b"GET /b "
        (refused,) = await talk(plant, b"nonsense\r\n\r\n", callers)
        assert refused.status == 501

    play(scene, servers, app=echo_app(seen))
    assert seen[0]["scheme"] == "https"


def test_leaving_over_tls_reaches_the_backend() -> None:
    servers, callers = contexts()

    async def scene(plant: Plant, backend: WiredBackend) -> None:
        _, writer = await asyncio.open_connection("127.0.0.1", plant.port, ssl=callers, server_hostname="localhost")
        writer.write(post(CHAT, chat(stream=True)))
        await eventually(lambda: bool(backend.calls))
        writer.transport.abort()
        await eventually(lambda: backend.last.is_cancelled)

    play(scene, servers)


def test_who_speaks_plainly_to_tls_harms_nobody() -> None:
    servers, callers = contexts()

    async def scene(plant: Plant, backend: WiredBackend) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", plant.port)
        writer.write(request("GET", "/x"))
        with contextlib.suppress(ConnectionError):
            await reader.read(-1)
        writer.close()
        (answer,) = await talk(plant, request("GET", "/x", b"", "Connection: close"), callers)
        assert answer.status == 200

    play(scene, servers, app=echo_app())


# --- methods and CORS ---


@pytest.mark.parametrize("path", [CHAT, "/api/chat/streams"])
def test_the_methods_of_a_path_are_told(path: str) -> None:
    async def scene(plant: Plant, backend: WiredBackend) -> None:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{plant.port}", trust_env=False) as client:
            options = await client.options(path)
            assert options.status_code == 204
            assert options.headers["allow"] == ("OPTIONS, POST" if path == CHAT else "GET, HEAD, OPTIONS")
            refused = await client.put(path)
            assert (refused.status_code, refused.headers["allow"]) == (405, options.headers["allow"])
            head = await client.head(path)
            assert head.status_code == (405 if path == CHAT else 200)
            assert head.content == b""
            assert int(head.headers["content-length"]) > 0
            assert head.headers["x-request-id"].startswith("req_")

    play(scene)


@pytest.mark.parametrize("path", [CHAT, "/api/chat", "/api/chat/streams"])
def test_a_preflight_of_an_allowed_page_is_granted_on_hot_and_cold_routes(path: str) -> None:
    async def scene(plant: Plant, backend: WiredBackend) -> None:
        asks = {"origin": ORIGIN, "access-control-request-method": "POST", "access-control-request-headers": "x-a"}
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{plant.port}", trust_env=False) as client:
            granted = await client.options(path, headers=asks)
            assert granted.status_code == 200
            assert granted.headers["access-control-allow-origin"] == ORIGIN
            assert "POST" in granted.headers["access-control-allow-methods"]
            denied = await client.options(path, headers={**asks, "origin": "https://evil.example"})
            assert denied.status_code == 400
            assert "access-control-allow-origin" not in denied.headers

    play(scene, cors_origins=[ORIGIN])


@pytest.mark.parametrize("stream", [False, True])
def test_a_page_of_an_allowed_origin_can_read_answers_and_errors(stream: bool) -> None:
    async def scene(plant: Plant, backend: WiredBackend) -> None:
        caller = plant.connect()
        caller.feed(post(CHAT, chat(stream=stream), f"Origin: {ORIGIN}"))
        backend.last.say(stream_head() + chunked(b"data: 1\n\n", last=True) if stream else whole(b"{}"))
        caller.feed(post(CHAT, b"{", f"Origin: {ORIGIN}"))
        caller.feed(request("GET", "/api/chat/streams", b"", f"Origin: {ORIGIN}"))
        caller.feed(post(CHAT, b"{", "Origin: https://evil.example"))
        await eventually(lambda: len(caller.answers) == 4)
        assert caller.statuses == [200, 400, 200, 403]
        for answer in caller.answers[:3]:
            assert answer.fields["access-control-allow-origin"] == ORIGIN
            assert answer.fields["vary"] == "Origin"
            assert "X-Request-Id" in answer.fields["access-control-expose-headers"]
        assert "access-control-allow-origin" not in caller.answers[3].fields

    play(scene, cors_origins=[ORIGIN])


# --- the end ---


def test_closing_lets_idle_callers_go_at_once_and_answers_those_that_wait() -> None:
    async def scene(plant: Plant, backend: WiredBackend) -> None:
        idle, busy, half = plant.connect(), plant.connect(), plant.connect()
        idle.feed(request("GET", "/api/chat/streams"))
        await eventually(lambda: idle.statuses == [200])
        busy.feed(post(CHAT, chat()))
        half.feed(b"GET / HT")
        closing = asyncio.create_task(plant.server.close(30.0))
        await eventually(lambda: idle.is_over and half.is_over)
        assert not busy.is_over
        with pytest.raises(OSError, match=r".*"):
            await talk(plant, b"")
        backend.last.say(whole(b"{}"))
        await eventually(lambda: busy.is_over)
        assert busy.statuses == [200]
        assert busy.answers[0].fields["connection"] == "close"
        await asyncio.wait_for(closing, 20)

    play(scene)


def test_a_stream_may_end_while_the_server_closes() -> None:
    async def scene(plant: Plant, backend: WiredBackend) -> None:
        caller = plant.connect()
        caller.feed(post(CHAT, chat(stream=True)))
        backend.last.say(stream_head() + chunked(chunk_event("a")))
        closing = asyncio.create_task(plant.server.close(30.0))
        await settled(caller)
        backend.last.say(chunked(chunk_event("b"), last=True))
        await asyncio.wait_for(closing, 20)
        assert caller.answers[0].body == chunk_event("a") + chunk_event("b")

    play(scene)


def test_what_outlasts_the_closing_is_broken_off() -> None:
    async def scene(plant: Plant, backend: WiredBackend) -> None:
        streaming, waiting = plant.connect(), plant.connect()
        streaming.feed(post(CHAT, chat(stream=True)))
        backend.last.say(stream_head() + chunked(chunk_event("a")))
        waiting.feed(request("GET", "/held"))
        await plant.server.close(0.01)
        assert streaming.is_aborted
        assert waiting.is_closing()
        await eventually(lambda: backend.last.is_cancelled)

    play(scene, app=held_app)


def test_a_handler_that_outlasts_the_closing_still_tells_its_caller() -> None:
    async def scene(plant: Plant, backend: WiredBackend) -> None:
        caller = plant.connect()
        caller.feed(request("GET", "/v1/models/x"))
        await settled(caller)
        closing = asyncio.create_task(plant.server.close(0.01))
        await eventually(lambda: caller.is_over)
        (answer,) = caller.answers
        assert (answer.status, answer.fields["retry-after"]) == (503, "2")
        assert json.loads(answer.body)["error"]["code"] == "draining"
        await closing

    play(scene, app=Observed(held_app, Metrics(), AccessLog()))


async def held_app(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers never."""
    await asyncio.Event().wait()
