"""The caretaker: returns what dead workers held, promotes retries, expires what waited too long, makes long batch work
give way, sweeps blobs."""

import asyncio

from sluicegate.domain.clock import Clock
from sluicegate.domain.fairness import Policy
from sluicegate.errors import StoreUnavailable
from sluicegate.observability.logs import Log
from sluicegate.results.sweep import Sweep
from sluicegate.scheduling.preemption import victims
from sluicegate.scheduling.waiting import WORKER_SEEN_SECONDS
from sluicegate.storage.contracts import Signals, Store

RECOVER_SECONDS = 1.0
PREEMPT_SECONDS = 5.0
SWEEP_SECONDS = 600.0


class Caretaker:
    """Runs beside every gateway; several at once do no harm."""

    def __init__(
        self,
        store: Store,
        signals: Signals,
        sweep: Sweep,
        clock: Clock,
        *,
        lease_seconds: float,
        policy: Policy | None = None,
    ) -> None:
        self._store = store
        self._signals = signals
        self._sweep = sweep
        self._clock = clock
        self._lease_seconds = lease_seconds
        self._policy = policy or Policy()
        self._contact = clock.monotonic()
        """When the store last answered."""
        self._cut_off = False
        self._log = Log("sluicegate.scheduling.caretaker")

    async def run(self) -> None:
        """Work until cancelled; a store that is away is waited for."""
        next_sweep = next_preemption = self._clock.monotonic()
        while True:
            try:
                await self.recover()
                if self._clock.monotonic() >= next_preemption:
                    next_preemption = self._clock.monotonic() + PREEMPT_SECONDS
                    await self.preempt()
                if self._clock.monotonic() >= next_sweep:
                    next_sweep = self._clock.monotonic() + SWEEP_SECONDS
                    await self._sweep.run()
            except StoreUnavailable as error:
                self._log.warning("the store is away", reason=error.message)
            except Exception:  # a defect in one round must not end all rounds
                self._log.error("a round failed", trace=True)
            await asyncio.sleep(RECOVER_SECONDS)

    async def recover(self) -> int:
        """One round over the jobs; how many changed state. Raises `StoreUnavailable`.

        After a store that was away every lease first lasts as long as a fresh one: workers that were cut off by the
        same outage keep their jobs, as they could not renew a lease either.
        """
        try:
            if self._cut_off:
                await self._make_up_for_the_outage()
            recovery = await self._store.recover()
        except StoreUnavailable:
            self._cut_off = True
            raise
        self._contact = self._clock.monotonic()
        if recovery.total:
            self._signals.notify("jobs", "events")
            self._log.info(
                "recovered jobs",
                requeued=recovery.requeued,
                promoted=recovery.promoted,
                failed=recovery.failed,
                expired=recovery.expired,
                canceled=recovery.canceled,
            )
        return recovery.total

    async def preempt(self) -> int:
        """Tell running work to give way where the rule of `preemption` asks for it; how much was told."""
        view = await self._store.queue()
        if not any(job.preemptible for job in view.running):
            return 0
        workers = await self._store.workers(seen_within=WORKER_SEEN_SECONDS)
        told = 0
        for job in victims(view, workers, self._policy):
            if await self._store.preempt(job.lease):
                told += 1
                self._log.info("a job gives way", job=job.lease.job, pool=job.pool, progress=round(job.progress, 2))
        if told:
            self._signals.notify("jobs")
        return told

    async def _make_up_for_the_outage(self) -> None:
        away = self._clock.monotonic() - self._contact
        leases = await self._store.prolong(self._lease_seconds)
        self._contact, self._cut_off = self._clock.monotonic(), False
        self._log.warning("the store is back, leases are prolonged", away=round(away, 1), leases=leases)
