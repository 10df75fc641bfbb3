"""One thread with one connection that runs operations for the event loop, many in one transaction.

Group commit: a flush to the disk costs far more than the statements before it, so operations that arrive while
one transaction is being flushed wait and share the next. When one of them fails, the transaction is rolled back and
all run again, each in a savepoint, so that the one that fails undoes only itself (operations read and write nothing but
the database: they may be repeated). Callers hear of success only after the COMMIT of all.
"""

import asyncio
import logging
import queue
import sqlite3
import threading
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from sluicegate.domain.clock import Clock
from sluicegate.domain.fairness import Policy
from sluicegate.errors import StoreUnavailable
from sluicegate.storage.sqlite.connection import is_busy, is_fault, unavailable
from sluicegate.storage.sqlite.session import Session

Result = TypeVar("Result")
Operation = Callable[[Session], Result]

MAX_BATCH = 512
"""Most operations in one transaction: bounds how long other processes wait for their turn."""

_log = logging.getLogger(__name__)


class _Pending:
    """An operation, who waits for it, and what came of it."""

    __slots__ = ("error", "future", "loop", "operation", "result")

    def __init__(self, operation: Operation[Any], loop: asyncio.AbstractEventLoop) -> None:
        self.operation = operation
        self.loop = loop
        self.future: asyncio.Future[Any] = loop.create_future()
        self.result: Any = None
        self.error: Exception | None = None


class DatabaseThread:
    """Runs operations in transactions begun by `begin`; after a fault it rolls back, reopens and goes on."""

    def __init__(
        self,
        path: Path,
        *,
        name: str,
        connect: Callable[[], sqlite3.Connection],
        begin: Callable[[sqlite3.Connection], None],
        queries: Mapping[str, str],
        clock: Clock,
        policy: Policy,
    ) -> None:
        self._path = path
        self._connect = connect
        self._begin = begin
        self._queries = queries
        self._clock = clock
        self._policy = policy
        self._connection: sqlite3.Connection | None = None
        self._waiting: queue.SimpleQueue[_Pending | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name=f"sluicegate-{name}", daemon=True)
        self._gate = threading.Lock()
        self._closed = False

    def start(self) -> None:
        """Begin to serve."""
        self._thread.start()

    async def run(self, operation: Operation[Result]) -> Result:
        """The operation's result, once its transaction is committed; or what it raised.

        A caller that is cancelled before its operation has begun withdraws it; later the operation is
        carried out all the same. Raises `StoreUnavailable` when the database is at fault or the thread is closed.
        """
        pending = _Pending(operation, asyncio.get_running_loop())
        with self._gate:
            if self._closed:
                raise StoreUnavailable(f"the store {self._path.name} is closed; open it first", retry_after=1.0)
            self._waiting.put(pending)
        result: Result = await pending.future
        return result

    async def close(self) -> None:
        """Carry out what was asked before, then end the thread and its connection."""
        with self._gate:
            if not self._closed:
                self._closed = True
                self._waiting.put(None)
        if self._thread.ident is not None:
            await asyncio.to_thread(self._thread.join)

    def _work(self) -> None:
        going = True
        while going:
            batch, going = self._gather()
            live = [pending for pending in batch if not pending.future.cancelled()]
            if live:
                self._serve(live)
        self._disconnect()

    def _gather(self) -> tuple[list[_Pending], bool]:
        """Wait for one operation and take those that wait behind it; False when the thread shall end."""
        batch: list[_Pending] = []
        try:
            while len(batch) < MAX_BATCH:
                pending = self._waiting.get(block=not batch)
                if pending is None:
                    return batch, False
                batch.append(pending)
        except queue.Empty:
            pass
        return batch, True

    def _serve(self, batch: Sequence[_Pending]) -> None:
        try:
            self._transact(batch)
        except Exception as error:
            self._recover(error)
            told = unavailable(self._path, error) if is_fault(error) else error
            for pending in batch:
                pending.error = told
        by_loop: defaultdict[asyncio.AbstractEventLoop, list[_Pending]] = defaultdict(list)
        for pending in batch:
            by_loop[pending.loop].append(pending)
        for loop, those in by_loop.items():
            try:
                loop.call_soon_threadsafe(_settle, those)
            except RuntimeError:
                _log.debug("the event loop of %d callers has been closed", len(those))

    def _transact(self, batch: Sequence[_Pending]) -> None:
        if self._connection is None:
            self._connection = self._connect()
        connection = self._connection
        if not self._run_plainly(connection, batch):
            self._run_apart(connection, batch)
        connection.execute("COMMIT")

    def _run_plainly(self, connection: sqlite3.Connection, batch: Sequence[_Pending]) -> bool:
        """Run all in a new transaction. False: one failed and the transaction was rolled back."""
        session = self._session(connection)
        try:
            for pending in batch:
                pending.result = pending.operation(session)
        except Exception:
            if not connection.in_transaction:
                raise
            connection.execute("ROLLBACK")
            return False
        return True

    def _run_apart(self, connection: sqlite3.Connection, batch: Sequence[_Pending]) -> None:
        """Run all in a new transaction, each so that its failure is its own."""
        session = self._session(connection)
        for pending in batch:
            connection.execute("SAVEPOINT operation")
            try:
                pending.result = pending.operation(session)
            except Exception as error:
                if not connection.in_transaction:
                    raise
                connection.execute("ROLLBACK TO operation")
                pending.error = unavailable(self._path, error) if is_fault(error) else error
            connection.execute("RELEASE operation")

    def _session(self, connection: sqlite3.Connection) -> Session:
        self._begin(connection)
        return Session(connection, self._queries, self._clock.now(), self._policy)

    def _recover(self, error: Exception) -> None:
        """Leave no transaction open, and no connection whose state is in doubt."""
        _log.warning("a transaction on %s failed: %s", self._path.name, error)
        if self._connection is not None and is_busy(error) and not self._connection.in_transaction:
            return
        self._disconnect()

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            try:
                connection.close()
            except sqlite3.Error as error:
                _log.warning("the connection to %s did not close cleanly: %s", self._path.name, error)


def _settle(batch: Sequence[_Pending]) -> None:
    for pending in batch:
        if pending.future.cancelled():
            continue
        if pending.error is not None:
            pending.future.set_exception(pending.error)
        else:
            pending.future.set_result(pending.result)
