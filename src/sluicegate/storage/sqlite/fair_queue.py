"""Tenants' standings in the fair queue: how each change of a job moves its tenant's tag, counts and lanes.

The rule is that of `scheduling.fairness.FairQueue`. A tenant's row is read once, changed here and kept once; its lanes
are told only when its tag, its last service or its readiness has changed.
"""

import sqlite3
from collections.abc import Sequence

import msgspec

from sluicegate.domain.fairness import Tier
from sluicegate.domain.ids import Tenant
from sluicegate.storage.rows import to_json
from sluicegate.storage.sqlite.session import Session


class Standing(msgspec.Struct, kw_only=True):
    """One tenant in one pool, being changed. Begin with `standing_of`, end with `keep`."""

    pool: str
    tenant: Tenant
    tier: str
    weight: float
    max_running: int | None
    vtime: float
    since: float
    queued: int = 0
    queued_cost: float = 0.0
    delayed: int = 0
    running: int = 0
    shown: tuple[bool, float, float] = (False, 0.0, 0.0)
    """What its lanes say: ready, vtime, since."""

    @property
    def ready(self) -> bool:
        """Whether a claim may take its work."""
        return self.queued > 0 and (self.max_running is None or self.running < self.max_running)


def standing_of(session: Session, pool: str, tenant: Tenant) -> Standing | None:
    """The tenant's standing as it is; None when it was never seen in the pool."""
    row = session.first("tenant_get", pool=pool, tenant=tenant)
    if row is None:
        return None
    standing = Standing(pool=pool, tenant=tenant, **{name: row[name] for name in row.keys()})  # noqa: SIM118
    standing.shown = (standing.ready, standing.vtime, standing.since)
    return standing


def joined(session: Session, pool: str, tenant: Tenant, tier: Tier) -> Standing:
    """The tenant's standing under what its tier grants now."""
    standing = standing_of(session, pool, tenant)
    if standing is None:
        session.change("pool_open", pool=pool)
        standing = Standing(
            pool=pool, tenant=tenant, tier=tier.name, weight=tier.weight, max_running=None, vtime=0.0, since=session.now
        )
    standing.tier, standing.weight, standing.max_running = tier.name, tier.weight, tier.concurrent_jobs
    return standing


def holder_of(session: Session, job: sqlite3.Row) -> Standing:
    """The standing of the tenant whose job it is."""
    standing = standing_of(session, job["pool"], job["tenant"])
    assert standing is not None, "a job's tenant has a standing from its submission on"
    return standing


def keep(session: Session, standing: Standing) -> None:
    """Write the standing, and tell its lanes what they have to know."""
    if standing.queued == 0:
        standing.queued_cost = 0.0
    was_ready, _, _ = standing.shown
    if standing.ready and not was_ready:
        _rejoin(session, standing)
    shown = (standing.ready, standing.vtime, standing.since)
    columns = msgspec.structs.asdict(standing)
    del columns["shown"]
    session.change("tenant_put", **columns)
    if standing.queued and shown != standing.shown:
        session.change(
            "lanes_follow",
            pool=standing.pool,
            tenant=standing.tenant,
            ready=int(shown[0]),
            vtime=shown[1],
            tenant_since=shown[2],
        )
    standing.shown = shown


def push(session: Session, standing: Standing, model: str, cost: float) -> None:
    """One more queued job. `keep` tells the lane the rest."""
    standing.queued += 1
    standing.queued_cost += cost
    ready, vtime, since = standing.shown
    session.change(
        "lane_push",
        pool=standing.pool,
        tenant=standing.tenant,
        model=model,
        ready=int(ready),
        vtime=vtime,
        tenant_since=since,
    )


def pull(session: Session, standing: Standing, job: sqlite3.Row, *, served: bool = False) -> None:
    """One queued job less."""
    standing.queued -= 1
    standing.queued_cost -= job["cost"]
    lane = {"pool": standing.pool, "tenant": standing.tenant, "model": job["model"]}
    if session.change("lane_empty", **lane) == 0:
        session.change("lane_serve" if served else "lane_pull", **lane)


def charge(session: Session, standing: Standing, job: sqlite3.Row) -> dict[str, float]:
    """Count a claimed job on the tenant's tag; the job's columns that record it."""
    pull(session, standing, job, served=True)
    standing.running += 1
    standing.since = session.now
    paid = max(job["cost"] / standing.weight, job["paid"])
    standing.vtime += paid - job["paid"]
    return {"paid": paid, "weight": standing.weight}


