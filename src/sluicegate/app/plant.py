"""What runs once, however many processes serve HTTP: the workers that make pictures, and the caretaker of the queue."""

import asyncio
import contextlib
import sys

from sluicegate.app.pools import warn_of_pools
from sluicegate.app.worker import environment
from sluicegate.domain.clock import Clock
from sluicegate.domain.ids import WorkerId, new_worker_id
from sluicegate.errors import StoreUnavailable
from sluicegate.observability.logs import Log
from sluicegate.results.sweep import Sweep
from sluicegate.scheduling.caretaker import Caretaker
from sluicegate.settings import Settings
from sluicegate.storage.contracts import BlobStore, Signals, Store
from sluicegate.supervision import StreamName, SupervisedProcess

_log = Log("sluicegate.plant")


class Plant:
    """Works on a store and signals that are open between `start` and `stop`."""

    def __init__(self, settings: Settings, store: Store, signals: Signals, blobs: BlobStore, clock: Clock) -> None:
        self._settings = settings
        self._store = store
        self._signals = signals
        self._caretaker = Caretaker(
            store,
            signals,
            Sweep(store, blobs),
            clock,
            lease_seconds=settings.worker.lease_seconds,
            policy=settings.policy,
        )
        has_pictures = any(backend.kind == "local-image" for backend in settings.backends)
        count = settings.worker.processes if has_pictures else 0
        self.workers = tuple(_WorkerProcess(settings, self) for _ in range(count))
        self._caring: asyncio.Task[None] | None = None

    @property
    def starts(self) -> bool:
        """Whether a worker is starting."""
        return any(worker.process.state == "starting" for worker in self.workers)

    async def start(self) -> None:
        """Warn of jobs that nobody will do, start the workers, take care of the queue. Returns at once."""
        with contextlib.suppress(StoreUnavailable):
            await warn_of_pools(self._settings, self._store)
        for worker in self.workers:
            await worker.process.start()
        self._caring = asyncio.create_task(self._caretaker.run(), name="caretaker")

    async def stop_workers(self) -> None:
        """Let the workers end what they do, in time for everything after it to end within ``drain_seconds`` too."""
        grace = max(0.0, self._settings.server.drain_seconds - 1.0)
        await asyncio.gather(*(worker.process.stop(grace) for worker in self.workers))

    async def stop(self) -> None:
        """End everything."""
        await self.stop_workers()
        if self._caring is not None:
            self._caring.cancel()
            await asyncio.wait({self._caring})

    async def worker_died(self, worker: WorkerId) -> None:
        """Return a dead worker's jobs to the queue at once."""
        with contextlib.suppress(StoreUnavailable):
            recovery = await self._store.release(worker)
            await self._store.dismiss(worker)
            if recovery.total:
                _log.warning("a worker died, its jobs go back", worker=worker, jobs=recovery.total)
                self._signals.notify("jobs", "events")


class _WorkerProcess:
    """One supervised worker; each start has an id of its own, so that a dead one's leases are known."""

    def __init__(self, settings: Settings, plant: Plant) -> None:
        self._settings = settings
        self._plant = plant
        self._id = new_worker_id()
        self.process = SupervisedProcess(
            [sys.executable, "-m", "sluicegate.app.worker"],
            name="worker",
            environment=self._environment,
            on_exit=self._exited,
            on_line=self._pass_on,
        )

    def _environment(self) -> dict[str, str]:
        self._id = new_worker_id()
        return dict(environment(self._settings, self._id))

    async def _exited(self, pid: int, returncode: int) -> None:
        await self._plant.worker_died(self._id)

    def _pass_on(self, stream: StreamName, line: str) -> None:
        """A worker writes finished log lines; they go where ours go."""
        sys.stderr.write(line + "\n")
