"""When a stream rests, for how long, and how many are woken together, on clocks of the test's own."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from sluicegate.wire.outbox import Outbox, shared_outbox
from sluicegate.wire.rests import (
    BUSY_SHARE,
    LATE_SECONDS,
    LOOK_SECONDS,
    OVERDUE_SECONDS,
    REST_SECONDS,
    Rests,
    shared_rests,
    wanted_seconds,
)


class Posted:
    """Something to be written; fulfils `Posting`."""

    def flush(self) -> None:
        """It is written."""


class Sleeper:
    """Fulfils `Resting`."""

    def __init__(self, then: Callable[[], None] | None = None) -> None:
        self.woken: list[float] = []
        self._then = then

    def wake(self) -> None:
        """Note when."""
        self.woken.append(asyncio.get_running_loop().time())
        if self._then is not None:
            self._then()


class Clocks:
    """The time, and the processor time that the loop's thread has had."""

    def __init__(self) -> None:
        self.now, self.used = 100.0, 0.0

    def pass_by(self, seconds: float, *, busy: float = 1.0) -> None:
        """So long the thread ran for that share of the time."""
        self.now += seconds
        self.used += seconds * busy


class Turn:
    """An event loop whose turns a test begins and ends."""

    def __init__(self) -> None:
        self.clocks = Clocks()
        self.outbox = Outbox(now=lambda: self.clocks.now)
        self.rests = Rests(self.outbox, now=lambda: self.clocks.now, used=lambda: self.clocks.used)

    async def after(self, seconds: float, *, busy: float) -> bool:
        """Whether what comes so long after the first posting of a turn is late."""
        self.clocks.pass_by(LOOK_SECONDS, busy=busy)
        self.outbox.add_answer(Posted())
        self.clocks.pass_by(seconds, busy=busy)
        late = self.rests.is_late()
        await asyncio.sleep(0)
        return late


def run(scenario: Callable[[Turn], Awaitable[None]]) -> None:
    async def coroutine() -> None:
        await scenario(Turn())

    asyncio.run(coroutine())


class SteppingLoop(asyncio.SelectorEventLoop):
    """Its time is what a test makes it."""

    now = 100.0

    def time(self) -> float:
        """The event loop's clock, in seconds."""
        return self.now


def run_timed(scenario: Callable[[Rests], Awaitable[None]]) -> None:
    """On a clock that only the test moves."""

    async def coroutine() -> None:
        await scenario(Rests(Outbox(), now=asyncio.get_running_loop().time))

    with asyncio.Runner(loop_factory=SteppingLoop) as runner:
        runner.run(coroutine())


async def turns(count: int, *, milliseconds: float = 1.0) -> None:
    """Let so many turns pass, each so long."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, SteppingLoop)
    for _ in range(count):
        loop.now += milliseconds / 1000
        await asyncio.sleep(0)
        await asyncio.sleep(0)


def test_late_is_what_comes_long_after_the_begin_of_a_turn_on_a_busy_processor() -> None:
    async def scenario(turn: Turn) -> None:
        assert await turn.after(LATE_SECONDS * 1.01, busy=1.0)
        assert not await turn.after(LATE_SECONDS * 0.99, busy=1.0)
        assert await turn.after(0.02, busy=BUSY_SHARE + 0.01)
        assert not await turn.after(0.02, busy=BUSY_SHARE - 0.01)

    run(scenario)


def test_nothing_is_late_before_a_turn_has_posted_anything_or_after_it() -> None:
    async def scenario(turn: Turn) -> None:
        turn.clocks.pass_by(10.0)
        assert not turn.rests.is_late()
        assert await turn.after(0.02, busy=1.0)
        turn.clocks.pass_by(10.0)
        assert not turn.rests.is_late()

    run(scenario)


def test_how_busy_it_is_is_looked_at_only_now_and_then() -> None:
    async def scenario(turn: Turn) -> None:
        assert await turn.after(0.01, busy=1.0)
        turn.outbox.add_answer(Posted())
        turn.clocks.pass_by(LOOK_SECONDS * 0.5, busy=0.0)
        assert turn.rests.is_late(), "the last look is not old enough"
        turn.clocks.pass_by(LOOK_SECONDS * 0.6, busy=0.0)
        assert not turn.rests.is_late()

    run(scenario)


def test_each_is_woken_once_when_its_rest_is_over() -> None:
    async def scenario(rests: Rests) -> None:
        first, second = Sleeper(), Sleeper()
        began = asyncio.get_running_loop().time()
        rests.add(first)
        await turns(15)
        rests.add(second)
        await turns(90)
        assert len(first.woken) == len(second.woken) == 1
        assert first.woken[0] - began == pytest.approx(REST_SECONDS, rel=0.2)
        assert second.woken[0] - first.woken[0] == pytest.approx(0.015, rel=0.2)
        assert rests.rests_taken() == 2
        rests.add(first)
        await turns(60)
        assert len(first.woken) == 2, "who was woken may rest again"

    run_timed(scenario)


def test_a_crowd_is_woken_in_parts() -> None:
    async def scenario(rests: Rests) -> None:
        crowd = [Sleeper() for _ in range(100)]
        for one in crowd:
            rests.add(one)
        await turns(90)
        times = [one.woken[0] for one in crowd]
        assert times == sorted(times)
        assert [times.count(time) for time in sorted(set(times))] == [32, 32, 32, 4]

    run_timed(scenario)


def test_nobody_sleeps_long_because_turns_are_long() -> None:
    async def scenario(rests: Rests) -> None:
        began = asyncio.get_running_loop().time()
        crowd = [Sleeper() for _ in range(1_000)]
        for one in crowd:
            rests.add(one)
        await turns(20, milliseconds=20)
        longest = max(one.woken[0] for one in crowd) - began
        assert longest <= REST_SECONDS + OVERDUE_SECONDS + 0.02 * 1.01

    run_timed(scenario)


def test_one_that_cannot_be_woken_does_not_leave_the_others_asleep(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(rests: Rests) -> None:
        def fail() -> None:
            raise RuntimeError("a fault of ours")

        sound = Sleeper()
        rests.add(Sleeper(fail))
        rests.add(sound)
        await turns(90)
        assert len(sound.woken) == 1

    with caplog.at_level(logging.ERROR):
        run_timed(scenario)
    assert "could not be woken" in caplog.text


def test_a_thread_that_waits_for_a_processor_has_no_time_either() -> None:
    before, took = wanted_seconds(), time.thread_time()
    while time.thread_time() - took < 0.01:
        pass
    assert wanted_seconds() - before >= 0.005


@pytest.mark.parametrize("content", [None, b"", b"1 2", b"a b c", b"0 0 0"])
def test_a_system_that_does_not_tell_what_a_thread_waited_for(content: bytes | None, tmp_path: Path) -> None:
    told = tmp_path / "schedstat"
    if content is not None:
        told.write_bytes(content)
    before = time.thread_time()
    assert before <= wanted_seconds(told) <= time.thread_time()
    told.write_bytes(b"2000000000 500000000 17\n")
    assert wanted_seconds(told) == pytest.approx(2.5)


def test_all_of_one_loop_rest_and_are_posted_together() -> None:
    async def scene() -> tuple[Outbox, Rests]:
        assert shared_outbox() is shared_outbox()
        assert shared_rests() is shared_rests()
        return shared_outbox(), shared_rests()

    (outbox, rests), (other_outbox, other_rests) = asyncio.run(scene()), asyncio.run(scene())
    assert outbox is not other_outbox
    assert rests is not other_rests
