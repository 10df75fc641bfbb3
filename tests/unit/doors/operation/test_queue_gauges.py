"""The queue as metrics: by pool and tier, never by tenant."""

from typing import Any

from sluicegate.domain.ids import Tenant, WorkerId
from sluicegate.doors.operation.operation import queue_gauges
from sluicegate.observability.metrics import Metrics
from sluicegate.storage.contracts import QueueCount, QueueView, TenantStanding, WorkerInfo

NOW = 1_700_000_000.0


def standing(tenant: str, tier: str, **changes: Any) -> TenantStanding:
    fields: dict[str, Any] = {
        "pool": "default",
        "weight": 1.0,
        "max_running": None,
        "vtime": 0.0,
        "queued": 1,
        "queued_cost": 10.0,
        "delayed": 0,
        "running": 0,
        "since": NOW,
        "oldest_at": NOW - 5,
    }
    return TenantStanding(tenant=Tenant(tenant), tier=tier, **{**fields, **changes})


def worker(name: str, *pools: str) -> WorkerInfo:
    return WorkerInfo(
        id=WorkerId(name), host="h", pid=1, started_at=NOW, seen_at=NOW, models=("m",), loaded=(), pools=pools
    )


def view(*tenants: TenantStanding) -> QueueView:
    return QueueView(at=NOW, clocks={"default": 1.0, "gpu": 0.0}, tenants=tenants, lanes=(), running=())


def scrape(gauges: Any) -> list[str]:
    """The lines of the queue's gauges, as Prometheus reads them."""
    metrics = Metrics()
    metrics.snapshot.queue = gauges
    return [
        line for line in metrics.render().decode().splitlines() if line.startswith(("sluicegate_q", "sluicegate_p"))
    ]


def test_tenants_of_a_tier_are_added_up_and_never_named() -> None:
    tenants = [standing("anna", "free"), standing("bert", "free", oldest_at=NOW - 40), standing("cleo", "pro")]
    counts = [QueueCount("default", "free", model, "queued", 1) for model in ("m", "n")]
    lines = scrape(queue_gauges(counts, view(*tenants), []).filled(["free", "pro"]))
    assert 'sluicegate_queue_jobs{pool="default",state="queued",tier="free"} 2.0' in lines
    assert 'sluicegate_queue_jobs{pool="default",state="running",tier="pro"} 0.0' in lines
    assert 'sluicegate_queue_longest_wait_seconds{pool="default",tier="free"} 40.0' in lines
    assert 'sluicegate_queue_cost_seconds{pool="default",tier="free"} 20.0' in lines
    assert 'sluicegate_queue_cost_seconds{pool="default",tier="pro"} 10.0' in lines
    assert not [line for line in lines if "anna" in line or "tenant" in line]


def test_workers_are_counted_in_each_pool_that_they_serve() -> None:
    gauges = queue_gauges([], view(), [worker("one", "default", "batch"), worker("two", "default")])
    assert gauges.workers == {"default": 2, "gpu": 0, "batch": 1}


def test_a_pool_without_work_shows_zeros_for_every_tier() -> None:
    lines = scrape(queue_gauges([], view(), []).filled(["free"]))
    assert 'sluicegate_queue_jobs{pool="gpu",state="queued",tier="free"} 0.0' in lines
    assert 'sluicegate_queue_longest_wait_seconds{pool="gpu",tier="free"} 0.0' in lines
    assert 'sluicegate_pool_workers{pool="gpu"} 0.0' in lines


def test_a_tier_that_the_settings_no_longer_name_is_shown_while_it_has_work() -> None:
    lines = scrape(queue_gauges([], view(standing("anna", "gold")), []).filled(["free"]))
    assert 'sluicegate_queue_cost_seconds{pool="default",tier="gold"} 10.0' in lines
    assert 'sluicegate_queue_jobs{pool="default",state="queued",tier="gold"} 0.0' in lines
