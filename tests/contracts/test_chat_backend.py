"""What every chat backend promises, on each kind."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from tests.ollama_peer import ollama_peer
from tests.upstream import eventually, scripted_upstream

from sluicegate.backends.answer import Answer, ask
from sluicegate.backends.backend import ChatBackend, ChatCall
from sluicegate.backends.local_llm import LocalLLMBackend
from sluicegate.backends.ollama import OllamaBackend
from sluicegate.backends.openai import OpenAIBackend
from sluicegate.backends.vllm import VLLMBackend
from sluicegate.errors import BackendUnavailable
from sluicegate.settings import BackendSettings

Scene = Callable[[ChatBackend, str], Awaitable[None]]
Stage = Callable[[Scene], None]


@pytest.fixture(params=["openai", "vllm", "ollama", "local-llm"])
def stage(request: pytest.FixtureRequest) -> Iterator[Stage]:
    """Plays a scene with a started backend of the kind and one of its models."""
    if request.param == "local-llm":
        yield lambda scene: _play(LocalLLMBackend(BackendSettings(name="b", kind="local-llm")), scene)
        return
    if request.param == "ollama":
        with ollama_peer() as peer:
            settings = BackendSettings(name="b", kind="ollama", url=peer.url)
            yield lambda scene: _play(OllamaBackend(settings), scene)
        return
    with scripted_upstream("steady") as upstream:
        made = {"openai": OpenAIBackend, "vllm": VLLMBackend}[request.param]
        yield lambda scene: _play(made(BackendSettings(name="b", kind=request.param, url=upstream.url)), scene)


def _play(backend: ChatBackend, scene: Scene) -> None:
    async def play() -> None:
        await backend.start()
        try:
            await eventually(lambda: backend.health().state == "up")
            await scene(backend, backend.cards()[0].id)
        finally:
            await backend.stop()

    asyncio.run(play())


async def talk(backend: ChatBackend, model: str, *, stream: bool = False, **fields: Any) -> Answer:
    messages = [{"role": "user", "content": "Say a word."}]
    request = {"model": model, "messages": messages, "max_tokens": 4, "stream": stream, **fields}
    return await ask(backend.send, ChatCall("chat/completions", json.dumps(request).encode(), "req_1", stream))


def test_a_streamed_answer_ends_with_its_usage_and_done(stage: Stage) -> None:
    async def scene(backend: ChatBackend, model: str) -> None:
        answer = await talk(backend, model, stream=True, stream_options={"include_usage": True})
        assert answer.status == 200
        assert answer.content_type.startswith("text/event-stream")
        *events, end, nothing = (await answer.read()).decode().split("\n\n")
        assert (end, nothing) == ("data: [DONE]", "")
        chunks = [json.loads(event.removeprefix("data: ")) for event in events]
        assert chunks[-1]["usage"]["completion_tokens"] > 0
        assert "".join(each["choices"][0]["delta"].get("content") or "" for each in chunks if each["choices"])

    stage(scene)


def test_a_plain_answer_is_one_json_object_with_usage(stage: Stage) -> None:
    async def scene(backend: ChatBackend, model: str) -> None:
        answer = await talk(backend, model)
        assert (answer.status, answer.content_type.partition(";")[0]) == (200, "application/json")
        whole = json.loads(await answer.read())
        assert whole["choices"][0]["message"]["content"]
        assert whole["usage"]["total_tokens"] == whole["usage"]["prompt_tokens"] + whole["usage"]["completion_tokens"]

    stage(scene)


def test_an_answer_closed_early_and_twice_leaves_the_backend_fit(stage: Stage) -> None:
    async def scene(backend: ChatBackend, model: str) -> None:
        answer = await talk(backend, model, stream=True, max_tokens=1_000)
        await anext(answer.chunks())
        answer.close()
        answer.close()
        assert b"[DONE]" in await (await talk(backend, model, stream=True)).read()

    stage(scene)


def test_a_request_that_the_server_refuses_is_an_answer_with_its_words(stage: Stage) -> None:
    async def scene(backend: ChatBackend, model: str) -> None:
        # Where the call is translated, what is no call at all is refused before the server sees it.
        unknown = b'{"model":"nobody","messages":[{"role":"user","content":"hi"}]}'
        request = unknown if backend.kind == "ollama" else b"{nonsense"
        answer = await ask(backend.send, ChatCall("chat/completions", request, "req_1"))
        assert 400 <= answer.status < 600
        assert json.loads(await answer.read())["error"]["message"]
        assert backend.health().state == "up"

    stage(scene)


def test_calls_run_side_by_side(stage: Stage) -> None:
    async def scene(backend: ChatBackend, model: str) -> None:
        answers = await asyncio.gather(*(talk(backend, model, stream=True) for _ in range(6)))
        assert all(b"[DONE]" in body for body in await asyncio.gather(*(answer.read() for answer in answers)))

    stage(scene)


def test_a_stopped_backend_is_down_and_can_be_started_again(stage: Stage) -> None:
    async def scene(backend: ChatBackend, model: str) -> None:
        await backend.stop()
        assert backend.health().state == "down"
        with pytest.raises(BackendUnavailable):
            await talk(backend, model)
        await backend.start()
        await eventually(lambda: backend.health().state == "up")
        assert (await talk(backend, model)).status == 200

    stage(scene)


def test_starting_twice_and_stopping_twice_are_harmless(stage: Stage) -> None:
    async def scene(backend: ChatBackend, model: str) -> None:
        await backend.start()
        assert (await talk(backend, model)).status == 200
        await backend.stop()
        await backend.stop()

    stage(scene)
