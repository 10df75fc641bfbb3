"""A short form, from a fixed seed, of each row that `python -m tests.chaos` holds at full figures.

What must never happen is asserted; how fast things recover is not: a busy machine is slow.
"""

import asyncio
import os
import random
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.chaos.audit import audit
from tests.chaos.callers import HttpCaller
from tests.chaos.cancels import withdraw
from tests.chaos.crowd import SHORT, crowd
from tests.chaos.crowd_ground import TooFewDescriptors, descriptors_for
from tests.chaos.databases import Database, PostgresDatabase, SqliteDatabase
from tests.chaos.faults import plan
from tests.chaos.idempotency import race
from tests.chaos.lost_cache import can_trace, fail_the_power
from tests.chaos.outcome import Task
from tests.chaos.plant import Plant
from tests.chaos.recovery import Plan, recover
from tests.chaos.storm import Storm, all_ended, ride
from tests.postgres import PostgresServer

from sluicegate.domain.clock import SystemClock
from sluicegate.storage.sqlite.store import SqliteStore

SEED = 20261123


@pytest.fixture(params=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest) -> Database:
    if request.param == "sqlite":
        return SqliteDatabase()
    return PostgresDatabase(request.getfixturevalue("postgres"))


@pytest.fixture
def crashing(postgres: PostgresServer) -> Iterator[PostgresServer]:
    """The server, which the test may restart from another thread; then it is started again from this one, which
    lives as long as the tests: the server ends with the thread that started it."""
    yield postgres
    postgres.restart("fast")


def make_task(row: str, database: Database, jobs: int) -> Task:
    return Task(row, "short", database, jobs, SEED)


def test_row_1_nothing_is_lost_or_doubled_when_gateway_and_workers_are_killed() -> None:
    storm = Storm(gateway_kills=2, worker_kills=5, workers=2, lease=2.0, beat=0.5)
    outcome = asyncio.run(ride(make_task("1", SqliteDatabase(), 60), storm))
    assert outcome.faults == []
    assert outcome.figures["ended"] == "60 succeeded"


def test_row_2_nothing_is_lost_or_doubled_when_the_server_is_killed_too(crashing: PostgresServer) -> None:
    storm = Storm(
        gateway_kills=1, worker_kills=3, server_restarts=1, listener_cuts=1, gateways=1, workers=2, lease=2.0, beat=0.5
    )
    outcome = asyncio.run(ride(make_task("2", PostgresDatabase(crashing), 60), storm))
    assert outcome.faults == []
    assert outcome.figures["ended"] == "60 succeeded"
    assert outcome.figures["connections cut"]


def test_row_4_others_take_over_from_the_killed_and_orderly_stops_run_nothing_twice() -> None:
    short = Plan(gateway_kills=1, drains=3, at_once=2, lease=3.0, beat=1.0)
    outcome = asyncio.run(recover(make_task("4", SqliteDatabase(), 2), short))
    assert outcome.faults == []
    assert outcome.figures["workers killed"] == 2
    assert outcome.figures["jobs that they made run again"] == 0


def test_row_9_racing_duplicates_make_one_job_for_each_key(database: Database) -> None:
    outcome = asyncio.run(race(make_task("9", database, 40), processes=2, repeats=2, kills=1))
    assert outcome.faults == []
    assert outcome.figures["jobs"] == 40
    assert outcome.figures["submissions that were answered"] == 160


def test_row_10_withdrawn_work_ends_once_and_is_charged_for_no_more_than_was_done(database: Database) -> None:
    outcome = asyncio.run(withdraw(make_task("10", database, 30), workers=3))
    assert outcome.faults == []
    assert outcome.figures["jobs withdrawn"] == 30


def test_row_15_callers_who_vanish_stall_or_drip_cost_little_and_harm_nobody() -> None:
    outcome = asyncio.run(crowd(make_task("15", SqliteDatabase(), 60), SHORT))
    assert outcome.faults == []
    assert outcome.figures["callers let go who took nothing"] == 20
    assert outcome.figures["callers kept who took a little"] == 25


