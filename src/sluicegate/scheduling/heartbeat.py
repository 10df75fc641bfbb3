"""Heartbeats: a thread with an event loop and a store of its own keeps a worker's leases alive.

Neither model work (in threads of its own) nor a blocked event loop of the worker holds it up. Three loops run in it:

    beat    every `heartbeat_seconds`, sooner after one that failed: sign the worker on, renew its leases, obey the
            verdicts
    watch   at each hint and at least twice a second: a read that tells whether work must stop
    fence   a lease that could not be renewed for 0.7 of its time: give the job up, before another may have it

A job's lease is renewed no longer than the job may run (and a margin): a process that hangs loses its job all the same.
"""

import asyncio
import contextlib
import math
import threading
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from sluicegate.domain.clock import Clock
from sluicegate.domain.ids import WorkerId
from sluicegate.domain.job import Verdict
from sluicegate.errors import StoreUnavailable
from sluicegate.observability.logs import Log
from sluicegate.scheduling.reins import Reins, Word
from sluicegate.settings import WorkerSettings
from sluicegate.storage.contracts import Store, WorkerInfo

WATCH_SECONDS = 0.5
"""How long a withdrawal may go unnoticed when no hint comes."""
_WATCH_PAUSE_SECONDS = 0.05
"""However many hints come, looks are so far apart."""
FENCE_SHARE = 0.7
"""Share of a lease after which a worker without contact to the store stops its own work."""
_RETRY_SECONDS = 0.5
"""After a beat that failed the next one follows at least so soon: an outage may last as long as the fence allows."""
_STOP_SECONDS = 5.0
_FENCE_LOOKS = 50
"""How often in the time of one lease the fence is looked at."""


@dataclass(slots=True)
class _Held:
    """A job that the worker holds; times are monotonic seconds."""

    reins: Reins
    renewed_at: float
    """When the last renewal that succeeded was sent: the lease lasts at least from then."""
    renew_until: float
    grace: float
    """How long after it was told of its deadline the work may go on."""
    expiring: bool = False
    fenced: bool = False
    hangs: bool = False

    def obey(self, word: Word, now: float) -> None:
        """Pass the store's word on; what is past its deadline has not much time left to stop in."""
        self.reins.pull(word)
        if word == "expire" and not self.expiring:
            self.expiring = True
            self.renew_until = min(self.renew_until, now + self.grace)


