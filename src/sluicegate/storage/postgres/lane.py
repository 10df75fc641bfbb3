"""One connection that carries out operations for the event loop, many in one call.

Group commit: a round trip and a flush to the disk cost far more than the operations themselves, so those that are
asked for while one call is under way wait and share the next. Each is answered for itself; one that is refused undoes
only itself, and its caller hears of it only after the commit of all.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from sluicegate.errors import StoreUnavailable
from sluicegate.storage.postgres.answers import ANSWERS
from sluicegate.storage.postgres.connection import Database, Link, is_fault, is_lost, sqlstate
from sluicegate.storage.postgres.operations import Operation, Result

MAX_BATCH = 60
"""Most operations in one transaction: each is a subtransaction, and PostgreSQL is quick with up to 64."""
MAX_BATCH_BYTES = 4_000_000
"""A batch of more bytes is begun with the first operation only."""
_COLLISIONS = ("40001", "40P01")
_TRIES = 3

_log = logging.getLogger(__name__)


class _Pending:
    """An operation and who waits for it."""

    __slots__ = ("future", "operation")

    def __init__(self, operation: Operation[Any]) -> None:
        self.operation = operation
        self.future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()


class Lane:
    """Calls `perform` in batches, one call at a time. `scheduling`: under the scheduler's lock.

    Belongs to the event loop in which it is used first. `now` gives the time that goes along, None for the server's.
    """

    def __init__(self, database: Database, *, scheduling: bool, now: Callable[[], float | None]) -> None:
        self._database = database
        self._scheduling = scheduling
        self._now = now
        # the first row of an index, never the least of many
        self._link = Link(database, {"enable_sort": "off"})
        self._waiting: deque[_Pending] = deque()
        self._work: asyncio.Task[None] | None = None
        self._closed = False

    async def run(self, operation: Operation[Result]) -> Result:
        """The operation's result, once its transaction is committed; or what it raised.

        A caller that is cancelled before its operation was sent withdraws it; later it is carried out all the same.
        Raises `StoreUnavailable` when the server is at fault or the lane is closed.
        """
        if self._closed:
            raise StoreUnavailable(f"the store {self._database.name} is closed; open it first", retry_after=1.0)
        pending = _Pending(operation)
        self._waiting.append(pending)
        if self._work is None or self._work.done():
            self._work = asyncio.ensure_future(self._serve())
        result: Result = await pending.future
        return result

    async def close(self) -> None:
        """Carry out what was asked before, then disconnect."""
        self._closed = True
        if self._work is not None:
            await asyncio.gather(self._work, return_exceptions=True)
        await self._link.close()

    async def _serve(self) -> None:
        while batch := self._gather():
            try:
                if await self._connect(batch):
                    await self._transact(batch)
            except asyncio.CancelledError:
                self._link.drop()
                self._fail_all(batch, self._database.unavailable(RuntimeError("the event loop is ending")))
                raise
            except Exception as error:
                _fail(batch, self._told(error))

    async def _connect(self, batch: Sequence[_Pending]) -> bool:
        """Whether there is a connection; without one, whoever came meanwhile waits for the same server in vain."""
        try:
            await self._link.get()
        except StoreUnavailable as error:
            self._fail_all(batch, error)
            return False
        return True

    def _fail_all(self, batch: Sequence[_Pending], error: Exception) -> None:
        _fail([*batch, *self._waiting], error)
        self._waiting.clear()

    def _gather(self) -> Sequence[_Pending]:
        """The operations of the next call, in the order in which they were asked for."""
        batch: list[_Pending] = []
        size = 0
        while self._waiting and len(batch) < MAX_BATCH:
            pending = self._waiting[0]
            size += len(pending.operation.message)
            if batch and (pending.operation.alone or size > MAX_BATCH_BYTES):
                break
            self._waiting.popleft()
            if not pending.future.cancelled():
                batch.append(pending)
                if pending.operation.alone:
                    break
        return batch

    async def _transact(self, batch: Sequence[_Pending]) -> None:
        text = b"[" + b",".join(pending.operation.message for pending in batch) + b"]"
        held = [job for pending in batch for job in pending.operation.held]
        answers = ANSWERS.decode(await self._perform(text.decode(), held))
        for pending, answer in zip(batch, answers, strict=True):
            if pending.future.done():
                continue
            if answer.error is not None:
                pending.future.set_exception(answer.error.error())
                continue
            try:
                pending.future.set_result(pending.operation.decode(answer.result))
            except (msgspec.MsgspecError, ValueError) as error:
                pending.future.set_exception(error)

    async def _perform(self, operations: str, held: Sequence[str]) -> str:
        """One call. Two transactions that stood in each other's way are no fault: the server has undone one."""
        for attempt in range(_TRIES):
            connection = await self._link.get()
            try:
                async with asyncio.timeout(self._database.answer_seconds):
                    told: str = await connection.fetchval(
                        "SELECT perform($1::jsonb, $2, $3, $4)", operations, self._scheduling, self._now(), held
                    )
                return told
            except Exception as error:
                if sqlstate(error) not in _COLLISIONS or attempt == _TRIES - 1:
                    raise
        raise AssertionError("unreachable")

    def _told(self, error: Exception) -> Exception:
        """What the callers of a batch hear; a connection whose state is in doubt is given up."""
        if is_lost(error):
            self._link.drop()
        if not is_fault(error):
            return error
        told = self._database.unavailable(error)
        _log.warning("a transaction failed: %s", told)
        return told


def _fail(batch: Sequence[_Pending], error: Exception) -> None:
    for pending in batch:
        if not pending.future.done():
            pending.future.set_exception(error)
