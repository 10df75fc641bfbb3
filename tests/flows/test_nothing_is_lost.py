"""Sixty jobs, a gateway killed twice, workers killed five times: every job ends once, every picture opens."""

import os
import random
import signal
import sqlite3
from pathlib import Path

import httpx
from tests.gateway import RunningGateway, eventually, open_picture, picture, running_gateway

JOBS = 60
SEED = 20261122
CONFIG = """
[[backends]]
name = "local-image"
kind = "local-image"
[worker]
processes = 2
lease_seconds = 3
heartbeat_seconds = 1
max_attempts = 10
[server]
drain_seconds = 5
"""


def test_no_job_is_lost_or_done_twice_when_gateway_and_workers_are_killed(tmp_path: Path) -> None:
    rng = random.Random(SEED)
    with running_gateway(tmp_path, CONFIG) as gateway:
        gateway.wait_ready()
        assets = [gateway.upload(picture(seed=number)) for number in range(4)]
        kills = {"gateway": sorted(rng.sample(range(10, JOBS), 2)), "worker": sorted(rng.sample(range(5, JOBS), 5))}
        jobs: dict[str, str] = {}
        for number in range(JOBS):
            submit_until_told(gateway, f"key-{number}", body(rng, assets), jobs)
            if number in kills["worker"]:
                kill_a_worker(gateway, rng)
            if number in kills["gateway"]:
                gateway.kill()
                gateway.start()
        ended = {job: gateway.finished(job) for job in jobs.values()}
        assert len(ended) == JOBS
        assert {job["status"] for job in ended.values()} == {"succeeded"}
        for job in ended.values():
            assert len(job["outputs"]) == 1
            output = job["outputs"][0]
            image = open_picture(gateway.get(f"/v1/assets/{output['id']}").content)
            assert image.size == (output["width"], output["height"])
        assert gateway.stop() == 0
    assert_recorded_once(gateway.data_dir / "sluicegate.db", set(jobs.values()))


def body(rng: random.Random, assets: list[str]) -> dict[str, object]:
    image = rng.choice(assets)
    if rng.random() < 0.3:
        return {"model": "realesrgan-x2", "input": {"image": image}}
    return {"task": "stylize", "input": {"image": image, "style": rng.randrange(26)}}


def submit_until_told(gateway: RunningGateway, key: str, body: dict[str, object], jobs: dict[str, str]) -> None:
    """As a careful caller does: the same key again until an answer comes."""

    def attempt() -> bool:
        try:
            answer = gateway.post("/v1/jobs", json=body, headers={"idempotency-key": key})
        except httpx.TransportError:
            return False
        if answer.status_code != 202:
            assert answer.status_code == 503, answer.text
            return False
        jobs[key] = answer.json()["id"]
        return True

    eventually(attempt, bool)


def kill_a_worker(gateway: RunningGateway, rng: random.Random) -> None:
    pids = eventually(gateway.worker_pids, bool)
    os.kill(rng.choice(pids), signal.SIGKILL)


def assert_recorded_once(database: Path, jobs: set[str]) -> None:
    """In the store itself: one success, one terminal event, no gap in the events, one asset for each output."""
    with sqlite3.connect(database) as connection:
        states = dict(connection.execute("SELECT id, state FROM job").fetchall())
        assert set(states) == jobs
        assert set(states.values()) == {"succeeded"}
        for job in jobs:
            kinds = connection.execute("SELECT seq, kind FROM job_event WHERE job = ? ORDER BY seq", (job,)).fetchall()
            assert [seq for seq, _ in kinds] == list(range(1, len(kinds) + 1))
            assert [kind for _, kind in kinds].count("job.succeeded") == 1
            assert kinds[-1][1] == "job.succeeded"
            successes = connection.execute(
                "SELECT count(*) FROM attempt WHERE job = ? AND outcome = 'succeeded'", (job,)
            ).fetchone()
            assert successes == (1,)
    connection.close()
