"""The balancer over real servers in processes of their own."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import ExitStack, asynccontextmanager
from typing import Any

import pytest
from tests.upstream import Upstream, eventually, scripted_upstream

from sluicegate.backends.backend import BackendState
from sluicegate.backends.fleet import Fleet
from sluicegate.backends.openai import OpenAIBackend
from sluicegate.errors import BackendFailed, BackendTimeout, BackendUnavailable, Overloaded, UnknownModel
from sluicegate.scheduling.balancer import BalancedAnswer, Balancer
from sluicegate.settings import BackendSettings, TimeoutSettings

Scene = Callable[[Balancer, Fleet, Sequence[Upstream]], Awaitable[None]]


def play(scene: Scene, servers: int = 2, **settings: Any) -> None:
    """Play a scene over so many servers, all up; each backend is asked again only when a call fails."""

    async def run(upstreams: Sequence[Upstream]) -> None:
        backends = [
            OpenAIBackend(
                BackendSettings(name=f"b{number}", kind="openai", url=upstream.url, **settings), probe_seconds=3_600
            )
            for number, upstream in enumerate(upstreams)
        ]
        async with running(Fleet(backends)) as fleet:
            await scene(Balancer(fleet), fleet, upstreams)
            assert fleet.outstanding() == {}, "a call is still counted"

    with ExitStack() as stack:
        asyncio.run(run([stack.enter_context(scripted_upstream()) for _ in range(servers)]))


@asynccontextmanager
async def running(fleet: Fleet, state: BackendState = "up") -> AsyncIterator[Fleet]:
    await fleet.start()
    try:
        await eventually(lambda: all(health.state == state for health in fleet.health().values()))
        yield fleet
    finally:
        await fleet.stop()


async def ask(balancer: Balancer, model: str = "steady", **script: Any) -> BalancedAnswer:
    body = json.dumps({"model": model, "stream": True, "script": script}).encode()
    return await balancer.open(model, "chat/completions", body, "req_1")


async def read(answer: BalancedAnswer) -> bytes:
    try:
        return b"".join([chunk async for chunk in answer.chunks()])
    finally:
        await answer.close()


def test_equally_busy_backends_take_turns() -> None:
    async def scene(balancer: Balancer, fleet: Fleet, upstreams: Sequence[Upstream]) -> None:
        names = []
        for _ in range(6):
            answer = await ask(balancer)
            names.append(answer.backend)
            await read(answer)
        assert names == ["b0", "b1"] * 3

    play(scene)


def test_the_least_busy_backend_is_chosen() -> None:
    async def scene(balancer: Balancer, fleet: Fleet, upstreams: Sequence[Upstream]) -> None:
        async with balancer.lease("steady") as first, balancer.lease("steady") as second:
            assert {first.name, second.name} == {"b0", "b1"}
        async with balancer.lease("endless") as busy:
            for _ in range(3):
                async with balancer.lease("steady") as idle:
                    assert idle.name != busy.name
            assert fleet.outstanding() == {(busy.name, "endless"): 1}

    play(scene)


def test_an_unknown_model_is_told_with_the_nearest_name() -> None:
    async def scene(balancer: Balancer, fleet: Fleet, upstreams: Sequence[Upstream]) -> None:
        with pytest.raises(UnknownModel, match=r'no model "stead".*did you mean "steady"'):
            await ask(balancer, "stead")

    play(scene, servers=1)


def test_when_all_are_full_the_caller_is_told_to_come_back() -> None:
    async def scene(balancer: Balancer, fleet: Fleet, upstreams: Sequence[Upstream]) -> None:
        answers = [await ask(balancer, "endless") for _ in range(4)]
        with pytest.raises(Overloaded) as caught:
            await ask(balancer)
        assert caught.value.retry_after == 1.0
        await answers[0].close()
        await read(await ask(balancer))
        for answer in answers:
            await answer.close()

    play(scene, max_concurrency=2)


def test_a_backend_that_refuses_the_connection_is_passed_over() -> None:
    async def scene(balancer: Balancer, fleet: Fleet, upstreams: Sequence[Upstream]) -> None:
        upstreams[0].kill()
        for _ in range(3):
            answer = await ask(balancer)
            assert answer.backend == "b1"
            assert b"[DONE]" in await read(answer)
        assert fleet.health()["b0"].state == "down"

    play(scene)


def test_at_most_three_backends_are_tried() -> None:
    async def scene(balancer: Balancer, fleet: Fleet, upstreams: Sequence[Upstream]) -> None:
        with pytest.raises(BackendUnavailable):
            await ask(balancer, "drops")
        assert sum(upstream.seen()["requests"] for upstream in upstreams) == 3

    play(scene, servers=4)


def test_when_all_are_down_each_reason_is_told() -> None:
    async def scene(balancer: Balancer, fleet: Fleet, upstreams: Sequence[Upstream]) -> None:
        for upstream in upstreams:
            upstream.kill()
        with pytest.raises(BackendUnavailable) as caught:
            await ask(balancer)
        for number, upstream in enumerate(upstreams):
            assert f"b{number}: " in caught.value.message
            assert str(upstream.port) in caught.value.message

    play(scene)


def test_a_late_or_broken_answer_is_not_asked_of_another_backend() -> None:
    async def scene(balancer: Balancer, fleet: Fleet, upstreams: Sequence[Upstream]) -> None:
        with pytest.raises(BackendTimeout):
            await ask(balancer, "slow-head")
        with pytest.raises(BackendFailed):
            await read(await ask(balancer, "breaks"))
        assert sum(upstream.seen()["requests"] for upstream in upstreams) == 2

    play(scene, timeout_seconds=TimeoutSettings(first_byte=0.5))


def test_a_call_that_is_cancelled_while_it_waits_is_no_longer_counted() -> None:
    async def scene(balancer: Balancer, fleet: Fleet, upstreams: Sequence[Upstream]) -> None:
        task = asyncio.create_task(ask(balancer, "slow-head"))
        await upstreams[0].wait_until("open", 1)
        assert fleet.outstanding() == {("b0", "slow-head"): 1}
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert fleet.outstanding() == {}
        await upstreams[0].wait_until("cancelled", 1)

    play(scene, servers=1)


def test_an_answer_is_counted_until_it_is_closed_and_only_once() -> None:
    async def scene(balancer: Balancer, fleet: Fleet, upstreams: Sequence[Upstream]) -> None:
        first, second = await ask(balancer, "endless"), await ask(balancer, "endless")
        await anext(first.chunks())
        assert fleet.load("b0") == 2
        await first.close()
        await first.close()
        assert fleet.load("b0") == 1
        await second.close()
        assert (await upstreams[0].wait_until("cancelled", 2))["open"] == 0

    play(scene, servers=1)


def test_a_call_waits_for_the_only_backend_while_it_is_starting() -> None:
    async def scene() -> None:
        with scripted_upstream("steady") as upstream:
            fleet = Fleet([OpenAIBackend(BackendSettings(name="b0", kind="openai", url=upstream.url))])
            await fleet.start()
            try:
                assert fleet.health()["b0"].state == "starting"
                assert b"[DONE]" in await read(await ask(Balancer(fleet, patience=30)))
            finally:
                await fleet.stop()

    asyncio.run(scene())


def test_the_wait_for_a_starting_backend_ends() -> None:
    async def scene() -> None:
        with scripted_upstream("steady") as upstream:
            upstream.freeze()
            fleet = Fleet([OpenAIBackend(BackendSettings(name="b0", kind="openai", url=upstream.url))])
            await fleet.start()
            try:
                with pytest.raises(BackendUnavailable, match="b0: not asked yet"):
                    await ask(Balancer(fleet, patience=0.1))
            finally:
                upstream.thaw()
                await fleet.stop()

    asyncio.run(scene())


def test_a_model_is_not_called_unknown_while_a_backend_has_not_told_its_models() -> None:
    async def scene() -> None:
        with scripted_upstream() as upstream:
            upstream.kill()
            fleet = Fleet([OpenAIBackend(BackendSettings(name="b0", kind="openai", url=upstream.url))])
            async with running(fleet, "down"):
                with pytest.raises(BackendUnavailable, match="b0"):
                    await ask(Balancer(fleet))

    asyncio.run(scene())
