"""A few connections for reads, so that none waits for a write."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import asyncpg

from sluicegate.errors import StoreUnavailable
from sluicegate.storage.postgres.connection import Database, Link, is_fault, is_lost
from sluicegate.storage.postgres.statements import load_queries

READERS = 4
"""Most connections for reads of one process."""

Records = Sequence[asyncpg.Record]


class Readers:
    """Runs the named queries. A read on a connection that broke while it was idle is repeated on a new one."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._queries = load_queries()
        self._free = [Link(database, {"default_transaction_read_only": "on"}) for _ in range(READERS)]
        self._turns = asyncio.Semaphore(READERS)
        self._closed = False

    async def all(self, query: str, *values: Any) -> Records:
        """Every row that the query gives. Raises `StoreUnavailable`.

        Nothing that is stored holds U+0000, so nothing is found by it.
        """
        if any(isinstance(value, str) and "\0" in value for value in values):
            return []
        (rows,) = await self.together((query, *values))
        return rows

    async def first(self, query: str, *values: Any) -> asyncpg.Record | None:
        """The first row that the query gives, or None. Raises `StoreUnavailable`."""
        rows = await self.all(query, *values)
        return rows[0] if rows else None

    async def together(self, *calls: tuple[Any, ...]) -> Sequence[Records]:
        """The rows of several queries (each a name and its values), all as of one moment."""
        async with self._link() as link:
            was_connected = link.connected
            try:
                return await self._fetch(link, calls)
            except Exception as error:
                if is_lost(error):
                    link.drop()
                if was_connected and is_lost(error) and not isinstance(error, TimeoutError):
                    return await self._fetch_again(link, calls)
                raise self._told(error) from None

    async def close(self) -> None:
        """Wait for reads under way, then disconnect."""
        self._closed = True
        for _ in range(READERS):
            await self._turns.acquire()
        for link in self._free:
            await link.close()
        for _ in range(READERS):
            self._turns.release()

    @asynccontextmanager
    async def _link(self) -> AsyncIterator[Link]:
        if self._closed:
            raise StoreUnavailable(f"the store {self._database.name} is closed; open it first", retry_after=1.0)
        async with self._turns:
            link = self._free.pop()  # the one used last is warm
            try:
                yield link
            except asyncio.CancelledError:
                link.drop()
                raise
            finally:
                self._free.append(link)

    async def _fetch_again(self, link: Link, calls: Sequence[tuple[Any, ...]]) -> Sequence[Records]:
        try:
            return await self._fetch(link, calls)
        except Exception as error:
            if is_lost(error):
                link.drop()
            raise self._told(error) from None

    async def _fetch(self, link: Link, calls: Sequence[tuple[Any, ...]]) -> Sequence[Records]:
        connection = await link.get()
        async with asyncio.timeout(self._database.answer_seconds):
            if len(calls) == 1:
                return [await connection.fetch(self._queries[calls[0][0]], *calls[0][1:])]
            async with connection.transaction(isolation="repeatable_read", readonly=True):
                return [await connection.fetch(self._queries[name], *values) for name, *values in calls]

    def _told(self, error: Exception) -> Exception:
        return self._database.unavailable(error) if is_fault(error) else error
