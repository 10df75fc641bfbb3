"""Pools that jobs wait in although no backend has them any more, as after one was renamed.

A worker may serve such a pool by name, with every model that it has; one that neither a backend nor a job has is
taken for a typing error.
"""

from collections import Counter
from collections.abc import Iterable

import msgspec

from sluicegate.app.parts import open_store
from sluicegate.domain.validation import did_you_mean
from sluicegate.errors import Fault, InvalidSettings
from sluicegate.observability.logs import Log
from sluicegate.scheduling.waiting import WORKER_SEEN_SECONDS
from sluicegate.settings import BackendSettings, Settings
from sluicegate.storage.contracts import QueueCount, Store

_log = Log("sluicegate.pools")


def former_pools(settings: Settings) -> tuple[str, ...]:
    """Pools that a worker of these settings serves and no backend has."""
    return tuple(pool for pool in settings.worker_pools if pool not in settings.job_pools)


def with_models_for_former_pools(settings: Settings) -> Settings:
    """The settings for a worker's backends: where it serves a pool that no backend has, those of pools that it does
    not serve count as that pool's, so that it has all their models for the jobs that were left there."""
    former = former_pools(settings)
    if not former:
        return settings

    def lent(backend: BackendSettings) -> BackendSettings:
        is_served = backend.kind != "local-image" or backend.pool in settings.worker_pools
        return backend if is_served else msgspec.structs.replace(backend, pool=former[0])

    return msgspec.structs.replace(settings, backends=tuple(lent(backend) for backend in settings.backends))


def unknown_pools(settings: Settings, counts: Iterable[QueueCount]) -> list[str]:
    """Pools that a worker of these settings serves and neither a backend nor a job has."""
    held = {count.pool for count in counts}
    return [pool for pool in former_pools(settings) if pool not in held]


async def refuse_unknown_pools(settings: Settings) -> None:
    """Raises `InvalidSettings` when a pool to serve is one that neither a backend nor a job has, `StoreUnavailable`."""
    former = former_pools(settings)
    if not former:
        return
    async with open_store(settings) as store:
        counts = await store.counts()
    known = {*settings.job_pools, *(count.pool for count in counts)}
    faults = [
        Fault("worker.pools", f'no backend has the pool "{pool}", and no job waits in it', did_you_mean(pool, known))
        for pool in unknown_pools(settings, counts)
    ]
    if not settings.job_pools:
        mend = "add a backend of kind local-image"
        faults = [Fault("worker.pools", f'a worker for "{pool}" would have no models', mend) for pool in former]
    if faults:
        raise InvalidSettings(faults, source="settings")


async def warn_of_pools(settings: Settings, store: Store) -> None:
    """Log each pool in which jobs wait and that no worker of these settings, and no live one, serves; and each pool to
    serve that neither a backend nor a job has. Raises `StoreUnavailable`."""
    waiting: Counter[str] = Counter()
    counts = await store.counts()
    for count in counts:
        if count.state in ("queued", "scheduled"):
            waiting[count.pool] += count.jobs
    live = {pool for worker in await store.workers(seen_within=WORKER_SEEN_SECONDS) for pool in worker.pools}
    for pool, jobs in sorted(waiting.items()):
        if pool not in live.union(settings.worker_pools):
            _log.warning(
                "jobs wait in a pool that no worker serves", pool=pool, jobs=jobs, mend=f"sluicegate work --pool {pool}"
            )
    for pool in unknown_pools(settings, counts):
        mend = did_you_mean(pool, settings.job_pools) or "mend worker.pools"
        _log.warning("no backend has this pool, and no job waits in it", pool=pool, mend=mend)
