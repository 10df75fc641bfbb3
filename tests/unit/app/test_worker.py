"""A worker process whose model hangs ends, whoever started it."""

import asyncio
import subprocess
import sys
from pathlib import Path

from tests.gateway import picture

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
CONFIG = """
data_dir = "{data}"
[worker]
job_timeout_seconds = 0.5
max_attempts = 3
"""


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


async def submit(settings: Settings) -> JobId:
    store = build_store(settings)
    await store.open()
    try:
        assets = build_assets(settings, store, build_blobs(settings))
        image = await assets.record(Tenant("local"), Picture(picture(32, 32), "image/png", 32, 32))
        job = new_job_id()
        await store.submit(
            NewJob(id=job, tenant=Tenant("local"), model="style-transfer", task="stylize", input={"image": image.id})
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
