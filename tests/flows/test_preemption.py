"""A long batch job gives way to a tenant that waits, and is done afterwards."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

from tests.gateway import eventually, picture, running_gateway

from sluicegate.app.parts import build_assets, build_blobs, open_store
from sluicegate.domain.asset import Picture
from sluicegate.domain.fairness import Tier
from sluicegate.domain.ids import JobId, Tenant, new_job_id
from sluicegate.domain.job import Job, NewJob
from sluicegate.settings import Settings, load_settings
from sluicegate.storage.contracts import Store

T = TypeVar("T")
CONFIG = """
data_dir = "{data}"
[[backends]]
name = "local-image"
kind = "local-image"
[scheduling]
swap_seconds = 0.1
preempt_wait_seconds = 0.5
"""
WHALE, PRO = Tenant("a-whale"), Tenant("pro")
FREE = Tier(preemptible=True)


def test_a_batch_job_gives_way_and_is_done_after_the_tenant_that_waited(tmp_path: Path) -> None:
    config = CONFIG.format(data=tmp_path / "data")
    with running_gateway(tmp_path, config) as gateway:
        gateway.wait_ready()
        settings = load_settings(tmp_path / "sluicegate.toml", environment={})
        batch = [submit(settings, WHALE, FREE, model="realesrgan-x4", side=900, cost=60.0) for _ in range(2)]
        eventually(lambda: state(settings, WHALE, batch[0]), lambda it: it == "running")
        urgent = submit(settings, PRO, Tier(name="pro", weight=16.0), model="style-transfer", side=64, cost=0.5)
        eventually(lambda: state(settings, PRO, urgent), lambda it: it == "succeeded")
        assert [state(settings, WHALE, job) in {"queued", "running"} for job in batch] == [True, True]
        eventually(lambda: state(settings, WHALE, batch[0]), lambda it: it == "running")
        attempts = in_store(settings, lambda store: store.attempts(batch[0]))
        assert [attempt.outcome for attempt in attempts] == ["preempted", None]
        assert [attempt.number for attempt in attempts] == [1, 1]
        for job in batch:
            in_store(settings, partial(cancel, job=job))
        eventually(lambda: [state(settings, WHALE, job) for job in batch], lambda it: it == ["canceled", "canceled"])


def in_store(settings: Settings, ask: Callable[[Store], Awaitable[T]]) -> T:
    async def asked() -> T:
        async with open_store(settings) as store:
            return await ask(store)

    return asyncio.run(asked())


def submit(settings: Settings, tenant: Tenant, tier: Tier, *, model: str, side: int, cost: float) -> JobId:
    """A job for the model, on a picture of side x side pixels."""
    job = new_job_id()

    async def send(store: Store) -> None:
        assets = build_assets(settings, store, build_blobs(settings))
        image = await assets.record(tenant, Picture(picture(side, side), "image/png", side, side))
        task = "upscale" if model.startswith("real") else "stylize"
        new = NewJob(id=job, tenant=tenant, tier=tier, cost=cost, model=model, task=task, input={"image": image.id})
        await store.submit(new)

    in_store(settings, send)
    return job


async def cancel(store: Store, *, job: JobId) -> Job:
    return await store.cancel(WHALE, job)


def state(settings: Settings, tenant: Tenant, job: JobId) -> str:
    return in_store(settings, lambda store: store.get(tenant, job)).state
