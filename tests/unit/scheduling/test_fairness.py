"""Each rule of the fair queue by a small example."""

from math import inf

import pytest

from sluicegate.domain.fairness import Policy
from sluicegate.scheduling.fairness import FairQueue, QueuedJob

CALM = Policy(swap_penalty=20.0, lane_wait=inf, guard=inf)


def job(name: str, tenant: str, model: str = "a", cost: float = 10.0, priority: int = 0) -> QueuedJob:
    return QueuedJob(name, tenant, model, cost, priority)


def claimed(queue: FairQueue, now: float = 0.0, *, models: str = "abc", loaded: str = "a") -> QueuedJob:
    found = queue.claim(models, loaded, now)
    assert found is not None
    return found


def tag(queue: FairQueue, tenant: str) -> float:
    return queue.accounts[tenant].vtime


def test_the_tenant_with_the_least_tag_comes_first() -> None:
    queue = FairQueue(CALM)
    for number in range(2):
        queue.submit(job(f"{number}", "anna"), 0.0)
        queue.submit(job(f"{number}", "ben"), 0.0)

    assert [claimed(queue).tenant for _ in range(4)] == ["anna", "ben", "anna", "ben"]


def test_a_charge_is_the_cost_by_the_weight() -> None:
    queue = FairQueue(CALM)
    queue.submit(job("1", "anna", cost=8.0), 0.0, weight=4.0)

    assert claimed(queue).paid == tag(queue, "anna") == 2.0


def test_a_tenant_four_times_as_heavy_is_served_four_times_as_often() -> None:
    queue = FairQueue(CALM)
    for number in range(20):
        queue.submit(job(f"{number:02}", "anna"), 0.0, weight=4.0)
        queue.submit(job(f"{number:02}", "ben"), 0.0, weight=1.0)

    served = [claimed(queue).tenant for _ in range(20)]

    assert (served.count("anna"), served.count("ben")) == (16, 4)


def test_work_for_a_loaded_model_comes_first_until_the_others_are_too_far_behind() -> None:
    queue = FairQueue(CALM)
    queue.submit(job("1", "anna", "b"), 0.0)
    for number in range(4):
        queue.submit(job(f"{number}", "ben", "a", cost=8.0), 0.0)

    assert [claimed(queue).tenant for _ in range(5)] == ["ben", "ben", "ben", "anna", "ben"]


def test_a_model_in_memory_that_the_worker_may_not_serve_counts_for_nothing() -> None:
    queue = FairQueue(CALM)
    queue.submit(job("1", "ben", "a"), 0.0)
    queue.submit(job("2", "ben", "b"), 0.0)
    queue.submit(job("1", "anna", "b"), 0.0)

    assert claimed(queue, models="b", loaded="a").tenant == "anna"


def test_who_was_idle_comes_back_level_with_the_least_tag_of_the_others() -> None:
    queue = FairQueue(CALM)
    for number in range(3):
        queue.submit(job(f"{number}", "ben", cost=30.0), 0.0)
    claimed(queue)
    claimed(queue)
    queue.submit(job("1", "anna"), 5.0)

    assert tag(queue, "anna") == tag(queue, "ben") == 60.0
    assert queue.accounts["anna"].since == 5.0


def test_who_is_ahead_stays_ahead_after_a_pause() -> None:
    queue = FairQueue(CALM)
    queue.submit(job("1", "anna", cost=50.0), 0.0)
    claimed(queue)
    queue.submit(job("1", "ben"), 0.0)
    queue.submit(job("2", "anna"), 0.0)

    assert (tag(queue, "anna"), tag(queue, "ben")) == (50.0, 0.0)


def test_when_nobody_waits_the_clock_remembers_where_it_was() -> None:
    queue = FairQueue(CALM)
    for number in range(2):
        queue.submit(job(f"{number}", "ben", cost=30.0), 0.0)
        claimed(queue)
    queue.submit(job("1", "anna"), 0.0)

    assert queue.vtime == tag(queue, "anna") == 30.0


