"""A process that says at once what the store has acknowledged: ``python -m tests.chaos.acknowledging_process``.

Arguments: the database file, the number of jobs, and `full` or `normal`: SQLite's `synchronous`, of which the product
uses FULL. Each line on stdout is ``told JOB`` after a submission or ``ended JOB`` after a result was recorded.
"""

import asyncio
import os
import sqlite3
import sys
from pathlib import Path
from unittest.mock import patch

from sluicegate.domain.clock import SystemClock
from sluicegate.domain.ids import Tenant, WorkerId, new_job_id
from sluicegate.domain.job import Idempotency, NewJob
from sluicegate.storage.contracts import Store, Success
from sluicegate.storage.sqlite import store as engine
from sluicegate.storage.sqlite.connection import connect

_LINES = 8


async def submit(store: Store, numbers: "asyncio.Queue[int]") -> None:
    """Submit until no number is left."""
    while not numbers.empty():
        number = numbers.get_nowait()
        words = {"prompt": "x" * 400}
        new = NewJob(id=new_job_id(), tenant=Tenant("anna"), model="m", task="text-to-image", input=words)
        job = (await store.submit(new, Idempotency(f"key-{number}", "body"))).job
        os.write(1, f"told {job.id}\n".encode())


async def work(store: Store, jobs: int) -> None:
    """Claim and end every job."""
    ended = 0
    while ended < jobs:
        claim = await store.claim(WorkerId("worker"), ["m"], 60.0)
        if claim is None:
            await asyncio.sleep(0.005)
            continue
        await store.succeed(claim.lease, Success(outputs=(), backend="b", execution_seconds=0.1))
        os.write(1, f"ended {claim.job.id}\n".encode())
        ended += 1


async def run(path: Path, jobs: int) -> None:
    """All of it, side by side."""
    store = engine.SqliteStore(path, SystemClock(), busy_timeout=60.0)
    await store.open()
    numbers: asyncio.Queue[int] = asyncio.Queue()
    for number in range(jobs):
        numbers.put_nowait(number)
    await asyncio.gather(*(submit(store, numbers) for _ in range(_LINES)), work(store, jobs))
    await store.close()


def _less_careful(path: Path, *, busy_timeout: float) -> sqlite3.Connection:
    connection = connect(path, busy_timeout=busy_timeout)
    connection.execute("PRAGMA synchronous = NORMAL")
    return connection


def main() -> None:
    """Entry point."""
    path, jobs, synchronous = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    with patch.object(engine, "connect", connect if synchronous == "full" else _less_careful):
        asyncio.run(run(path, jobs))


if __name__ == "__main__":
    main()
