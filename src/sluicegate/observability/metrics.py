"""Prometheus metrics. Names and labels are public: they change only with a major version."""

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)

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
        self.snapshot = Snapshot()
        self.registry.register(self.snapshot)
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)

    def render(self) -> bytes:
        """The metrics in Prometheus' text format."""
        return generate_latest(self.registry)


class Snapshot(Collector):
    """Gauges whose truth lies elsewhere (store, backends); refreshed just before each scrape."""

    def __init__(self) -> None:
        self.queue: dict[str, int] = {}
        """Jobs by state."""
        self.inflight: dict[tuple[str, str], int] = {}
        """Calls in flight by (backend, model)."""
        self.limits: dict[tuple[str, str], int] = {}
        """Concurrency limits by (backend, model)."""

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """The gauges as they were last refreshed."""
        queue = GaugeMetricFamily(
            "sluicegate_queue_jobs", "Jobs that have not ended, by state.", labels=("pool", "tier", "state")
        )
        for state, jobs in self.queue.items():
            queue.add_metric(("default", "default", state), jobs)
        yield queue
        inflight = GaugeMetricFamily(
            "sluicegate_backend_inflight", "Calls in flight at a backend.", labels=("backend", "model")
        )
        for labels, calls in self.inflight.items():
            inflight.add_metric(labels, calls)
        yield inflight
        limit = GaugeMetricFamily(
            "sluicegate_backend_limit", "Calls that a backend may have in flight.", labels=("backend", "model")
        )
        for labels, calls in self.limits.items():
            limit.add_metric(labels, calls)
        yield limit
