"""Rows 1 and 2: a crowd of callers while gateways, workers and the server are killed again and again."""

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from tests.chaos.audit import audit
from tests.chaos.callers import Crowd, HttpCaller
from tests.chaos.databases import PostgresDatabase
from tests.chaos.faults import Hand, plan, strike
from tests.chaos.outcome import Figure, Outcome, Task, spread
from tests.chaos.patience import PATIENCE
from tests.chaos.plant import Machine, Plant, WorkerMachine
from tests.chaos.wake_ups import ServerBlows
from tests.chaos.work_log import Note
from tests.gateway import picture

HINTS_AGAIN_SECONDS = 2.0
_LINES = 12
_BACKLOG = 150


@dataclass(frozen=True)
class Storm:
    """How much of what. Server restarts and cuts of listeners are for PostgreSQL."""

    gateway_kills: int
    worker_kills: int
    gateways: int = 1
    workers: int = 4
    server_restarts: int = 0
    listener_cuts: int = 0
    lease: float = 3.0
    beat: float = 1.0


async def ride(task: Task, storm: Storm) -> Outcome:
    """Submit every job, deal every blow, wait for the end, and audit."""
    rng = random.Random(f"{task.seed} storm")
    async with Plant(
        task.database,
        seed=task.seed,
        gateways=storm.gateways,
        workers=storm.workers,
        lease=storm.lease,
        beat=storm.beat,
    ) as plant:
        finished = plant.work.finished
        crowd = Crowd(task.jobs, seed=task.seed, backlog=_BACKLOG, finished=lambda: len(finished))
        caller = HttpCaller(plant.client, [gateway.url for gateway in plant.gateways], rng)
        kinds: dict[str, tuple[int, Hand]] = {
            "gateway kills": (storm.gateway_kills, lambda: kill_one(rng, plant.gateways)),
            "worker kills": (storm.worker_kills, lambda: kill_one(rng, plant.workers)),
        }
        server: ServerBlows | None = None
        async with asyncio.TaskGroup() as group:
            hints: asyncio.Task[None] | None = None
            if isinstance(task.database, PostgresDatabase):
                server = ServerBlows(plant, task.database, rng)
                hints = group.create_task(server.run())
                kinds["server restarts"] = (storm.server_restarts, server.restart)
                kinds["times that listeners were cut"] = (storm.listener_cuts, server.cut_listeners)
            group.create_task(crowd.run(caller, plant.direct, picture(64, 64), lines=_LINES))
            watcher = group.create_task(_watch(crowd, plant, task))
            async with asyncio.TaskGroup() as blows:
                for what, (count, hand) in kinds.items():
                    done = crowd.told if what == "gateway kills" else finished
                    blows.create_task(strike(plan(rng, task.jobs, count), partial(len, done), hand))
                await all_ended(plant, task.jobs, lambda: (len(crowd.told), len(finished)))
            watcher.cancel()
            if hints is not None:
                hints.cancel()
        await plant.stop()
        verdict = await audit(task.database, crowd.told, pictures=plant.settings.assets_path, uploads=crowd.uploads)
        figures: dict[str, Figure] = {
            "jobs": len(crowd.told),
            "ended": verdict.ended,
            **{what: count for what, (count, _) in kinds.items()},
            **verdict.counts,
            "runs of the model begun": sum(note.kind == "began" for note in plant.work.notes),
            "calls that were repeated": crowd.repeats,
            **_recoveries(plant),
        }
        missed = []
        if server is not None:
            figures["connections cut"] = server.cut
            figures["server away: p50 / p99 / most, s"] = spread(server.outages)
            figures["hints again after a cut: p50 / p99 / most, s"] = spread(server.after_cuts)
            figures["hints again after the server is: p50 / p99 / most, s"] = spread(server.after_restarts)
            if max(server.after_cuts, default=0.0) > HINTS_AGAIN_SECONDS:
                missed.append(f"hints came again only {max(server.after_cuts):.2f} s after a connection was cut")
        return task.came_to(figures, plant.explained(verdict.faults), missed)


async def all_ended(plant: Plant, jobs: int, signs_of_life: Callable[[], object]) -> None:
    """Wait until so many jobs have ended. Raises `TimeoutError` when nothing has moved for `PATIENCE` seconds."""
    last: object = None
    moved_at = time.monotonic()
    while (ended := await plant.count("ledger")) < jobs:
        now = (signs_of_life(), ended)
        if now != last:
            last, moved_at = now, time.monotonic()
        if time.monotonic() - moved_at > PATIENCE:
            raise TimeoutError(f"nothing has moved for {PATIENCE:g} s: {ended} of {jobs} jobs have ended")
        await asyncio.sleep(0.1)


async def kill_one(rng: random.Random, machines: Sequence[Machine]) -> bool:
    """Kill one that is ready; one of eight blows falls on a process that has only begun to start."""
    machine = rng.choice(machines)
    return (machine.is_up or rng.random() < 0.125) and machine.kill()


async def _watch(crowd: Crowd, plant: Plant, task: Task) -> None:
    while True:
        kills = sum(machine.kills for machine in plant.machines)
        task.show(len(plant.work.finished), task.jobs, f"{len(crowd.told)} told, {kills} processes killed")
        await asyncio.sleep(0.1)


def _recoveries(plant: Plant) -> dict[str, Figure]:
    serving = [seconds for gateway in plant.gateways for seconds in gateway.recoveries]
    reported: list[float] = []
    silent: list[float] = []
    for worker in plant.workers:
        for pid, seconds in taken_again(worker, plant.work.notes):
            (reported if pid in worker.reported else silent).append(seconds)
    cases = {
        "killed gateway ready again": serving,
        "job of a killed worker taken again, its death reported": reported,
        "job of a killed worker taken again, its lease run out": silent,
    }
    return {f"{name}: p50 / p99 / most of {len(all_)}, s": spread(all_) for name, all_ in cases.items() if all_}


def taken_again(worker: WorkerMachine, notes: Sequence[Note]) -> list[tuple[int, float]]:
    """For each of the worker's processes that died with a job: its id, and seconds until another took the job."""
    in_hand: dict[int, Note] = {note.pid: note for note in notes if note.kind == "taken" and note.pid in worker.lost}
    later: dict[str, list[Note]] = {note.key: [] for note in in_hand.values()}
    for note in notes:
        if note.kind == "taken" and note.key in later:
            later[note.key].append(note)
    found: list[tuple[int, float]] = []
    for pid, note in in_hand.items():
        died = worker.lost[pid]
        again = [other.at for other in later[note.key] if other.at > died and other.pid != pid]
        if again:
            found.append((pid, min(again) - died))
    return found
