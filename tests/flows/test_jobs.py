"""Picture jobs through the real gateway, workers and models."""

import base64
import json
import threading
from typing import Any

import httpx
import pytest
from tests.gateway import RunningGateway, eventually, open_picture, picture


def events_of(gateway: RunningGateway, job: str, **headers: str) -> list[dict[str, Any]]:
    """The events of a job up to its end: id, event and decoded data."""
    answer = gateway.get(f"/v1/jobs/{job}/events", headers=headers)
    assert answer.headers["content-type"].startswith("text/event-stream")
    told = []
    for block in answer.text.split("\n\n"):
        fields = dict(line.partition(": ")[::2] for line in block.splitlines() if not line.startswith(":"))
        if fields:
            told.append({**fields, "data": json.loads(fields["data"])})
    return told


@pytest.mark.parametrize(
    ("body", "size"),
    [
        ({"model": "style-transfer", "task": "stylize", "input": {"style": 3}}, (64, 48)),
        ({"model": "style-transfer", "task": "stylize", "input": {"style": "3:0.5,12:0.5", "strength": 0.7}}, (64, 48)),
        ({"model": "style-transfer", "task": "image-to-image", "input": {"seed": 5, "prompt": "a river"}}, (64, 48)),
        ({"model": "realesrgan-x2", "input": {}}, (128, 96)),
        ({"model": "realesrgan-x4", "task": "upscale", "input": {"scale": 4}}, (256, 192)),
        ({"task": "upscale", "input": {"scale": 2}}, (128, 96)),
    ],
)
def test_every_task_makes_a_picture(
    gateway: RunningGateway, asset: str, body: dict[str, Any], size: tuple[int, int]
) -> None:
    body = {**body, "input": {**body["input"], "image": asset}}
    job = gateway.submit(body, prefer="wait=60")
    assert job["status"] == "succeeded", job
    (output,) = job["outputs"]
    image = open_picture(gateway.get(f"/v1/assets/{output['id']}").content)
    assert image.size == size == (output["width"], output["height"])
    assert job["metrics"]["attempts"] == 1
    assert job["metrics"]["backend"] == "local-image"


def test_an_image_may_come_inside_the_job(gateway: RunningGateway) -> None:
    plain = base64.b64encode(picture()).decode()
    for image in (plain, f"data:image/png;base64,{plain}"):
        job = gateway.submit({"task": "stylize", "input": {"image": image, "format": "webp"}}, prefer="wait=60")
        assert job["outputs"][0]["content_type"] == "image/webp"


def test_a_picture_can_be_painted_in_the_style_of_another(gateway: RunningGateway, asset: str) -> None:
    style = gateway.upload(picture(96, 96, seed=9))
    job = gateway.submit({"task": "stylize", "input": {"image": asset, "style_image": style}}, prefer="wait=60")
    assert job["status"] == "succeeded", job


def test_events_tell_the_whole_story_and_resume_without_gap_or_repeat(gateway: RunningGateway) -> None:
    image = gateway.upload(picture(300, 200))
    job = gateway.submit({"model": "realesrgan-x4", "input": {"image": image}})
    told = events_of(gateway, job["id"])
    durable = [event for event in told if "id" in event]
    assert [event["event"] for event in durable] == ["job.queued", "job.running", "job.succeeded"]
    assert [event["id"] for event in durable] == ["1", "2", "3"]
    values = [event["data"]["value"] for event in told if event["event"] == "job.progress"]
    assert values == sorted(values)
    assert all(0 <= value <= 1 for value in values)
    assert durable[-1]["data"]["outputs"][0]["url"].startswith(gateway.url)
    resumed = events_of(gateway, job["id"], **{"Last-Event-ID": "1"})
    assert [event["id"] for event in resumed] == ["2", "3"]
    assert events_of(gateway, job["id"], **{"Last-Event-ID": "3"}) == []


