"""Operations on assets and workers."""

import sqlite3
from collections.abc import Sequence

import msgspec

from sluicegate.domain.asset import Asset
from sluicegate.domain.ids import AssetId, Tenant
from sluicegate.errors import Conflict, UnknownAsset
from sluicegate.storage.contracts import WorkerInfo
from sluicegate.storage.rows import asset_of, to_json, worker_of
from sluicegate.storage.sqlite.session import Session


def add_asset(session: Session, asset: Asset) -> None:
    """Record an asset; raises `Conflict` when its id is taken."""
    try:
        session.change("asset_insert", **msgspec.structs.asdict(asset))
    except sqlite3.IntegrityError as error:
        raise Conflict(f'asset "{asset.id}" cannot be stored: {error}; use a new id') from error


def find_asset(session: Session, tenant: Tenant, asset: AssetId) -> Asset:
    """The tenant's asset; raises `UnknownAsset`."""
    row = session.first("asset_of_tenant", id=asset, tenant=tenant)
    if row is None:
        raise UnknownAsset(f'there is no asset "{asset}"; check the id')
    return asset_of(row)


def delete_asset(session: Session, tenant: Tenant, asset: AssetId) -> None:
    """Forget the tenant's asset; raises `UnknownAsset`, or `Conflict` while a job needs it."""
    find_asset(session, tenant, asset)
    pinned = session.first("asset_pinned", asset=asset)
    if pinned is not None:
        raise Conflict(f'job "{pinned["job"]}" still needs asset "{asset}"; cancel the job or wait for its end')
    session.change("asset_delete", id=asset)


def referenced(session: Session, digests: Sequence[str]) -> frozenset[str]:
    """The digests that some asset refers to."""
    return frozenset(digest for digest in digests if session.first("asset_of_blob", sha256=digest) is not None)


def enlist(session: Session, worker: WorkerInfo) -> None:
    """Add or refresh a worker."""
    session.change(
        "worker_put",
        id=worker.id,
        host=worker.host,
        pid=worker.pid,
        started_at=worker.started_at,
        models=to_json(worker.models),
        loaded=to_json(worker.loaded),
        pools=to_json(worker.pools),
    )


def workers(session: Session, seen_within: float) -> Sequence[WorkerInfo]:
    """The workers heard of late."""
    return [worker_of(row) for row in session.all("workers_seen", since=session.now - seen_within)]
