"""Connections to the server, and the one place where its errors become ours."""

import asyncio
import contextlib
import os
from collections.abc import Mapping
from urllib.parse import parse_qs

import asyncpg
import msgspec

from sluicegate.errors import SluicegateError, StoreUnavailable
from sluicegate.settings import without_password

SCHEMA = "sluicegate"
"""Where every table and function stands; other schemas of the database are left alone."""
CONNECT_SECONDS = 5.0
"""Longest wait for a new connection."""
IDLE_IN_TRANSACTION_SECONDS = 10.0
INDEXES_ONLY = {"enable_seqscan": "off", "enable_bitmapscan": "off", "plan_cache_mode": "force_generic_plan"}
"""The indexes are made for the statements: no statistics, however old, shall lead past them."""

_FAULT_CLASSES = frozenset({"08", "25", "28", "3D", "40", "53", "54", "55", "57", "58", "F0", "XX"})
"""Classes of SQLSTATE for which the server or the way there is to blame, not our statement's data."""
_MENDS = {
    "28": "check the user, and its password in PGPASSWORD, a pgpass file or the address",
    "3D": "create the database, or name another in storage.url",
    "42": "let the user create a schema: GRANT CREATE ON DATABASE",
    "53": "free disk space or memory on the server, or raise max_connections",
    "55": "another process holds the scheduler's lock; find a session that keeps a transaction open",
    "57": "see whether the server is restarting or overloaded",
    "58": "check the server's disk",
}
_OURS = (SluicegateError, msgspec.MsgspecError)


class Database(msgspec.Struct, frozen=True):
    """Where the server is and how long to wait for it, in seconds: for a lock that others hold (`patience`), and for
    a new connection."""

    url: str
    patience: float = 4.0
    connect_seconds: float = CONNECT_SECONDS

    @property
    def shown(self) -> str:
        """The address without user and password."""
        address, _, query = without_password(self.url).partition("://")[2].partition("#")[0].partition("?")
        host, _, name = address.rpartition("@")[2].partition("/")
        return f"{host or parse_qs(query).get('host', ['localhost'])[0]}/{name.strip('/')}"

    def __repr__(self) -> str:
        return f"Database({self.shown})"

    @property
    def answer_seconds(self) -> float:
        """After so long without an answer the connection is given up; the server itself stops a second before."""
        return self.patience + 2.0

    @property
    def name(self) -> str:
        """The database's name alone: callers see it."""
        return self.shown.rpartition("/")[2]

    async def connect(self, **settings: str) -> "asyncpg.Connection[asyncpg.Record]":
        """Open a connection; `settings` are PostgreSQL's own, over ours.

        Raises what asyncpg raises: see `unavailable`.
        """
        ours = {
            "application_name": "sluicegate",
            "search_path": SCHEMA,
            "statement_timeout": _milliseconds(self.patience + 1.0),
            "lock_timeout": _milliseconds(self.patience),
            "idle_in_transaction_session_timeout": _milliseconds(IDLE_IN_TRANSACTION_SECONDS),
            "default_transaction_isolation": "read committed",
            "synchronous_commit": "on",
            "jit": "off",
            **INDEXES_ONLY,
        }
        async with asyncio.timeout(self.connect_seconds):
            return await asyncpg.connect(
                self.url,
                server_settings={**ours, **settings},
                max_cached_statement_lifetime=0,
                timeout=self.connect_seconds,
            )

    def unavailable(self, error: BaseException) -> StoreUnavailable:
        """The error that callers see."""
        mend = _MENDS.get(sqlstate(error)[:2], "see whether the server runs and can be reached, and its log")
        said = str(error).partition("\n")[0] or type(error).__name__
        if isinstance(error, OSError) and error.errno is not None:
            said = os.strerror(error.errno)  # without the address: callers need not know it
        return StoreUnavailable(f"the database {self.name} does not answer: {said} ({mend})", retry_after=1.0)


class Link:
    """One connection that is made when it is needed and again after it broke. One call at a time."""

    def __init__(self, database: Database, settings: Mapping[str, str] | None = None) -> None:
        self._database = database
        self._settings = dict(settings or {})
        self._connection: asyncpg.Connection[asyncpg.Record] | None = None

    @property
    def connected(self) -> bool:
        """Whether a connection stands, as far as is known."""
        return self._connection is not None and not self._connection.is_closed()

    @property
    def pid(self) -> int | None:
        """The server's process at the other end; None without a connection."""
        return self._connection.get_server_pid() if self._connection is not None else None

    async def get(self) -> "asyncpg.Connection[asyncpg.Record]":
        """The connection, made if there is none. Raises `StoreUnavailable`."""
        if self._connection is None or self._connection.is_closed():
            try:
                self._connection = await self._database.connect(**self._settings)
            except Exception as error:
                self._connection = None
                raise self._database.unavailable(error) from error
        return self._connection

    def drop(self) -> None:
        """Give the connection up at once; whatever it was doing is rolled back or, if it was committing, unknown."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(Exception):  # whatever state its death has left it in
                connection.terminate()

    async def close(self) -> None:
        """Say goodbye to the server."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(Exception):  # it is going anyway
                await connection.close(timeout=1.0)


def sqlstate(error: BaseException) -> str:
    """The server's five-letter code; empty for errors that did not come from it."""
    return str(getattr(error, "sqlstate", None) or "")


def is_fault(error: BaseException) -> bool:
    """Whether the server or the way there (not our statement's data) is to blame."""
    return _came_between(error) or sqlstate(error)[:2] in _FAULT_CLASSES


def is_lost(error: BaseException) -> bool:
    """Whether the connection is gone, rather than one statement refused."""
    return _came_between(error) or sqlstate(error)[:2] == "08" or sqlstate(error) in ("57P01", "57P02", "57P03")


def _came_between(error: BaseException) -> bool:
    """Whether neither the server nor we have said it: the way there is broken, or the driver does not know where it is.

    When the server goes down in the middle of a call, asyncpg raises errors of many kinds: of the socket, of its own
    state machine (``InternalClientError``), of attributes that are gone.
    """
    return not sqlstate(error) and not isinstance(error, _OURS)


def _milliseconds(seconds: float) -> str:
    return str(int(seconds * 1000))
