"""Kind "openai" against a scripted server in a second process."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from tests.upstream import Upstream, eventually, scripted_upstream

from sluicegate.backends.answer import Answer, ask
from sluicegate.backends.backend import BackendState, ChatCall
from sluicegate.backends.openai import OpenAIBackend
from sluicegate.errors import BackendError, BackendFailed, BackendTimeout, BackendUnavailable
from sluicegate.settings import BackendSettings, TimeoutSettings


def make(url: str, **more: Any) -> OpenAIBackend:
    environment = more.pop("environment", {})
    settings = BackendSettings(name="up", kind="openai", url=url, **more)
    return OpenAIBackend(settings, environment=environment, probe_seconds=0.05, down_probe_seconds=0.05)


@asynccontextmanager
async def started(backend: OpenAIBackend, state: BackendState = "up") -> AsyncIterator[OpenAIBackend]:
    await backend.start()
    try:
        await eventually(lambda: backend.health().state == state)
        yield backend
    finally:
        await backend.stop()


def body(model: str, *, stream: bool = True, **script: Any) -> bytes:
    return json.dumps({"model": model, "messages": [], "stream": stream, "script": script}).encode()


async def talk(backend: OpenAIBackend, model: str, *, stream: bool = True, **script: Any) -> Answer:
    call = ChatCall("chat/completions", body(model, stream=stream, **script), "req_1", stream)
    return await ask(backend.send, call)


async def said(backend: OpenAIBackend, model: str, **script: Any) -> bytes:
    """The body of a whole call."""
    return await (await talk(backend, model, **script)).read()


async def failure(backend: OpenAIBackend, model: str, **script: Any) -> BackendError:
    """The error that a call or its body ends with."""
    with pytest.raises(BackendError) as caught:
        await said(backend, model, **script)
    return caught.value


def play(scene: Callable[[Upstream], Any], *models: str, key: str = "") -> None:
    with scripted_upstream(*models, key=key) as upstream:
        asyncio.run(scene(upstream))


def test_the_models_of_the_server_become_cards() -> None:
    async def scene(upstream: Upstream) -> None:
        backend = make(upstream.url + "/")
        assert backend.health().state == "starting"
        assert backend.cards() == ()
        async with started(backend):
            assert [card.id for card in backend.cards()] == ["steady", "breaks"]
            assert {card.backend for card in backend.cards()} == {"up"}
            assert {card.tasks for card in backend.cards()} == {("chat",)}
        assert backend.health().state == "down"

    play(scene, "steady", "breaks")


def test_the_models_of_the_settings_win_over_those_of_the_server() -> None:
    async def scene(upstream: Upstream) -> None:
        async with started(make(upstream.url, models=("one", "two", "one"))) as backend:
            assert [card.id for card in backend.cards()] == ["one", "two"]

    play(scene, "steady")


def test_the_request_arrives_as_it_was_sent_with_the_key_and_the_request_id() -> None:
    async def scene(upstream: Upstream) -> None:
        backend = make(upstream.url, api_key_env="UP_KEY", environment={"UP_KEY": "sk-secret\n"})
        async with started(backend):
            await said(backend, "steady")
            last = upstream.seen()["last"]
            assert last["path"] == "/v1/chat/completions"
            assert last["body"] == json.loads(body("steady"))
            headers = last["headers"]
            assert headers["authorization"] == "Bearer sk-secret"
            assert headers["x-request-id"] == "req_1"
            assert headers["content-type"] == "application/json"
            assert headers["accept-encoding"] == "identity"

    play(scene, key="sk-secret")


def test_a_wrong_key_is_told_in_health_without_being_shown(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)

    async def scene(upstream: Upstream) -> None:
        backend = make(upstream.url, api_key_env="UP_KEY", environment={"UP_KEY": "sk-wrong"})
        async with started(backend, "down"):
            assert "401" in backend.health().reason
            assert "UP_KEY" in backend.health().reason
            answer = await talk(backend, "steady")
            assert answer.status == 401
            answer.close()
            assert "sk-wrong" not in backend.health().reason + caplog.text

    play(scene, key="sk-right")


def test_pieces_are_passed_on_as_they_arrive() -> None:
    async def scene(upstream: Upstream) -> None:
        async with started(make(upstream.url)) as backend:
            answer = await talk(backend, "steady", gap_after=1)
            chunks, got = answer.chunks(), b""
            while b"word0" not in got:
                got += await anext(chunks)
            assert b"word1" not in got
            answer.close()

    play(scene)


def test_a_huge_event_arrives_whole() -> None:
    async def scene(upstream: Upstream) -> None:
        async with started(make(upstream.url)) as backend:
            assert (await said(backend, "huge")).count(b"x" * 3_000_000) == 2

    play(scene)


@pytest.mark.parametrize("status", [400, 401, 429, 500, 503])
def test_an_error_of_the_server_is_an_answer_like_any_other(status: int) -> None:
    async def scene(upstream: Upstream) -> None:
        async with started(make(upstream.url)) as backend:
            answer = await talk(backend, f"error-{status}")
            assert answer.status == status
            assert answer.content_type == "application/json"
            assert json.loads(await answer.read())["error"]["message"] == f"scripted {status}"
            assert backend.health().state == "up"

    play(scene)


def test_a_redirect_is_not_followed() -> None:
    async def scene(upstream: Upstream) -> None:
        async with started(make(upstream.url)) as backend:
            answer = await talk(backend, "redirects")
            assert answer.status == 307
            answer.close()
            assert upstream.seen()["requests"] == 1

    play(scene)


def test_a_body_that_was_compressed_unasked_is_unpacked() -> None:
    async def scene(upstream: Upstream) -> None:
        async with started(make(upstream.url)) as backend:
            answer = await talk(backend, "gzip", stream=False)
            assert json.loads(await answer.read())["usage"]["total_tokens"] == 12

    play(scene)


@pytest.mark.parametrize(
    ("limit", "model"),
    [("first_byte", "slow-head"), ("idle", "idle-gap"), ("total", "endless"), ("total", "slow-head")],
)
def test_each_limit_has_its_own_error_and_ends_the_work(limit: str, model: str) -> None:
    async def scene(upstream: Upstream) -> None:
        times = TimeoutSettings(**{limit: 0.2})
        async with started(make(upstream.url, timeout_seconds=times)) as backend:
            error = await failure(backend, model)
            assert isinstance(error, BackendTimeout)
            assert error.details["limit"] == limit
            assert f"timeout_seconds.{limit}" in error.message
            assert "0.2 s" in error.message
            await upstream.wait_until("cancelled", 1)
            assert backend.health().state == "up"

    play(scene)


def test_a_connection_that_breaks_in_the_body_is_a_failure() -> None:
    async def scene(upstream: Upstream) -> None:
        async with started(make(upstream.url)) as backend:
            assert isinstance(await failure(backend, "breaks"), BackendFailed)

    play(scene)


def test_a_connection_that_ends_before_the_answer_lets_another_backend_be_tried() -> None:
    async def scene(upstream: Upstream) -> None:
        async with started(make(upstream.url)) as backend:
            error = await failure(backend, "drops")
            assert isinstance(error, BackendUnavailable)
            assert "before it answered" in error.message
            assert upstream.seen()["requests"] == 1

    play(scene)


def test_an_answer_that_is_no_http_is_a_failure() -> None:
    async def scene(upstream: Upstream) -> None:
        async with started(make(upstream.url)) as backend:
            assert isinstance(await failure(backend, "nonsense"), BackendFailed)

    play(scene)


def test_a_pooled_connection_that_had_died_is_replaced_once() -> None:
    async def scene(upstream: Upstream) -> None:
        async with started(make(upstream.url)) as backend:
            await said(backend, "steady")
            assert b"[DONE]" in await said(backend, "drops-reused")
            await said(backend, "steady")
            assert isinstance(await failure(backend, "drops"), BackendUnavailable)
            assert upstream.seen()["requests"] == 6

    play(scene)


def test_connections_are_kept_for_the_next_call() -> None:
    async def scene(upstream: Upstream) -> None:
        async with started(make(upstream.url, models=("steady",))) as backend:
            await backend.stop()
            before = upstream.seen()["connections"]
        backend = OpenAIBackend(BackendSettings(name="up", kind="openai", url=upstream.url, models=("steady",)))
        async with started(backend):
            for _ in range(5):
                await said(backend, "steady")
            assert upstream.seen()["connections"] == before + 2, "one for the probe, one for the calls"

    play(scene)


def test_closing_an_answer_early_stops_the_work_upstream() -> None:
    async def scene(upstream: Upstream) -> None:
        async with started(make(upstream.url)) as backend:
            answer = await talk(backend, "endless")
            chunks = answer.chunks()
            await anext(chunks)
            answer.close()
            answer.close()
            assert (await upstream.wait_until("cancelled", 1))["open"] == 0

    play(scene)


def test_cancelling_a_call_that_waits_for_its_head_stops_the_work_upstream() -> None:
    async def scene(upstream: Upstream) -> None:
        async with started(make(upstream.url)) as backend:
            task = asyncio.create_task(talk(backend, "slow-head"))
            await upstream.wait_until("open", 1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await upstream.wait_until("cancelled", 1)

    play(scene)


def test_a_refused_call_marks_the_backend_down_until_a_probe_finds_it_again() -> None:
    async def scene(upstream: Upstream) -> None:
        backend = OpenAIBackend(
            BackendSettings(name="up", kind="openai", url=upstream.url), probe_seconds=3_600, down_probe_seconds=0.02
        )
        async with started(backend):
            upstream.kill()
            error = await failure(backend, "steady")
            assert isinstance(error, BackendUnavailable)
            assert f"127.0.0.1:{upstream.port}" in error.message
            assert backend.health().state == "down"
            assert [card.id for card in backend.cards()] == ["steady"]
            await asyncio.to_thread(upstream.start)
            await eventually(lambda: backend.health().state == "up")
            await said(backend, "steady")

    play(scene, "steady")


def test_a_server_without_tls_cannot_be_reached_by_https() -> None:
    async def scene(upstream: Upstream) -> None:
        async with started(make(upstream.url.replace("http:", "https:"), models=("m",)), "down") as backend:
            assert isinstance(await failure(backend, "m"), BackendUnavailable)

    play(scene)


def test_a_connection_that_is_not_made_in_time_names_its_limit() -> None:
    async def scene(upstream: Upstream) -> None:
        backend = make(upstream.url.replace("http:", "https:"), timeout_seconds=TimeoutSettings(connect=0.2))
        async with started(backend, "down"):
            upstream.freeze()
            error = await failure(backend, "steady")
            assert isinstance(error, BackendUnavailable)
            assert error.details["limit"] == "connect"

    play(scene)


def test_a_backend_that_was_not_started_is_unavailable() -> None:
    async def scene() -> None:
        assert isinstance(await failure(make("http://127.0.0.1:1/v1"), "m"), BackendUnavailable)

    asyncio.run(scene())
