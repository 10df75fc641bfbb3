"""The job's state machine."""

from sluicegate.domain.job import HELD, TERMINAL, TRANSITIONS, shown_status


def test_ended_jobs_never_change_and_every_other_can_end() -> None:
    for state, successors in TRANSITIONS.items():
        assert (successors == frozenset()) is (state in TERMINAL)
        assert successors <= set(TRANSITIONS)
        if state not in TERMINAL:
            assert _reachable(state) & TERMINAL


def test_only_held_jobs_can_succeed() -> None:
    assert {state for state, successors in TRANSITIONS.items() if "succeeded" in successors} == HELD


def test_a_job_that_waits_for_its_next_attempt_is_shown_as_queued() -> None:
    assert shown_status("scheduled") == "queued"
    assert shown_status("running") == "running"


def _reachable(state: str) -> set[str]:
    seen: set[str] = set()
    waiting = [state]
    while waiting:
        current = waiting.pop()
        for following in TRANSITIONS[current]:  # type: ignore[index]
            if following not in seen:
                seen.add(following)
                waiting.append(following)
    return seen
