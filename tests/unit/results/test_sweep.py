"""The sweep deletes what nobody refers to, and only when it is old."""

import asyncio
from pathlib import Path

from sluicegate.domain.asset import Picture
from sluicegate.domain.ids import Tenant
from sluicegate.results.assets import Assets
from sluicegate.results.sweep import Sweep
from sluicegate.storage.files import FileBlobStore
from sluicegate.storage.sqlite.store import SqliteStore
from sluicegate.testing import ManualClock

TENANT = Tenant("acme")


def test_only_old_blobs_without_an_asset_go(tmp_path: Path) -> None:
    async def scenario() -> None:
        clock = ManualClock()
        store = SqliteStore(tmp_path / "store.db", clock)
        blobs = FileBlobStore(tmp_path / "assets", clock)
        await store.open()
        try:
            assets = Assets(store, blobs, clock, max_pixels=100)
            kept = await assets.record(TENANT, Picture(b"kept", "image/png", 1, 1))
            shared = await assets.record(TENANT, Picture(b"kept", "image/png", 1, 1))
            gone = await assets.record(TENANT, Picture(b"gone", "image/png", 1, 1))
            sweep = Sweep(store, blobs, grace_seconds=100)
            await assets.delete(TENANT, shared.id)
            await assets.delete(TENANT, gone.id)
            assert await sweep.run() == 0
            clock.advance(101)
            fresh = await blobs.put(b"on its way")
            assert await sweep.run() == 1
            assert await blobs.read(kept.sha256) == b"kept"
            assert await blobs.read(fresh.sha256) == b"on its way"
            assert set(await blobs.aged(-1)) == {kept.sha256, fresh.sha256}
        finally:
            await store.close()

    asyncio.run(scenario())
