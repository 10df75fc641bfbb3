"""The queue's report: shares, distances from the clock, totals, and what is listed."""

from typing import Any

import msgspec
import pytest

from sluicegate.domain.fairness import Policy
from sluicegate.domain.ids import JobId, Tenant, WorkerId
from sluicegate.domain.job import Lease
from sluicegate.doors.admin.queue_report import PoolView, QueueFilter, QueueReport, QueueReporter, TenantView
from sluicegate.scheduling.waiting import Waits
from sluicegate.storage.contracts import LaneStanding, QueueView, RunningJob, TenantStanding, Usage, WorkerInfo

NOW = 1_700_000_000.0


def standing(tenant: str, **changes: Any) -> TenantStanding:
    fields: dict[str, Any] = {
        "pool": "default",
        "tier": "free",
        "weight": 1.0,
        "max_running": None,
        "vtime": 100.0,
        "queued": 1,
        "queued_cost": 10.0,
        "delayed": 0,
        "running": 0,
        "since": NOW - 30,
        "oldest_at": NOW - 5,
    }
    return TenantStanding(tenant=Tenant(tenant), **{**fields, **changes})


def running(tenant: str, **changes: Any) -> RunningJob:
    fields: dict[str, Any] = {
        "lease": Lease(JobId(f"job_{tenant}"), 1),
        "pool": "default",
        "tier": "free",
        "model": "m",
        "state": "running",
        "worker": WorkerId(f"worker_{tenant}"),
        "cost": 20.0,
        "claimed_at": NOW - 5,
        "progress": 0.5,
        "preemptible": False,
        "preemptions": 0,
        "preempting": False,
    }
    return RunningJob(tenant=Tenant(tenant), **{**fields, **changes})


def worker(name: str, **changes: Any) -> WorkerInfo:
    fields: dict[str, Any] = {"host": "h", "pid": 1, "started_at": NOW, "seen_at": NOW, "loaded": ("m",)}
    return WorkerInfo(id=WorkerId(name), **{"models": ("m", "n"), **fields, **changes})


def report(
    *tenants: TenantStanding,
    held: tuple[RunningJob, ...] = (),
    workers: tuple[WorkerInfo, ...] = (worker("worker_anna"),),
    usage: dict[Tenant, Usage] | None = None,
    **wanted: Any,
) -> QueueReport:
    lanes = tuple(LaneStanding(it.pool, it.tenant, "m", it.queued) for it in tenants if it.queued)
    view = QueueView(at=NOW, clocks={"default": 90.0}, tenants=tenants, lanes=lanes, running=held)
    return QueueReporter(Waits(view, workers, Policy()), QueueFilter(**wanted)).report(usage or {})


def only_pool(whole: QueueReport) -> PoolView:
    (pool,) = whole.pools
    return pool


def only_tenant(whole: QueueReport) -> TenantView:
    (tenant,) = only_pool(whole).tenants
    return tenant


def test_a_tenants_row_tells_its_place_its_share_and_its_wait() -> None:
    anna = standing("anna", weight=3.0, running=1, vtime=112.5, max_running=4)
    held = (running("anna", cost=15.0), running("bert", cost=5.0))
    row = only_tenant(
        report(anna, standing("bert", queued=0, running=1), held=held, tenant="anna", usage={anna.tenant: Usage(7, 70)})
    )
    assert (row.ahead, row.virtual_time, row.cap, row.lanes) == (22.5, 112.5, 4, {"m": 1})
    assert (row.share.due, row.share.running) == (0.75, 0.75)
    assert (row.share.last_hour_jobs, row.share.last_hour_cost) == (7, 70.0)
    assert (row.unserved_seconds, row.unserved_since) == (30.0, "2023-11-14T22:12:50.000Z")
    assert row.longest_wait_seconds == 5.0
    assert row.why == "the tenant is first in line; the only worker is busy, the next is expected to be free in 5.0 s"


def test_the_shares_that_are_due_sum_to_one_over_those_with_work() -> None:
    tenants = [standing("anna", weight=16.0), standing("bert"), standing("cleo", queued=0, delayed=1, oldest_at=None)]
    rows = {row.tenant: row.share.due for row in only_pool(report(*tenants)).tenants}
    assert rows == {"anna": 16 / 17, "bert": 1 / 17, "cleo": 0.0}


def test_nothing_running_is_not_a_share_of_nothing() -> None:
    assert only_tenant(report(standing("anna"))).share.running is None


def test_the_longest_waits_are_listed_and_the_others_summed() -> None:
    tenants = [standing(f"t{place}", oldest_at=NOW - place, queued=place) for place in range(1, 6)]
    pool = only_pool(report(*tenants, limit=2))
    assert [row.tenant for row in pool.tenants] == ["t5", "t4"]
    assert pool.rest is not None
    assert (pool.rest.tenants, pool.rest.queued, pool.rest.longest_wait_seconds) == (3, 6, 3.0)
    assert (pool.totals.tenants, pool.totals.queued, pool.totals.queued_cost) == (5, 15, 50.0)


def test_one_tenant_asked_for_is_listed_beside_the_sum_of_all_others() -> None:
    held = (running("anna"), running("bert"))
    pool = only_pool(report(standing("anna"), standing("bert", running=1), held=held, tenant="bert"))
    assert [row.tenant for row in pool.tenants] == ["bert"]
    assert [row.tenant for row in pool.running_jobs] == ["bert"]
    assert pool.rest is not None
    assert pool.rest.tenants == 1


def test_an_empty_queue_still_shows_its_pool_and_who_could_work() -> None:
    pool = only_pool(report())
    assert (pool.tenants, pool.rest, pool.running_jobs) == ([], None, [])
    assert pool.totals.longest_wait_seconds is None
    assert (pool.capacity.workers, pool.capacity.busy) == (1, 0)
    assert msgspec.to_builtins(pool.capacity.models) == {
        "m": {"workers": 1, "loaded": 1},
        "n": {"workers": 1, "loaded": 0},
    }


def test_pools_known_by_their_tenants_or_workers_alone_are_shown_too() -> None:
    whole = report(standing("anna", pool="gpu"), workers=(worker("w", pools=("batch",)),))
    assert [pool.pool for pool in whole.pools] == ["batch", "default", "gpu"]
    assert [pool.capacity.workers for pool in whole.pools] == [1, 0, 0]
    assert [pool.pool for pool in report(standing("anna", pool="gpu"), pool="gpu").pools] == ["gpu"]


def test_a_running_job_tells_how_long_it_ran_and_how_long_it_will() -> None:
    (row,) = only_pool(report(standing("anna", running=1), held=(running("anna", progress=0.25),))).running_jobs
    assert (row.running_seconds, row.expected_remaining_seconds) == (5.0, 15.0)
    assert row.claimed_at == "2023-11-14T22:13:15.000Z"


@pytest.mark.parametrize("tenants", [1, 10_000])
def test_the_report_is_as_long_as_the_limit_however_many_tenants_there_are(tenants: int) -> None:
    many = [standing(f"t{place:05}", vtime=float(place)) for place in range(tenants)]
    pool = only_pool(report(*many, held=(running("anna"),), limit=10))
    assert len(pool.tenants) == min(tenants, 10)
    assert pool.totals.tenants == tenants
