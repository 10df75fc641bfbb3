"""The rows of the reliability scoreboard, each at its full figures, or at a share of them."""

from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, NamedTuple

from tests.chaos.cancels import withdraw
from tests.chaos.crowd import crowd
from tests.chaos.databases import Database, EngineName, PostgresDatabase, SqliteDatabase
from tests.chaos.idempotency import race
from tests.chaos.lost_cache import promise
from tests.chaos.outcome import Outcome, Show, Task
from tests.chaos.recovery import Plan, recover
from tests.chaos.storm import Storm, ride

Run = Callable[[Task], Coroutine[Any, Any, Outcome]]


class Row(NamedTuple):
    """One row: what it shows, its full number of jobs (keys, callers), the engines it runs on, and how."""

    title: str
    jobs: int
    engines: Sequence[EngineName]
    run: Run


def make_task(row: str, engine: EngineName, show: Show, *, jobs: int, seed: int) -> Task:
    """A run of a row on a fresh database."""
    return Task(row, ROWS[row].title, open_database(engine), jobs, seed, show)


def open_database(engine: EngineName) -> Database:
    """A fresh database of an engine. Not within an event loop."""
    return SqliteDatabase() if engine == "sqlite" else PostgresDatabase.on_its_own_server()


def _share(task: Task, full: int) -> int:
    """So many of `full` blows as the run has of the row's full jobs, at least one."""
    return max(1, round(full * task.jobs / ROWS[task.row].jobs))


async def _embedded(task: Task) -> Outcome:
    return await ride(task, Storm(gateway_kills=_share(task, 200), worker_kills=_share(task, 500)))


async def _server(task: Task) -> Outcome:
    storm = Storm(
        gateway_kills=_share(task, 100),
        worker_kills=_share(task, 200),
        server_restarts=_share(task, 20),
        listener_cuts=_share(task, 50),
        gateways=2,
    )
    return await ride(task, storm)


async def _recovery(task: Task) -> Outcome:
    return await recover(task, Plan(gateway_kills=_share(task, 50), drains=_share(task, 50)))


async def _keys(task: Task) -> Outcome:
    return await race(task, processes=5, kills=_share(task, 10))


BOTH: Sequence[EngineName] = ("sqlite", "postgres")
ROWS: Mapping[str, Row] = {
    "1": Row("Gateway and workers are killed under load", 20_000, ("sqlite",), _embedded),
    "2": Row("Gateways, workers, server and wake-ups are killed under load", 20_000, ("postgres",), _server),
    "4": Row("Others take over from killed workers and gateways; orderly stops cost nothing", 100, BOTH, _recovery),
    "9": Row("Each key is submitted by five processes at once", 10_000, BOTH, _keys),
    "10": Row("Jobs are withdrawn at random points", 5_000, BOTH, withdraw),
    "15": Row("Callers vanish, stall or read a byte a second", 2_000, ("sqlite",), crowd),
    "202": Row("The power fails after an answer was told", 1_000, ("sqlite",), promise),
}
