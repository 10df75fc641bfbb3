"""Sprout through the real gateway: pictures from words, previews, recipes, and what the job tells."""

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.gateway import RunningGateway, open_picture, picture, running_gateway


def draw(gateway: RunningGateway, **wanted: Any) -> dict[str, Any]:
    job = gateway.submit({"model": "sprout", "input": {"prompt": "a red apple", **wanted}}, prefer="wait=60")
    assert job["status"] == "succeeded", job
    return job


def output(gateway: RunningGateway, job: dict[str, Any], index: int = 0) -> bytes:
    return gateway.get(f"/v1/assets/{job['outputs'][index]['id']}").content


def test_words_become_a_picture_on_a_transparent_ground(gateway: RunningGateway) -> None:
    job = draw(gateway)
    image = open_picture(output(gateway, job))
    assert (image.size, image.mode) == ((128, 128), "RGBA")
    assert job["unknown_words"] == []
    assert job["task"] == "text-to-image"


def test_the_jobs_record_makes_the_same_bytes_again(gateway: RunningGateway) -> None:
    first = draw(gateway, n=2)
    assert first["input"]["seed"] == first["recipe"]["seeds"][0]
    again = gateway.submit({"model": first["model"], "task": first["task"], "input": first["input"]}, prefer="wait=60")
    assert [o["sha256"] for o in again["outputs"]] == [o["sha256"] for o in first["outputs"]]


def test_a_picture_of_a_batch_is_the_one_drawn_alone(gateway: RunningGateway) -> None:
    batch = draw(gateway, n=3, seed=40)
    for index in range(3):
        alone = np.asarray(open_picture(output(gateway, draw(gateway, seed=40 + index))), np.int16)
        together = np.asarray(open_picture(output(gateway, batch, index)), np.int16)
        assert np.abs(alone - together).max() <= 1


def test_previews_are_events_in_order_and_pictures(gateway: RunningGateway) -> None:
    job = draw(gateway, previews=3, steps=12)
    text = gateway.get(f"/v1/jobs/{job['id']}/events").text
    blocks = [dict(line.partition(": ")[::2] for line in block.splitlines()) for block in text.strip().split("\n\n")]
    previews = [json.loads(block["data"]) for block in blocks if block.get("event") == "job.preview"]
    assert [preview["index"] for preview in previews] == [0, 1, 2]
    assert [preview["step"] for preview in previews] == [3, 6, 9]
    for preview in previews:
        head, _, data = preview["image"].partition(",")
        assert head == "data:image/webp;base64"
        assert open_picture(base64.b64decode(data)).size == (128, 128)
    assert [int(block["id"]) for block in blocks if "id" in block] == list(range(1, 7))


def test_no_previews_are_made_when_none_are_wanted(gateway: RunningGateway) -> None:
    job = draw(gateway, previews=0)
    assert "job.preview" not in gateway.get(f"/v1/jobs/{job['id']}/events").text


def test_words_that_were_never_learnt_are_told(gateway: RunningGateway) -> None:
    job = draw(gateway, prompt="zorgle apple florb")
    assert job["unknown_words"] == ["zorgle", "florb"]
    assert len(job["outputs"]) == 1


@pytest.mark.parametrize(("side", "stage"), [(256, "2 times"), (512, "4 times")])
def test_larger_sizes_are_a_second_stage_that_is_told(gateway: RunningGateway, side: int, stage: str) -> None:
    job = draw(gateway, width=side, height=side)
    assert open_picture(output(gateway, job)).size == (side, side)
    assert stage in job["degraded"][0]


@pytest.mark.parametrize("form", ["png", "webp", "jpeg"])
def test_every_format_is_made(gateway: RunningGateway, form: str) -> None:
    job = draw(gateway, format=form)
    assert job["outputs"][0]["content_type"] == f"image/{form}"
    assert open_picture(output(gateway, job)).format == form.upper()


def test_strength_0_keeps_the_picture_and_1_forgets_it(gateway: RunningGateway) -> None:
    one, two = gateway.upload(picture(128, 128, seed=1)), gateway.upload(picture(128, 128, seed=2))

    def change(image: str, strength: float) -> bytes:
        wanted = {"image": image, "prompt": "a red apple", "strength": strength, "seed": 7}
        job = gateway.submit({"model": "sprout", "task": "image-to-image", "input": wanted}, prefer="wait=60")
        return output(gateway, job)

    kept = open_picture(change(one, 0)).convert("RGB")
    assert kept.tobytes() == open_picture(picture(128, 128, seed=1)).tobytes()
    assert change(one, 1) == change(two, 1)
    assert change(one, 0.5) != change(two, 0.5)


@pytest.mark.parametrize(
    ("wanted", "field"),
    [
        ({"prompt": ""}, "input.prompt"),
        ({"prompt": "  "}, "input.prompt"),
        ({"prompt": "x" * 32_001}, "input.prompt"),
        ({"steps": 3}, "input.steps"),
        ({"steps": 51}, "input.steps"),
        ({"width": 100}, "input.width"),
        ({"width": 256, "height": 512}, "input.width"),
        ({"n": 11}, "input.n"),
        ({"previews": 4}, "input.previews"),
        ({"seed": -1}, "input.seed"),
    ],
)
def test_what_cannot_be_drawn_is_refused_at_the_door(
    gateway: RunningGateway, wanted: dict[str, Any], field: str
) -> None:
    answer = gateway.post("/v1/jobs", json={"model": "sprout", "input": {"prompt": "a cat", **wanted}})
    assert answer.status_code == 422
    assert field in [fault["field"] for fault in answer.json()["errors"]]


def test_a_png_says_how_it_was_made_and_the_prompt_only_when_allowed(gateway: RunningGateway, tmp_path: Path) -> None:
    made = json.loads(open_picture(output(gateway, draw(gateway, seed=3))).info["Comment"])
    assert {"model": "sprout", "seed": 3, "steps": 20}.items() <= made.items()
    assert "prompt" not in made
    config = "[results]\nprompts_in_pictures = true\n[[backends]]\nname = 'local-image'\nkind = 'local-image'\n"
    with running_gateway(tmp_path, config) as open_hearted:
        open_hearted.wait_ready()
        told = json.loads(open_picture(output(open_hearted, draw(open_hearted, seed=3))).info["Comment"])
    assert told["prompt"] == "a red apple"
