"""Which running work gives way, and that giving way always helps somebody else and ends."""

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from sluicegate.domain.fairness import MOST_PREEMPTIONS, Policy
from sluicegate.domain.ids import JobId, Tenant, WorkerId
from sluicegate.domain.job import Lease
from sluicegate.scheduling.preemption import fair_tag_after, share_done, victims
from sluicegate.storage.contracts import LaneStanding, QueueView, RunningJob, TenantStanding, WorkerInfo

NOW = 1_000.0
POLICY = Policy()


def standing(tenant: str, **changes: Any) -> TenantStanding:
    """A pro tenant that came 30 s ago with one job of 5 s, level with the whale."""
    pro = TenantStanding(
        pool="default",
        tenant=Tenant(tenant),
        tier="pro",
        weight=16.0,
        max_running=None,
        vtime=600.0,
        queued=1,
        queued_cost=5.0,
        delayed=0,
        running=0,
        since=NOW - 30,
        oldest_at=NOW - 30,
    )
    return msgspec.structs.replace(pro, **changes)


def whale(running: int = 2, **changes: Any) -> TenantStanding:
    """A free tenant with long jobs on every worker and many more that wait."""
    like_whale = {"weight": 1.0, "queued": 400, "queued_cost": 400 * 300.0, "running": running, "since": NOW - 60}
    return standing("whale", tier="free", **{**like_whale, **changes})


def long_job(number: int, **changes: Any) -> RunningJob:
    """One of the whale's: a fifth done, four more minutes to go."""
    job = RunningJob(
        lease=Lease(JobId(f"job_{number}"), 1),
        pool="default",
        tenant=Tenant("whale"),
        tier="free",
        model="big",
        state="running",
        worker=WorkerId(f"worker_{number}"),
        cost=300.0,
        claimed_at=NOW - 60,
        progress=0.2,
        preemptible=True,
        preemptions=0,
        preempting=False,
    )
    return msgspec.structs.replace(job, **changes)


def crew(count: int = 2, **changes: Any) -> list[WorkerInfo]:
    worker = WorkerInfo(
        id=WorkerId(""), host="h", pid=1, started_at=0.0, seen_at=NOW, models=("big", "small"), loaded=("big",)
    )
    return [msgspec.structs.replace(worker, id=WorkerId(f"worker_{number}"), **changes) for number in range(count)]


def look(
    tenants: Sequence[TenantStanding], running: Sequence[RunningJob], lanes: Sequence[tuple[str, str]] = ()
) -> QueueView:
    """The queue; the whale's jobs are for the model `big`, those of others for `small` unless told otherwise."""
    pairs = lanes or [(it.tenant, "big" if it.tenant == "whale" else "small") for it in tenants if it.queued]
    pool_of = {it.tenant: it.pool for it in tenants}
    return QueueView(
        at=NOW,
        clocks={"default": 600.0},
        tenants=tuple(tenants),
        lanes=tuple(LaneStanding(pool_of[Tenant(who)], Tenant(who), model, 1) for who, model in pairs),
        running=tuple(running),
    )


def chosen(view: QueueView, workers: Sequence[WorkerInfo] | None = None, policy: Policy = POLICY) -> list[str]:
    return [job.lease.job for job in victims(view, crew() if workers is None else workers, policy)]


def test_a_whale_on_every_worker_gives_one_way_to_a_tenant_that_comes_level_with_it() -> None:
    running = [long_job(0, progress=0.3), long_job(1, progress=0.2)]
    assert chosen(look([whale(), standing("pro")], running)) == ["job_1"]


@pytest.mark.parametrize(
    "changes",
    [
        {"preemptible": False},
        {"progress": 0.5},
        {"preemptions": MOST_PREEMPTIONS},
        {"preempting": True},
        {"state": "canceling"},
        {"progress": 0.0, "claimed_at": NOW - 200},
    ],
    ids=[
        "of a tier that does not give way",
        "half done",
        "gave way twice",
        "told already",
        "withdrawn",
        "half its time",
    ],
)
def test_work_that_must_not_give_way_does_not(changes: dict[str, Any]) -> None:
    running = [long_job(0, **changes), long_job(1, **changes)]
    assert chosen(look([whale(), standing("pro")], running)) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"since": NOW - 9},
        {"running": 1},
        {"queued": 0, "queued_cost": 0.0, "delayed": 1},
        {"max_running": 0},
        {"vtime": 601.0},
        {"queued_cost": 600.0},
    ],
    ids=[
        "came just now",
        "runs something",
        "has nothing queued",
        "is at its cap",
        "had more than the whale",
        "dear work",
    ],
)
def test_nothing_gives_way_to_a_tenant_that_has_no_claim_to_it(changes: dict[str, Any]) -> None:
    assert chosen(look([whale(), standing("pro", **changes)], [long_job(0), long_job(1)])) == []


