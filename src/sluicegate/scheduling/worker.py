"""A worker: claims a job when it has a free slot, keeps its lease alive, notices when it must stop, and drains.

Three loops run beside the work, in the event loop's thread, which model code (in threads of its own) cannot block:

    claim      when the slot is free: ask the store; else sleep until a hint or the poll interval
    heartbeat  renew the leases every `heartbeat_seconds`; without contact for 0.7 of the lease, give the job up
    watch      look for cancellation at every hint and at least twice a second
"""

import asyncio
import os
import socket
from collections.abc import Sequence

from sluicegate.backends.backend import PictureBackend
from sluicegate.domain.clock import Clock
from sluicegate.domain.ids import WorkerId
from sluicegate.domain.job import Verdict
from sluicegate.errors import StoreUnavailable
from sluicegate.observability.logs import Log
from sluicegate.scheduling.executor import Executor, Reins
from sluicegate.settings import WorkerSettings
from sluicegate.storage.contracts import Signals, Store, WorkerInfo

POLL_SECONDS = 1.0
WATCH_SECONDS = 0.5
FENCE_SHARE = 0.7
"""Share of a lease after which a worker without contact to the store stops its own work."""
DRAIN_MARGIN_SECONDS = 2.5
"""Kept back from the drain time for handing work back."""


class Worker:
    """Runs jobs one at a time until told to drain."""

    def __init__(
        self,
        *,
        worker_id: WorkerId,
        store: Store,
        signals: Signals,
        executor: Executor,
        backends: Sequence[PictureBackend],
        settings: WorkerSettings,
        clock: Clock,
    ) -> None:
        self.id = worker_id
        self._store = store
        self._signals = signals
        self._executor = executor
        self._backends = tuple(backends)
        self._settings = settings
        self._clock = clock
        self._models = tuple(card.id for backend in backends for card in backend.cards())
        self._started_at = clock.now()
        self._reins: Reins | None = None
        self._contact = clock.monotonic()
        self._draining = asyncio.Event()
        self._gave_up = False
        self._log = Log("sluicegate.scheduling.worker")

    async def run(self) -> None:
        """Work until `drain` is called and the running job has ended or was handed back, or until a model hangs."""
        loops = [asyncio.create_task(loop) for loop in (self._heartbeats(), self._watch())]
        self._log.info("worker ready", worker=self.id, pid=os.getpid(), models=",".join(self._models))
        try:
            await self._claims()
        finally:
            for loop in loops:
                loop.cancel()
            await asyncio.gather(*loops, return_exceptions=True)
            await self._dismiss()
        self._log.info("worker stopped", worker=self.id)

    @property
    def gave_up(self) -> bool:
        """Whether it ended because a model hung, in a thread that may never return."""
        return self._gave_up

    async def drain(self, seconds: float) -> None:
        """Take no more work; hand the running job back in time for the process to end within `seconds`."""
        self._draining.set()
        self._signals.notify("jobs")
        await asyncio.sleep(max(0.0, seconds - DRAIN_MARGIN_SECONDS))
        if self._reins is not None:
            self._log.info("drain time is over, handing the job back", job=self._reins.lease.job)
            self._reins.pull("drain")

    async def _claims(self) -> None:
        while not self._draining.is_set():
            seen = self._signals.version("jobs")
            try:
                claim = await self._store.claim(self.id, self._models, self._settings.lease_seconds)
            except StoreUnavailable as error:
                self._log.warning("the store is away", reason=error.message)
                claim = None
            if claim is None:
                await self._signals.wait("jobs", seen, POLL_SECONDS)
                continue
            self._contact = self._clock.monotonic()
            self._reins = Reins(claim)
            self._signals.notify("events")
            try:
                outcome = await self._executor.execute(self._reins)
            finally:
                self._reins = None
            if outcome == "timed out":
                # Its thread may hang for ever, and every later job behind it: a new process is the only cure.
                self._log.error("a model did not end in time, this worker makes room for a new one", worker=self.id)
                self._gave_up = True
                return

    async def _heartbeats(self) -> None:
        while True:
            reins = self._reins
            try:
                await self._store.enlist(self._info())
                if reins is not None:
                    verdicts = await self._store.heartbeat(self.id, [reins.lease], self._settings.lease_seconds)
                    self._obey(reins, verdicts)
                self._contact = self._clock.monotonic()
            except StoreUnavailable as error:
                self._log.warning("no heartbeat", reason=error.message)
                self._fence(reins)
            except Exception:  # a defect in one beat must not end all beats
                self._log.error("a heartbeat failed", trace=True)
                self._fence(reins)
            await asyncio.sleep(self._settings.heartbeat_seconds)

    async def _watch(self) -> None:
        while True:
            seen = self._signals.version("jobs")
            reins = self._reins
            if reins is not None:
                try:
                    self._obey(reins, await self._store.look([reins.lease]))
                except StoreUnavailable:
                    self._fence(reins)
                except Exception:  # as in `_heartbeats`
                    self._log.error("a look failed", trace=True)
                    self._fence(reins)
            await self._signals.wait("jobs", seen, WATCH_SECONDS)

    def _obey(self, reins: Reins, verdicts: Sequence[Verdict]) -> None:
        for verdict in verdicts:
            if verdict.lease == reins.lease and verdict.word != "keep":
                reins.pull(verdict.word)

    def _fence(self, reins: Reins | None) -> None:
        silent = self._clock.monotonic() - self._contact
        if reins is not None and silent > FENCE_SHARE * self._settings.lease_seconds:
            self._log.error("no contact with the store, giving the job up", job=reins.lease.job, seconds=silent)
            reins.pull("lost")

    async def _dismiss(self) -> None:
        try:
            await self._store.dismiss(self.id)
        except StoreUnavailable as error:
            self._log.warning("could not sign off", reason=error.message)

    def _info(self) -> WorkerInfo:
        return WorkerInfo(
            id=self.id,
            host=socket.gethostname(),
            pid=os.getpid(),
            started_at=self._started_at,
            seen_at=self._clock.now(),
            models=self._models,
            loaded=tuple(model for backend in self._backends for model in backend.loaded()),
        )
