"""Steps, and stopping from either side."""

import pytest

from sluicegate.backends.local_image.work import Work
from sluicegate.domain.job import Progress
from sluicegate.errors import JobCanceled


def test_steps_done_of_steps_known_are_reported() -> None:
    seen: list[Progress] = []
    work = Work(seen.append)
    work.plan(2, "reading")
    work.advance("writing")
    work.advance()
    assert seen == [
        Progress(value=0, step=0, steps=2, message="reading"),
        Progress(value=0.5, step=1, steps=2, message="writing"),
        Progress(value=1, step=2, steps=2),
    ]


def test_a_pulse_repeats_the_latest_report() -> None:
    seen: list[Progress] = []
    work = Work(seen.append)
    work.pulse()
    work.plan(3)
    work.pulse()
    assert [progress.steps for progress in seen] == [None, 3, 3]


def test_what_report_raises_in_a_pulse_stops_the_work_and_no_report_follows() -> None:
    calls: list[Progress] = []

    def report(progress: Progress) -> None:
        calls.append(progress)
        raise JobCanceled("withdrawn")

    work = Work(report)
    with pytest.raises(JobCanceled):
        work.pulse()
    for act in (work.check, work.advance, work.pulse, lambda: work.plan(2)):
        with pytest.raises(JobCanceled, match="withdrawn"):
            act()
    assert len(calls) == 1


def test_the_first_reason_to_stop_is_the_one_that_is_raised() -> None:
    work = Work(lambda _: None)
    work.stop(JobCanceled("first"))
    work.stop(JobCanceled("second"))
    with pytest.raises(JobCanceled, match="first"):
        work.check()


def test_stopping_interrupts_only_what_runs_at_that_time() -> None:
    work = Work(lambda _: None)
    calls: list[str] = []
    with work.interruptible(lambda: calls.append("over")):
        pass
    with work.interruptible(lambda: calls.append("running")):
        work.stop(JobCanceled("withdrawn"))
    assert calls == ["running"]
    with pytest.raises(JobCanceled), work.interruptible(lambda: calls.append("late")):
        calls.append("entered")
    assert calls == ["running"]