def test_a_repeat_with_the_same_key_is_the_same_job_and_another_body_is_refused(
    gateway: RunningGateway, asset: str
) -> None:
    body = {"task": "stylize", "input": {"image": asset, "style": 1}}
    headers = {"idempotency-key": "the-same-order"}
    first = gateway.post("/v1/jobs", json=body, headers=headers)
    again = gateway.post("/v1/jobs", json=dict(reversed(body.items())), headers=headers)
    other = gateway.post("/v1/jobs", json={**body, "priority": 5}, headers=headers)
    assert first.status_code == again.status_code == 202
    assert first.json()["id"] == again.json()["id"]
    assert again.headers["idempotency-replayed"] == "true"
    assert "idempotency-replayed" not in first.headers
    assert other.status_code == 422
    assert other.json()["code"] == "idempotency_mismatch"


def test_racing_repeats_make_one_job(gateway: RunningGateway, asset: str) -> None:
    told: list[str] = []

    def send() -> None:
        answer = gateway.post(
            "/v1/jobs", json={"task": "stylize", "input": {"image": asset}}, headers={"idempotency-key": "race"}
        )
        told.append(answer.json()["id"])

    threads = [threading.Thread(target=send) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(told) == 8
    assert len(set(told)) == 1


def test_a_queued_job_is_withdrawn_at_once_and_a_running_one_soon(gateway: RunningGateway) -> None:
    image = gateway.upload(picture(1000, 800))
    running = gateway.submit({"model": "realesrgan-x4", "input": {"image": image}})["id"]
    eventually(lambda: gateway.get(f"/v1/jobs/{running}").json()["status"], lambda status: status == "running")
    waiting = gateway.submit({"model": "realesrgan-x4", "input": {"image": image}})
    assert waiting["queue_position"] == 1
    assert gateway.delete(f"/v1/jobs/{waiting['id']}").json()["status"] == "canceled"
    assert gateway.post(f"/v1/jobs/{running}/cancel").json()["status"] == "canceling"
    ended = gateway.finished(running)
    assert ended["status"] == "canceled"
    assert ended["outputs"] == []
    kinds = [event["event"] for event in events_of(gateway, running) if "id" in event]
    assert kinds == ["job.queued", "job.running", "job.canceling", "job.canceled"]
    assert gateway.post(f"/v1/jobs/{running}/cancel").json()["status"] == "canceled"


def test_a_job_past_its_deadline_expires(gateway: RunningGateway) -> None:
    image = gateway.upload(picture(1000, 800))
    job = gateway.submit({"model": "realesrgan-x4", "input": {"image": image}, "deadline_seconds": 0.5})
    assert gateway.finished(job["id"])["status"] == "expired"


def test_wait_gives_up_after_its_time_and_says_what_it_applied(gateway: RunningGateway) -> None:
    image = gateway.upload(picture(1000, 800))
    body = {"model": "realesrgan-x4", "input": {"image": image}}
    answer = gateway.post("/v1/jobs", json=body, headers={"prefer": "respond-async, wait=0.2"})
    assert answer.status_code == 202
    assert answer.headers["preference-applied"] == "wait=0.2"
    assert answer.headers["location"] == answer.json()["urls"]["self"]
    gateway.post(f"/v1/jobs/{answer.json()['id']}/cancel")


def test_listing_goes_from_newest_to_oldest_page_by_page(gateway: RunningGateway, asset: str) -> None:
    made = [gateway.submit({"task": "stylize", "input": {"image": asset}})["id"] for _ in range(5)]
    seen: list[str] = []
    cursor = ""
    while len(seen) < 5:
        page = gateway.get(f"/v1/jobs?limit=2&model=style-transfer{cursor}").json()
        seen += [job["id"] for job in page["data"]]
        cursor = f"&cursor={page['next_cursor']}"
    assert seen[:5] == made[::-1]
    for job in made:
        gateway.finished(job)
    done = gateway.get("/v1/jobs?status=succeeded&limit=100").json()["data"]
    assert {job["status"] for job in done} == {"succeeded"}


def test_metadata_comes_back_as_it_was_sent(gateway: RunningGateway, asset: str) -> None:
    metadata = {"order": 7, "who": {"name": "Ünïcode ✓"}}
    job = gateway.submit({"task": "stylize", "input": {"image": asset}, "metadata": metadata})
    assert gateway.get(f"/v1/jobs/{job['id']}").json()["metadata"] == metadata


def test_assets_answer_ranges_etags_thumbnails_and_deletion(gateway: RunningGateway) -> None:
    data = picture(400, 300, seed=77)
    asset = gateway.upload(data)
    whole = gateway.get(f"/v1/assets/{asset}")
    assert whole.content == data
    assert "immutable" in whole.headers["cache-control"]
    assert whole.headers["x-content-type-options"] == "nosniff"
    part = gateway.get(f"/v1/assets/{asset}", headers={"range": "bytes=10-19"})
    assert (part.status_code, part.content) == (206, data[10:20])
    assert part.headers["content-range"] == f"bytes 10-19/{len(data)}"
    assert gateway.get(f"/v1/assets/{asset}", headers={"range": "bytes=-5"}).content == data[-5:]
    assert gateway.get(f"/v1/assets/{asset}", headers={"range": f"bytes={len(data)}-"}).status_code == 416
    same = gateway.get(f"/v1/assets/{asset}", headers={"if-none-match": whole.headers["etag"]})
    assert (same.status_code, same.content) == (304, b"")
    small = gateway.get(f"/v1/assets/{asset}/thumbnail?w=64&format=webp")
    assert small.headers["content-type"] == "image/webp"
    assert open_picture(small.content).size == (64, 48)
    head = httpx.head(f"{gateway.url}/v1/assets/{asset}", trust_env=False)
    assert (head.status_code, head.headers["content-length"], head.content) == (200, str(len(data)), b"")
    assert gateway.delete(f"/v1/assets/{asset}").status_code == 204
    assert gateway.get(f"/v1/assets/{asset}").status_code == 404
    assert gateway.delete(f"/v1/assets/{asset}").status_code == 404


def test_a_picture_that_a_waiting_job_needs_cannot_be_deleted(gateway: RunningGateway) -> None:
    image = gateway.upload(picture(1000, 800, seed=5))
    job = gateway.submit({"model": "realesrgan-x4", "input": {"image": image}})["id"]
    assert gateway.delete(f"/v1/assets/{image}").status_code == 409
    gateway.post(f"/v1/jobs/{job}/cancel")
    gateway.finished(job)
    assert gateway.delete(f"/v1/assets/{image}").status_code == 204


def test_a_job_and_the_deletion_of_its_picture_never_both_win(gateway: RunningGateway) -> None:
    for number in range(10):
        image = gateway.upload(picture(16, 16, seed=1000 + number))
        deleted: list[int] = []
        racer = threading.Thread(target=lambda: deleted.append(gateway.delete(f"/v1/assets/{image}").status_code))  # noqa: B023
        racer.start()
        answer = gateway.post("/v1/jobs", json={"task": "stylize", "input": {"image": image}})
        racer.join()
        if answer.status_code == 202:
            assert gateway.finished(answer.json()["id"])["status"] == "succeeded"
        else:
            assert (answer.status_code, deleted) == (422, [204])


def test_a_repeat_finds_its_job_after_the_picture_was_deleted(gateway: RunningGateway) -> None:
    image = gateway.upload(picture(16, 16, seed=2000))
    body = {"task": "stylize", "input": {"image": image}}
    job = gateway.submit(body, idempotency_key="after-deletion", prefer="wait=60")
    assert gateway.delete(f"/v1/assets/{image}").status_code == 204
    assert gateway.submit(body, idempotency_key="after-deletion")["id"] == job["id"]


def test_bytes_that_are_gone_are_not_found_rather_than_cut_short(gateway: RunningGateway) -> None:
    asset = gateway.upload(picture(16, 16, seed=3000))
    digest = gateway.get(f"/v1/assets/{asset}").headers["etag"].strip('"')
    (file,) = (gateway.data_dir / "assets").rglob(digest)
    file.unlink()
    assert gateway.get(f"/v1/assets/{asset}").status_code == 404


def test_a_form_upload_is_taken_as_well(gateway: RunningGateway) -> None:
    answer = gateway.post("/v1/assets", files={"file": ("in.png", picture(), "image/png")})
    assert answer.status_code == 201
    assert answer.headers["location"] == answer.json()["url"]


def test_models_load_once_and_stay(gateway: RunningGateway, asset: str) -> None:
    body = {"model": "realesrgan-x4", "input": {"image": asset}}
    first = gateway.submit(body, prefer="wait=60")
    second = gateway.submit(body, prefer="wait=60")
    assert first["outputs"][0]["sha256"] == second["outputs"][0]["sha256"]
    assert len(gateway.worker_pids()) == 1
