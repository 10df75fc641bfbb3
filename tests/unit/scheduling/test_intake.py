"""Intake: a durable job or a refusal that names every fault."""

import base64
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest
from tests.gateway import picture
from tests.unit.scheduling.conftest import CALLER, TENANT, Floor

from sluicegate.errors import IdempotencyMismatch, ImageRejected, InvalidInput, StoreUnavailable
from sluicegate.scheduling.intake import JobRequest, digest

Play = Callable[[Callable[[Floor], Awaitable[None]]], None]


def request(**fields: Any) -> JobRequest:
    return msgspec.convert(fields, JobRequest)


def stored(floor: Floor) -> int:
    root = floor.folder / "assets"
    return sum(1 for path in root.rglob("*") if path.is_file() and path.name != ".lock")


def test_a_job_names_its_pictures_by_asset_whatever_form_they_came_in(on_floor: Play) -> None:
    async def scenario(floor: Floor) -> None:
        plain = base64.b64encode(picture(20, 20)).decode()
        for image in (plain, f"data:image/png;base64,{plain}", await floor.upload()):
            submission = await floor.intake.submit(CALLER, request(model="painter", input={"image": image}))
            found = await floor.store.asset(TENANT, submission.job.input["image"])
            assert found.content_type == "image/png"

    on_floor(scenario)


def test_the_task_may_be_left_out_and_so_may_the_model(on_floor: Play) -> None:
    async def scenario(floor: Floor) -> None:
        image = await floor.upload()
        by_model = await floor.intake.submit(CALLER, request(model="painter", input={"image": image}))
        assert by_model.job.task == "stylize"
        by_task = await floor.intake.submit(CALLER, request(task="upscale", input={"image": image, "scale": 4}))
        assert by_task.job.model == "x4"
        by_task = await floor.intake.submit(CALLER, request(task="upscale", input={"image": image}))
        assert by_task.job.model == "x2"

    on_floor(scenario)


def test_a_picture_over_the_models_limit_is_refused_with_the_limit(on_floor: Play) -> None:
    async def scenario(floor: Floor) -> None:
        big = base64.b64encode(picture(200, 100)).decode()
        with pytest.raises(ImageRejected, match="200x100 pixels are more than painter takes"):
            await floor.intake.submit(CALLER, request(model="painter", input={"image": big}))
        assert stored(floor) == 0

    on_floor(scenario)


def test_when_one_of_two_pictures_is_bad_none_is_kept(on_floor: Play) -> None:
    async def scenario(floor: Floor) -> None:
        good = base64.b64encode(picture(20, 20)).decode()
        bad = base64.b64encode(b"no picture").decode()
        with pytest.raises(ImageRejected) as caught:
            await floor.intake.submit(CALLER, request(model="painter", input={"image": good, "style_image": bad}))
        assert [fault.path for fault in caught.value.faults] == ["input.style_image"]
        assert stored(floor) == 0

    on_floor(scenario)


def test_another_tenants_picture_is_unknown(on_floor: Play) -> None:
    async def scenario(floor: Floor) -> None:
        theirs = await floor.upload(tenant=msgspec.convert("other", str))  # type: ignore[arg-type]
        with pytest.raises(ImageRejected, match="no asset"):
            await floor.intake.submit(CALLER, request(model="painter", input={"image": theirs}))

    on_floor(scenario)


def test_a_replay_keeps_no_second_copy_of_its_picture_and_a_mismatch_neither(on_floor: Play) -> None:
    async def scenario(floor: Floor) -> None:
        image = base64.b64encode(picture(20, 20)).decode()
        order = request(model="painter", input={"image": image})
        first = await floor.intake.submit(CALLER, order, "key")
        again = await floor.intake.submit(CALLER, order, "key")
        assert again.replayed
        assert again.job.id == first.job.id
        with pytest.raises(IdempotencyMismatch):
            await floor.intake.submit(CALLER, request(model="painter", input={"image": image, "style": 3}), "key")
        digests = [asset async for asset in _digests(floor)]
        assert len(digests) == 1

    on_floor(scenario)


def test_the_digest_ignores_the_order_of_fields_and_nothing_else() -> None:
    one = request(model="painter", input={"a": 1, "b": [1, 2]})
    same = request(input={"b": [1, 2], "a": 1}, model="painter")
    other = request(model="painter", input={"a": 1, "b": [2, 1]})
    assert digest(one) == digest(same) != digest(other)


def test_a_store_that_is_away_is_told_and_no_job_is_promised(on_floor: Play) -> None:
    async def scenario(floor: Floor) -> None:
        image = await floor.upload()
        await floor.store.close()
        with pytest.raises(StoreUnavailable):
            await floor.intake.submit(CALLER, request(model="painter", input={"image": image}))

    on_floor(scenario)


def test_two_styles_at_once_are_refused(on_floor: Play) -> None:
    async def scenario(floor: Floor) -> None:
        image = await floor.upload()
        order = request(model="painter", input={"image": image, "style": 3, "style_image": image})
        with pytest.raises(InvalidInput, match="send one of the two"):
            await floor.intake.submit(CALLER, order)

    on_floor(scenario)


async def _digests(floor: Floor) -> Any:
    for digest_ in await floor.store.referenced(list(await floor.blobs.aged(-1))):
        yield digest_
