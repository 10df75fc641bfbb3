"""The supervisor's ends of the lines: totals of all processes, also of those that ended or do not answer."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import pytest
from tests.upstream import eventually

from sluicegate.app import switchboard as module
from sluicegate.app.line import Line
from sluicegate.app.messages import Letter, MetricsTold, PlantTold, Whereabouts
from sluicegate.app.switchboard import Switchboard
from sluicegate.domain.ids import RequestId, Tenant
from sluicegate.errors import UnknownStream
from sluicegate.observability.health import ProcessHealth
from sluicegate.observability.tallies import Counter, Gauge, MetricsDump
from sluicegate.supervision import Change

HEALTH = (ProcessHealth(name="gateway 1", state="up", pid=1), ProcessHealth(name="plant", state="down", reason="x"))
TENANT = Tenant("t")


class Process:
    """A gateway's counts and calls, and its line."""

    def __init__(self, calls: tuple[str, ...] = ()) -> None:
        self._family = Counter("answered_total", "Answered.", ())
        self._active = Gauge("active", "Active.", ())
        self.answered, self.active = self._family.labels(), self._active.labels()
        self.calls = set(calls)
        self.plants: list[PlantTold] = []
        self.line: Line | None = None

    def dump(self) -> MetricsDump:
        return MetricsDump.of((self._family.dump(), self._active.dump()))

    def stop_call(self, tenant: Tenant, request_id: RequestId) -> None:
        if tenant != TENANT or request_id not in self.calls:
            raise UnknownStream("none")
        self.calls.remove(request_id)

    async def join(self, board: Switchboard, name: str) -> Line:
        ours, theirs = socket.socketpair()
        await board.join(name, ours)
        line = Line(theirs.detach(), own=self.dump, stop_call=self.stop_call, on_plant=self.plants.append)
        self.line = line
        await line.start()
        return line


@asynccontextmanager
async def joined(*names: str) -> AsyncIterator[tuple[Switchboard, dict[str, Process]]]:
    board = Switchboard(MetricsDump, lambda: HEALTH)
    processes = {name: Process() for name in names}
    try:
        for name, process in processes.items():
            await process.join(board, name)
        yield board, processes
    finally:
        for process in processes.values():
            if process.line is not None:
                await process.line.stop()
        await board.close()


def number(dump: MetricsDump, name: str = "answered_total") -> int:
    return sum(series.values[0] for family in dump.families if family.name == name for series in family.series)


def test_metrics_are_fresh_and_summed_whoever_asks() -> None:
    async def scenario() -> None:
        async with joined("gateway 1", "gateway 2", "gateway 3") as (_, processes):
            for at, process in enumerate(processes.values(), start=1):
                process.answered.add(at)
                process.active.value = 1
            for process in processes.values():
                assert process.line is not None
                told = await process.line.metrics()
                assert (number(told), number(told, "active")) == (6, 3)

    asyncio.run(scenario())


def test_what_an_ended_process_counted_stays_and_how_it_stood_goes() -> None:
    async def scenario() -> None:
        async with joined("gateway 1", "gateway 2") as (board, processes):
            one, two = processes["gateway 1"], processes["gateway 2"]
            one.answered.add(4)
            one.active.value = 1
            assert number(await board.metrics()) == 4
            assert one.line is not None
            one.answered.add(1)
            await one.line.stop()
            one.line = None
            await board.leave("gateway 1")
            for _ in range(2):
                told = await board.metrics()
                assert (number(told), number(told, "active")) == (5, 0), "its last words counted"
            again = processes["gateway 1"] = Process()
            await again.join(board, "gateway 1")
            again.answered.add(2)
            two.answered.add(3)
            assert number(await board.metrics()) == 10

    asyncio.run(scenario())


def test_a_process_that_does_not_answer_is_told_as_it_was_last_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ASK_SECONDS", 0.05)

    async def scenario() -> None:
        async with joined("gateway 1") as (board, processes):
            processes["gateway 1"].answered.add(2)
            ours, theirs = socket.socketpair()
            await board.join("frozen", ours)
            family = Counter("answered_total", "Answered.", ())
            family.labels().add(5)
            letter = msgspec.msgpack.encode(Letter("news", 0, MetricsTold(MetricsDump.of([family.dump()]), 1)))
            theirs.sendall(len(letter).to_bytes(4) + letter)
            await eventually(lambda: number(board.known["frozen"]) == 5)
            assert number(await board.metrics()) == 7
            theirs.close()

    asyncio.run(scenario())


def test_a_call_is_stopped_wherever_it_runs_but_for_another_tenant() -> None:
    async def scenario() -> None:
        async with joined("gateway 1", "gateway 2", "gateway 3") as (_, processes):
            processes["gateway 3"].calls.add("c")
            line = processes["gateway 1"].line
            assert line is not None
            assert not await line.cancel(Tenant("other"), RequestId("c"))
            assert await line.cancel(TENANT, RequestId("c"))
            assert not processes["gateway 3"].calls
            assert not await line.cancel(TENANT, RequestId("c"))

    asyncio.run(scenario())


def test_who_asks_is_not_asked_itself() -> None:
    async def scenario() -> None:
        async with joined("gateway 1", "gateway 2") as (_, processes):
            processes["gateway 1"].calls.add("mine")
            line = processes["gateway 1"].line
            assert line is not None
            assert not await line.cancel(TENANT, RequestId("mine"))

    asyncio.run(scenario())


def test_where_the_models_are_is_told_to_all_and_to_those_that_come_later() -> None:
    async def scenario() -> None:
        async with joined("gateway 1", "plant") as (board, processes):
            told = PlantTold((Whereabouts("llm", Change(state="starting"), "k"),), workers_start=True)
            plant = processes["plant"].line
            assert plant is not None
            plant.tell(told)
            one, later = processes["gateway 1"], Process()
            await eventually(lambda: told in one.plants)
            processes["gateway 2"] = later
            await later.join(board, "gateway 2")
            await eventually(lambda: later.plants == [told])

    asyncio.run(scenario())


def test_health_is_that_of_all_processes_and_says_when_the_supervisor_is_gone() -> None:
    async def scenario() -> None:
        async with joined("gateway 1") as (board, processes):
            line = processes["gateway 1"].line
            assert line is not None
            assert await line.processes() == HEALTH
            processes["gateway 1"].answered.add(3)
            await board.close()
            (alone,) = await line.processes()
            assert (alone.name, alone.state) == ("supervisor", "down")
            assert number(await line.metrics()) == 3
            assert not await line.cancel(TENANT, RequestId("x"))

    asyncio.run(scenario())


def test_metrics_of_another_version_are_left_out_and_that_is_said(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        async with joined("gateway 1", "gateway 2") as (board, processes):
            processes["gateway 1"].answered.add(1)
            other = Counter("answered_total", "In other words.", ())
            other.labels().add(100)
            line = processes["gateway 2"].line
            assert line is not None
            line.tell(MetricsTold(MetricsDump.of([other.dump()]), 1_000))
            await eventually(lambda: number(board.known["gateway 2"]) == 100)
            assert number(await board.metrics()) == 1

    asyncio.run(scenario())
    assert "gateway 2 are left out" in caplog.text
