"""What every kind of signals does. A new engine is one more branch of the `making` fixture."""

import asyncio
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from sluicegate.storage.contracts import Signals
from sluicegate.storage.postgres.signals import PostgresSignals
from sluicegate.storage.sqlite.signals import SocketSignals

Listen = Callable[[], AbstractAsyncContextManager[Signals]]
LONG = 60.0
"""Seconds that no test reaches: a wait that takes so long has failed."""


class Making(NamedTuple):
    """How signals of one kind are made: here, and as code of another process."""

    signals: Callable[[], Signals]
    code: str


@pytest.fixture(params=["sockets", "postgres"])
def making(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Making:
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    if request.param == "postgres":
        server = request.getfixturevalue("postgres")
        url = server.url(request.getfixturevalue("postgres_database"))
        code = f"from sluicegate.storage.postgres.signals import PostgresSignals\nsignals = PostgresSignals({url!r})"
        return Making(lambda: PostgresSignals(url), code)
    path = tmp_path / "store.db"
    code = f"from sluicegate.storage.sqlite.signals import SocketSignals\nsignals = SocketSignals(Path({str(path)!r}))"
    return Making(lambda: SocketSignals(path), code)


@pytest.fixture
def listen(making: Making) -> Listen:
    @asynccontextmanager
    async def opened() -> AsyncIterator[Signals]:
        signals = making.signals()
        await signals.open()
        try:
            yield signals
        finally:
            await signals.close()

    return opened


def test_a_hint_raises_the_counter_of_its_topic_at_once(listen: Listen) -> None:
    async def scenario() -> None:
        async with listen() as signals:
            jobs, events = signals.version("jobs"), signals.version("events")
            signals.notify("jobs")
            assert (signals.version("jobs") > jobs, signals.version("events")) == (True, events)
            signals.notify("jobs", "events")
            assert signals.version("events") > events

    asyncio.run(scenario())


def test_a_wait_ends_at_the_next_hint(listen: Listen) -> None:
    async def scenario() -> None:
        async with listen() as signals:
            seen = signals.version("jobs")
            waits = [asyncio.ensure_future(signals.wait("jobs", seen, LONG)) for _ in range(3)]
            other = asyncio.ensure_future(signals.wait("events", signals.version("events"), LONG))
            await asyncio.sleep(0)
            signals.notify("jobs")
            await asyncio.wait_for(asyncio.gather(*waits), 10)
            assert not other.done()
            signals.notify("events")
            await asyncio.wait_for(other, 10)

    asyncio.run(scenario())


def test_a_hint_between_looking_and_waiting_is_not_lost(listen: Listen) -> None:
    async def scenario() -> None:
        async with listen() as signals:
            seen = signals.version("jobs")
            signals.notify("jobs")
            await asyncio.wait_for(signals.wait("jobs", seen, LONG), 10)

    asyncio.run(scenario())


def test_a_wait_without_a_hint_ends_with_its_time(listen: Listen) -> None:
    async def scenario() -> None:
        async with listen() as signals:
            seen = signals.version("jobs")
            await signals.wait("jobs", seen, 0.01)
            await signals.wait("jobs", seen, 0.0)
            assert signals.version("jobs") == seen

    asyncio.run(scenario())


def test_a_cancelled_wait_ends_and_others_go_on(listen: Listen) -> None:
    async def scenario() -> None:
        async with listen() as signals:
            seen = signals.version("jobs")
            leaver, stayer = (asyncio.ensure_future(signals.wait("jobs", seen, LONG)) for _ in range(2))
            await asyncio.sleep(0)
            leaver.cancel()
            with pytest.raises(asyncio.CancelledError):
                await leaver
            signals.notify("jobs")
            await asyncio.wait_for(stayer, 10)

    asyncio.run(scenario())


def test_a_hint_from_another_thread_wakes(listen: Listen) -> None:
    async def scenario() -> None:
        async with listen() as signals:
            for _ in range(100):
                seen = signals.version("jobs")
                thread = threading.Thread(target=signals.notify, args=("jobs",))
                thread.start()
                await asyncio.wait_for(signals.wait("jobs", seen, LONG), 10)
                thread.join()

    asyncio.run(scenario())


def test_a_hint_reaches_every_other_listener(listen: Listen) -> None:
    async def scenario() -> None:
        async with listen() as one, listen() as two, listen() as three:
            for _ in range(50):
                seen = two.version("events"), three.version("events")
                one.notify("events")
                await asyncio.wait_for(two.wait("events", seen[0], LONG), 10)
                await asyncio.wait_for(three.wait("events", seen[1], LONG), 10)
            assert two.version("jobs") == three.version("jobs")

    asyncio.run(scenario())


def test_a_hint_reaches_another_process_and_a_killed_one_harms_nobody(listen: Listen, making: Making) -> None:
    code = f"""
import asyncio
from pathlib import Path
{making.code}
async def main():
    await signals.open()
    seen = signals.version("jobs")
    print("listening", flush=True)
    await signals.wait("jobs", seen, {LONG})
    signals.notify("events")
    await signals.wait("jobs", signals.version("jobs"), {LONG})
asyncio.run(main())
"""

    async def scenario(child: "subprocess.Popen[str]") -> None:
        async with listen() as here, listen() as there:
            assert child.stdout is not None
            assert await asyncio.to_thread(child.stdout.readline) == "listening\n"
            seen = here.version("events")
            here.notify("jobs")
            await asyncio.wait_for(here.wait("events", seen, LONG), 20)
            child.kill()
            await asyncio.to_thread(child.wait)
            for _ in range(3):
                seen = there.version("jobs")
                here.notify("jobs")
                await asyncio.wait_for(there.wait("jobs", seen, LONG), 10)

    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as child:
        try:
            asyncio.run(scenario(child))
        finally:
            child.kill()


def test_a_flood_of_hints_harms_nobody(listen: Listen) -> None:
    async def scenario() -> None:
        async with listen() as one, listen() as two:
            seen = two.version("jobs")
            for _ in range(5_000):
                one.notify("jobs")
                await asyncio.sleep(0)
            await asyncio.wait_for(two.wait("jobs", seen, LONG), 10)
            seen = one.version("events")
            two.notify("events")
            await asyncio.wait_for(one.wait("events", seen, LONG), 10)

    asyncio.run(scenario())


def test_closing_wakes_whoever_waits_and_can_be_repeated(listen: Listen) -> None:
    async def scenario() -> None:
        async with listen() as signals:
            wait = asyncio.ensure_future(signals.wait("jobs", signals.version("jobs"), LONG))
            await asyncio.sleep(0)
            await signals.close()
            await asyncio.wait_for(wait, 10)
            signals.notify("jobs")

    asyncio.run(scenario())
