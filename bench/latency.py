"""From a submission to the first line of model code, on an idle system.

The worker, the executor, the store and the hints are the real ones; only the model does nothing. One job at a time:
the clock starts before `submit` and stops when the backend's `run` is entered, so the durable submission, the hint,
the claim and the reading of the input all count. Processes share the machine's monotonic clock.
"""

import asyncio
import random
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
from bench.contenders import payload
from bench.engines import Opened, Server, postgresql, sqlite
from bench.stopwatch import Spread, spread

from sluicegate.backends.backend import PictureRequest, PictureResult, Report
from sluicegate.domain.clock import SystemClock
from sluicegate.domain.generation import ModelCard
from sluicegate.domain.ids import Tenant, new_job_id, new_worker_id
from sluicegate.domain.job import TERMINAL, Job, NewJob
from sluicegate.results.assets import Assets
from sluicegate.scheduling.executor import Executor
from sluicegate.scheduling.worker import Worker
from sluicegate.settings import WorkerSettings
from sluicegate.storage.files import FileBlobStore

MODEL = "still"
WARM_UP = 10
_TENANT = Tenant("tenant-0")
_PAUSE = (0.02, 0.06)
"""Seconds between jobs, by chance between these: the system shall be at rest, and in no step with any timer."""


class Overhead(msgspec.Struct, frozen=True, kw_only=True):
    """How long it takes from a submission to the start of model code."""

    where: str
    took: Spread


class Still:
    """A picture backend that makes nothing, and says when it was asked."""

    name = "still"
    kind = "still"

    def cards(self) -> Sequence[ModelCard]:
        """One model."""
        return (ModelCard(id=MODEL, tasks=("text-to-image",), backend=self.name),)

    def loaded(self) -> Sequence[str]:
        """It is always loaded."""
        return (MODEL,)

    async def run(self, request: PictureRequest, report: Report) -> PictureResult:
        """Say when this was reached."""
        return PictureResult(pictures=(), details={"begun": time.monotonic()})

    async def close(self) -> None:
        """Nothing to free."""


@asynccontextmanager
async def working(opened: Opened) -> AsyncIterator[None]:
    """A worker that runs in this event loop."""
    clock, backend = SystemClock(), Still()
    with tempfile.TemporaryDirectory(prefix="sluicegate-bench-") as folder:
        assets = Assets(opened.store, FileBlobStore(Path(folder), clock), clock, max_pixels=1)
        executor = Executor(opened.store, assets, opened.signals, {MODEL: backend}, clock, timeout_seconds=60)
        worker = Worker(
            worker_id=new_worker_id(),
            store=opened.store,
            open_store=opened.another,
            signals=opened.signals,
            executor=executor,
            backends=(backend,),
            settings=WorkerSettings(),
            clock=clock,
        )
        running = asyncio.create_task(worker.run())
        try:
            yield
        finally:
            await worker.drain(0.0)
            await running


async def latency(
    server: Server | None, engines: Sequence[str], samples: int, *, advance: Callable[[str], None]
) -> Sequence[Overhead]:
    """Measure in one process and across two, on each engine."""
    found = []
    with tempfile.TemporaryDirectory(prefix="sluicegate-bench-") as folder:
        if "sqlite" in engines:
            for name, worker in (("one", _inside), ("two", _outside)):
                path = Path(folder) / f"{name}.db"
                async with sqlite(path) as opened, worker(opened, str(path)):
                    advance(f"SQLite, {name} process(es)")
                    found.append(Overhead(where=f"SQLite, {_processes(name)}", took=await _samples(opened, samples)))
        if server is not None:
            for name, worker in (("one", _inside), ("two", _outside)):
                async with server.database() as url, postgresql(url) as opened, worker(opened, url):
                    advance(f"PostgreSQL, {name} process(es)")
                    found.append(
                        Overhead(where=f"PostgreSQL, {_processes(name)}", took=await _samples(opened, samples))
                    )
    return found


def _processes(name: str) -> str:
    return "one process" if name == "one" else "two processes"


@asynccontextmanager
async def _inside(opened: Opened, _: str) -> AsyncIterator[None]:
    async with working(opened):
        yield


@asynccontextmanager
async def _outside(opened: Opened, address: str) -> AsyncIterator[None]:
    """A worker in a process of its own, which ends with this one."""
    pipe = asyncio.subprocess.PIPE
    command = (sys.executable, "-m", "bench.latency_worker", opened.engine, address)
    process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        told = await process.stdout.readline()
        assert told == b"ready\n", f"the worker process ended with {await process.wait()}"
        yield
    finally:
        process.stdin.close()
        await process.wait()


async def _samples(opened: Opened, samples: int) -> Spread:
    taken = []
    for number in range(WARM_UP + samples):
        await asyncio.sleep(random.uniform(*_PAUSE))
        new = NewJob(id=new_job_id(), tenant=_TENANT, model=MODEL, task="text-to-image", input=payload())
        begin = time.monotonic()
        await opened.store.submit(new)
        opened.signals.notify("jobs", "events")
        job = await _ended(opened, new)
        assert job.state == "succeeded", job.error
        if number >= WARM_UP:
            taken.append((job.details["begun"] - begin) * 1000)
    return spread(taken)


async def _ended(opened: Opened, new: NewJob) -> Job:
    while True:
        seen = opened.signals.version("events")
        job = await opened.store.get(new.tenant, new.id)
        if job.state in TERMINAL:
            return job
        await opened.signals.wait("events", seen, 1.0)
