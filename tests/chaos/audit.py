"""What the database itself says at the end, asked in plain SQL, alike on both engines.

Every promise is a query for the rows that break it.
"""

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import msgspec
from tests.chaos.databases import Database

_ENDED = "('succeeded', 'failed', 'canceled', 'expired')"
_TERMINAL = "('job.succeeded', 'job.failed', 'job.canceled', 'job.expired')"
_TRUTH = """
SELECT pool, tenant,
    sum(CASE WHEN state = 'queued' THEN 1 ELSE 0 END) AS queued,
    sum(CASE WHEN state = 'scheduled' THEN 1 ELSE 0 END) AS delayed,
    sum(CASE WHEN state IN ('running', 'canceling') THEN 1 ELSE 0 END) AS running,
    sum(CASE WHEN state = 'queued' THEN cost ELSE 0 END) AS cost
FROM job GROUP BY pool, tenant
"""

UNFINISHED = {"a job has not ended": f"SELECT id, state FROM job WHERE state NOT IN {_ENDED}"}
LOST: Mapping[str, str] = {
    "an ended job has no terminal event": f"""
        SELECT id, state FROM job WHERE state IN {_ENDED} AND NOT EXISTS (
            SELECT 1 FROM job_event WHERE job_event.job = job.id AND job_event.kind = 'job.' || job.state)""",
    "an ended job has no row in the ledger": f"""
        SELECT id FROM job WHERE state IN {_ENDED} AND NOT EXISTS (SELECT 1 FROM ledger WHERE ledger.job = job.id)""",
    "a succeeded job has no succeeded attempt": """
        SELECT id FROM job WHERE state = 'succeeded' AND NOT EXISTS (
            SELECT 1 FROM attempt WHERE attempt.job = job.id AND attempt.outcome = 'succeeded')""",
    "events are missing between others": """
        SELECT job, min(seq), max(seq), count(*) FROM job_event GROUP BY job
        HAVING min(seq) <> 1 OR max(seq) <> count(*)""",
}
DUPLICATE: Mapping[str, str] = {
    "a job has two terminal events": f"""
        SELECT job, count(*) FROM job_event WHERE kind IN {_TERMINAL} GROUP BY job HAVING count(*) > 1""",
    "a job has two succeeded attempts": """
        SELECT job, count(*) FROM attempt WHERE outcome = 'succeeded' GROUP BY job HAVING count(*) > 1""",
    "a job is charged twice": "SELECT job, count(*) FROM ledger GROUP BY job HAVING count(*) > 1",
    "a job has two keys": "SELECT job, count(*) FROM idempotency GROUP BY job HAVING count(*) > 1",
    "an event follows the terminal one": f"""
        SELECT ended.job FROM job_event AS ended JOIN job_event AS later
        ON later.job = ended.job AND later.seq > ended.seq WHERE ended.kind IN {_TERMINAL}""",
}
WRONG: Mapping[str, str] = {
    "the ledger differs from the job": """
        SELECT ledger.job, ledger.cost, job.charged FROM ledger JOIN job ON job.id = ledger.job
        WHERE job.charged IS NULL OR job.charged <> ledger.cost OR job.tenant <> ledger.tenant
        OR job.pool <> ledger.pool OR job.model <> ledger.model""",
    "a job that has not ended is charged": f"""
        SELECT job FROM ledger JOIN job ON job.id = ledger.job WHERE job.state NOT IN {_ENDED}""",
    "an attempt at an ended job is still open": f"""
        SELECT job, number FROM attempt JOIN job ON job.id = attempt.job
        WHERE job.state IN {_ENDED} AND attempt.ended_at IS NULL""",
    "a tenant's counters are not the truth": f"""
        SELECT tenant.pool, tenant.tenant, tenant.queued, tenant.delayed, tenant.running, tenant.queued_cost
        FROM tenant LEFT JOIN ({_TRUTH}) AS truth
        ON truth.pool = tenant.pool AND truth.tenant = tenant.tenant
        WHERE tenant.queued <> coalesce(truth.queued, 0) OR tenant.delayed <> coalesce(truth.delayed, 0)
        OR tenant.running <> coalesce(truth.running, 0)
        OR abs(tenant.queued_cost - coalesce(truth.cost, 0.0)) > 0.000001""",
    "a tenant has no counters": f"""
        SELECT truth.pool, truth.tenant FROM ({_TRUTH}) AS truth WHERE NOT EXISTS (
            SELECT 1 FROM tenant WHERE tenant.pool = truth.pool AND tenant.tenant = truth.tenant)""",
    "a lane's counter is not the truth": """
        SELECT lane.pool, lane.tenant, lane.model, lane.queued FROM lane WHERE lane.queued <> (
            SELECT count(*) FROM job WHERE job.pool = lane.pool AND job.tenant = lane.tenant
            AND job.model = lane.model AND job.state = 'queued')""",
    "a queued job has no lane": """
        SELECT id FROM job WHERE state = 'queued' AND NOT EXISTS (
            SELECT 1 FROM lane WHERE lane.pool = job.pool AND lane.tenant = job.tenant AND lane.model = job.model)""",
    "a lane's copy of its tenant is stale": """
        SELECT lane.pool, lane.tenant, lane.model FROM lane JOIN tenant
        ON tenant.pool = lane.pool AND tenant.tenant = lane.tenant
        WHERE lane.ready = 1 AND (lane.vtime <> tenant.vtime OR lane.tenant_since <> tenant.since)""",
    "more was charged than the attempts lasted": """
        SELECT ledger.job, ledger.cost, lasted.seconds FROM ledger LEFT JOIN (
            SELECT job, sum(ended_at - started_at) AS seconds FROM attempt GROUP BY job) AS lasted
        ON lasted.job = ledger.job WHERE ledger.cost > coalesce(lasted.seconds, 0.0) + 0.001""",
}


