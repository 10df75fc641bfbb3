"""Running chat calls: bounded, counted, cancelled, drained."""

import asyncio

import pytest

from sluicegate.domain.ids import RequestId, Tenant
from sluicegate.doors.exchanges import ExchangeCanceled, Exchanges
from sluicegate.errors import Conflict, Draining, Overloaded, SluicegateError, UnknownStream
from sluicegate.observability.metrics import Metrics

ACME, OTHER = Tenant("acme"), Tenant("other")


async def run(exchanges: Exchanges, name: str, entered: asyncio.Event, told: list[SluicegateError]) -> None:
    """A call that goes on until it is stopped."""
    with exchanges.enter(RequestId(name), ACME, "m") as exchange:
        entered.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            assert exchange.reason is not None
            told.append(exchange.reason)


def test_a_call_is_cancelled_by_its_own_tenant_only() -> None:
    async def scenario() -> None:
        exchanges = Exchanges(Metrics(), limit=10)
        entered, told = asyncio.Event(), list[SluicegateError]()
        task = asyncio.create_task(run(exchanges, "a", entered, told))
        await entered.wait()
        assert exchanges.count()["active"] == 1
        with pytest.raises(UnknownStream):
            exchanges.cancel(OTHER, RequestId("a"))
        exchanges.cancel(ACME, RequestId("a"))
        await task
        assert isinstance(told[0], ExchangeCanceled)
        with pytest.raises(UnknownStream):
            exchanges.cancel(ACME, RequestId("a"))
        assert exchanges.count() == {"active": 0, "total": 1, "completed": 0, "cancelled": 1, "error": 0}

    asyncio.run(scenario())


def test_the_limit_and_a_running_id_are_refused() -> None:
    async def scenario() -> None:
        exchanges = Exchanges(Metrics(), limit=2)
        with exchanges.enter(RequestId("a"), ACME, "m"):
            with pytest.raises(Conflict), exchanges.enter(RequestId("a"), ACME, "m"):
                pass
            with exchanges.enter(RequestId("a"), OTHER, "m"), pytest.raises(Overloaded, match="max_streams"):
                exchanges.enter(RequestId("b"), ACME, "m").__enter__()
        assert exchanges.count()["active"] == 0

    asyncio.run(scenario())


def test_draining_refuses_new_calls_and_stops_those_that_outlast_it() -> None:
    async def scenario() -> None:
        exchanges = Exchanges(Metrics(), limit=10)
        entered, told = asyncio.Event(), list[SluicegateError]()
        task = asyncio.create_task(run(exchanges, "a", entered, told))
        await entered.wait()
        await exchanges.drain(0.01)
        await task
        assert isinstance(told[0], Draining)
        with pytest.raises(Draining), exchanges.enter(RequestId("b"), ACME, "m"):
            pass

    asyncio.run(scenario())


def test_draining_an_idle_gateway_takes_no_time() -> None:
    async def scenario() -> None:
        exchanges = Exchanges(Metrics(), limit=10)
        await asyncio.wait_for(exchanges.drain(3_600), 5)

    asyncio.run(scenario())