def settle(standing: Standing, job: sqlite3.Row, actual: float) -> dict[str, float]:
    """Replace the estimate on the tag by what a held job that has ended did cost."""
    standing.running -= 1
    paid = actual / job["weight"]
    standing.vtime += paid - job["paid"]
    return {"paid": paid}


def refund(session: Session, standing: Standing, job: sqlite3.Row, *, preempted: bool = False) -> dict[str, float]:
    """Give back what a job has paid, as far as the tenant does not come before the others for it.

    One whose job was `preempted` goes behind them, and has paid for that as well.
    """
    others = least(session, standing.pool, besides=standing.tenant)
    floor = others + session.policy.setback if preempted else min(standing.vtime, others)
    refunded = max(standing.vtime - job["paid"], floor)
    paid = job["paid"] - (standing.vtime - refunded)
    standing.vtime = refunded
    return {"paid": paid}


def least(session: Session, pool: str, *, besides: str = "") -> float:
    """The least tag of the tenants that are ready, else the pool's last."""
    row = session.first("lane_least", pool=pool, besides=besides)
    row = row or session.first("pool_get", pool=pool)
    return float(row["vtime"]) if row is not None else 0.0


def _rejoin(session: Session, standing: Standing) -> None:
    others = least(session, standing.pool, besides=standing.tenant)
    session.change("pool_raise", pool=standing.pool, vtime=others)
    standing.vtime = max(standing.vtime, others)
    standing.since = session.now


class Choice(msgspec.Struct, frozen=True):
    """The job whose turn it is, and whether it came out of turn, by the starvation guard."""

    tenant: Tenant
    job: str
    out_of_turn: bool


def choose(session: Session, pool: str, models: Sequence[str], loaded: Sequence[str]) -> Choice | None:
    """The job that a worker with these models shall run next."""
    clock = session.first("pool_get", pool=pool)
    if clock is None:
        return None
    served = to_json(models)
    tenant = _starving(session, pool, served) if clock["guard_in"] <= 0 else None
    out_of_turn = tenant is not None
    hot = frozenset(loaded).intersection(models)
    if tenant is None:
        tenant = _foremost(session, pool, served, hot)
    if tenant is None:
        return None
    return Choice(tenant, _best(session, pool, tenant, models, hot), out_of_turn)


def tick(session: Session, pool: str, choice: Choice) -> None:
    """Move the pool's clock on by one claim; before the claim's own changes."""
    clock = session.first("pool_get", pool=pool)
    assert clock is not None, "choose found the pool"
    guard_in = session.policy.guard_every - 1 if choice.out_of_turn else max(0, clock["guard_in"] - 1)
    vtime = max(clock["vtime"], least(session, pool))
    if (vtime, guard_in) != (clock["vtime"], clock["guard_in"]):
        session.change("pool_put", pool=pool, vtime=vtime, guard_in=guard_in)


def _starving(session: Session, pool: str, models: str) -> Tenant | None:
    before = session.now - session.policy.guard
    rows = session.all("lane_starving", pool=pool, models=models, before=before)
    found = [(row["tenant_since"], row["tenant"]) for row in rows]
    return Tenant(min(found)[1]) if found else None


def _foremost(session: Session, pool: str, models: str, hot: frozenset[str]) -> Tenant | None:
    keys: list[tuple[float, int, float, str]] = []
    for row in session.all("lane_foremost", pool=pool, models=models):
        keys.append((row["vtime"] + session.policy.swap_penalty, 1, row["vtime"], row["tenant"]))
        if row["model"] in hot:
            keys.append((row["vtime"], 0, row["vtime"], row["tenant"]))
    return Tenant(min(keys)[3]) if keys else None


def _best(session: Session, pool: str, tenant: Tenant, models: Sequence[str], hot: frozenset[str]) -> str:
    served = frozenset(models)
    lanes = [row for row in session.all("lanes_of_tenant", pool=pool, tenant=tenant) if row["model"] in served]
    if lanes[0]["since"] < session.now - session.policy.lane_wait:
        lanes = lanes[:1]
    else:
        lanes = [lane for lane in lanes if lane["model"] in hot] or lanes
    heads = [session.first("queue_head", pool=pool, tenant=tenant, model=lane["model"]) for lane in lanes]
    return str(min((-head["priority"], head["id"]) for head in heads if head is not None)[1])
