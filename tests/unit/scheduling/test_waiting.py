"""Why jobs wait: each reason, with its figures, from one look at the queue."""

from collections.abc import Sequence
from typing import Any

from sluicegate.domain.fairness import Policy
from sluicegate.domain.ids import JobId, Tenant, WorkerId
from sluicegate.domain.job import Job, JobError, Lease
from sluicegate.scheduling.waiting import Waits, remaining_seconds
from sluicegate.storage.contracts import LaneStanding, QueueView, RunningJob, TenantStanding, WorkerInfo

NOW = 1_700_000_000.0
BUSY = "the only worker is busy, the next is expected to be free in 12 s"


def standing(tenant: str = "anna", **changes: Any) -> TenantStanding:
    fields: dict[str, Any] = {
        "pool": "default",
        "tier": "free",
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
    return TenantStanding(tenant=Tenant(tenant), **{**fields, **changes})


def worker(name: str = "w1", **changes: Any) -> WorkerInfo:
    fields: dict[str, Any] = {"host": "h", "pid": 1, "started_at": NOW, "seen_at": NOW, "loaded": ()}
    return WorkerInfo(id=WorkerId(name), **{"models": ("m",), **fields, **changes})


def running(name: str = "w1", **changes: Any) -> RunningJob:
    fields: dict[str, Any] = {
        "lease": Lease(JobId(f"job_{name}"), 1),
        "pool": "default",
        "tenant": Tenant("whale"),
        "tier": "free",
        "model": "m",
        "state": "running",
        "cost": 20.0,
        "claimed_at": NOW - 8,
        "progress": 0.0,
        "preemptible": False,
        "preemptions": 0,
        "preempting": False,
    }
    return RunningJob(worker=WorkerId(name), **{**fields, **changes})


def waits(
    *tenants: TenantStanding,
    workers: Sequence[WorkerInfo] = (worker(),),
    held: Sequence[RunningJob] = (running(),),
    models: Sequence[str] = ("m",),
) -> Waits:
    lanes = tuple(LaneStanding(it.pool, it.tenant, model, 1) for it in tenants for model in models if it.queued)
    view = QueueView(at=NOW, clocks={"default": 0.0}, tenants=tenants, lanes=lanes, running=tuple(held))
    return Waits(view, workers, Policy(swap_penalty=20.0))


def job(**changes: Any) -> Job:
    fields: dict[str, Any] = dict.fromkeys(Job.__struct_fields__)
    fields |= {"id": JobId("job_1"), "tenant": Tenant("anna"), "state": "queued", "model": "m", "pool": "default"}
    fields |= {"jobs_ahead": 0, "attempt": 0, "max_attempts": 3, "priority": 0}
    return Job(**{**fields, **changes})


def test_work_that_has_no_live_worker_says_which_pool_to_serve() -> None:
    seen = waits(standing(), workers=(), held=())
    assert seen.of_job(job()) == 'no live worker serves the pool "default"; start one: sluicegate work --pool default'
    assert seen.of_job(job(pool="gpu")) == 'no live worker serves the pool "gpu"; start one: sluicegate work --pool gpu'


def test_work_for_a_model_that_no_worker_of_the_pool_has_says_so() -> None:
    mend = '"other"; start one whose backends have it'
    assert waits(standing()).of_job(job(model="other")) == (
        f'the live worker of the pool "default" does not serve {mend}'
    )
    two = (worker("w1"), worker("w2"))
    assert waits(standing(), workers=two).of_job(job(model="other")) == (
        f'none of the 2 live workers of the pool "default" serves {mend}'
    )


def test_a_tenant_at_its_cap_is_told_the_cap_and_when_one_of_its_own_jobs_ends() -> None:
    anna = standing(running=2, max_running=2)
    own = [running("w1", tenant=Tenant("anna")), running("w2", tenant=Tenant("anna"), cost=9.0)]
    told = waits(anna, workers=(worker("w1"), worker("w2"), worker("w3")), held=own).of_job(job())
    assert told == (
        'the tenant runs 2 of the 2 jobs that its tier "free" lets it run at once; its next starts when one of them '
        "ends, expected in 1.0 s"
    )


def test_a_retry_tells_until_when_and_after_which_error() -> None:
    error = JobError(code="backend_failed", message="out of memory")
    told = waits().of_job(job(state="scheduled", attempt=1, due_at=NOW + 4, jobs_ahead=None), last_error=error)
    assert told == (
        "waits for attempt 2 of 3 until 2023-11-14T22:13:24Z (4.0 s), because attempt 1 failed: "
        "out of memory (backend_failed)"
    )


def test_a_tenants_own_jobs_ahead_are_counted_before_the_wait_of_the_first() -> None:
    told = waits(standing()).of_job(job(jobs_ahead=3))
    own = "3 of the tenant's own jobs are ahead of it, by priority, then age"
    assert told == f"{own}; the tenant is first in line; {BUSY}"
    many = waits(standing()).of_job(job(jobs_ahead=1_000))
    assert many is not None
    assert many.startswith("1000 or more of")


def test_a_tenant_that_has_had_its_share_is_told_by_how_much_and_behind_how_many() -> None:
    tenants = [standing(vtime=50.0), standing("bert", vtime=10.0), standing("cleo", vtime=8.0)]
    told = waits(*tenants, workers=(worker(loaded=("m",)),)).of_job(job())
    because = "because the tenant is 42 virtual s ahead of the one that has had the least"
    assert told == f"2 tenants come before this one, {because}; {BUSY}"


def test_a_tenant_unserved_beyond_the_guard_is_told_that_it_may_go_first() -> None:
    told = waits(standing(vtime=50.0, since=NOW - 400.0), standing("bert", vtime=10.0)).of_job(job())
    assert told is not None
    assert told.endswith(f"{BUSY}; unserved for 400 s, it may soon be served out of turn")


def test_tenants_at_their_cap_do_not_come_before_anyone() -> None:
    tenants = [standing(vtime=50.0), standing("bert", vtime=10.0, running=1, max_running=1)]
    assert waits(*tenants).of_job(job()) == f"the tenant is first in line; {BUSY}"


def test_a_model_that_is_not_loaded_counts_against_its_tenant() -> None:
    anna, bert = standing(vtime=5.0), standing("bert", vtime=10.0)
    lanes = (LaneStanding("default", Tenant("anna"), "cold", 1), LaneStanding("default", Tenant("bert"), "m", 1))
    view = QueueView(at=NOW, clocks={}, tenants=(anna, bert), lanes=lanes, running=(running(),))
    seen = Waits(view, [worker(models=("m", "cold"), loaded=("m",))], Policy(swap_penalty=20.0))
    told = seen.of_job(job(model="cold"))
    assert told == (
        "1 tenant comes before this one, because the tenant is 0.0 virtual s ahead of the one that has had the least "
        f"and needs a model that no worker has loaded (which counts 20); {BUSY}"
    )
    assert seen.of_next(bert) == f"the tenant is first in line; {BUSY}"


def test_a_free_worker_is_the_shortest_of_reasons() -> None:
    two = (worker("w1"), worker("w2"))
    assert waits(standing(), workers=two).of_job(job()) == "1 worker is free and will take it soon"


def test_a_worker_that_holds_a_job_of_another_pool_is_busy_all_the_same() -> None:
    elsewhere = running(pool="other")
    assert waits(standing(), held=[elsewhere]).of_job(job()) == f"the tenant is first in line; {BUSY}"


def test_jobs_that_run_or_have_ended_wait_for_nothing() -> None:
    states = ("running", "canceling", "succeeded", "failed", "canceled", "expired")
    assert [waits().of_job(job(state=state)) for state in states] == [None] * len(states)


def test_a_job_that_came_after_the_look_still_has_its_reason() -> None:
    assert waits().of_job(job()) == f"the tenant is first in line; {BUSY}"


def test_a_tenant_with_retries_alone_says_so_and_one_without_work_says_nothing() -> None:
    resting = standing(queued=0, delayed=2, oldest_at=None)
    assert waits(resting).of_next(resting) == "2 of its jobs wait for their next attempt"
    served = standing(queued=0, running=1, oldest_at=None)
    assert waits(served).of_next(served) is None


def test_what_remains_of_a_job_follows_its_progress_and_before_that_its_cost() -> None:
    assert remaining_seconds(running(progress=0.25), NOW) == 24.0
    assert remaining_seconds(running(progress=0.0), NOW) == 12.0
    assert remaining_seconds(running(cost=3.0), NOW) == 0.0


def test_an_overdue_worker_is_expected_at_any_moment() -> None:
    told = waits(standing(), held=[running(cost=1.0)]).of_job(job())
    assert told is not None
    assert told.endswith("the next is expected to be free at any moment")
