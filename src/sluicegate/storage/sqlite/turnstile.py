"""Turns among the processes that write to one database file.

SQLite lets waiting writers poll for its lock with growing pauses, so a process that commits without a break
starves the others: heartbeats would come too late and leases would be lost. Here whoever wants to write first
takes the turn (a `flock` on a file beside the database), then waits for SQLite's lock, then gives the turn on.
A process that has just committed cannot take the turn while another holds it, so processes alternate.
Correctness rests on SQLite's own lock alone; a program that ignores the turnstile is only impolite.
"""

import fcntl
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from sluicegate.storage.sqlite.connection import is_busy

_PAUSE_SECONDS = 0.0005


class Turnstile:
    """Begins write transactions in turn. `timeout` seconds bound the wait for the turn and for the lock together."""

    def __init__(self, database: Path, timeout: float) -> None:
        self._path = database.with_name(f"{database.name}.lock")
        self._timeout = timeout

    def begin(self, connection: sqlite3.Connection) -> None:
        """BEGIN IMMEDIATE when it is this process's turn. Raises `sqlite3.OperationalError` or `OSError`."""
        end = time.monotonic() + self._timeout
        with self.turn(end):
            _poll(lambda: _begin(connection), end)

    @contextmanager
    def turn(self, end: float) -> Iterator[None]:
        """Hold the turn; `TimeoutError` when monotonic time `end` comes first."""
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            _poll(lambda: _lock(descriptor), end)
            yield
        finally:
            os.close(descriptor)


def _poll(attempt: Callable[[], Exception | None], end: float) -> None:
    while (refusal := attempt()) is not None:
        if time.monotonic() >= end:
            raise refusal
        time.sleep(_PAUSE_SECONDS)


def _lock(descriptor: int) -> Exception | None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return TimeoutError("the turn to write did not come in time: another process waits for the write lock")
    return None


def _begin(connection: sqlite3.Connection) -> Exception | None:
    try:
        connection.execute("BEGIN IMMEDIATE")
    except sqlite3.OperationalError as error:
        if is_busy(error):
            return error
        raise
    return None
