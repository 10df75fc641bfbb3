"""The balancer over real servers in processes of their own."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from typing import Any

import pytest
from tests.upstream import Upstream, eventually, scripted_upstream

from sluicegate.backends.answer import ask
from sluicegate.backends.backend import BackendState, ChatBackend, ChatCall
from sluicegate.backends.fleet import Fleet
from sluicegate.backends.openai import OpenAIBackend
from sluicegate.errors import BackendUnavailable, Overloaded, UnknownModel
from sluicegate.scheduling.balancer import Balancer, Search
from sluicegate.settings import BackendSettings

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


@contextmanager
def taken(balancer: Balancer, model: str = "steady") -> Iterator[ChatBackend]:
    """A backend for one call, given back at the end."""
    backend = balancer.take_now(model)
    assert backend is not None
    try:
        yield backend
    finally:
        balancer.release(backend, model)


async def read(backend: ChatBackend, model: str = "steady") -> bytes:
    """A call to the backend."""
    body = json.dumps({"model": model, "stream": True}).encode()
    return await (await ask(backend.send, ChatCall("chat/completions", body, "req_1", stream=True))).read()


def test_equally_busy_backends_take_turns() -> None:
    async def scene(balancer: Balancer, fleet: Fleet, upstreams: Sequence[Upstream]) -> None:
        names = []
        for _ in range(6):
            with taken(balancer) as backend:
                names.append(backend.name)
                assert b"[DONE]" in await read(backend)
        assert names == ["b0", "b1"] * 3
        assert [upstream.seen()["requests"] for upstream in upstreams] == [3, 3]

    play(scene)


def test_the_least_busy_backend_is_chosen() -> None:
    async def scene(balancer: Balancer, fleet: Fleet, upstreams: Sequence[Upstream]) -> None:
        with taken(balancer) as first, taken(balancer) as second:
            assert {first.name, second.name} == {"b0", "b1"}
        with taken(balancer, "endless") as busy:
            for _ in range(3):
                with taken(balancer) as idle:
                    assert idle.name != busy.name
            assert fleet.outstanding() == {(busy.name, "endless"): 1}

    play(scene)


def test_an_unknown_model_is_told_with_the_nearest_name() -> None:
    async def scene(balancer: Balancer, fleet: Fleet, upstreams: Sequence[Upstream]) -> None:
        assert balancer.take_now("stead") is None
        with pytest.raises(UnknownModel, match=r'no model "stead".*did you mean "steady"'):
            await balancer.take(Search("stead"))

    play(scene, servers=1)


def test_when_all_are_full_the_caller_is_told_to_come_back() -> None:
    async def scene(balancer: Balancer, fleet: Fleet, upstreams: Sequence[Upstream]) -> None:
        with ExitStack() as stack:
            for _ in range(3):
                stack.enter_context(taken(balancer, "endless"))
            with taken(balancer, "endless"):
                assert balancer.take_now("steady") is None
                with pytest.raises(Overloaded) as caught:
                    await balancer.take(Search("steady"))
                assert caught.value.retry_after == 1.0
            with taken(balancer) as backend:
                assert b"[DONE]" in await read(backend)

    play(scene, max_concurrency=2)


def test_a_backend_that_failed_the_search_is_passed_over() -> None:
    async def scene(balancer: Balancer, fleet: Fleet, upstreams: Sequence[Upstream]) -> None:
        search = Search("steady")
        search.refused["b0"] = "b0: no answer"
        for _ in range(3):
            backend = await balancer.take(search)
            assert backend.name == "b1"
            balancer.release(backend, "steady")
        search.refused["b1"] = "b1: none either"
        with pytest.raises(BackendUnavailable, match="b0: no answer; b1: none either") as caught:
            await balancer.take(search)
        assert caught.value.retry_after == 1.0

    play(scene)


def test_a_backend_that_refuses_the_connection_is_passed_over() -> None:
    async def scene(balancer: Balancer, fleet: Fleet, upstreams: Sequence[Upstream]) -> None:
        upstreams[0].kill()
        with taken(balancer) as backend, pytest.raises(BackendUnavailable):
            await read(backend)
        assert fleet.health()["b0"].state == "down"
        for _ in range(3):
            with taken(balancer) as backend:
                assert backend.name == "b1"
                assert b"[DONE]" in await read(backend)

    play(scene)


def test_when_all_are_down_each_reason_is_told() -> None:
    async def scene(balancer: Balancer, fleet: Fleet, upstreams: Sequence[Upstream]) -> None:
        search = Search("steady")
        for upstream in upstreams:
            upstream.kill()
        for backend in fleet.backends:
            with pytest.raises(BackendUnavailable):
                await read(backend)
        with pytest.raises(BackendUnavailable) as caught:
            await balancer.take(search)
        for number, upstream in enumerate(upstreams):
            assert f"b{number}: " in caught.value.message
            assert str(upstream.port) in caught.value.message

    play(scene)


def test_a_search_that_is_cancelled_counts_nothing() -> None:
    async def scene() -> None:
        with scripted_upstream("steady") as upstream:
            upstream.freeze()
            fleet = Fleet([OpenAIBackend(BackendSettings(name="b0", kind="openai", url=upstream.url))])
            await fleet.start()
            try:
                task = asyncio.create_task(Balancer(fleet, patience=30).take(Search("steady")))
                await asyncio.sleep(0)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                assert fleet.outstanding() == {}
            finally:
                upstream.thaw()
                await fleet.stop()

    asyncio.run(scene())


def test_the_calls_of_other_processes_make_a_backend_busy() -> None:
    async def scene(balancer: Balancer, fleet: Fleet, upstreams: Sequence[Upstream]) -> None:
        counts = {"b0": Others(), "b1": Others()}
        shared = Balancer(Fleet(fleet.backends, counts))
        counts["b0"].count = 1
        with taken(shared) as first:
            assert first.name == "b1"
            assert counts["b1"].told == [1]
            counts["b1"].count = 2
            with taken(shared) as second:
                assert second.name == "b0"
                assert shared.take_now("steady") is None
        assert counts["b1"].told == [1, 0]

    play(scene, max_concurrency=2)


class Others:
    """What other processes have open. Fulfils `SharedCount`."""

    def __init__(self) -> None:
        self.count = 0
        self.told: list[int] = []

    def set(self, value: int) -> None:
        """See `SharedCount`."""
        self.told.append(value)

    def others(self) -> int:
        """See `SharedCount`."""
        return self.count


def test_a_call_waits_for_the_only_backend_while_it_is_starting() -> None:
    async def scene() -> None:
        with scripted_upstream("steady") as upstream:
            fleet = Fleet([OpenAIBackend(BackendSettings(name="b0", kind="openai", url=upstream.url))])
            await fleet.start()
            try:
                assert fleet.health()["b0"].state == "starting"
                balancer = Balancer(fleet, patience=30)
                assert balancer.take_now("steady") is None
                backend = await balancer.take(Search("steady"))
                assert b"[DONE]" in await read(backend)
                balancer.release(backend, "steady")
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
                    await Balancer(fleet, patience=0.1).take(Search("steady"))
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
                    await Balancer(fleet).take(Search("steady"))

    asyncio.run(scene())
