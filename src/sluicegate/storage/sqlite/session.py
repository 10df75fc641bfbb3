"""One open transaction, as operations see it."""

import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any

from sluicegate.domain.fairness import Policy


class Session:
    """Runs the named queries inside the transaction that is open. `now` is the transaction's time, `policy` holds
    the constants of the fair queue."""

    def __init__(self, connection: sqlite3.Connection, queries: Mapping[str, str], now: float, policy: Policy) -> None:
        self._connection = connection
        self._queries = queries
        self.now = now
        self.policy = policy

    def all(self, query: str, **values: Any) -> Sequence[sqlite3.Row]:
        """Every row that the query gives."""
        return self._connection.execute(self._queries[query], {**values, "now": self.now}).fetchall()

    def first(self, query: str, **values: Any) -> sqlite3.Row | None:
        """The first row that the query gives, or None."""
        rows = self.all(query, **values)
        return rows[0] if rows else None

    def change(self, query: str, **values: Any) -> int:
        """Run a statement that writes; how many rows it touched."""
        return self._connection.execute(self._queries[query], {**values, "now": self.now}).rowcount
