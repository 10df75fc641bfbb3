"""Running chat calls: bounded, counted, cancelled, drained."""

import asyncio
from collections.abc import Callable

import pytest
from tests.lane_driver import calls_of

from sluicegate.domain.ids import RequestId, Tenant
from sluicegate.doors.lane.exchanges import Exchanges
from sluicegate.errors import Conflict, Draining, ExchangeCanceled, Overloaded, SluicegateError, UnknownStream
from sluicegate.observability.metrics import Metrics

ACME, OTHER = Tenant("acme"), Tenant("other")
A, B, C = RequestId("a"), RequestId("b"), RequestId("c")


class Running:
    """A call that goes on until it is stopped; `told` keeps the reasons. Fulfils `Exchange`."""

    def __init__(self, exchanges: Exchanges, request_id: RequestId, tenant: Tenant = ACME) -> None:
        self.told: list[SluicegateError] = []
        self._leave: Callable[[], None] = lambda: exchanges.leave(tenant, request_id, "cancelled")
        exchanges.enter(tenant, request_id, self)

    def stop(self, reason: SluicegateError) -> None:
        """See `Exchange.stop`."""
        self.told.append(reason)
        self._leave()


class Others:
    """What other processes have running. Fulfils `SharedCount`."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.told: list[int] = []

    def set(self, value: int) -> None:
        """See `SharedCount`."""
        self.told.append(value)

    def others(self) -> int:
        """See `SharedCount`."""
        return self.count


def test_a_call_is_cancelled_by_its_own_tenant_only() -> None:
    metrics = Metrics()
    exchanges = Exchanges(metrics, limit=10)
    call = Running(exchanges, A)
    assert (calls_of(metrics)["active"], metrics.active_streams.value) == (1, 1)
    with pytest.raises(UnknownStream):
        exchanges.cancel(OTHER, A)
    exchanges.cancel(ACME, A)
    assert isinstance(call.told[0], ExchangeCanceled)
    with pytest.raises(UnknownStream):
        exchanges.cancel(ACME, A)
    assert calls_of(metrics) == {"active": 0, "total": 1, "completed": 0, "cancelled": 1, "error": 0}
    assert metrics.active_streams.value == 0
    assert metrics.streams.labels("cancelled").value == 1


def test_the_limit_and_a_running_id_are_refused() -> None:
    metrics = Metrics()
    exchanges = Exchanges(metrics, limit=2)
    Running(exchanges, A)
    with pytest.raises(Conflict):
        Running(exchanges, A)
    other = Running(exchanges, A, OTHER)
    with pytest.raises(Overloaded, match="max_streams"):
        Running(exchanges, B)
    assert calls_of(metrics)["active"] == 2
    other.stop(Draining("enough"))
    Running(exchanges, B)
    assert calls_of(metrics)["active"] == 2


def test_the_limit_counts_the_calls_of_other_processes() -> None:
    others = Others(2)
    exchanges = Exchanges(Metrics(), limit=3, shared=others)
    call = Running(exchanges, A)
    with pytest.raises(Overloaded):
        Running(exchanges, B)
    others.count = 1
    Running(exchanges, B)
    call.stop(Draining("enough"))
    assert others.told == [1, 2, 1]


@pytest.mark.parametrize("ending", ["completed", "cancelled", "error"])
def test_each_ending_is_counted(ending: str) -> None:
    metrics = Metrics()
    exchanges = Exchanges(metrics, limit=2)
    Running(exchanges, A)
    match ending:
        case "completed":
            exchanges.leave(ACME, A, "completed")
        case "cancelled":
            exchanges.leave(ACME, A, "cancelled")
        case _:
            exchanges.leave(ACME, A, "error")
    expected = {"active": 0, "total": 1, "completed": 0, "cancelled": 0, "error": 0}
    assert calls_of(metrics) == {**expected, ending: 1}


def test_draining_refuses_new_calls_and_stops_those_that_outlast_it() -> None:
    async def scenario() -> None:
        exchanges = Exchanges(Metrics(), limit=10)
        call = Running(exchanges, A)
        await exchanges.drain(0.01)
        assert isinstance(call.told[0], Draining)
        with pytest.raises(Draining):
            Running(exchanges, B)

    asyncio.run(scenario())


def test_draining_ends_with_the_last_call() -> None:
    async def scenario() -> None:
        exchanges = Exchanges(Metrics(), limit=10)
        calls = [Running(exchanges, A), Running(exchanges, B)]
        draining = asyncio.create_task(exchanges.drain(3_600))
        for call in calls:
            await asyncio.sleep(0)
            assert not draining.done()
            call.stop(Draining("its end"))
        await asyncio.wait_for(draining, 5)
        assert [len(call.told) for call in calls] == [1, 1]

    asyncio.run(scenario())


def test_draining_an_idle_gateway_takes_no_time() -> None:
    async def scenario() -> None:
        exchanges = Exchanges(Metrics(), limit=10)
        await asyncio.wait_for(exchanges.drain(3_600), 5)
        exchanges = Exchanges(Metrics(), limit=10)
        Running(exchanges, C).stop(Draining("its end"))
        await asyncio.wait_for(exchanges.drain(3_600), 5)

    asyncio.run(scenario())