class Verdict(msgspec.Struct, kw_only=True):
    """What broke, as sentences; empty means that every promise was kept."""

    jobs: int
    states: dict[str, int]
    attempts: int
    lost: list[str] = []
    duplicate: list[str] = []
    wrong: list[str] = []

    @property
    def ended(self) -> str:
        """How many jobs are in which state."""
        return ", ".join(f"{count} {state}" for state, count in self.states.items())

    @property
    def counts(self) -> dict[str, int]:
        """How many kinds of promises broke."""
        return {"lost": len(self.lost), "duplicate": len(self.duplicate), "wrong": len(self.wrong)}

    @property
    def faults(self) -> list[str]:
        """All of them."""
        return [*self.lost, *self.duplicate, *self.wrong]


async def audit(
    database: Database, told: Mapping[tuple[str, str], str], *, pictures: Path, uploads: int = 0, ended: bool = True
) -> Verdict:
    """Hold the database and the folder of pictures against the promises and what the callers were told.

    `ended`: every job must have come to its end.
    """
    states = {str(state): int(count) for state, count in await database.rows(_STATES)}
    ((attempts,),) = await database.rows("SELECT count(*) FROM attempt")
    verdict = Verdict(jobs=sum(states.values()), states=states, attempts=int(attempts))
    lost = {**UNFINISHED, **LOST} if ended else LOST
    for queries, faults in ((lost, verdict.lost), (DUPLICATE, verdict.duplicate), (WRONG, verdict.wrong)):
        for sentence, query in queries.items():
            found = await database.rows(query)
            if found:
                faults.append(f"{sentence}: {len(found)} times, such as {tuple(found[0])}")
    await _compare_keys(database, told, verdict)
    await _check_pictures(database, pictures, uploads, verdict)
    return verdict


_STATES = "SELECT state, count(*) FROM job GROUP BY state ORDER BY state"


async def _compare_keys(database: Database, told: Mapping[tuple[str, str], str], verdict: Verdict) -> None:
    """Every key that was acknowledged has the one job that its caller was told of, and there is no other job."""
    stored = {
        (tenant, key): job for tenant, key, job in await database.rows("SELECT tenant, key, job FROM idempotency")
    }
    missing = [key for key, job in told.items() if stored.get(key) != job]
    if missing:
        verdict.lost.append(f"the job told for a key is not its job: {len(missing)} times, such as {missing[0]}")
    ids = {str(job) for (job,) in await database.rows("SELECT id FROM job")}
    gone = set(stored.values()) - ids
    if gone:
        verdict.lost.append(f"a key's job is gone: {len(gone)} times, such as {min(gone)}")
    if len(ids) != len(told):
        verdict.duplicate.append(f"{len(told)} keys made {len(ids)} jobs")


async def _check_pictures(database: Database, folder: Path, uploads: int, verdict: Verdict) -> None:
    """Every output is an asset of the job's tenant whose bytes are there; no asset is anybody's second result."""
    assets = {id_: rest for id_, *rest in await database.rows("SELECT id, tenant, sha256, size_bytes FROM asset")}
    outputs: Counter[str] = Counter()
    broken: list[str] = []
    for job, tenant, state, listed in await database.rows("SELECT id, tenant, state, outputs FROM job"):
        made = json.loads(listed)
        if (state == "succeeded") != bool(made):
            broken.append(f"{job} is {state} with {len(made)} outputs")
        for output in made:
            outputs[output["id"]] += 1
            blob = folder / output["sha256"][:2] / output["sha256"][2:4] / output["sha256"]
            known = assets.get(output["id"])
            if known != [tenant, output["sha256"], output["size_bytes"]]:
                broken.append(f"output {output['id']} of {job} is no asset of {tenant}")
            elif not blob.exists() or blob.stat().st_size != output["size_bytes"]:
                broken.append(f"the bytes of output {output['id']} of {job} are not there")
    if broken:
        verdict.lost.append(f"a result is not whole: {len(broken)} times, such as {broken[0]}")
    if max(outputs.values(), default=1) > 1 or len(assets) != len(outputs) + uploads:
        verdict.duplicate.append(f"{len(outputs)} outputs and {uploads} uploads made {len(assets)} assets")
