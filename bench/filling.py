"""A deep queue in seconds: jobs, their events, tenants and lanes written by SQL in bulk, then checked.

The rows are what submissions one by one would have left; `faults` holds the counters and copies against the jobs.
"""

import sqlite3
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from string import Template

import msgspec

MODELS = tuple(f"model-{number}" for number in range(20))
ALL_TENANTS = 10_000
Run = Callable[[str], Awaitable[int]]
"""Carries out one statement and gives the first number of its first row, or 0."""


class Depth(msgspec.Struct, frozen=True, kw_only=True):
    """So many queued jobs, `lanes` models for each tenant that waits. All 10 000 tenants have a row."""

    jobs: int
    lanes: int = 4

    @property
    def tenants(self) -> int:
        """Tenants that have jobs: as many as can have all their lanes."""
        return min(ALL_TENANTS, self.jobs // self.lanes)


_JOBS = Template("""
    INSERT INTO job (id, tenant, state, model, task, input, priority, created_at, max_attempts, metadata$column)
    SELECT $id, 'tenant-' || (n % $tenants), 'queued',
        'model-' || ((n % $tenants + n / $tenants % $lanes) % $models),
        'text-to-image', '{"prompt": "a lighthouse on a cliff at dusk", "width": 512, "height": 512}', 0, $now, 3,
        '{}'$value
    FROM ($series) AS series
""")
_EVENTS = Template("""
    INSERT INTO job_event (job, seq, kind, at, data)
    SELECT id, 1, 'job.queued', created_at, '{"status":"queued"}' FROM job
""")
_TENANTS = Template("""
    INSERT INTO tenant (pool, tenant, tier, weight, vtime, since, queued, queued_cost)
    SELECT 'default', 'tenant-' || n, 'free', 1.0, n * 7919 % 10007 / 100.0, $now,
        coalesce(waiting.jobs, 0), coalesce(waiting.cost, 0.0)
    FROM ($series) AS series
    LEFT JOIN (SELECT tenant, count(*) AS jobs, sum(cost) AS cost FROM job GROUP BY tenant) AS waiting
    ON waiting.tenant = 'tenant-' || n
""")
_LANES = Template("""
    INSERT INTO lane (pool, tenant, model, queued, since, ready, vtime, tenant_since)
    SELECT job.pool, job.tenant, job.model, count(*), $now, 1, min(tenant.vtime), min(tenant.since)
    FROM job JOIN tenant ON tenant.pool = job.pool AND tenant.tenant = job.tenant
    WHERE job.state = 'queued'
    GROUP BY job.pool, job.tenant, job.model
""")

_FAULTS = {
    "tenants whose counters are wrong": """
        SELECT count(*) FROM tenant LEFT JOIN (
            SELECT pool, tenant,
                count(*) FILTER (WHERE state = 'queued') AS queued,
                count(*) FILTER (WHERE state = 'scheduled') AS delayed,
                count(*) FILTER (WHERE state IN ('running', 'canceling')) AS running,
                sum(cost) FILTER (WHERE state = 'queued') AS queued_cost
            FROM job GROUP BY pool, tenant
        ) AS truth ON truth.pool = tenant.pool AND truth.tenant = tenant.tenant
        WHERE tenant.queued <> coalesce(truth.queued, 0) OR tenant.delayed <> coalesce(truth.delayed, 0)
            OR tenant.running <> coalesce(truth.running, 0)
            OR abs(tenant.queued_cost - coalesce(truth.queued_cost, 0)) > 1e-6
    """,
    "lanes whose counters are wrong": """
        SELECT count(*) FROM (
            SELECT pool, tenant, model FROM (
                SELECT pool, tenant, model, queued AS jobs FROM lane
                UNION ALL
                SELECT pool, tenant, model, -1 FROM job WHERE state = 'queued'
            ) AS both_sides GROUP BY pool, tenant, model HAVING sum(jobs) <> 0
        ) AS wrong
    """,
    "lanes that differ from their tenant": """
        SELECT count(*) FROM lane JOIN tenant ON tenant.pool = lane.pool AND tenant.tenant = lane.tenant
        WHERE lane.ready = 1 AND (lane.vtime <> tenant.vtime OR lane.tenant_since <> tenant.since)
    """,
    "ended jobs without their row in the ledger": """
        SELECT count(*) FROM job LEFT JOIN ledger ON ledger.job = job.id
        WHERE job.state IN ('succeeded', 'failed', 'canceled', 'expired') AND ledger.job IS NULL
    """,
}


async def fill(run: Run, depth: Depth, *, dialect: str) -> None:
    """Write the rows into a store that is migrated and empty. `dialect`: sqlite or postgresql."""
    on_sqlite = dialect == "sqlite"
    values = {
        "id": "printf('job_%026d', n)" if on_sqlite else "'job_' || lpad(n::text, 26, '0')",
        "now": repr(time.time()),
        # SQLite counts a job's changes, so that a program of an older version is noticed
        "column": ", moves" if on_sqlite else "",
        "value": ", 0" if on_sqlite else "",
        "tenants": depth.tenants,
        "lanes": depth.lanes,
        "models": len(MODELS),
    }
    for statement, count in ((_JOBS, depth.jobs), (_EVENTS, 0), (_TENANTS, ALL_TENANTS), (_LANES, 0)):
        series = (
            f"WITH RECURSIVE numbers(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM numbers WHERE n < {count - 1}) "  # noqa: S608 - a number
            "SELECT n FROM numbers"
            if on_sqlite
            else f"SELECT generate_series(0, {count - 1}) AS n"
        )
        await run(statement.substitute(values, series=series))


async def faults(run: Run) -> dict[str, int]:
    """What is wrong in the store, by kind; empty when every counter is true."""
    found = {kind: await run(query) for kind, query in _FAULTS.items()}
    return {kind: rows for kind, rows in found.items() if rows}


class SqliteRun:
    """Statements on the file, without flushes: call `close` before the file is measured."""

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None)
        self._connection.execute("PRAGMA synchronous = OFF")
        self._connection.execute("PRAGMA cache_size = -262144")

    async def __call__(self, statement: str) -> int:
        row = self._connection.execute(statement).fetchone()
        return int(row[0]) if row else 0

    def close(self) -> None:
        """Bring everything into the file and onto the disk."""
        self._connection.execute("PRAGMA synchronous = FULL")
        self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self._connection.close()
