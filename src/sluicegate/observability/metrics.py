"""Prometheus metrics. Names and labels are public: they change only with a major version."""

import itertools
from collections.abc import Collection, Iterable

import msgspec
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
_WAITS = (0.01, 0.05, 0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1_800, 3_600, 7_200)
_STATES = ("queued", "scheduled", "running", "canceling")

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """Every metric of one process, in a registry of its own."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "http_requests_total",
            "Requests answered, by route template.",
            ("method", "path", "status_code"),
            registry=self.registry,
        )
        self.request_seconds = Histogram(
            "http_request_duration_seconds",
            "From the request's head to the end of its answer.",
            ("method", "path"),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.active_streams = Gauge(
            "ai_gateway_active_streams", "Chat calls being relayed now.", registry=self.registry
        )
        self.streams = Counter(
            "ai_gateway_streams_total",
            "Chat calls ended, by how: completed, cancelled or error.",
            ("status",),
            registry=self.registry,
        )
        self.tokens = Counter(
            "ai_tokens_processed_total", "Prompt and completion tokens, by model.", ("model",), registry=self.registry
        )
        self.inference_seconds = Histogram(
            "ai_model_inference_duration_seconds",
            "A chat call that reached a backend, from its arrival here to its end.",
            ("model",),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.first_token_seconds = Histogram(
            "sluicegate_time_to_first_token_seconds",
            "From the caller's request to the first bytes of the streamed answer.",
            ("model",),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.backend_errors = Counter(
            "sluicegate_backend_errors_total",
            "Calls that failed at a backend.",
            ("backend", "model", "reason"),
            registry=self.registry,
        )
        self.queue_wait_seconds = Histogram(
            "sluicegate_queue_wait_seconds",
            "From a job's submission to its first claim, for jobs that this gateway stored.",
            ("tier",),
            buckets=_WAITS,
            registry=self.registry,
        )
        self.snapshot = Snapshot()
        self.registry.register(self.snapshot)
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)

    def waited(self, tier: str, seconds: float) -> None:
        """A job of the tier began after so long."""
        self.queue_wait_seconds.labels(tier).observe(seconds)

    def render(self) -> bytes:
        """The metrics in Prometheus' text format."""
        return generate_latest(self.registry)


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


class Snapshot(Collector):
    """Gauges whose truth lies elsewhere (store, backends); refreshed just before each scrape."""

    def __init__(self) -> None:
        self.queue = QueueGauges()
        self.oldest_snapshot: int | None = None
        """See `Store.oldest_snapshot`."""
        self.inflight: dict[tuple[str, str], int] = {}
        """Calls in flight by (backend, model)."""
        self.limits: dict[tuple[str, str], int] = {}
        """Concurrency limits by (backend, model)."""

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """The gauges as they were last refreshed."""
        by_tier, by_backend = ("pool", "tier"), ("backend", "model")
        queue = self.queue
        yield _gauge(
            "sluicegate_queue_jobs", "Jobs that have not ended, by state.", (*by_tier, "state"), queue.jobs.items()
        )
        yield _gauge(
            "sluicegate_queue_longest_wait_seconds",
            "Age of the oldest queued job.",
            by_tier,
            queue.longest_wait.items(),
        )
        yield _gauge(
            "sluicegate_queue_cost_seconds",
            "Estimated cost of the queued jobs, in reference seconds.",
            by_tier,
            queue.cost.items(),
        )
        workers = (((pool,), count) for pool, count in queue.workers.items())
        yield _gauge("sluicegate_pool_workers", "Live workers that serve the pool.", ("pool",), workers)
        oldest = [((), float(self.oldest_snapshot))] if self.oldest_snapshot is not None else []
        yield _gauge(
            "sluicegate_store_oldest_snapshot",
            "PostgreSQL: how many transactions ago the oldest open one began.",
            (),
            oldest,
        )
        yield _gauge("sluicegate_backend_inflight", "Calls in flight at a backend.", by_backend, self.inflight.items())
        yield _gauge(
            "sluicegate_backend_limit", "Calls that a backend may have in flight.", by_backend, self.limits.items()
        )


def _gauge(
    name: str, text: str, labels: tuple[str, ...], values: Iterable[tuple[tuple[str, ...], float]]
) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, text, labels=labels)
    for label_values, value in values:
        family.add_metric(label_values, value)
    return family