def test_row_15_says_so_when_the_system_allows_too_few_descriptors() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with pytest.raises(TooFewDescriptors, match=f"the hard limit is {hard}: raise it"), descriptors_for(hard):
        pass
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (soft, hard)


@pytest.mark.skipif(not can_trace(), reason="strace is not installed, or may not trace here")
def test_what_was_acknowledged_is_on_the_disk_when_the_power_fails() -> None:
    loss = fail_the_power(jobs=60, moments=20, seed=SEED)
    assert loss.moments == 20
    assert loss.gone == []
    control = fail_the_power(jobs=30, moments=5, seed=SEED, synchronous="normal")
    assert control.gone, "with fewer flushes jobs must be lost, or the simulation sees nothing"


def test_pictures_of_the_real_model_are_drawn_once_each_when_it_is_killed() -> None:
    """With Sprout itself, in the worker that the gateway starts and whose death it reports."""

    async def scenario() -> None:
        database = SqliteDatabase()
        async with Plant(database, seed=SEED, workers=0, own_workers=1, lease=3.0, beat=1.0) as plant:
            gateway = plant.gateways[0]
            caller = HttpCaller(plant.client, [gateway.url], random.Random(SEED))
            told = {}
            for number in range(6):
                words = {"prompt": "a red apple", "seed": number, "steps": 4, "width": 128, "previews": 0}
                body = {"model": "sprout", "input": words}
                told["local", f"key-{number}"] = await caller.submit(f"key-{number}", body)
            await _in_hand(plant)
            os.kill(_only_child(gateway.process.pid), signal.SIGKILL)
            await _in_hand(plant)
            gateway.kill()
            await all_ended(plant, len(told), lambda: None)
            await plant.stop()
            verdict = await audit(database, told, pictures=plant.settings.assets_path)
            assert plant.explained(verdict.faults) == []
            assert verdict.ended == "6 succeeded"
            assert verdict.attempts > 6

    asyncio.run(scenario())


async def _in_hand(plant: Plant) -> None:
    """Return when a worker has a job."""
    open_attempts = "SELECT 1 FROM attempt WHERE ended_at IS NULL"
    while True:
        if await plant.database.rows(open_attempts):
            return
        await asyncio.sleep(0.01)


def _only_child(pid: int | None) -> int:
    (child,) = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return int(child)


def test_a_second_store_in_one_process_leaves_the_log_to_the_first(tmp_path: Path) -> None:
    """Closing any descriptor of the file drops the locks that SQLite holds in the process: another process, closing
    its store, would then take itself for the last one and remove the log under the first store."""
    path = tmp_path / "store.db"
    lines = [
        "import asyncio",
        "from pathlib import Path",
        "from sluicegate.domain.clock import SystemClock",
        "from sluicegate.storage.sqlite.store import SqliteStore",
        "async def come_and_go():",
        f"    store = SqliteStore(Path({str(path)!r}), SystemClock())",
        "    await store.open()",
        "    await store.ping()",
        "    await store.close()",
        "asyncio.run(come_and_go())",
    ]

    async def scenario() -> None:
        first, second = SqliteStore(path, SystemClock()), SqliteStore(path, SystemClock())
        await first.open()
        await first.ping()
        log = path.with_name("store.db-wal")
        before = log.stat().st_ino
        await second.open()
        await asyncio.to_thread(subprocess.run, [sys.executable, "-c", "\n".join(lines)], check=True)
        assert log.exists()
        assert log.stat().st_ino == before
        await second.close()
        await first.close()

    asyncio.run(scenario())


def test_a_seed_gives_the_same_blows_again() -> None:
    assert plan(random.Random("7"), 1_000, 40) == plan(random.Random("7"), 1_000, 40)
    assert plan(random.Random("7"), 1_000, 40) != plan(random.Random("8"), 1_000, 40)
