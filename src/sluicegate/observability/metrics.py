"""Prometheus metrics. Names and labels are public: they change only with a major version.

counted where things happen ─┐
read from the backends ──────┼─▶ dump ─▶ merged with the other processes' dumps ─┐
read from the system ────────┘                                                   ├─▶ render
read from the store, once, by the process that answers the scrape: `snapshot` ───┘
"""

import itertools
from collections.abc import Callable, Collection

import msgspec

from sluicegate.observability.process import ProcessFigures
from sluicegate.observability.tallies import Counter, FamilyDump, Gauge, Histogram, MetricsDump, numbers

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
_WAITS = (0.01, 0.05, 0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1_800, 3_600, 7_200)
_STATES = ("queued", "scheduled", "running", "canceling")

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """Every metric of one process. Count on the event loop's thread only; see `tallies` for how."""

    def __init__(self) -> None:
        self.requests = Counter(
            "http_requests_total", "Requests answered, by route template.", ("method", "path", "status_code")
        )
        self.request_seconds = Histogram(
            "http_request_duration_seconds",
            "From the request's head to the end of its answer.",
            ("method", "path"),
            _SECONDS,
        )
        active_streams = Gauge("ai_gateway_active_streams", "Chat calls being relayed now.", ())
        self.active_streams = active_streams.labels()
        self.streams = Counter(
            "ai_gateway_streams_total", "Chat calls ended, by how: completed, cancelled or error.", ("status",)
        )
        self.tokens = Counter("ai_tokens_processed_total", "Prompt and completion tokens, by model.", ("model",))
        self.inference_seconds = Histogram(
            "ai_model_inference_duration_seconds",
            "A chat call that reached a backend, from its arrival here to its end.",
            ("model",),
            _SECONDS,
        )
        self.first_token_seconds = Histogram(
            "sluicegate_time_to_first_token_seconds",
            "From the caller's request to the first bytes of the streamed answer.",
            ("model",),
            _SECONDS,
        )
        self.backend_errors = Counter(
            "sluicegate_backend_errors_total", "Calls that failed at a backend.", ("backend", "model", "reason")
        )
        rests = Counter(
            "sluicegate_stream_rests_total",
            "Times that a stream rested because the event loop was behind; its next tokens came together.",
            (),
        )
        self._rests = rests.labels()
        self.queue_wait_seconds = Histogram(
            "sluicegate_queue_wait_seconds",
            "From a job's submission to its first claim, for jobs that this gateway stored.",
            ("tier",),
            _WAITS,
        )
        self.snapshot = Snapshot()
        self._families: tuple[Counter | Gauge | Histogram, ...] = (
            self.requests,
            self.request_seconds,
            active_streams,
            self.streams,
            self.tokens,
            self.inference_seconds,
            self.first_token_seconds,
            self.backend_errors,
            rests,
            self.queue_wait_seconds,
        )
        self._process = ProcessFigures()
        self._read_backends: Callable[[], BackendGauges] = BackendGauges
        self._read_rests: Callable[[], int] = int

    def waited(self, tier: str, seconds: float) -> None:
        """A job of the tier began after so long."""
        self.queue_wait_seconds.labels(tier).observe(seconds)

    def read_backends_from(self, read: Callable[[], "BackendGauges"]) -> None:
        """Ask `read` how the backends stand, whenever a dump is made."""
        self._read_backends = read

    def read_rests_from(self, read: Callable[[], int]) -> None:
        """Ask `read` how often streams have rested, whenever a dump is made."""
        self._read_rests = read

    def dump(self) -> MetricsDump:
        """What this process adds to the whole: everything but the store's gauges."""
        self._rests.value = self._read_rests()
        counted = (family.dump() for family in self._families)
        return MetricsDump.of((*counted, *self._read_backends().families(), *self._process.families()))

    def render(self, dump: MetricsDump | None = None) -> bytes:
        """A dump, by default this process's own, and the store's gauges, in Prometheus' text format."""
        from sluicegate.observability.exposition import render

        mine = self.dump() if dump is None else dump
        return render(mine.merged(MetricsDump.of(self.snapshot.families())))


class BackendGauges(msgspec.Struct, frozen=True, kw_only=True):
    """How this process stands with the chat backends, by (backend, model)."""

    inflight: dict[tuple[str, str], int] = {}
    """Calls in flight."""
    limits: dict[tuple[str, str], int] = {}
    """How many all processes together may have in flight."""

    def families(self) -> tuple[FamilyDump, ...]:
        """The gauges."""
        labels = ("backend", "model")
        return (
            numbers(
                "sluicegate_backend_inflight", "Calls in flight at a backend.", labels, self.inflight.items(), parts=1
            ),
            numbers(
                "sluicegate_backend_limit",
                "Calls that a backend may have in flight.",
                labels,
                self.limits.items(),
                parts=1,
                merge="least",
            ),
        )


class QueueGauges(msgspec.Struct, frozen=True, kw_only=True):
    """The queue at one moment. Costs are reference seconds."""

    jobs: dict[tuple[str, str, str], int] = {}
    """By (pool, tier, state)."""
    longest_wait: dict[tuple[str, str], float] = {}
    """Age in seconds of the oldest queued job, by (pool, tier)."""
    cost: dict[tuple[str, str], float] = {}
    """Estimated cost of the queued jobs, by (pool, tier)."""
    workers: dict[str, int] = {}
    """Live workers by pool."""

    def filled(self, tiers: Collection[str]) -> "QueueGauges":
        """The same with zeros where a pool has nothing of a tier, so that series do not come and go."""
        pools = {*self.workers, *(pool for pool, _ in self.cost), *(pool for pool, _, _ in self.jobs)}
        pairs = [*itertools.product(sorted(pools), sorted(tiers)), *self.cost, *((it[0], it[1]) for it in self.jobs)]
        return QueueGauges(
            jobs={(*pair, state): 0 for pair in pairs for state in _STATES} | self.jobs,
            longest_wait=dict.fromkeys(pairs, 0.0) | self.longest_wait,
            cost=dict.fromkeys(pairs, 0.0) | self.cost,
            workers=dict.fromkeys(sorted(pools), 0) | self.workers,
        )


class Snapshot:
    """What the store told last; refreshed just before each scrape. It is the same in every process: never added up."""

    def __init__(self) -> None:
        self.queue = QueueGauges()
        self.oldest_snapshot: int | None = None
        """See `Store.oldest_snapshot`."""

    def families(self) -> tuple[FamilyDump, ...]:
        """The gauges as they were last refreshed."""
        by_tier = ("pool", "tier")
        queue = self.queue
        workers = [((pool,), count) for pool, count in queue.workers.items()]
        oldest = [((), self.oldest_snapshot)] if self.oldest_snapshot is not None else []
        return (
            numbers(
                "sluicegate_queue_jobs", "Jobs that have not ended, by state.", (*by_tier, "state"), queue.jobs.items()
            ),
            numbers(
                "sluicegate_queue_longest_wait_seconds",
                "Age of the oldest queued job.",
                by_tier,
                queue.longest_wait.items(),
            ),
            numbers(
                "sluicegate_queue_cost_seconds",
                "Estimated cost of the queued jobs, in reference seconds.",
                by_tier,
                queue.cost.items(),
            ),
            numbers("sluicegate_pool_workers", "Live workers that serve the pool.", ("pool",), workers),
            numbers(
                "sluicegate_store_oldest_snapshot",
                "PostgreSQL: how many transactions ago the oldest open one began.",
                (),
                oldest,
            ),
        )
