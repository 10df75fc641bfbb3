"""Every metric of a process, and of several."""

import subprocess
import sys

from sluicegate.observability.metrics import BackendGauges, Metrics, QueueGauges
from sluicegate.observability.tallies import MetricsDump

PUBLIC = {
    "http_requests_total": ("counter", ("method", "path", "status_code")),
    "http_request_duration_seconds": ("histogram", ("method", "path")),
    "ai_gateway_active_streams": ("gauge", ()),
    "ai_gateway_streams_total": ("counter", ("status",)),
    "ai_tokens_processed_total": ("counter", ("model",)),
    "ai_model_inference_duration_seconds": ("histogram", ("model",)),
    "sluicegate_time_to_first_token_seconds": ("histogram", ("model",)),
    "sluicegate_queue_wait_seconds": ("histogram", ("tier",)),
    "sluicegate_backend_errors_total": ("counter", ("backend", "model", "reason")),
    "sluicegate_stream_rests_total": ("counter", ()),
    "sluicegate_backend_inflight": ("gauge", ("backend", "model")),
    "sluicegate_backend_limit": ("gauge", ("backend", "model")),
}
OF_THE_STORE = {
    "sluicegate_queue_jobs",
    "sluicegate_queue_longest_wait_seconds",
    "sluicegate_queue_cost_seconds",
    "sluicegate_pool_workers",
    "sluicegate_store_oldest_snapshot",
}


def serving(calls: int) -> Metrics:
    """A process that answers that many calls now."""
    metrics = Metrics()
    for _ in range(calls):
        metrics.requests.labels("POST", "/api/chat", "200").value += 1
        metrics.request_seconds.labels("POST", "/api/chat").observe(0.25)
    metrics.active_streams.value += calls
    metrics.read_backends_from(lambda: BackendGauges(inflight={("b", "m"): calls}, limits={("b", "m"): 8}))
    return metrics


def lines(text: bytes) -> list[str]:
    return text.decode().splitlines()


def test_rests_are_read_when_a_dump_is_made() -> None:
    metrics, rests = Metrics(), iter((3, 5))
    metrics.read_rests_from(lambda: next(rests))
    assert "sluicegate_stream_rests_total 3.0" in lines(metrics.render())
    assert "sluicegate_stream_rests_total 5.0" in lines(metrics.render())


def test_names_kinds_and_labels_are_public_and_stay() -> None:
    metrics = Metrics()
    families = {family.name: (family.kind, family.labels) for family in metrics.dump().families}
    ours = {name: told for name, told in families.items() if not name.startswith(("process_", "python_"))}
    assert ours == PUBLIC
    assert {family.name for family in metrics.snapshot.families()} == OF_THE_STORE


def test_a_scrape_shows_what_was_counted_and_how_things_stand() -> None:
    metrics = serving(3)
    metrics.waited("free", 400)
    shown = lines(metrics.render())
    assert 'http_requests_total{method="POST",path="/api/chat",status_code="200"} 3.0' in shown
    assert 'http_request_duration_seconds_bucket{le="0.25",method="POST",path="/api/chat"} 3.0' in shown
    assert 'http_request_duration_seconds_sum{method="POST",path="/api/chat"} 0.75' in shown
    assert 'sluicegate_queue_wait_seconds_bucket{le="600.0",tier="free"} 1.0' in shown
    assert "ai_gateway_active_streams 3.0" in shown
    assert 'sluicegate_backend_inflight{backend="b",model="m"} 3.0' in shown
    assert any(line.startswith("process_resident_memory_bytes ") for line in shown)


def test_several_processes_are_added_up_and_the_queue_is_told_once() -> None:
    answering, sibling, dead = serving(3), serving(2), serving(4)
    for metrics in (answering, sibling):
        metrics.snapshot.queue = QueueGauges(jobs={("gpu", "free", "queued"): 7})
    past = dead.dump().as_past()
    shown = lines(answering.render(answering.dump().merged(sibling.dump()).merged(past)))
    assert 'http_requests_total{method="POST",path="/api/chat",status_code="200"} 9.0' in shown
    assert 'http_request_duration_seconds_count{method="POST",path="/api/chat"} 9.0' in shown
    assert "ai_gateway_active_streams 5.0" in shown
    assert 'sluicegate_backend_limit{backend="b",model="m"} 8.0' in shown
    assert 'sluicegate_queue_jobs{pool="gpu",state="queued",tier="free"} 7.0' in shown
    assert not [line for line in shown if line.startswith("python_info") and not line.endswith(" 1.0")]


def test_an_empty_dump_renders_the_store_alone() -> None:
    kinds = {line.split()[2] for line in lines(Metrics().render(MetricsDump())) if line.startswith("# TYPE")}
    assert kinds == OF_THE_STORE


def test_a_scrape_needs_no_prometheus_client() -> None:
    script = (
        "import sys; from sluicegate.observability.metrics import Metrics; text = Metrics().render()\n"
        "assert b'# TYPE http_requests_total counter' in text; assert 'prometheus_client' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
