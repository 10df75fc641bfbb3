"""The one timer for every limit: it turns while there is something to look after, and nothing stops it."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

import pytest
from tests.lane_driver import leap, run_leaping

from sluicegate.wire.wheel import Timed, Wheel


class Counted:
    """Counts its ticks; fulfils `Timed`."""

    def __init__(self, then: Callable[[], None] | None = None) -> None:
        self.ticks = 0
        self._then = then

    def tick(self, now: float) -> None:
        """Count."""
        self.ticks += 1
        assert now <= asyncio.get_running_loop().time()
        if self._then is not None:
            self._then()


def run(scenario: Callable[[Wheel], Awaitable[None]]) -> None:
    async def coroutine() -> None:
        await scenario(Wheel())

    run_leaping(coroutine())


def test_every_entry_is_looked_at_again_and_again() -> None:
    async def scenario(wheel: Wheel) -> None:
        entries = [Counted() for _ in range(3)]
        for entry in (*entries, *entries):
            wheel.add(entry)
        assert len(wheel) == 3
        await leap(1.0)
        assert all(entry.ticks >= 3 for entry in entries)
        assert len({entry.ticks for entry in entries}) == 1, "adding it twice is harmless"
        for entry in entries:
            wheel.discard(entry)
            wheel.discard(entry)

    run(scenario)


def test_without_entries_it_stands_still_and_with_the_next_one_it_turns_again() -> None:
    async def scenario(wheel: Wheel) -> None:
        for _ in range(3):
            entry = Counted()
            wheel.add(entry)
            await leap(1.0)
            wheel.discard(entry)
            seen = entry.ticks
            assert seen > 0
            await leap(1.0)
            assert entry.ticks == seen
            assert _pending() == [], "a timer is left"

    run(scenario)


def _pending() -> list[asyncio.TimerHandle]:
    """Timers of the running loop."""
    scheduled: list[asyncio.TimerHandle] = vars(asyncio.get_running_loop())["_scheduled"]
    return [timer for timer in scheduled if not timer.cancelled()]


def test_a_limit_that_cannot_be_kept_does_not_stop_the_others(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(wheel: Wheel) -> None:
        def fail() -> None:
            raise RuntimeError("no")

        bad, good = Counted(fail), Counted()
        wheel.add(bad)
        wheel.add(good)
        with caplog.at_level(logging.CRITICAL + 1, logger="sluicegate.wire.wheel"):
            await leap(1.0)
        assert good.ticks == bad.ticks > 1
        wheel.discard(bad)
        wheel.discard(good)

    run(scenario)


def test_what_was_discarded_in_the_same_turn_is_not_looked_at() -> None:
    async def scenario(wheel: Wheel) -> None:
        last = Counted()
        first: Timed = Counted(lambda: wheel.discard(last))
        wheel.add(first)
        wheel.add(last)
        await leap(1.0)
        assert last.ticks == 0
        wheel.discard(first)

    run(scenario)
