"""What every chat backend promises, on each kind."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from tests.upstream import eventually, scripted_upstream

from sluicegate.backends.backend import ChatBackend, UpstreamAnswer
from sluicegate.backends.local_llm import LocalLLMBackend
from sluicegate.backends.openai import OpenAIBackend
from sluicegate.errors import BackendUnavailable
from sluicegate.settings import BackendSettings

Scene = Callable[[ChatBackend, str], Awaitable[None]]
Stage = Callable[[Scene], None]


@pytest.fixture(params=["openai", "local-llm"])
def stage(request: pytest.FixtureRequest) -> Iterator[Stage]:
    """Plays a scene with a started backend of the kind and one of its models."""
    if request.param == "local-llm":
        yield lambda scene: _play(LocalLLMBackend(BackendSettings(name="b", kind="local-llm")), scene)
        return
    with scripted_upstream("steady") as upstream:
        yield lambda scene: _play(OpenAIBackend(BackendSettings(name="b", kind="openai", url=upstream.url)), scene)


def _play(backend: ChatBackend, scene: Scene) -> None:
    async def play() -> None:
        await backend.start()
        try:
            await eventually(lambda: backend.health().state == "up")
            await scene(backend, backend.cards()[0].id)
        finally:
            await backend.stop()

    asyncio.run(play())


async def ask(backend: ChatBackend, model: str, **fields: Any) -> UpstreamAnswer:
    request = {"model": model, "messages": [{"role": "user", "content": "Say a word."}], "max_tokens": 4, **fields}
    return await backend.call("chat/completions", json.dumps(request).encode(), request_id="req_1")


async def read(answer: UpstreamAnswer) -> bytes:
    try:
        return b"".join([chunk async for chunk in answer.chunks()])
    finally:
        await answer.close()


def test_a_streamed_answer_ends_with_its_usage_and_done(stage: Stage) -> None:
    async def scene(backend: ChatBackend, model: str) -> None:
        answer = await ask(backend, model, stream=True, stream_options={"include_usage": True})
        assert answer.status == 200
        assert answer.content_type.startswith("text/event-stream")
        *events, end, nothing = (await read(answer)).decode().split("\n\n")
        assert (end, nothing) == ("data: [DONE]", "")
        chunks = [json.loads(event.removeprefix("data: ")) for event in events]
        assert chunks[-1]["usage"]["completion_tokens"] > 0
        assert "".join(each["choices"][0]["delta"].get("content") or "" for each in chunks if each["choices"])

    stage(scene)


def test_a_plain_answer_is_one_json_object_with_usage(stage: Stage) -> None:
    async def scene(backend: ChatBackend, model: str) -> None:
        answer = await ask(backend, model)
        assert (answer.status, answer.content_type.partition(";")[0]) == (200, "application/json")
        whole = json.loads(await read(answer))
        assert whole["choices"][0]["message"]["content"]
        assert whole["usage"]["total_tokens"] == whole["usage"]["prompt_tokens"] + whole["usage"]["completion_tokens"]

    stage(scene)


def test_an_answer_closed_early_and_twice_leaves_the_backend_fit(stage: Stage) -> None:
    async def scene(backend: ChatBackend, model: str) -> None:
        answer = await ask(backend, model, stream=True, max_tokens=1_000)
        await anext(answer.chunks())
        await answer.close()
        await answer.close()
        assert b"[DONE]" in await read(await ask(backend, model, stream=True))

    stage(scene)


def test_a_request_that_the_server_refuses_is_an_answer_with_its_words(stage: Stage) -> None:
    async def scene(backend: ChatBackend, model: str) -> None:
        answer = await backend.call("chat/completions", b"{nonsense", request_id="req_1")
        assert 400 <= answer.status < 600
        assert json.loads(await read(answer))["error"]["message"]
        assert backend.health().state == "up"

    stage(scene)


def test_calls_run_side_by_side(stage: Stage) -> None:
    async def scene(backend: ChatBackend, model: str) -> None:
        answers = await asyncio.gather(*(ask(backend, model, stream=True) for _ in range(6)))
        assert all(b"[DONE]" in body for body in await asyncio.gather(*map(read, answers)))

    stage(scene)


def test_a_stopped_backend_is_down_and_can_be_started_again(stage: Stage) -> None:
    async def scene(backend: ChatBackend, model: str) -> None:
        await backend.stop()
        assert backend.health().state == "down"
        with pytest.raises(BackendUnavailable):
            await ask(backend, model)
        await backend.start()
        await eventually(lambda: backend.health().state == "up")
        assert (await ask(backend, model)).status == 200

    stage(scene)


def test_starting_twice_and_stopping_twice_are_harmless(stage: Stage) -> None:
    async def scene(backend: ChatBackend, model: str) -> None:
        await backend.start()
        assert (await ask(backend, model)).status == 200
        await backend.stop()
        await backend.stop()

    stage(scene)
