"""The caretaker: returns what dead workers held, promotes retries, expires what waited too long, sweeps blobs."""

import asyncio

from sluicegate.domain.clock import Clock
from sluicegate.errors import StoreUnavailable
from sluicegate.observability.logs import Log
from sluicegate.results.sweep import Sweep
from sluicegate.storage.contracts import JobStore, Signals

RECOVER_SECONDS = 1.0
SWEEP_SECONDS = 600.0


class Caretaker:
    """Runs beside every gateway; several at once do no harm."""

    def __init__(self, jobs: JobStore, signals: Signals, sweep: Sweep, clock: Clock) -> None:
        self._jobs = jobs
        self._signals = signals
        self._sweep = sweep
        self._clock = clock
        self._log = Log("sluicegate.scheduling.caretaker")

    async def run(self) -> None:
        """Work until cancelled; a store that is away is waited for."""
        next_sweep = self._clock.monotonic()
        while True:
            try:
                await self.recover()
                if self._clock.monotonic() >= next_sweep:
                    next_sweep = self._clock.monotonic() + SWEEP_SECONDS
                    await self._sweep.run()
            except StoreUnavailable as error:
                self._log.warning("the store is away", reason=error.message)
            except Exception:  # a defect in one round must not end all rounds
                self._log.error("a round failed", trace=True)
            await asyncio.sleep(RECOVER_SECONDS)

    async def recover(self) -> int:
        """One round over the jobs; how many changed state."""
        recovery = await self._jobs.recover()
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
