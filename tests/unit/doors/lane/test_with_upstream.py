"""The lane before real servers in processes of their own, and callers on real sockets."""

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack
from typing import Any

import httpx
import pytest
from tests.lane_driver import CHAT, Plant, chat, eventually, post, served, simple_chat
from tests.upstream import Upstream, scripted_upstream

from sluicegate.backends.openai import OpenAIBackend
from sluicegate.doors.http.connection import HIGH_WATER
from sluicegate.settings import BackendSettings, TimeoutSettings

Scene = Callable[[Plant, Sequence[Upstream]], Awaitable[None]]


def play(scene: Scene, servers: int = 1, **settings: Any) -> None:
    """Play a scene before so many servers; each is asked how it is only at the start and when a call fails."""

    async def run(upstreams: Sequence[Upstream]) -> None:
        backends = [
            OpenAIBackend(
                BackendSettings(name=f"b{number}", kind="openai", url=upstream.url, **settings), probe_seconds=3_600
            )
            for number, upstream in enumerate(upstreams)
        ]
        async with served(*backends) as plant:
            await plant.listen()
            await scene(plant, upstreams)

    with ExitStack() as stack:
        asyncio.run(run([stack.enter_context(scripted_upstream()) for _ in range(servers)]))


@contextlib.asynccontextmanager
async def client(plant: Plant) -> Any:
    """A caller."""
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{plant.port}", trust_env=False, timeout=30) as made:
        yield made


def test_connections_to_callers_and_to_the_server_are_used_again() -> None:
    async def scene(plant: Plant, upstreams: Sequence[Upstream]) -> None:
        async with client(plant) as caller:
            for path, body in ((CHAT, chat("steady", stream=True)), ("/api/chat", simple_chat(model="steady"))) * 3:
                answer = await caller.post(path, content=body)
                assert answer.status_code == 200
        assert upstreams[0].seen()["requests"] == 6
        assert upstreams[0].seen()["connections"] <= 3  # one for the calls, and those of probes

    play(scene)


def test_the_server_hears_the_id_of_the_call() -> None:
    async def scene(plant: Plant, upstreams: Sequence[Upstream]) -> None:
        async with client(plant) as caller:
            await caller.post(CHAT, content=chat("steady"), headers={"x-request-id": "mine"})
        assert upstreams[0].seen()["last"]["headers"]["x-request-id"] == "mine"

    play(scene)


def test_a_backend_that_is_gone_is_passed_over_and_the_caller_hears_nothing_of_it() -> None:
    async def scene(plant: Plant, upstreams: Sequence[Upstream]) -> None:
        upstreams[0].kill()
        async with client(plant) as caller:
            for _ in range(3):
                answer = await caller.post(CHAT, content=chat("steady", stream=True))
                assert "[DONE]" in answer.text
        assert plant.fleet.health()["b0"].state == "down"
        assert upstreams[1].seen()["requests"] == 3

    play(scene, servers=2)


def test_at_most_three_backends_are_tried() -> None:
    async def scene(plant: Plant, upstreams: Sequence[Upstream]) -> None:
        async with client(plant) as caller:
            answer = await caller.post(CHAT, content=chat("drops"))
        assert answer.status_code == 503
        assert answer.headers["retry-after"]
        assert sum(upstream.seen()["requests"] for upstream in upstreams) == 3

    play(scene, servers=4)


def test_a_late_or_broken_answer_is_not_asked_of_another_backend() -> None:
    async def scene(plant: Plant, upstreams: Sequence[Upstream]) -> None:
        async with client(plant) as caller:
            late = await caller.post(CHAT, content=chat("slow-head"))
            assert late.status_code == 504
            broken = await caller.post(CHAT, content=chat("breaks", stream=True))
            assert json.loads(broken.text.rpartition("data: ")[2])["error"]["code"] == "backend_failed"
        assert sum(upstream.seen()["requests"] for upstream in upstreams) == 2

    play(scene, servers=2, timeout_seconds=TimeoutSettings(first_byte=0.5))


@pytest.mark.parametrize(
    ("model", "field"), [("slow-head", "open"), ("idle-gap", "sent"), ("flood", "sent"), ("endless", "sent")]
)
def test_a_caller_who_leaves_frees_the_server(model: str, field: str) -> None:
    async def scene(plant: Plant, upstreams: Sequence[Upstream]) -> None:
        _, writer = await asyncio.open_connection("127.0.0.1", plant.port)
        writer.write(post(CHAT, chat(model, stream=True)))
        await upstreams[0].wait_until(field, 1)
        writer.transport.abort()
        await upstreams[0].wait_until("cancelled", 1)
        await eventually(lambda: plant.calls()["cancelled"] == 1)
        assert upstreams[0].seen()["open"] == 0

    play(scene)


def test_a_caller_who_takes_nothing_stops_the_server_and_other_callers_feel_nothing() -> None:
    async def scene(plant: Plant, upstreams: Sequence[Upstream]) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", plant.port, limit=1_000)
        writer.write(post(CHAT, chat("flood", stream=True)))
        await upstreams[0].wait_until("sent", 300_000)
        (connection,) = plant.server.connections
        await eventually(lambda: connection.transport.get_write_buffer_size() > HIGH_WATER)
        assert connection.transport.get_write_buffer_size() < 1_000_000
        async with client(plant) as caller:
            for _ in range(3):
                assert "[DONE]" in (await caller.post(CHAT, content=chat("steady", stream=True))).text
        before = upstreams[0].seen()["sent"]
        while before > 0:
            before -= len(await reader.read(1_000_000))
        await upstreams[0].wait_until("sent", upstreams[0].seen()["sent"] + 1)
        writer.transport.abort()
        await upstreams[0].wait_until("cancelled", 1)

    play(scene)


def test_a_huge_event_is_relayed() -> None:
    async def scene(plant: Plant, upstreams: Sequence[Upstream]) -> None:
        async with client(plant) as caller:
            answer = await caller.post(CHAT, content=chat("huge", stream=True))
            assert answer.text.count("x" * 3_000_000) == 2
            whole = await caller.post(CHAT, content=chat("huge"))
            assert len(whole.json()["choices"][0]["message"]["content"]) > 6_000_000

    play(scene)


@pytest.mark.parametrize("model", ["until-close", "http-1.0", "trailers", "interim", "gzip"])
def test_answers_in_any_framing_are_relayed(model: str) -> None:
    bodies = {"until-close": "until the end", "http-1.0": "until the end", "trailers": "hello", "interim": "hello"}

    async def scene(plant: Plant, upstreams: Sequence[Upstream]) -> None:
        async with client(plant) as caller:
            for _ in range(2):
                answer = await caller.post(CHAT, content=chat(model))
                assert answer.status_code == 200
                assert "content-encoding" not in answer.headers
                assert "x-sum" not in answer.headers
                if model in bodies:
                    assert answer.text == bodies[model]
                else:
                    assert answer.json()["usage"]["total_tokens"] == 12

    play(scene)
