"""``/health*``, ``/metrics``: what load balancers, Prometheus and people ask."""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Collection, Iterable

from starlette.responses import Response

from sluicegate import __version__
from sluicegate.doors.endpoint import Answer, Call, Endpoint, json_response
from sluicegate.doors.siblings import Siblings
from sluicegate.errors import StoreUnavailable
from sluicegate.observability.health import (
    BackendHealth,
    HealthReport,
    StoreHealth,
    Uptime,
    judge,
    resident_bytes,
)
from sluicegate.observability.metrics import CONTENT_TYPE, Metrics, QueueGauges
from sluicegate.scheduling.waiting import WORKER_SEEN_SECONDS
from sluicegate.storage.contracts import QueueCount, QueueView, Store, WorkerInfo

PING_SECONDS = 2.0
"""A store that needs longer for something small does not count as up."""


class OperationDoor:
    """Serves health and metrics."""

    def __init__(
        self,
        *,
        store: Store,
        backends: Callable[[], Awaitable[tuple[BackendHealth, ...]]],
        metrics: Metrics,
        uptime: Uptime,
        draining: Callable[[], bool],
        siblings: Siblings,
        tiers: Collection[str] = (),
    ) -> None:
        self._store = store
        self._backends = backends
        self._metrics = metrics
        self._uptime = uptime
        self._draining = draining
        self._siblings = siblings
        self._tiers = tuple(tiers)

    def endpoints(self) -> list[Endpoint]:
        """The routes of this door."""
        return [
            Endpoint(
                method="GET",
                path="/health/live",
                handler=self.live,
                dialect="native",
                tag="Operation",
                summary="Is the process alive?",
                answers={200: dict[str, str]},
                public=True,
            ),
            Endpoint(
                method="GET",
                path="/health/ready",
                handler=self.ready,
                dialect="native",
                tag="Operation",
                summary="Can it serve? The store answers and at least one backend is up",
                answers={200: HealthReport, 503: HealthReport},
                public=True,
            ),
            Endpoint(
                method="GET",
                path="/health",
                handler=self.health,
                dialect="native",
                tag="Operation",
                summary="Status, uptime, memory, store, every backend and process",
                answers={200: HealthReport},
                public=True,
            ),
            Endpoint(
                method="GET",
                path="/metrics",
                handler=self.metrics,
                dialect="native",
                tag="Operation",
                summary="Prometheus metrics",
                answers={200: "text/plain"},
            ),
        ]

    async def live(self, call: Call) -> Answer:
        """Yes, whatever else is broken."""
        return json_response({"status": "ok"})

    async def ready(self, call: Call) -> Answer:
        """200 when work can be taken, else 503 with the reasons."""
        report = await self._report()
        return json_response(report, 200 if report.ready else 503, {} if report.ready else {"retry-after": "1"})

    async def health(self, call: Call) -> Answer:
        """The whole picture, always 200."""
        return json_response(await self._report())

    async def metrics(self, call: Call) -> Answer:
        """Every metric, of all processes together; the gauges of the store are left out while it does not answer."""
        snapshot = self._metrics.snapshot
        try:
            counts, view, workers, snapshot.oldest_snapshot = await asyncio.gather(
                self._store.counts(),
                self._store.queue(),
                self._store.workers(seen_within=WORKER_SEEN_SECONDS),
                self._store.oldest_snapshot(),
            )
            snapshot.queue = queue_gauges(counts, view, workers).filled(self._tiers)
        except StoreUnavailable:
            snapshot.queue, snapshot.oldest_snapshot = QueueGauges(), None
        everyone = await self._siblings.metrics()
        return Response(self._metrics.render(everyone), 200, {"content-type": CONTENT_TYPE})

    async def _report(self) -> HealthReport:
        store, workers = await self._look_at_store()
        backends = await self._backends()
        processes = tuple(await self._siblings.processes())
        ready, reasons = judge(store, backends, draining=self._draining())
        everything = ready and all(it.state == "up" for it in backends) and all(it.state == "up" for it in processes)
        return HealthReport(
            status="ok" if everything else "degraded" if ready else "down",
            ready=ready,
            version=__version__,
            uptime_seconds=round(self._uptime.seconds(), 3),
            memory_bytes=resident_bytes(),
            store=store,
            backends=backends,
            workers=workers,
            processes=processes,
            reasons=reasons,
        )

    async def _look_at_store(self) -> tuple[StoreHealth, int]:
        stopwatch = self._uptime.seconds()
        try:
            async with asyncio.timeout(PING_SECONDS):
                await self._store.ping()
                workers = await self._store.workers(seen_within=WORKER_SEEN_SECONDS)
        except StoreUnavailable as error:
            return StoreHealth(state="down", reason=error.message), 0
        except TimeoutError:
            return StoreHealth(state="down", reason=f"the store did not answer within {PING_SECONDS:g} s"), 0
        latency = round((self._uptime.seconds() - stopwatch) * 1000, 3)
        return StoreHealth(state="up", latency_ms=latency), len(workers)


def queue_gauges(counts: Iterable[QueueCount], view: QueueView, workers: Iterable[WorkerInfo]) -> QueueGauges:
    """The queue by pool and tier; tenants are never told apart here."""
    jobs: Counter[tuple[str, str, str]] = Counter()
    for count in counts:
        jobs[count.pool, count.tier, count.state] += count.jobs
    longest: dict[tuple[str, str], float] = defaultdict(float)
    cost: dict[tuple[str, str], float] = defaultdict(float)
    for standing in view.tenants:
        key = (standing.pool, standing.tier)
        cost[key] += standing.queued_cost
        if standing.oldest_at is not None:
            longest[key] = max(longest[key], view.at - standing.oldest_at)
    live = Counter(dict.fromkeys(view.clocks, 0))
    live.update(pool for worker in workers for pool in worker.pools)
    return QueueGauges(jobs=dict(jobs), longest_wait=dict(longest), cost=dict(cost), workers=dict(live))
