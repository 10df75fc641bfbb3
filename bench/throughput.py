"""Durable submissions, claims, and claims with their recorded ends: jobs a second, side by side.

Every cell (a queue, a number of callers) starts with an empty database. Its callers submit for `seconds`; then half
of the jobs are claimed and nothing more, then the rest are claimed and recorded as succeeded. Before each cell every
caller takes a few jobs through all of it, unmeasured. The rounds are interleaved: each runs every cell once, so that
a noisy minute hurts all alike; the median of the rounds counts.
"""

import asyncio
import statistics
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from pathlib import Path
from time import process_time
from typing import NamedTuple

import msgspec
from bench import peers
from bench.contenders import Contender, on_postgresql, on_sqlite
from bench.engines import Server
from bench.stopwatch import Rate, race

BATCH = 100
WARM_UP = 10
"""Jobs of each caller, unmeasured."""


class Entry(NamedTuple):
    """A queue that is measured with so many callers."""

    open: Callable[[int], AbstractAsyncContextManager[Contender]]
    cpu: Callable[[], float]
    least: int = 1
    most: int = 1000

    def fits(self, callers: int) -> bool:
        """Whether it is measured with so many."""
        return self.least <= callers <= self.most


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """How much is measured. `seconds` bounds each of the three phases."""

    callers: tuple[int, ...]
    rounds: int
    seconds: float


class Phase(msgspec.Struct, frozen=True):
    """Jobs a second, and microseconds of processor time for each job, client and server together."""

    per_second: float
    cpu_microseconds: float


class Cell(msgspec.Struct, frozen=True, kw_only=True):
    """One queue with so many callers: the median of the rounds, and every round."""

    name: str
    callers: int
    submit: Phase
    claim: Phase
    cycle: Phase
    """Claimed and recorded as succeeded."""
    rounds: tuple[tuple[Phase, Phase, Phase], ...]


async def throughput(entries: Sequence[Entry], plan: Plan, *, advance: Callable[[str], None]) -> Sequence[Cell]:
    """Measure every queue with every number of callers; `advance` is told of each cell before it runs."""
    taken: dict[tuple[str, int], list[tuple[Phase, Phase, Phase]]] = {}
    for number in range(plan.rounds):
        for callers in plan.callers:
            for entry in entries:
                if not entry.fits(callers):
                    continue
                async with entry.open(callers) as contender:
                    advance(f"round {number + 1}, {callers} callers, {contender.name}")
                    phases = await _phases(contender, callers, plan.seconds, cpu=entry.cpu)
                taken.setdefault((contender.name, callers), []).append(phases)
    cells = []
    for (name, callers), rounds in taken.items():
        submit, claim, cycle = (_median(column) for column in zip(*rounds, strict=True))
        cells.append(Cell(name=name, callers=callers, submit=submit, claim=claim, cycle=cycle, rounds=tuple(rounds)))
    return cells


def _median(phases: Sequence[Phase]) -> Phase:
    return Phase(
        statistics.median(phase.per_second for phase in phases),
        statistics.median(phase.cpu_microseconds for phase in phases),
    )


def entries_for(server: Server | None, engines: Sequence[str]) -> Sequence[Entry]:
    """Every queue that is measured: ours on each engine, and the peers beside ours on PostgreSQL."""
    found: list[Entry] = []
    if "sqlite" in engines:
        found += [Entry(_sqlite, process_time), Entry(_sqlite_apart, process_time, least=2, most=16)]
    if server is not None:
        both = (peers.procrastinate, peers.pgqueuer)

        def cpu() -> float:
            return process_time() + server.cpu_seconds()

        found += [
            Entry(partial(_postgresql, server), cpu),
            Entry(partial(_postgresql_apart, server), cpu, least=2, most=16),
            *(Entry(partial(_peer, server, peer, 1), cpu) for peer in both),
            *(Entry(partial(_peer, server, peer, BATCH), cpu, most=16) for peer in both),
        ]
    return found


def cells_of(entries: Sequence[Entry], plan: Plan) -> int:
    """How many cells one run measures, all rounds counted."""
    return plan.rounds * sum(entry.fits(callers) for callers in plan.callers for entry in entries)


async def _phases(
    contender: Contender, callers: int, seconds: float, *, cpu: Callable[[], float]
) -> tuple[Phase, Phase, Phase]:
    await asyncio.gather(*(_warm_up(contender, caller) for caller in range(callers)))

    async def submit(caller: int) -> int:
        return await contender.enqueue(caller)

    submitted = await race(callers, seconds, submit, cpu=cpu)
    left = submitted.done // 2

    async def claim(caller: int) -> int:
        nonlocal left
        if left <= 0:
            return 0
        taken = len(await contender.take(caller))
        left -= taken
        return taken

    async def cycle(caller: int) -> int:
        jobs = await contender.take(caller)
        if jobs:
            await contender.finish(caller, jobs)
        return len(jobs)

    claimed = await race(callers, seconds, claim, cpu=cpu)
    ended = await race(callers, seconds, cycle, cpu=cpu)
    return _phase(submitted), _phase(claimed), _phase(ended)


async def _warm_up(contender: Contender, caller: int) -> None:
    """Have every connection meet each statement: plans and functions are made at their first uses."""
    for _ in range(WARM_UP):
        await contender.enqueue(caller)
        await contender.finish(caller, await contender.take(caller))


def _phase(rate: Rate) -> Phase:
    return Phase(rate.per_second, rate.cpu_microseconds)


@asynccontextmanager
async def _sqlite(_: int, *, stores: int = 1) -> AsyncIterator[Contender]:
    with tempfile.TemporaryDirectory(prefix="sluicegate-bench-") as folder:
        async with on_sqlite(Path(folder), stores=stores) as contender:
            yield contender


def _sqlite_apart(callers: int) -> AbstractAsyncContextManager[Contender]:
    return _sqlite(callers, stores=callers)


@asynccontextmanager
async def _postgresql(server: Server, _: int, *, stores: int = 1) -> AsyncIterator[Contender]:
    async with server.database() as url, on_postgresql(url, stores=stores) as contender:
        yield contender


def _postgresql_apart(server: Server, callers: int) -> AbstractAsyncContextManager[Contender]:
    return _postgresql(server, callers, stores=callers)


@asynccontextmanager
async def _peer(server: Server, peer: peers.Peer, batch: int, callers: int) -> AsyncIterator[Contender]:
    async with server.database() as url, peer(url, callers, batch) as contender:
        yield contender