@pytest.mark.parametrize(
    ("loaded", "expected"), [("a", "cold-first"), ("b", "b-old"), ("", "b-old")], ids=["a", "b", "none"]
)
def test_inside_a_tenant_loaded_models_then_priority_then_age_decide(loaded: str, expected: str) -> None:
    queue = FairQueue(CALM)
    queue.submit(job("cold-last", "anna", "a"), 0.0)
    queue.submit(job("cold-first", "anna", "a", priority=1), 0.0)
    queue.submit(job("b-new", "anna", "b", priority=1), 0.0)
    queue.submit(job("b-old", "anna", "b", priority=2), 0.0)

    assert claimed(queue, loaded=loaded).id == expected


def test_equal_jobs_go_by_age() -> None:
    queue = FairQueue(CALM)
    for name in ("2", "1", "3"):
        queue.submit(job(name, "anna"), 0.0)

    assert [claimed(queue).id for _ in range(3)] == ["1", "2", "3"]


def test_a_lane_that_waited_too_long_goes_before_the_loaded_one() -> None:
    queue = FairQueue(Policy(lane_wait=120.0, guard=inf))
    queue.submit(job("b", "anna", "b"), 0.0)
    for number in range(3):
        queue.submit(job(f"a{number}", "anna", "a"), 0.0)

    assert [claimed(queue, now).id for now in (0.0, 120.0, 120.1)] == ["a0", "a1", "b"]


def test_the_lane_that_waited_the_longest_is_the_first_of_the_late() -> None:
    queue = FairQueue(Policy(lane_wait=120.0, guard=inf))
    queue.submit(job("c", "anna", "c"), 0.0)
    queue.submit(job("b", "anna", "b"), 1.0)

    assert claimed(queue, 500.0).id == "c"


def test_the_guard_serves_the_tenant_unserved_the_longest_and_then_rests() -> None:
    queue = FairQueue(Policy(swap_penalty=0.0, lane_wait=inf, guard=300.0, guard_every=3))
    for number in range(9):
        queue.submit(job(f"{number}", "ben", cost=1.0), 0.0)
    for name in ("zoe", "yan"):
        queue.submit(job("0", name, cost=1.0), 0.0)
        queue.submit(job("1", name, cost=100.0), 0.0)
        queue.accounts[name].vtime = 1_000.0
    claimed(queue, 10.0)

    assert [claimed(queue, 300.0).tenant for _ in range(5)] == ["yan", "ben", "ben", "zoe", "ben"]


def test_the_guard_leaves_a_tenant_alone_that_does_not_starve_yet() -> None:
    queue = FairQueue(Policy(lane_wait=inf, guard=300.0))
    queue.submit(job("0", "ben"), 200.0)
    queue.submit(job("0", "zoe"), 0.1)
    queue.accounts["zoe"].vtime = 1_000.0

    assert claimed(queue, 300.0).tenant == "ben"


def test_at_the_end_the_actual_cost_is_what_was_paid() -> None:
    queue = FairQueue(CALM)
    queue.submit(job("1", "anna", cost=40.0), 0.0, weight=4.0)
    taken = claimed(queue)
    queue.end(taken, 20.0, 1.0)

    assert taken.paid == tag(queue, "anna") == 5.0


def test_a_change_of_tier_does_not_change_what_a_running_job_costs() -> None:
    queue = FairQueue(CALM)
    queue.submit(job("1", "anna", cost=40.0), 0.0, weight=4.0)
    taken = claimed(queue)
    queue.submit(job("2", "anna"), 0.0, weight=1.0)
    queue.end(taken, 40.0, 1.0)

    assert tag(queue, "anna") == 10.0


