"""Pools that were renamed while jobs waited in them: a worker may serve them by name, and the gateway tells of them."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest
from tests.gateway import eventually, picture, running_gateway

from sluicegate.app.parts import build_assets, build_blobs, open_store
from sluicegate.app.pools import refuse_unknown_pools, with_models_for_former_pools
from sluicegate.domain.asset import Picture
from sluicegate.domain.ids import JobId, Tenant, new_job_id
from sluicegate.domain.job import NewJob
from sluicegate.errors import InvalidSettings
from sluicegate.settings import BackendSettings, Settings, WorkerSettings, load_settings

CONFIG = """
data_dir = "{data}"
[[backends]]
name = "small"
kind = "local-image"
models = ["realesrgan-x2"]
[[backends]]
name = "large"
kind = "local-image"
models = ["style-transfer"]
pool = "big"
[worker]
processes = 0
"""
BACKENDS = (
    BackendSettings(name="small", kind="local-image", models=("sprout",)),
    BackendSettings(name="large", kind="local-image", models=("style-transfer",), pool="big"),
    BackendSettings(name="chat", kind="local-llm"),
)


def configured(folder: Path) -> tuple[Path, Settings]:
    file = folder / "sluicegate.toml"
    file.write_text(CONFIG.format(data=folder / "data"))
    return file, load_settings(file, environment={})


async def submit(settings: Settings, pool: str) -> JobId:
    """A job as it was left by settings in which the pool still had a backend."""
    async with open_store(settings) as store:
        assets = build_assets(settings, store, build_blobs(settings))
        image = await assets.record(Tenant("local"), Picture(picture(32, 32), "image/png", 32, 32))
        new = NewJob(
            id=new_job_id(),
            tenant=Tenant("local"),
            pool=pool,
            model="style-transfer",
            task="stylize",
            input={"image": image.id},
        )
        await store.submit(new)
        return new.id


async def state(settings: Settings, job: JobId) -> str:
    async with open_store(settings) as store:
        return (await store.get(Tenant("local"), job)).state


def test_a_worker_told_to_does_the_jobs_that_were_left_in_a_pool_without_a_backend(tmp_path: Path) -> None:
    file, settings = configured(tmp_path)
    left = asyncio.run(submit(settings, "old"))
    command = [sys.executable, "-m", "sluicegate", "work", "--config", str(file), "--pool", "old", "--pool", "default"]
    log = tmp_path / "work.log"
    with log.open("wb") as kept, subprocess.Popen(command, cwd=tmp_path, stderr=kept) as worker:
        try:
            eventually(lambda: asyncio.run(state(settings, left)), lambda it: it == "succeeded")
            with running_gateway(tmp_path, file.read_text()) as gateway:
                told = {backend["name"]: backend["state"] for backend in gateway.get("/health").json()["backends"]}
        finally:
            worker.terminate()
            worker.wait(60)
    assert worker.returncode == 0, log.read_text()
    assert told == {"small": "up", "large": "down"}


def test_the_gateway_tells_at_its_start_where_jobs_wait_that_no_worker_serves(tmp_path: Path) -> None:
    config = CONFIG.format(data=tmp_path / "data") + "pools = ['default', 'big', 'bgi']\n"
    _, settings = configured(tmp_path)
    asyncio.run(submit(settings, "old"))
    waits = asyncio.run(submit(settings, "big"))
    with running_gateway(tmp_path, config) as gateway:
        told = [json.loads(line) for line in gateway.log().splitlines() if '"sluicegate.pools"' in line]
        assert gateway.get(f"/v1/jobs/{waits}").json()["waiting_for"].endswith("sluicegate work --pool big")
    (left, unknown) = told
    assert (left["level"], left["pool"], left["jobs"]) == ("warning", "old", 1)
    assert left["mend"] == "sluicegate work --pool old"
    assert (unknown["level"], unknown["pool"], unknown["mend"]) == ("warning", "bgi", 'did you mean "big"?')


def test_a_pool_of_no_backend_is_refused_unless_a_job_is_in_it(tmp_path: Path) -> None:
    def served(*pools: str, backends: tuple[BackendSettings, ...] = BACKENDS) -> Settings:
        return Settings(data_dir=str(tmp_path / "data"), backends=backends, worker=WorkerSettings(pools=pools))

    async def scenario() -> None:
        await refuse_unknown_pools(served("default", "big"))
        await submit(served(), "old")
        await refuse_unknown_pools(served("old", "default"))
        with pytest.raises(InvalidSettings, match=r'no backend has the pool "odl".*did you mean "old"'):
            await refuse_unknown_pools(served("old", "odl"))
        with pytest.raises(InvalidSettings, match='"old" would have no models'):
            await refuse_unknown_pools(served("old", backends=BACKENDS[2:]))

    asyncio.run(scenario())


def test_models_of_other_pools_are_lent_only_to_a_pool_that_no_backend_has() -> None:
    def pools(*served: str) -> list[str]:
        settings = Settings(backends=BACKENDS, worker=WorkerSettings(pools=served))
        return [backend.pool for backend in with_models_for_former_pools(settings).backends]

    assert pools() == ["default", "big", "default"]
    assert pools("big") == ["default", "big", "default"]
    assert pools("old") == ["old", "old", "default"]
    assert pools("big", "old") == ["old", "big", "default"]
