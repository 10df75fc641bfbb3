"""Values read now and then: one reading at a time, and the last one stays when there is no other."""

import asyncio

from sluicegate.errors import StoreUnavailable
from sluicegate.scheduling.freshness import Fresh
from sluicegate.testing import ManualClock


class Source:
    """Counts its readings; `away` makes them fail, `gate` holds them."""

    def __init__(self) -> None:
        self.readings = 0
        self.at_once = 0
        self.away = False
        self.gate = asyncio.Event()
        self.gate.set()

    async def read(self) -> int:
        self.readings += 1
        self.at_once += 1
        assert self.at_once == 1
        number = self.readings
        await self.gate.wait()
        self.at_once -= 1
        if self.away:
            raise StoreUnavailable("away")
        return number


def test_many_callers_share_one_reading() -> None:
    async def scenario() -> None:
        source, clock = Source(), ManualClock()
        fresh = Fresh(source.read, clock, seconds=1.0)
        readings = await asyncio.gather(*(fresh.get() for _ in range(50)))
        assert {reading.value for reading in readings if reading is not None} == {1}
        assert source.readings == 1

    asyncio.run(scenario())


def test_no_second_reading_begins_while_the_first_hangs() -> None:
    async def scenario() -> None:
        source, clock = Source(), ManualClock()
        fresh = Fresh(source.read, clock, seconds=1.0)
        source.gate.clear()
        first = asyncio.create_task(fresh.get())
        await asyncio.sleep(0)
        clock.advance(5)
        second = asyncio.create_task(fresh.get())
        for _ in range(5):
            await asyncio.sleep(0)
        assert source.readings == 1
        source.gate.set()
        assert [reading.value for reading in await asyncio.gather(first, second) if reading is not None] == [1, 1]

    asyncio.run(scenario())


def test_an_old_value_is_given_at_once_and_read_again_beside() -> None:
    async def scenario() -> None:
        source, clock = Source(), ManualClock()
        fresh = Fresh(source.read, clock, seconds=1.0)
        await fresh.get()
        clock.advance(5)
        source.gate.clear()
        old = await fresh.get()
        assert old is not None
        assert (old.value, old.age) == (1, 5.0)
        source.gate.set()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        new = await fresh.get()
        assert new is not None
        assert (new.value, new.age) == (2, 0.0)

    asyncio.run(scenario())


def test_a_value_that_is_too_old_is_waited_for() -> None:
    async def scenario() -> None:
        source, clock = Source(), ManualClock()
        fresh = Fresh(source.read, clock, seconds=1.0, tolerated=2.0)
        await fresh.get()
        clock.advance(5)
        new = await fresh.get()
        assert new is not None
        assert new.value == 2

    asyncio.run(scenario())


def test_the_newest_value_is_of_a_reading_that_began_after_the_call() -> None:
    async def scenario() -> None:
        source, clock = Source(), ManualClock()
        fresh = Fresh(source.read, clock, seconds=1.0)
        source.gate.clear()
        earlier = asyncio.create_task(fresh.get())
        await asyncio.sleep(0)
        newest = asyncio.create_task(fresh.get(newest=True))
        await asyncio.sleep(0)
        source.gate.set()
        first, second = await asyncio.gather(earlier, newest)
        assert first is not None
        assert second is not None
        assert (first.value, second.value) == (1, 2)

    asyncio.run(scenario())


def test_while_the_source_is_away_the_last_value_stays_with_its_age() -> None:
    async def scenario() -> None:
        source, clock = Source(), ManualClock()
        fresh = Fresh(source.read, clock, seconds=1.0, tolerated=2.0)
        source.away = True
        assert await fresh.get() is None
        source.away = False
        clock.advance(1)
        assert await fresh.get() is not None
        source.away = True
        clock.advance(60)
        stale = await fresh.get()
        assert stale is not None
        assert (stale.value, stale.age) == (2, 60.0)

    asyncio.run(scenario())


def test_a_defect_of_the_reading_is_logged_and_fails_nobody() -> None:
    async def scenario() -> None:
        async def broken() -> int:
            raise ZeroDivisionError

        assert await Fresh(broken, ManualClock(), seconds=1.0).get() is None

    asyncio.run(scenario())