class Heartbeat:
    """The thread. `start` and `stop` belong to the worker's event loop; the rest may be called from any thread."""

    def __init__(
        self,
        *,
        worker: WorkerId,
        open_store: Callable[[], Store],
        describe: Callable[[], WorkerInfo],
        settings: WorkerSettings,
        clock: Clock,
        on_hang: Callable[[], None] | None = None,
    ) -> None:
        """`open_store` makes a store that is not open yet, and that nobody else uses; `describe` is called in the
        thread; `on_hang` when a job has neither ended nor stopped long after its time."""
        self._worker = worker
        self._open_store = open_store
        self._describe = describe
        self._settings = settings
        self._clock = clock
        self._on_hang = on_hang
        self._held: list[_Held] = []
        self._lock = threading.Lock()
        self._hint = asyncio.Event()
        self._stopping = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._work, name="sluicegate-heartbeat", daemon=True)
        self._log = Log("sluicegate.scheduling.heartbeat")

    def start(self) -> None:
        """Begin to beat."""
        self._loop = asyncio.new_event_loop()
        self._thread.start()

    async def stop(self) -> None:
        """End the thread; no beat comes after it."""
        self._call(self._stopping.set)
        if self._thread.ident is not None:
            await asyncio.to_thread(self._thread.join, _STOP_SECONDS)

    def hold(self, reins: Reins, *, since: float, until: float, grace: float = math.inf) -> None:
        """Keep the job's lease, which was obtained at `since`, alive; while its work goes on, only up to `until`, and
        no longer than `grace` seconds after the store's word that its deadline has passed."""
        with self._lock:
            self._held.append(_Held(reins, since, until, grace))

    def let_go(self, reins: Reins) -> None:
        """The job is no longer held."""
        with self._lock:
            self._held = [held for held in self._held if held.reins is not reins]

    def look(self) -> None:
        """Something may have changed: look soon whether work must stop."""
        self._call(self._hint.set)

    def _call(self, callback: Callable[[], None]) -> None:
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the thread has ended
                self._loop.call_soon_threadsafe(callback)

    def _work(self) -> None:
        assert self._loop is not None
        try:
            self._loop.run_until_complete(self._serve())
        finally:
            self._loop.close()

    async def _serve(self) -> None:
        loops = [asyncio.create_task(self._fence_off()), asyncio.create_task(self._renew())]
        try:
            await self._stopping.wait()
        finally:
            for loop in loops:
                loop.cancel()
            await asyncio.gather(*loops, return_exceptions=True)

    async def _renew(self) -> None:
        store = await self._connect()
        try:
            async with asyncio.TaskGroup() as loops:
                loops.create_task(self._beats(store))
                loops.create_task(self._watch(store))
        finally:
            await store.close()

    async def _connect(self) -> Store:
        while True:
            store = self._open_store()
            if await self._survives("no store for heartbeats", store.open()):
                return store
            await store.close()
            await asyncio.sleep(self._retry_seconds)

    async def _beats(self, store: Store) -> None:
        while True:
            beaten = await self._survives("no heartbeat", self._beat(store))
            await asyncio.sleep(self._settings.heartbeat_seconds if beaten else self._retry_seconds)

    async def _watch(self, store: Store) -> None:
        while True:
            self._hint.clear()
            await self._survives("no look at the leases", self._look(store))
            await asyncio.sleep(_WATCH_PAUSE_SECONDS)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(WATCH_SECONDS - _WATCH_PAUSE_SECONDS):
                    await self._hint.wait()

    async def _survives(self, what: str, step: Awaitable[None]) -> bool:
        """Whether the step succeeded; a store that is away, or a defect in one step, must not end all steps."""
        try:
            await step
        except StoreUnavailable as error:
            self._log.warning(what, worker=self._worker, reason=error.message)
            return False
        except Exception:
            self._log.error(what, worker=self._worker, trace=True)
            return False
        return True

    async def _beat(self, store: Store) -> None:
        held = self._worth_renewing()
        sent = self._clock.monotonic()
        enlisting = store.enlist(self._describe())
        if not held:
            await enlisting
            return
        leases = [one.reins.lease for one in held]
        renewing = store.heartbeat(self._worker, leases, self._settings.lease_seconds)
        verdicts, _ = await asyncio.gather(renewing, enlisting)
        self._obey(held, verdicts)
        for one in held:
            one.renewed_at = sent

    async def _look(self, store: Store) -> None:
        held = self._holding()
        if held:
            self._obey(held, await store.look([one.reins.lease for one in held]))

    async def _fence_off(self) -> None:
        lease = self._settings.lease_seconds
        while True:
            for one in self._holding():
                silent = self._clock.monotonic() - one.renewed_at
                if not one.fenced and not one.reins.ended and silent > FENCE_SHARE * lease:
                    one.fenced = True
                    job = one.reins.lease.job
                    self._log.error("no contact with the store, giving the job up", job=job, seconds=round(silent, 1))
                    one.reins.pull("silence")
            await asyncio.sleep(lease / _FENCE_LOOKS)

    def _holding(self) -> list[_Held]:
        with self._lock:
            return list(self._held)

    def _worth_renewing(self) -> list[_Held]:
        """What is held, but for work that should have stopped long ago."""
        now = self._clock.monotonic()
        worth = []
        for one in self._holding():
            if one.reins.ended or now <= one.renew_until:
                worth.append(one)
            elif not one.hangs:
                one.hangs = True
                self._log.error("a job neither ends nor stops, its lease is left to expire", job=one.reins.lease.job)
                if self._on_hang is not None:
                    self._on_hang()
        return worth

    def _obey(self, held: Sequence[_Held], verdicts: Sequence[Verdict]) -> None:
        words = {verdict.lease: verdict.word for verdict in verdicts}
        for one in held:
            word = words.get(one.reins.lease, "keep")
            if word != "keep":
                one.obey(word, self._clock.monotonic())

    @property
    def _retry_seconds(self) -> float:
        return min(_RETRY_SECONDS, self._settings.heartbeat_seconds)
