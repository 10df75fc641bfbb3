"""``/admin/queue``: who waits in each pool, for how long, and why."""

import asyncio
from typing import Annotated

import msgspec
from msgspec import Meta

from sluicegate.domain.fairness import Policy
from sluicegate.doors.admin.queue_report import QueueFilter, QueueReport, QueueReporter
from sluicegate.doors.endpoint import Answer, Call, Endpoint, json_response
from sluicegate.scheduling.waiting import WORKER_SEEN_SECONDS, Waits
from sluicegate.storage.contracts import Store

RECENT_SECONDS = 3_600.0
"""What `last_hour` means."""


class QueueQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which part of the queue to show; `limit` bounds the tenants and the running jobs listed in each pool."""

    tenant: Annotated[str, Meta(min_length=1, max_length=200)] | None = None
    pool: Annotated[str, Meta(min_length=1, max_length=200)] | None = None
    limit: Annotated[int, Meta(ge=1, le=500)] = 50


class QueueDoor:
    """Serves the queue to whoever runs the gateway."""

    def __init__(self, store: Store, policy: Policy) -> None:
        self._store = store
        self._policy = policy

    def endpoints(self) -> list[Endpoint]:
        """The routes of this door."""
        return [
            Endpoint(
                method="GET",
                path="/admin/queue",
                handler=self.show,
                dialect="native",
                tag="Administration",
                summary="The queue: pools, tenants, running jobs, and why each tenant's next job waits",
                description="Tenants with the longest waits come first; those beyond `limit` are summed in `rest`. "
                "Virtual times and costs are reference seconds.",
                query=QueueQuery,
                answers={200: QueueReport},
            )
        ]

    async def show(self, call: Call) -> Answer:
        """The queue as it is now."""
        query = call.query(QueueQuery)
        view, workers = await asyncio.gather(self._store.queue(), self._store.workers(seen_within=WORKER_SEEN_SECONDS))
        reporter = QueueReporter(
            Waits(view, workers, self._policy),
            QueueFilter(tenant=query.tenant, pool=query.pool, limit=query.limit),
        )
        tenants = list({it.tenant: None for pool in reporter.pools() for it in reporter.listed(pool)})
        since = view.at - RECENT_SECONDS
        usage = await asyncio.gather(*(self._store.usage(tenant, since=since) for tenant in tenants))
        return json_response(reporter.report(dict(zip(tenants, usage, strict=True))))
