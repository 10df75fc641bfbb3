"""A worker: claims a job when it has a free slot, and drains. Its leases are kept by a thread beside it (`heartbeat`).

claim   when the slot is free: ask the store; else sleep until a hint or the poll interval
hints   handed on to the heartbeat's thread, which looks whether running work must stop
"""

import asyncio
import os
import socket
from collections.abc import Callable, Sequence

from sluicegate.backends.backend import PictureBackend
from sluicegate.domain.clock import Clock
from sluicegate.domain.fairness import DEFAULT_POOL
from sluicegate.domain.ids import WorkerId
from sluicegate.domain.job import Claim
from sluicegate.errors import StoreUnavailable
from sluicegate.observability.logs import Log
from sluicegate.scheduling.executor import Executor, Outcome
from sluicegate.scheduling.heartbeat import Heartbeat
from sluicegate.scheduling.reins import Reins
from sluicegate.settings import WorkerSettings
from sluicegate.storage.contracts import Signals, Store, WorkerInfo

POLL_SECONDS = 1.0
HANG_SECONDS = 15.0
"""How long after its time a job that was told to stop may still hold its lease."""
DRAIN_MARGIN_SECONDS = 2.5
"""Kept back from the drain time for handing work back."""
_HINT_SECONDS = 60.0


class Worker:
    """Runs jobs one at a time until told to drain."""

    def __init__(
        self,
        *,
        worker_id: WorkerId,
        store: Store,
        open_store: Callable[[], Store],
        signals: Signals,
        executor: Executor,
        backends: Sequence[PictureBackend],
        settings: WorkerSettings,
        clock: Clock,
        pools: Sequence[str] = (DEFAULT_POOL,),
        on_hang: Callable[[], None] | None = None,
    ) -> None:
        """`open_store` makes one more store on the same database, not open yet, for the heartbeat's thread;
        `pools` are served in order; `on_hang` is called, in that thread, when work neither ends nor stops."""
        self.id = worker_id
        self._store = store
        self._signals = signals
        self._executor = executor
        self._backends = tuple(backends)
        self._settings = settings
        self._clock = clock
        self._pools = tuple(pools)
        cards = (card for backend in backends for card in backend.cards())
        self._models = tuple(card.id for card in cards if card.pool in self._pools)
        self._started_at = clock.now()
        self._heartbeat = Heartbeat(
            worker=worker_id,
            open_store=open_store,
            describe=self._describe,
            settings=settings,
            clock=clock,
            on_hang=on_hang,
        )
        self._reins: Reins | None = None
        self._draining = asyncio.Event()
        self._gave_up = False
        self._log = Log("sluicegate.scheduling.worker")

    async def run(self) -> None:
        """Work until `drain` is called and the running job has ended or was handed back, or until a model hangs."""
        self._heartbeat.start()
        hints = asyncio.create_task(self._hand_hints_on())
        models, pools = ",".join(self._models), ",".join(self._pools)
        self._log.info("worker ready", worker=self.id, pid=os.getpid(), models=models, pools=pools)
        try:
            await self._claims()
        finally:
            hints.cancel()
            await self._heartbeat.stop()
            await self._dismiss()
        self._log.info("worker stopped", worker=self.id)

    @property
    def gave_up(self) -> bool:
        """Whether it ended because a model hung, in a thread that may never return."""
        return self._gave_up

    async def drain(self, seconds: float) -> None:
        """Take no more work; hand the running job back in time for the process to end within `seconds`.

        A result that waits for a store that is away goes on waiting until then.
        """
        self._draining.set()
        self._signals.notify("jobs")
        await asyncio.sleep(max(0.0, seconds - DRAIN_MARGIN_SECONDS))
        if self._reins is not None:
            self._log.info("drain time is over, handing the job back", job=self._reins.lease.job)
            self._reins.pull("drain")

    async def _claims(self) -> None:
        while not self._draining.is_set():
            seen = self._signals.version("jobs")
            asked = self._clock.monotonic()
            claim = await self._claim()
            if claim is None:
                await self._signals.wait("jobs", seen, POLL_SECONDS)
                continue
            self._signals.notify("events")
            if await self._execute(claim, asked) == "timed out":
                # Its thread may hang for ever, and every later job behind it: a new process is the only cure.
                self._log.error("a model did not end in time, this worker makes room for a new one", worker=self.id)
                self._gave_up = True
                return

    async def _claim(self) -> Claim | None:
        lease = self._settings.lease_seconds
        try:
            return await self._store.claim(self.id, self._models, lease, pools=self._pools, loaded=self._loaded())
        except StoreUnavailable as error:
            self._log.warning("the store is away", reason=error.message)
            return None

    async def _execute(self, claim: Claim, asked: float) -> Outcome:
        """Run the job, its lease being kept from the moment `asked` on, at which the claim was sent."""
        self._reins = reins = Reins(claim)
        until = self._clock.monotonic() + self._settings.job_timeout_seconds + HANG_SECONDS
        self._heartbeat.hold(reins, since=asked, until=until, grace=HANG_SECONDS)
        try:
            return await self._executor.execute(reins)
        finally:
            self._heartbeat.let_go(reins)
            self._reins = None

    async def _hand_hints_on(self) -> None:
        while True:
            seen = self._signals.version("jobs")
            if self._reins is not None:
                self._heartbeat.look()
            await self._signals.wait("jobs", seen, _HINT_SECONDS)

    async def _dismiss(self) -> None:
        try:
            await self._store.dismiss(self.id)
        except StoreUnavailable as error:
            self._log.warning("could not sign off", reason=error.message)

    def _loaded(self) -> tuple[str, ...]:
        return tuple(model for backend in self._backends for model in backend.loaded())

    def _describe(self) -> WorkerInfo:
        return WorkerInfo(
            id=self.id,
            host=socket.gethostname(),
            pid=os.getpid(),
            started_at=self._started_at,
            seen_at=self._clock.now(),
            models=self._models,
            loaded=self._loaded(),
            pools=self._pools,
        )