def test_lost_work_is_refunded() -> None:
    queue = FairQueue(CALM)
    queue.submit(job("1", "anna"), 0.0)
    taken = claimed(queue)
    queue.give_back(taken, 1.0)

    assert (tag(queue, "anna"), taken.paid) == (0.0, 0.0)
    assert claimed(queue) is taken


def test_a_refund_never_leads_behind_the_others_and_the_rest_is_credit_for_the_next_run() -> None:
    queue = FairQueue(CALM)
    queue.submit(job("1", "anna", cost=50.0), 0.0)
    taken = claimed(queue)
    for number in range(2):
        queue.submit(job(f"{number}", "ben", cost=30.0), 0.0)
    claimed(queue)
    queue.give_back(taken, 1.0)

    assert (tag(queue, "anna"), taken.paid) == (30.0, 30.0)
    queue.drop(queue.accounts["ben"].lanes["a"].head)
    assert claimed(queue) is taken
    assert (tag(queue, "anna"), taken.paid) == (50.0, 50.0)


def test_the_tenant_of_work_that_gave_way_goes_behind_by_more_than_a_swap_and_has_paid_for_it() -> None:
    queue = FairQueue(CALM)
    queue.submit(job("1", "anna", cost=50.0), 0.0)
    taken = claimed(queue)
    queue.submit(job("1", "ben", "b"), 0.0)
    queue.give_back(taken, 1.0, preempted=True)

    assert tag(queue, "anna") == taken.paid == CALM.setback > CALM.swap_penalty
    assert claimed(queue).tenant == "ben"


def test_a_withdrawn_job_gives_back_what_was_kept() -> None:
    queue = FairQueue(CALM)
    queue.submit(job("1", "anna", cost=50.0), 0.0)
    taken = claimed(queue)
    queue.submit(job("1", "ben", cost=30.0), 0.0)
    queue.give_back(taken, 1.0, later=True)
    queue.drop(taken)

    assert tag(queue, "anna") == 0.0
    assert queue.claim("a", "a", 1.0) is not taken


def test_a_job_that_waits_for_its_next_attempt_is_not_claimed_before() -> None:
    queue = FairQueue(CALM)
    queue.submit(job("1", "anna"), 0.0)
    taken = claimed(queue)
    queue.give_back(taken, 1.0, later=True)

    assert queue.claim("a", "a", 1.0) is None
    queue.promote(taken, 2.0)
    assert claimed(queue, 2.0) is taken


def test_a_tenant_at_its_cap_waits_and_comes_back_level() -> None:
    queue = FairQueue(CALM)
    for number in range(3):
        queue.submit(job(f"{number}", "anna", cost=1.0), 0.0, max_running=1)
        queue.submit(job(f"{number}", "ben", cost=30.0), 0.0)
    first = claimed(queue)

    assert [claimed(queue).tenant for _ in range(2)] == ["ben", "ben"]
    queue.end(first, 1.0, 9.0)
    assert tag(queue, "anna") == tag(queue, "ben") == 60.0
    assert queue.accounts["anna"].since == 9.0


def test_a_worker_is_given_only_what_it_serves() -> None:
    queue = FairQueue(CALM)
    queue.submit(job("1", "anna", "b"), 0.0)

    assert queue.claim("ac", "", 0.0) is None
    assert claimed(queue, models="b").id == "1"


def test_the_least_tag_does_not_fall_when_all_leave_and_others_come() -> None:
    queue = FairQueue(CALM)
    queue.submit(job("1", "anna", cost=600.0), 0.0)
    claimed(queue)
    left = [job("2", "anna"), job("3", "ben")]
    queue.submit(left[0], 0.0)
    queue.submit(left[1], 0.0, weight=16.0)
    for one in left:
        queue.drop(one)
    queue.submit(job("4", "cleo"), 0.0, weight=16.0)
    queue.submit(job("5", "ben"), 0.0, weight=16.0)

    assert tag(queue, "cleo") == tag(queue, "ben") == 600.0
