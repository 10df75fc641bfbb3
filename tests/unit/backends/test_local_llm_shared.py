"""The built-in chat model run by one process and called by others."""

import asyncio
from typing import Any

import msgspec
from tests.upstream import eventually

from sluicegate.backends.answer import ask
from sluicegate.backends.backend import ChatCall
from sluicegate.backends.local_llm import MODEL
from sluicegate.backends.local_llm_shared import LocalLLMElsewhere, SharedLocalLLM
from sluicegate.settings import BackendSettings
from sluicegate.supervision import Change

SETTINGS = BackendSettings(name="llm", kind="local-llm", max_concurrency=3)


def call() -> ChatCall:
    body: dict[str, Any] = {"model": MODEL, "max_tokens": 2, "messages": [{"role": "user", "content": "Hello"}]}
    return ChatCall("chat/completions", msgspec.json.encode(body), "req")


async def answered(backend: LocalLLMElsewhere) -> int:
    answer = await ask(backend.send, call())
    try:
        await answer.read()
        return answer.status
    finally:
        answer.close()


def test_two_callers_that_are_told_where_the_model_is_use_it_also_after_its_restart() -> None:
    async def scenario() -> None:
        callers = [LocalLLMElsewhere(SETTINGS) for _ in range(2)]

        def tell() -> None:
            for caller in callers:
                caller.follow(*model.whereabouts)

        model = SharedLocalLLM(SETTINGS, callers=2, on_change=tell)
        for caller in callers:
            await caller.start()
            assert caller.health().state == "starting"
        await model.start()
        try:
            await eventually(lambda: all(caller.health().state == "up" for caller in callers), 60)
            assert [await answered(caller) for caller in callers] == [200, 200]
            assert model.process is not None
            before = model.whereabouts
            model.process.kill()
            await eventually(lambda: all(caller.health().state != "up" for caller in callers))
            await eventually(lambda: all(caller.health().state == "up" for caller in callers), 60)
            assert model.whereabouts[1] != before[1], "each start has a key of its own"
            assert [await answered(caller) for caller in callers] == [200, 200]
        finally:
            for backend in (*callers, model):
                await backend.stop()

    asyncio.run(scenario())


def test_being_told_the_same_again_breaks_no_call() -> None:
    async def scenario() -> None:
        caller = LocalLLMElsewhere(SETTINGS)
        await caller.start()
        up = Change(state="up", ready={"url": "http://127.0.0.1:9/v1"})
        caller.follow(up, "key")
        first = caller.health()
        caller.follow(Change(state="up", ready={"url": "http://127.0.0.1:9/v1"}), "key")
        assert caller.health() is first
        caller.follow(Change(state="down", reason="it ended"), "")
        assert (caller.health().state, caller.health().reason) == ("down", "it ended")
        await caller.stop()

    asyncio.run(scenario())
