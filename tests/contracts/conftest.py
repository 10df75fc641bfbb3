"""Engines under test. Every contract test runs on each; a new engine is one more branch here."""

import asyncio
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager, contextmanager
from pathlib import Path

import pytest

from sluicegate.storage.contracts import Store
from sluicegate.storage.sqlite.store import SqliteStore
from sluicegate.testing import ManualClock

Connect = Callable[..., AbstractAsyncContextManager[Store]]
Scenario = Callable[[Store], Awaitable[None]]


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture(params=["sqlite"])
def engine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def connect(engine: str, tmp_path: Path, clock: ManualClock) -> Connect:
    """Opens one more connection to the test's own database, as one more process would.

    `patience` is how many seconds it waits for a write lock.
    """
    assert engine == "sqlite"

    @asynccontextmanager
    async def opened(patience: float = 60.0) -> AsyncIterator[Store]:
        store = SqliteStore(tmp_path / "store.db", clock, busy_timeout=patience)
        await store.open()
        try:
            yield store
        finally:
            await store.close()

    return opened


@pytest.fixture
def play(connect: Connect) -> Callable[[Scenario], None]:
    """Runs a scenario on a fresh store."""

    async def with_store(scenario: Scenario) -> None:
        async with connect() as store:
            await scenario(store)

    return lambda scenario: asyncio.run(with_store(scenario))


@pytest.fixture
def lock_out(engine: str, tmp_path: Path) -> Callable[[], AbstractContextManager[None]]:
    """Holds the database's write lock from outside for the length of a block."""
    assert engine == "sqlite"

    @contextmanager
    def held() -> Iterator[None]:
        other = sqlite3.connect(tmp_path / "store.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        try:
            yield
        finally:
            other.execute("ROLLBACK")
            other.close()

    return held


@pytest.fixture
def spawn(engine: str, tmp_path: Path) -> Iterator[Callable[[str], "subprocess.Popen[str]"]]:
    """Starts a process that runs the body of an async function in which `store` is open; killed at the end."""
    assert engine == "sqlite"
    head = [
        "import asyncio, sys",
        "from pathlib import Path",
        "from sluicegate.domain.clock import SystemClock",
        "from sluicegate.domain.ids import *",
        "from sluicegate.domain.job import *",
        "from sluicegate.storage.sqlite.store import SqliteStore",
        "async def main():",
        # patient: a disk that is still writing something large may take seconds for one flush
        f"    store = SqliteStore(Path({str(tmp_path / 'store.db')!r}), SystemClock(), busy_timeout=60.0)",
        "    await store.open()",
    ]
    children: list[subprocess.Popen[str]] = []

    def start(body: str) -> "subprocess.Popen[str]":
        lines = [
            *head,
            *(f"    {line}" for line in body.splitlines()),
            "    await store.close()",
            "asyncio.run(main())",
        ]
        child = subprocess.Popen(
            [sys.executable, "-c", "\n".join(lines)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        children.append(child)
        return child

    yield start
    for child in children:
        child.kill()
        child.communicate()
