"""The queue's door over a real store."""

import asyncio
from pathlib import Path

import pytest
from starlette.requests import Request

from sluicegate.domain.fairness import Policy
from sluicegate.domain.ids import RequestId, Tenant
from sluicegate.domain.principal import Principal
from sluicegate.doors.admin.queue import QueueDoor
from sluicegate.doors.endpoint import BodyLimits, Call
from sluicegate.errors import StoreUnavailable
from sluicegate.storage.sqlite.store import SqliteStore
from sluicegate.testing import ManualClock


def test_while_the_store_is_away_the_queue_is_refused_as_unavailable(tmp_path: Path) -> None:
    async def scenario() -> None:
        store = SqliteStore(tmp_path / "store.db", ManualClock())
        request = Request({"type": "http", "query_string": b"", "headers": []})
        limits = BodyLimits(max_bytes=1, idle_seconds=1.0)
        call = Call(request, Principal(Tenant("local")), RequestId("req_1"), limits)
        await store.open()
        await store.close()
        with pytest.raises(StoreUnavailable):
            await QueueDoor(store, Policy()).show(call)

    asyncio.run(scenario())
