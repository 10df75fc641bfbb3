"""A real store, real files and real signals around the piece under test."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.gateway import picture

from sluicegate.domain.asset import Picture
from sluicegate.domain.clock import SystemClock
from sluicegate.domain.fairness import Policy, Tier
from sluicegate.domain.generation import CostModel, ModelCard
from sluicegate.domain.ids import Tenant
from sluicegate.domain.principal import Principal
from sluicegate.results.assets import Assets
from sluicegate.scheduling.costs import Costs
from sluicegate.scheduling.forecast import Outlooks
from sluicegate.scheduling.intake import Intake
from sluicegate.scheduling.shedding import Shedding
from sluicegate.storage.files import FileBlobStore
from sluicegate.storage.sqlite.signals import SocketSignals
from sluicegate.storage.sqlite.store import SqliteStore

TENANT = Tenant("acme")
CALLER = Principal(TENANT, Tier(name="basic", weight=4.0))
CARDS = (
    ModelCard(id="painter", tasks=("stylize", "image-to-image"), backend="b", max_pixels=10_000),
    ModelCard(id="x2", tasks=("upscale",), backend="b", scale=2, pool="large"),
    ModelCard(id="x4", tasks=("upscale",), backend="b", scale=4),
    ModelCard(
        id="drawer",
        tasks=("text-to-image",),
        backend="b",
        sizes=(128, 256),
        steps=(1, 50),
        costs={"text-to-image": CostModel(fixed=1.0, step=0.5, exponent=0.0, pixel=0.0, usual_steps=10)},
    ),
)


@dataclass
class Floor:
    """What stands under the rooms: store, blobs, signals, and the services closest to them."""

    store: SqliteStore
    blobs: FileBlobStore
    signals: SocketSignals
    assets: Assets
    intake: Intake
    outlooks: Outlooks
    folder: Path

    async def upload(self, *, seed: int = 0, tenant: Tenant = TENANT) -> str:
        """A stored picture's id."""
        return (await self.assets.record(tenant, Picture(picture(32, 32, seed=seed), "image/png", 32, 32))).id


@pytest.fixture
def on_floor(tmp_path: Path) -> Callable[[Callable[[Floor], Awaitable[None]]], None]:
    """Runs a scenario on a fresh floor."""

    @asynccontextmanager
    async def laid() -> AsyncIterator[Floor]:
        clock = SystemClock()
        store = SqliteStore(tmp_path / "store.db", clock)
        blobs = FileBlobStore(tmp_path / "assets", clock)
        signals = SocketSignals(tmp_path / "store.db")
        assets = Assets(store, blobs, clock, max_pixels=1_000_000)
        await store.open()
        await signals.open()
        try:
            outlooks = Outlooks(store, clock)
            intake = Intake(
                store,
                assets,
                signals,
                CARDS,
                costs=Costs(store, Policy(), clock),
                shedding=Shedding(outlooks, store),
                max_attempts=3,
            )
            yield Floor(store, blobs, signals, assets, intake, outlooks, tmp_path)
        finally:
            await signals.close()
            await store.close()

    def play(scenario: Callable[[Floor], Awaitable[None]]) -> None:
        async def whole() -> None:
            async with laid() as floor:
                await scenario(floor)

        asyncio.run(whole())

    return play
