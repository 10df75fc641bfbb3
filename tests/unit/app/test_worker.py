"""A worker process of its own: it serves the pools that it is told, and ends when its model hangs."""

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest
from tests.gateway import eventually, picture
from tests.postgres import PostgresServer

from sluicegate.app.parts import build_assets, build_blobs, build_store
from sluicegate.domain.asset import Picture
from sluicegate.domain.ids import JobId, Tenant, new_job_id
from sluicegate.domain.job import NewJob
from sluicegate.settings import Settings, load_settings

HANGING = """
import sys, threading
from sluicegate.backends.local_image import LocalImage
from sluicegate.cli import main
LocalImage._serve = lambda *_: threading.Event().wait()
main(["work", "--config", sys.argv[1]])
"""
BLOCKING = """
import sys, threading
from sluicegate.backends.local_image import LocalImage
from sluicegate.cli import main
from sluicegate.scheduling import worker
async def block(*_): threading.Event().wait()
worker.HANG_SECONDS = 0.1
LocalImage.run = block
main(["work", "--config", sys.argv[1]])
"""
CONFIG = """
data_dir = "{data}"
[worker]
heartbeat_seconds = 0.2
job_timeout_seconds = 0.5
max_attempts = 3
"""

POOLS = """
data_dir = "{data}"
[storage]
url = "{url}"
[[backends]]
name = "small"
kind = "local-image"
models = ["realesrgan-x2"]
[[backends]]
name = "large"
kind = "local-image"
models = ["style-transfer"]
pool = "big"
"""


@pytest.mark.parametrize("engine", ["sqlite", "postgresql"])
def test_work_serves_the_pools_that_it_is_told(
    tmp_path: Path, engine: str, postgres: PostgresServer, postgres_database: str
) -> None:
    url = "" if engine == "sqlite" else postgres.url(postgres_database)
    file = tmp_path / "sluicegate.toml"
    file.write_text(POOLS.format(data=tmp_path / "data", url=url))
    settings = load_settings(file, environment={})
    here = asyncio.run(submit(settings, pool="big"))
    elsewhere = asyncio.run(submit(settings, pool="default"))
    command = [sys.executable, "-m", "sluicegate", "work", "--config", str(file), "--pool", "big"]
    log = tmp_path / "work.log"
    with log.open("wb") as kept, subprocess.Popen(command, cwd=tmp_path, stderr=kept) as worker:
        try:
            eventually(lambda: asyncio.run(state(settings, here)), lambda it: it == "succeeded")
        finally:
            worker.terminate()
            worker.wait(60)
    assert worker.returncode == 0, log.read_text()
    assert asyncio.run(state(settings, elsewhere)) == "queued"


def test_a_pool_that_no_backend_has_is_refused_at_once(tmp_path: Path) -> None:
    file = tmp_path / "sluicegate.toml"
    file.write_text(POOLS.format(data=tmp_path / "data", url=""))
    command = [sys.executable, "-m", "sluicegate", "work", "--config", str(file), "--pool", "bif"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert 'no backend has the pool "bif"' in done.stderr


def test_work_started_by_hand_ends_with_a_failure_when_its_model_hangs(tmp_path: Path) -> None:
    file = tmp_path / "sluicegate.toml"
    file.write_text(CONFIG.format(data=tmp_path / "data"))
    settings = load_settings(file, environment={})
    job = asyncio.run(submit(settings))
    command = [sys.executable, "-c", HANGING, str(file)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode != 0
    assert "a model did not end in time" in done.stderr
    assert asyncio.run(state(settings, job)) == "scheduled"


def test_a_process_whose_event_loop_is_blocked_for_ever_ends_and_its_job_is_free_for_others(tmp_path: Path) -> None:
    file = tmp_path / "sluicegate.toml"
    file.write_text(CONFIG.format(data=tmp_path / "data") + "lease_seconds = 1\n")
    settings = load_settings(file, environment={})
    job = asyncio.run(submit(settings))
    command = [sys.executable, "-c", BLOCKING, str(file)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1
    assert "neither ends nor stops" in done.stderr
    eventually(lambda: asyncio.run(requeued(settings, job)), lambda it: it == "queued")


async def requeued(settings: Settings, job: JobId) -> str:
    """The job's state after a caretaker's round."""
    store = build_store(settings)
    await store.open()
    try:
        await store.recover()
        return (await store.get(Tenant("local"), job)).state
    finally:
        await store.close()


async def submit(settings: Settings, *, pool: str = "default") -> JobId:
    store = build_store(settings)
    await store.open()
    try:
        assets = build_assets(settings, store, build_blobs(settings))
        image = await assets.record(Tenant("local"), Picture(picture(32, 32), "image/png", 32, 32))
        job = new_job_id()
        await store.submit(
            NewJob(
                id=job,
                tenant=Tenant("local"),
                pool=pool,
                model="style-transfer",
                task="stylize",
                input={"image": image.id},
            )
        )
        return job
    finally:
        await store.close()


async def state(settings: Settings, job: JobId) -> str:
    store = build_store(settings)
    await store.open()
    try:
        return (await store.get(Tenant("local"), job)).state
    finally:
        await store.close()
