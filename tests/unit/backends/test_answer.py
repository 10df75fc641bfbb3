"""Waiting for answers."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from tests.upstream import Upstream, eventually, scripted_upstream

from sluicegate.backends.answer import Answer, ask
from sluicegate.backends.backend import AnswerHead, AnswerSink, ChatCall, UpstreamCall
from sluicegate.backends.openai import OpenAIBackend
from sluicegate.errors import BackendFailed
from sluicegate.settings import BackendSettings


@asynccontextmanager
async def started(upstream: Upstream) -> AsyncIterator[OpenAIBackend]:
    backend = OpenAIBackend(BackendSettings(name="up", kind="openai", url=upstream.url))
    await backend.start()
    try:
        yield backend
    finally:
        await backend.stop()


async def talk(backend: OpenAIBackend, model: str) -> Answer:
    body: dict[str, Any] = {"model": model, "stream": True}
    return await ask(backend.send, ChatCall("chat/completions", json.dumps(body).encode(), "req_1", True))


class Spout:
    """A call that is poured out by hand; fulfils `UpstreamCall`."""

    def __init__(self) -> None:
        self.sinks: list[AnswerSink] = []
        self.is_paused = False
        self.is_cancelled = False

    def send(self, call: ChatCall, sink: AnswerSink) -> UpstreamCall:
        self.sinks.append(sink)
        asyncio.get_running_loop().call_soon(sink.answer_begun, AnswerHead(200, "text/plain"))
        return self

    def pause(self) -> None:
        self.is_paused = True

    def resume(self) -> None:
        self.is_paused = False

    def cancel(self) -> None:
        self.is_cancelled = True


CALL = ChatCall("chat/completions", b"{}", "req_1")


def test_the_upstream_is_paused_above_64_kb_unread_and_goes_on_below() -> None:
    async def scenario() -> None:
        spout = Spout()
        answer = await ask(spout.send, CALL)
        for _ in range(64):
            spout.sinks[0].answer_piece(bytes(1_024))
        assert not spout.is_paused
        spout.sinks[0].answer_piece(b"x")
        assert spout.is_paused
        await anext(answer.chunks())
        assert not spout.is_paused
        spout.sinks[0].answer_ended()
        assert len(await answer.read()) == 63 * 1_024 + 1

    asyncio.run(scenario())


def test_what_came_before_a_failure_is_read_first() -> None:
    async def scenario() -> None:
        spout = Spout()
        answer = await ask(spout.send, CALL)
        spout.sinks[0].answer_piece(b"some")
        spout.sinks[0].answer_failed(BackendFailed("broke off"))
        chunks = answer.chunks()
        assert await anext(chunks) == b"some"
        with pytest.raises(BackendFailed, match="broke off"):
            await anext(chunks)

    asyncio.run(scenario())


def test_cancelling_who_waits_for_the_head_cancels_the_call() -> None:
    async def scene(upstream: Upstream) -> None:
        async with started(upstream) as backend:
            task = asyncio.create_task(talk(backend, "slow-head"))
            await upstream.wait_until("open", 1)
            task.cancel()
            await upstream.wait_until("cancelled", 1)
            assert task.cancelled() or task.cancelling()

    with scripted_upstream("steady") as upstream:
        asyncio.run(scene(upstream))


def test_cancelling_who_reads_cancels_the_call_and_closing_ends_the_reading() -> None:
    async def scene(upstream: Upstream) -> None:
        async with started(upstream) as backend:
            reading = asyncio.create_task((await talk(backend, "endless")).read())
            await upstream.wait_until("open", 1)
            reading.cancel()
            await upstream.wait_until("cancelled", 1)
            answer = await talk(backend, "endless")
            other = asyncio.create_task(answer.read())
            await upstream.wait_until("open", 1)
            answer.close()
            assert b"[DONE]" not in await other
            await upstream.wait_until("cancelled", 2)
            await eventually(reading.done)

    with scripted_upstream("steady") as upstream:
        asyncio.run(scene(upstream))