def test_nothing_gives_way_when_a_slot_is_free_or_soon_will_be() -> None:
    tenants = [whale(), standing("pro")]
    assert chosen(look(tenants, [long_job(0)])) == []
    assert chosen(look(tenants, [long_job(0), long_job(1, progress=0.95)])) == []
    assert chosen(look(tenants, [long_job(0), long_job(1, preempting=True)])) == []


def test_a_job_that_overruns_its_estimate_and_reports_nothing_promises_no_slot() -> None:
    running = [long_job(0), long_job(1, progress=0.0, cost=10.0)]
    assert chosen(look([whale(), standing("pro")], running)) == ["job_0"]


def test_equal_tenants_with_equal_jobs_never_make_each_other_give_way() -> None:
    equal = standing("other", weight=1.0, queued_cost=300.0, since=NOW - 59)
    assert chosen(look([whale(), equal], [long_job(0), long_job(1)])) == []


def test_a_short_job_of_an_equal_tenant_need_not_wait_for_a_long_one() -> None:
    equal = standing("other", weight=1.0, queued_cost=3.0)
    assert chosen(look([whale(), equal], [long_job(0), long_job(1)])) == ["job_0"]


def test_a_change_of_model_must_be_worth_it() -> None:
    tenants = [whale(1), standing("pro", since=NOW - 15)]
    assert chosen(look(tenants, [long_job(0)]), crew(1)) == []
    assert chosen(look(tenants, [long_job(0)]), crew(1, loaded=("big", "small"))) == ["job_0"]


def test_each_waiting_tenant_is_given_one_slot_at_most() -> None:
    running = [long_job(number, progress=(1 + number) / 20) for number in range(4)]
    tenants = [whale(4), standing("a"), standing("b")]
    assert chosen(look(tenants, running), crew(4)) == ["job_0", "job_1"]


def test_no_slot_is_taken_for_a_tenant_that_would_not_get_it() -> None:
    served_first = standing("first", vtime=10.0, running=1)
    assert chosen(look([whale(), served_first, standing("pro")], [long_job(0), long_job(1)])) == []
    elsewhere = standing("elsewhere", pool="big", running=1)
    workers = crew(pools=("big", "default"))
    view = look([whale(), elsewhere, standing("pro")], [long_job(0), long_job(1)])
    assert chosen(view, workers) == []
    assert chosen(look([whale(), standing("pro")], [long_job(0), long_job(1)]), workers) == ["job_0"]


def test_work_stays_where_its_tenant_would_get_the_slot_back_by_the_starvation_guard() -> None:
    long_unserved = whale(since=NOW - POLICY.guard)
    assert chosen(look([long_unserved, standing("pro")], [long_job(0), long_job(1)])) == []


def test_only_workers_that_serve_the_waiting_model_and_are_alive_count() -> None:
    tenants = [whale(), standing("pro")]
    running = [long_job(0), long_job(1)]
    assert chosen(look(tenants, running), crew(models=("big",))) == []
    assert chosen(look(tenants, running), []) == []
    mixed = [*crew(1), *crew(2, models=("big",))[1:]]
    assert chosen(look(tenants, running), mixed) == ["job_0"]


def test_the_tag_after_giving_way_is_behind_the_foremost_and_the_change_of_model_however_large_the_refund() -> None:
    for vtime, paid, least in [(600.0, 300.0, 600.0), (600.0, 0.0, 600.0), (900.0, 1.0, 100.0), (0.0, 0.0, 50.0)]:
        tag = fair_tag_after(vtime, paid, least, POLICY)
        assert tag > least + POLICY.swap_penalty
        assert tag <= max(vtime, least + POLICY.swap_penalty + 1)


def test_progress_is_reported_or_else_told_by_time_and_cost() -> None:
    assert share_done(long_job(0, progress=0.3), NOW) == 0.3
    assert share_done(long_job(0, progress=0.0), NOW) == pytest.approx(60 / 300)
    assert share_done(long_job(0, progress=0.0, cost=10.0), NOW) == 1.0
