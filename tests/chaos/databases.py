"""The two engines as the chaos tests need them: where they are, how to ask them in plain SQL, how to hurt them."""

import asyncio
import contextlib
import shutil
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

import asyncpg
from tests.postgres import PostgresServer, StopMode, running_postgres

from sluicegate.storage.sqlite.signals import runtime_folder

EngineName = Literal["sqlite", "postgres"]
Row = Sequence[Any]
_AWAY = (
    OSError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # the connection ended in the middle of a call
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
)


class Away(Exception):
    """The database cannot be asked just now."""


class Database(Protocol):
    """One fresh database."""

    name: EngineName
    url: str
    """As the setting `storage.url` takes it; known after `place`."""

    def place(self, folder: Path) -> None:
        """Make it, in `folder` if it is a file. Blocks, perhaps for seconds."""
        ...

    async def stop(self) -> None:
        """Remove what lies outside the plant's folder."""
        ...

    async def rows(self, query: str) -> Sequence[Row]:
        """Ask it directly, past the engine under test. Raises `Away`."""
        ...


class SqliteDatabase:
    """One file in the plant's folder."""

    name: EngineName = "sqlite"

    def __init__(self) -> None:
        self.url = ""
        self._path = Path()

    def place(self, folder: Path) -> None:
        """The folder; whoever opens the store first makes the file."""
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / "sluicegate.db"
        self.url = f"sqlite:///{self._path}"

    async def stop(self) -> None:
        """Remove the sockets that killed processes left."""
        shutil.rmtree(runtime_folder(self._path), ignore_errors=True)

    async def rows(self, query: str) -> Sequence[Row]:
        """Ask a connection of its own."""
        return await asyncio.to_thread(self._rows, query)

    def _rows(self, query: str) -> Sequence[Row]:
        try:
            with contextlib.closing(
                sqlite3.connect(f"file:{self._path}?mode=ro", uri=True, timeout=30.0)
            ) as connection:
                return connection.execute(query).fetchall()
        except sqlite3.OperationalError as error:
            raise Away(str(error)) from error


class PostgresDatabase:
    """One database on a server that others may use too, unless it is restarted."""

    name: EngineName = "postgres"

    def __init__(self, server: PostgresServer) -> None:
        self.url = ""
        self._server = server
        self._database = ""
        self._cleanup = contextlib.ExitStack()

    @classmethod
    def on_its_own_server(cls) -> "PostgresDatabase":
        """On a server that is started now, which takes seconds, and ends with it."""
        with contextlib.ExitStack() as stack:
            database = cls(stack.enter_context(running_postgres()))
            database._cleanup = stack.pop_all()
        return database

    def place(self, folder: Path) -> None:
        """Make the database."""
        self._database = self._server.create()
        self.url = self._server.url(self._database)

    async def stop(self) -> None:
        """Remove the database, and the server if it is its own."""
        if self._database:
            await asyncio.to_thread(self._server.drop, self._database)
        await asyncio.to_thread(self._cleanup.close)

    async def rows(self, query: str) -> Sequence[Row]:
        """Ask a connection of its own."""
        try:
            connection = await asyncpg.connect(self.url, server_settings={"search_path": "sluicegate"}, timeout=10.0)
            try:
                return [tuple(row) for row in await connection.fetch(query)]
            finally:
                connection.terminate()
        except _AWAY as error:
            raise Away(str(error)) from error

    async def restart(self, mode: StopMode) -> None:
        """Stop the server in one of several rude ways, and start it again."""
        await asyncio.to_thread(self._server.restart, mode)

    async def cut_listeners(self) -> int:
        """End every connection that waits for hints (``pg_terminate_backend``); how many."""
        query = """
            SELECT count(*) FILTER (WHERE pg_terminate_backend(pid)) FROM pg_stat_activity
            WHERE datname = current_database() AND application_name = 'sluicegate signals'"""
        ((cut,),) = await self.rows(query)
        return int(cut)
