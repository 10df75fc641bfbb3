"""Whom the balancer chooses and how long it waits, over backends in memory and on a clock that leaps."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from tests.lane_driver import WiredBackend, leap, run_leaping

from sluicegate.backends.backend import Health
from sluicegate.backends.fleet import Fleet
from sluicegate.errors import BackendUnavailable, Overloaded
from sluicegate.scheduling.balancer import Balancer, Search


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    async def coroutine() -> None:
        await scenario()

    run_leaping(coroutine())


@pytest.mark.parametrize("count", [1, 2])
def test_who_is_down_or_full_is_not_chosen(count: int) -> None:
    async def scenario() -> None:
        backends = [WiredBackend(f"b{number}", most=2) for number in range(count)]
        fleet = Fleet(backends)
        balancer = Balancer(fleet, patience=0.0)
        for backend in backends:
            backend.state = Health(state="down")
        assert balancer.take_now("m") is None
        for backend in backends:
            backend.state = Health(state="up")
        taken = [balancer.take_now("m") for _ in range(2 * count)]
        assert None not in taken
        assert balancer.take_now("m") is None
        with pytest.raises(Overloaded) as caught:
            await balancer.take(Search("m"))
        assert caught.value.retry_after == 1.0
        for each in taken:
            assert each is not None
            balancer.release(each, "m")
        assert fleet.outstanding() == {}

    run(scenario)


def test_who_was_found_by_a_search_counts_as_busy() -> None:
    async def scenario() -> None:
        backend = WiredBackend(most=1)
        balancer = Balancer(Fleet([backend]))
        assert await balancer.take(Search("m")) is backend
        assert balancer.take_now("m") is None

    run(scenario)


def test_the_patience_of_a_search_counts_from_its_beginning() -> None:
    async def scenario() -> None:
        backend = WiredBackend()
        backend.state = Health(state="starting")
        balancer = Balancer(Fleet([backend]), patience=10.0)
        search = Search("m")
        searching = asyncio.create_task(balancer.take(search))
        await leap(6.0)
        searching.cancel()
        await asyncio.gather(searching, return_exceptions=True)
        searching = asyncio.create_task(balancer.take(search))
        await leap(6.0)
        assert searching.done(), "it waits on"
        with pytest.raises(BackendUnavailable):
            await searching

    run(scenario)


def test_a_backend_that_failed_and_starts_again_is_asked_again() -> None:
    async def scenario() -> None:
        backend = WiredBackend()
        balancer = Balancer(Fleet([backend]), patience=10.0)
        search = Search("m")
        search.refused["wired"] = "it was gone"
        backend.state = Health(state="starting")
        searching = asyncio.create_task(balancer.take(search))
        await leap(1.0)
        assert not searching.done()
        backend.state = Health(state="up")
        await leap(1.0)
        assert await searching is backend

    run(scenario)


def test_a_backend_that_failed_and_is_still_up_is_not_asked_again() -> None:
    async def scenario() -> None:
        first, second = WiredBackend("first"), WiredBackend("second")
        balancer = Balancer(Fleet([first, second]), patience=10.0)
        search = Search("m")
        search.refused["first"] = "it was gone"
        assert [await balancer.take(search) for _ in range(3)] == [second] * 3

    run(scenario)
