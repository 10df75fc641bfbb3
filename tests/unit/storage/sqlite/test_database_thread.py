"""One thread, many callers, few transactions."""

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from sluicegate.domain.fairness import Policy
from sluicegate.errors import StoreUnavailable
from sluicegate.storage.sqlite.connection import connect
from sluicegate.storage.sqlite.database_thread import DatabaseThread, Operation
from sluicegate.storage.sqlite.session import Session
from sluicegate.storage.sqlite.turnstile import Turnstile
from sluicegate.testing import ManualClock

QUERIES = {
    "create": "CREATE TABLE IF NOT EXISTS note (text TEXT NOT NULL UNIQUE)",
    "write": "INSERT INTO note VALUES (:text)",
    "read": "SELECT text FROM note ORDER BY rowid",
    "shrink": "PRAGMA max_page_count = 1",
    "size": "PRAGMA page_count",
}
Notes = Callable[[], list[str]]
Scenario = Callable[[DatabaseThread, list[str], Notes], Awaitable[None]]


def write(text: str) -> Operation[int]:
    return lambda session: session.change("write", text=text)


def play(tmp_path: Path, scenario: Scenario) -> None:
    """Runs the scenario with the thread, a record of the statements that were run, and a look from outside."""
    path = tmp_path / "notes.db"
    trace: list[str] = []

    def traced() -> sqlite3.Connection:
        connection = connect(path, busy_timeout=0)
        connection.set_trace_callback(trace.append)
        return connection

    def notes() -> list[str]:
        outside = sqlite3.connect(path)
        try:
            return [row[0] for row in outside.execute(QUERIES["read"])]
        finally:
            outside.close()

    @asynccontextmanager
    async def running() -> AsyncIterator[DatabaseThread]:
        begin = Turnstile(path, 60.0).begin
        thread = DatabaseThread(
            path,
            name="test",
            connect=traced,
            begin=begin,
            queries=QUERIES,
            clock=ManualClock(7.0),
            policy=Policy(),
        )
        thread.start()
        try:
            yield thread
        finally:
            await thread.close()

    async def main() -> None:
        async with running() as thread:
            await thread.run(lambda session: session.change("create"))
            await scenario(thread, trace, notes)

    asyncio.run(main())


class Brake:
    """An operation that holds the thread until it is let go, so that others gather behind it."""

    def __init__(self) -> None:
        self.held = threading.Event()
        self._go = threading.Event()

    def __call__(self, session: Session) -> None:
        self.held.set()
        self._go.wait(60)

    async def hold(self, thread: DatabaseThread) -> "asyncio.Task[None]":
        task = asyncio.ensure_future(thread.run(self))
        await asyncio.to_thread(self.held.wait, 60)
        return task

    def release(self) -> None:
        self._go.set()


async def asked(*calls: Awaitable[int]) -> "list[asyncio.Future[int]]":
    """The calls, each of them waiting in the thread's queue."""
    futures: list[asyncio.Future[int]] = [asyncio.ensure_future(call) for call in calls]
    await asyncio.sleep(0)
    return futures


def test_operations_that_gather_share_one_transaction(tmp_path: Path) -> None:
    async def scenario(thread: DatabaseThread, trace: list[str], notes: Notes) -> None:
        brake = Brake()
        braking = await brake.hold(thread)
        calls = await asked(*(thread.run(write(f"note {n}")) for n in range(50)))
        trace.clear()
        brake.release()
        assert await asyncio.gather(*calls) == [1] * 50
        await braking
        assert trace.count("BEGIN IMMEDIATE") == 1
        assert trace.count("COMMIT") == 2
        assert notes() == [f"note {n}" for n in range(50)]

    play(tmp_path, scenario)


def test_one_that_fails_undoes_only_itself(tmp_path: Path) -> None:
    def half_done(session: Session) -> None:
        session.change("write", text="half")
        raise ZeroDivisionError

    async def scenario(thread: DatabaseThread, trace: list[str], notes: Notes) -> None:
        brake = Brake()
        await brake.hold(thread)
        calls = await asked(*(thread.run(write(text)) for text in ("one", "one", "two")))
        failing = asyncio.ensure_future(thread.run(half_done))
        last = await asked(thread.run(write("three")))
        brake.release()
        answers = await asyncio.gather(*calls, failing, *last, return_exceptions=True)
        assert [type(answer) for answer in answers] == [int, sqlite3.IntegrityError, int, ZeroDivisionError, int]
        assert notes() == ["one", "two", "three"]

    play(tmp_path, scenario)


def test_nobody_hears_before_the_commit(tmp_path: Path) -> None:
    async def scenario(thread: DatabaseThread, trace: list[str], notes: Notes) -> None:
        await thread.run(write("early"))
        gate, brake = Brake(), Brake()
        await gate.hold(thread)
        early = await asked(thread.run(write("in the batch")))
        last = asyncio.ensure_future(thread.run(brake))
        await asyncio.sleep(0)
        gate.release()
        await asyncio.to_thread(brake.held.wait, 60)
        await asyncio.sleep(0)
        assert not early[0].done()
        assert notes() == ["early"]
        brake.release()
        await asyncio.gather(*early, last)
        assert notes() == ["early", "in the batch"]

    play(tmp_path, scenario)


def test_a_caller_cancelled_before_its_turn_withdraws_its_operation(tmp_path: Path) -> None:
    async def scenario(thread: DatabaseThread, trace: list[str], notes: Notes) -> None:
        brake = Brake()
        await brake.hold(thread)
        calls = await asked(*(thread.run(write(text)) for text in ("one", "two", "three")))
        calls[1].cancel()
        await asyncio.sleep(0)
        brake.release()
        await asyncio.gather(*calls, return_exceptions=True)
        assert notes() == ["one", "three"]

    play(tmp_path, scenario)


def test_a_full_database_is_told_and_healed(tmp_path: Path) -> None:
    async def scenario(thread: DatabaseThread, trace: list[str], notes: Notes) -> None:
        await thread.run(write("before"))
        await thread.run(lambda session: session.all("shrink"))
        with pytest.raises(StoreUnavailable, match="free disk space"):
            await thread.run(write("x" * 100_000))
        assert notes() == ["before"]
        await thread.run(write("small"))
        assert notes() == ["before", "small"]

    play(tmp_path, scenario)


def test_a_connection_that_broke_is_replaced(tmp_path: Path) -> None:
    def break_it(session: Session) -> None:
        session._connection.close()

    async def scenario(thread: DatabaseThread, trace: list[str], notes: Notes) -> None:
        with pytest.raises(sqlite3.ProgrammingError):
            await thread.run(break_it)
        await thread.run(write("after"))
        assert notes() == ["after"]

    play(tmp_path, scenario)


def test_the_time_is_read_in_the_transaction(tmp_path: Path) -> None:
    async def scenario(thread: DatabaseThread, trace: list[str], notes: Notes) -> None:
        assert await thread.run(lambda session: session.now) == 7.0

    play(tmp_path, scenario)


def test_a_closed_thread_takes_nothing_more(tmp_path: Path) -> None:
    async def scenario(thread: DatabaseThread, trace: list[str], notes: Notes) -> None:
        brake = Brake()
        await brake.hold(thread)
        calls = await asked(thread.run(write("asked before")))
        closing = asyncio.ensure_future(thread.close())
        await asyncio.sleep(0)
        with pytest.raises(StoreUnavailable, match="closed"):
            await thread.run(write("too late"))
        brake.release()
        await asyncio.gather(*calls, closing)
        assert notes() == ["asked before"]

    play(tmp_path, scenario)
