"""What runs once, however many processes serve HTTP: the workers that make pictures, and the caretaker of the queue."""

import asyncio
import contextlib
from typing import TYPE_CHECKING

from sluicegate.app.pools import warn_of_pools
from sluicegate.domain.clock import Clock
from sluicegate.domain.ids import WorkerId
from sluicegate.errors import StoreUnavailable
from sluicegate.observability.logs import Log
from sluicegate.results.sweep import Sweep
from sluicegate.scheduling.caretaker import Caretaker
from sluicegate.settings import Settings
from sluicegate.storage.contracts import BlobStore, Signals, Store

if TYPE_CHECKING:
    from sluicegate.app.worker_process import WorkerProcess

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
        self.workers = _make_workers(settings, self, count) if count else ()
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


def _make_workers(settings: Settings, plant: Plant, count: int) -> "tuple[WorkerProcess, ...]":
    # Imported here: a gateway without workers starts sooner without what they need.
    from sluicegate.app.worker_process import WorkerProcess

    return tuple(WorkerProcess(settings, plant.worker_died) for _ in range(count))
