"""A long batch job gives way to a tenant that waits, and is done afterwards."""

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from tests.chaos.small_pictures import Order
from tests.chaos.worker_process import FOLDER_VARIABLE
from tests.gateway import PATIENCE, eventually, picture, running_gateway

from sluicegate.app.parts import build_assets, build_blobs, open_store
from sluicegate.app.worker import environment
from sluicegate.domain.asset import Picture
from sluicegate.domain.fairness import Tier
from sluicegate.domain.ids import JobId, Tenant, new_job_id, new_worker_id
from sluicegate.domain.job import Job, NewJob
from sluicegate.settings import Settings, load_settings
from sluicegate.storage.contracts import Store

T = TypeVar("T")
CONFIG = """
data_dir = "{data}"
[[backends]]
name = "local-image"
kind = "local-image"
models = ["sprout", "style-transfer"]
[worker]
processes = 0
[scheduling]
swap_seconds = 0.1
preempt_wait_seconds = 0.5
"""
WHALE, PRO = Tenant("a-whale"), Tenant("pro")
FREE = Tier(preemptible=True)
BATCH_SECONDS = 10 * PATIENCE
"""So long that work is far from half done whenever the test may look, however fast the machine is."""


def test_a_batch_job_gives_way_and_is_done_after_the_tenant_that_waited(tmp_path: Path) -> None:
    config = CONFIG.format(data=tmp_path / "data")
    with running_gateway(tmp_path, config) as gateway:
        settings = load_settings(tmp_path / "sluicegate.toml", environment={})
        with running_worker(settings, tmp_path):
            gateway.wait_ready()
            long = partial(submit, settings, WHALE, FREE, model="sprout", seconds=BATCH_SECONDS)
            batch = [long(key) for key in ("first", "second")]
            eventually(lambda: state(settings, WHALE, batch[0]), lambda it: it == "running")
            pro = Tier(name="pro", weight=16.0)
            urgent = submit(settings, PRO, pro, "urgent", model="style-transfer", seconds=0.1)
            eventually(lambda: state(settings, PRO, urgent), lambda it: it == "succeeded")
            assert [state(settings, WHALE, job) in {"queued", "running"} for job in batch] == [True, True]
            eventually(lambda: state(settings, WHALE, batch[0]), lambda it: it == "running")
            attempts = in_store(settings, lambda store: store.attempts(batch[0]))
            assert [attempt.outcome for attempt in attempts] == ["preempted", None]
            assert [attempt.number for attempt in attempts] == [1, 1]
            for job in batch:
                in_store(settings, partial(cancel, job=job))
            ended = ["canceled", "canceled"]
            eventually(lambda: [state(settings, WHALE, job) for job in batch], lambda it: it == ended)


@contextlib.contextmanager
def running_worker(settings: Settings, folder: Path) -> Iterator[None]:
    """A worker as the product runs it, but for its models: small pictures that take as long as they are told."""
    (folder / "marks").mkdir()
    variables = {**environment(settings, new_worker_id()), FOLDER_VARIABLE: str(folder)}
    argv = [sys.executable, "-m", "tests.chaos.worker_process"]
    with (folder / "worker.log").open("ab") as log, subprocess.Popen(argv, env=variables, stdout=log, stderr=log) as it:
        try:
            yield
        finally:
            it.terminate()
            try:
                it.wait(PATIENCE)
            finally:
                it.kill()


def in_store(settings: Settings, ask: Callable[[Store], Awaitable[T]]) -> T:
    async def asked() -> T:
        async with open_store(settings) as store:
            return await ask(store)

    return asyncio.run(asked())


def submit(settings: Settings, tenant: Tenant, tier: Tier, key: str, *, model: str, seconds: float) -> JobId:
    """A job for the model that takes so many seconds."""
    job = new_job_id()

    async def send(store: Store) -> None:
        task_input: dict[str, Any] = {"prompt": Order(key, seconds).prompt}
        task = "text-to-image" if model == "sprout" else "image-to-image"
        if task == "image-to-image":
            assets = build_assets(settings, store, build_blobs(settings))
            image = await assets.record(tenant, Picture(picture(64, 64), "image/png", 64, 64))
            task_input["image"] = image.id
        new = NewJob(id=job, tenant=tenant, tier=tier, cost=seconds, model=model, task=task, input=task_input)
        await store.submit(new)

    in_store(settings, send)
    return job


async def cancel(store: Store, *, job: JobId) -> Job:
    return await store.cancel(WHALE, job)


def state(settings: Settings, tenant: Tenant, job: JobId) -> str:
    return in_store(settings, lambda store: store.get(tenant, job)).state
