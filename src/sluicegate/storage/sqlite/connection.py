"""Connections to the database file, and the one place where SQLite's errors become ours."""

import contextlib
import os
import sqlite3
import tempfile
from pathlib import Path

from sluicegate.errors import StoreUnavailable

_MENDS = {
    "SQLITE_BUSY": "another process holds the write lock; find a process that keeps a transaction open",
    "SQLITE_FULL": "free disk space",
    "SQLITE_READONLY": "make the file, its folder and its -wal and -shm writable",
    "SQLITE_IOERR": "check the disk",
    "SQLITE_CANTOPEN": "check that the folder exists and may be written",
    "SQLITE_CORRUPT": "restore the file from a backup",
}


def connect(path: Path, *, busy_timeout: float) -> sqlite3.Connection:
    """Open the file for use in one thread at a time.

    WAL with synchronous=FULL: a COMMIT returns only after the log has been flushed to the disk.
    Transactions are begun by hand. Raises `sqlite3.Error`.
    """
    connection = sqlite3.connect(path, timeout=busy_timeout, isolation_level=None, check_same_thread=False)
    try:
        connection.row_factory = sqlite3.Row
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA journal_size_limit = 67108864")
        connection.execute("PRAGMA wal_autocheckpoint = 8192")  # pages: fewer pauses for copying the log back
        connection.execute("PRAGMA cache_size = -16384")
    except BaseException:
        connection.close()
        raise
    return connection


def create_private(path: Path) -> None:
    """Make the file, readable by its owner only, when it does not exist: it holds what people asked for.

    An existing file is not touched: closing any descriptor of it would drop the locks that SQLite holds on it for this
    whole process, and another process could then delete the log under us. Source: sqlite.org/howtocorrupt.html, 2.2.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists():
        return
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f"{path.name}.")
    os.close(descriptor)
    try:
        with contextlib.suppress(FileExistsError):
            os.link(name, path)
    finally:
        Path(name).unlink()


def is_fault(error: Exception) -> bool:
    """Whether the database (not our statement's data) is to blame: locked, full, read-only, broken, gone."""
    return isinstance(error, sqlite3.OperationalError | OSError) or type(error) is sqlite3.DatabaseError


def is_busy(error: Exception) -> bool:
    """Whether only another process's lock is in the way."""
    return isinstance(error, sqlite3.Error) and _name(error) == "SQLITE_BUSY"


def unavailable(path: Path, error: Exception) -> StoreUnavailable:
    """The error that callers see."""
    mend = _MENDS.get(_name(error), "see the log of the machine")
    return StoreUnavailable(f"the database {path.name} does not answer: {error} ({mend})", retry_after=1.0)


def _name(error: Exception) -> str:
    """The primary result code: SQLITE_IOERR_WRITE is an SQLITE_IOERR."""
    words = str(getattr(error, "sqlite_errorname", "")).split("_")
    return "_".join(words[:2])
