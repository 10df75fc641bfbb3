"""What a tier grants, and what the queue foretells, through a real gateway and its worker."""

import math
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest
from openai import OpenAI
from tests.gateway import RunningGateway, eventually, picture, running_gateway

CONFIG = """
[server]
local_tier = "small"

[tiers.small]
max_cost = 20
limits = { queued_jobs = 2 }

[[backends]]
name = "local-image"
kind = "local-image"
"""


@pytest.fixture
def busy(tmp_path: Any) -> Iterator[tuple[RunningGateway, str]]:
    """A gateway whose only worker runs a job of some 12 s, and the picture that it enlarges."""
    with running_gateway(tmp_path, CONFIG) as gateway:
        gateway.wait_ready()
        image = gateway.upload(picture(1000, 800))
        running = enlarge(gateway, image).json()["id"]
        eventually(lambda: gateway.get(f"/v1/jobs/{running}").json()["status"], lambda status: status == "running")
        yield gateway, image
        gateway.post(f"/v1/jobs/{running}/cancel")


def enlarge(gateway: RunningGateway, image: str, **more: Any) -> httpx.Response:
    return gateway.post("/v1/jobs", json={"model": "realesrgan-x4", "input": {"image": image}, **more})


def test_a_waiting_job_has_a_place_and_a_time_and_a_full_queue_says_when_to_come_back(
    busy: tuple[RunningGateway, str],
) -> None:
    gateway, image = busy
    second, third = [enlarge(gateway, image).json()["id"] for _ in range(2)]
    jobs = eventually(
        lambda: {job["id"]: job for job in gateway.get("/v1/jobs").json()["data"]},
        lambda jobs: (jobs[second]["eta_seconds"] or 0) > jobs[second]["metrics"]["cost"],
    )
    assert [jobs[job]["queue_position"] for job in (second, third)] == [1, 2]
    assert jobs[second]["metrics"]["cost"] == pytest.approx(12.2, abs=0.5)
    assert jobs[third]["eta_seconds"] > jobs[second]["eta_seconds"]
    (running,) = (job for job in jobs.values() if job["status"] == "running")
    assert running["queue_position"] is None
    assert jobs[second]["eta_seconds"] > running["eta_seconds"]

    full = enlarge(gateway, image)
    assert (full.status_code, full.json()["code"]) == (429, "queue_full")
    assert 1 <= int(full.headers["retry-after"]) <= math.ceil(running["eta_seconds"]) + 1
    with (
        OpenAI(base_url=f"{gateway.url}/v1", api_key="anything", max_retries=0) as client,
        pytest.raises(openai.RateLimitError) as caught,
    ):
        client.images.generate(prompt="a red apple")
    assert caught.value.code == "rate_limit_exceeded"
    assert int(caught.value.response.headers["retry-after"]) >= 1

    withdrawn = gateway.delete(f"/v1/jobs/{third}").json()
    assert (withdrawn["metrics"]["cost"], withdrawn["eta_seconds"], withdrawn["queue_position"]) == (0, None, None)


def test_a_job_that_would_be_too_late_or_too_dear_is_refused_at_the_door(busy: tuple[RunningGateway, str]) -> None:
    gateway, image = busy
    enlarge(gateway, image)
    before = len(gateway.get("/v1/jobs").json()["data"])
    late = enlarge(gateway, image, deadline_seconds=13)
    assert (late.status_code, late.json()["code"]) == (503, "deadline_unreachable"), late.text
    assert int(late.headers["retry-after"]) >= 1
    assert late.json()["expected_start_seconds"] > 1
    dear = enlarge(gateway, gateway.upload(picture(1400, 1100)))
    assert (dear.status_code, dear.json()["code"]) == (422, "invalid_input")
    assert "tier small grants 20" in dear.json()["detail"]
    assert len(gateway.get("/v1/jobs").json()["data"]) == before
    assert enlarge(gateway, image, deadline_seconds=600).status_code == 202
