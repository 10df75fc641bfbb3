"""The official OpenAI client makes and changes pictures, unchanged."""

import asyncio
import base64
from collections.abc import Iterator
from typing import Literal

import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from openai.types import Image as ImageData
from openai.types import ImageGenCompletedEvent, ImageGenPartialImageEvent
from tests.gateway import RunningGateway, open_picture, picture

MODEL = "sprout"
STEPS = {"steps": 4, "seed": 7}
"""As few as the model takes, always the same: what is tested is the way, not the art."""
FORMS: list[Literal["png", "webp", "jpeg"]] = ["png", "webp", "jpeg"]


@pytest.fixture
def client(gateway: RunningGateway) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{gateway.url}/v1", api_key="anything", max_retries=0) as made:
        yield made


def only(data: list[ImageData] | None) -> ImageData:
    """The one picture of an answer."""
    assert data is not None
    assert len(data) == 1
    return data[0]


def inline(b64_json: str | None) -> bytes:
    """The bytes of a picture that came inside the answer."""
    assert b64_json is not None
    return base64.b64decode(b64_json, validate=True)


def test_a_picture_is_made_from_words_and_fetched_by_its_url(gateway: RunningGateway, client: OpenAI) -> None:
    answer = client.images.generate(model=MODEL, prompt="a red apple", extra_body=STEPS)
    made = only(answer.data)
    assert made.url is not None
    assert made.b64_json is None
    fetched = gateway.get(made.url.removeprefix(gateway.url))
    image = open_picture(fetched.content)
    assert image.format == "PNG"
    assert f"{image.width}x{image.height}" == answer.size == "128x128"
    assert answer.output_format == "png"
    assert answer.created > 1_600_000_000


def test_the_answer_says_which_job_made_it_and_with_which_seed(gateway: RunningGateway, client: OpenAI) -> None:
    answer = client.images.generate(model=MODEL, prompt="a red apple of flurbish", extra_body={"steps": 4})
    remarks = answer.to_dict()["sluicegate"]
    assert isinstance(remarks, dict)
    job = gateway.get(f"/v1/jobs/{remarks['job']}").json()
    assert job["status"] == "succeeded"
    assert job["input"]["seed"] == remarks["seed"]
    assert remarks["unknown_words"] == ["flurbish"]
    again = client.images.generate(
        model=MODEL,
        prompt="a red apple of flurbish",
        response_format="b64_json",
        extra_body={"steps": 4, "seed": remarks["seed"]},
    )
    url = only(answer.data).url
    assert url is not None
    assert inline(only(again.data).b64_json) == gateway.get(url.removeprefix(gateway.url)).content


@pytest.mark.parametrize("form", FORMS)
def test_a_picture_comes_inside_the_answer_in_the_format_asked_for(
    client: OpenAI, form: Literal["png", "webp", "jpeg"]
) -> None:
    answer = client.images.generate(
        model=MODEL, prompt="a red apple", response_format="b64_json", output_format=form, extra_body=STEPS
    )
    made = only(answer.data)
    assert made.url is None
    assert open_picture(inline(made.b64_json)).format == form.upper()
    assert answer.output_format == form


def test_several_pictures_differ(client: OpenAI) -> None:
    answer = client.images.generate(
        model=MODEL, prompt="a red apple", n=2, response_format="b64_json", extra_body=STEPS
    )
    assert answer.data is not None
    first, second = (inline(made.b64_json) for made in answer.data)
    assert first != second


def test_the_size_asked_for_is_made_and_how_is_said(client: OpenAI) -> None:
    answer = client.images.generate(
        model=MODEL, prompt="a red apple", size="256x256", response_format="b64_json", extra_body=STEPS
    )
    assert open_picture(inline(only(answer.data).b64_json)).size == (256, 256)
    assert answer.size == "256x256"
    remarks = answer.to_dict()["sluicegate"]
    assert isinstance(remarks, dict)
    assert remarks["degraded"]


def test_without_a_model_the_first_that_draws_is_taken_and_unknown_fields_do_no_harm(client: OpenAI) -> None:
    answer = client.images.generate(
        prompt="a red apple",
        size="auto",
        quality="hd",
        background="auto",
        style="vivid",
        user="someone",
        moderation="low",
        output_compression=80,
        extra_body={**STEPS, "of_tomorrow": {"a": 1}, "negative_prompt": "green", "guidance": 4.5},
    )
    assert answer.to_dict()["sluicegate"]["model"] == MODEL  # type: ignore[index]


def test_a_stream_shows_previews_in_order_before_each_picture(client: OpenAI) -> None:
    stream = client.images.generate(
        model=MODEL,
        prompt="a red apple",
        n=2,
        stream=True,
        partial_images=2,
        output_format="png",
        extra_body={"steps": 20, "seed": 7},
    )
    told = list(stream)
    partial = [event for event in told if isinstance(event, ImageGenPartialImageEvent)]
    completed = [event for event in told if isinstance(event, ImageGenCompletedEvent)]
    assert told == [*partial, *completed]
    assert {event.type for event in partial} == {"image_generation.partial_image"}
    assert [event.partial_image_index for event in partial] == [0, 1]
    for event in told:
        image = open_picture(inline(event.b64_json))
        assert image.size == (128, 128)
        assert image.format == event.output_format.upper()
    assert [event.type for event in completed] == ["image_generation.completed"] * 2
    assert [event.usage.total_tokens for event in completed] == [0, 0]
    assert {event.size for event in completed} == {"128x128"}
    assert {event.output_format for event in completed} == {"png"}
    assert len({event.b64_json for event in told}) == 4


def test_a_stream_without_previews_holds_only_the_picture(client: OpenAI) -> None:
    told = list(client.images.generate(model=MODEL, prompt="a red apple", stream=True, extra_body=STEPS))
    assert [event.type for event in told] == ["image_generation.completed"]


def test_a_picture_is_changed_by_words(client: OpenAI) -> None:
    given = picture(128, 128)

    def edited(strength: float) -> bytes:
        answer = client.images.edit(
            model=MODEL,
            image=("in.png", given, "image/png"),
            prompt="a green apple",
            response_format="b64_json",
            output_format="webp",
            extra_body={**STEPS, "strength": strength},
        )
        assert answer.output_format == "webp"
        return inline(only(answer.data).b64_json)

    slightly, wholly = edited(0.1), edited(1.0)
    assert open_picture(slightly).size == open_picture(wholly).size == (128, 128)
    assert slightly != wholly


def test_a_list_of_one_picture_is_taken_and_a_list_of_two_is_refused(client: OpenAI) -> None:
    given = ("in.png", picture(), "image/png")
    answer = client.images.edit(model=MODEL, image=[given], prompt="a green apple", n=2, extra_body=STEPS)
    assert answer.data is not None
    assert len(answer.data) == 2
    with pytest.raises(openai.BadRequestError) as caught:
        client.images.edit(model=MODEL, image=[given, given], prompt="a green apple")
    assert caught.value.param == "image"
    assert "2 pictures" in caught.value.message


def test_an_edit_streams_its_previews(client: OpenAI) -> None:
    stream = client.images.edit(
        model=MODEL,
        image=("in.png", picture(128, 128), "image/png"),
        prompt="a green apple",
        stream=True,
        partial_images=1,
        extra_body={"steps": 20, "seed": 7, "strength": 0.9},
    )
    told = list(stream)
    assert [event.type for event in told] == ["image_edit.partial_image", "image_edit.completed"]
    assert all(open_picture(inline(event.b64_json)).size == (128, 128) for event in told)


def test_a_mask_is_refused_with_a_clear_word(client: OpenAI) -> None:
    given = ("in.png", picture(), "image/png")
    with pytest.raises(openai.BadRequestError) as caught:
        client.images.edit(model=MODEL, image=given, mask=given, prompt="a green apple")
    assert caught.value.param == "mask"
    assert "not supported yet" in caught.value.message


def test_an_unknown_model_is_a_not_found_error_that_suggests_one(client: OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        client.images.generate(model="sprouts", prompt="a red apple")
    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")
    assert 'did you mean "sprout"?' in caught.value.message


def test_a_model_that_cannot_draw_from_words_is_a_bad_request_that_names_those_that_can(client: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.images.generate(model="realesrgan-x2", prompt="a red apple")
    assert caught.value.param == "model"
    assert MODEL in caught.value.message


@pytest.mark.parametrize("prompt", ["", " \n\t", "a" * 32_001])
def test_a_prompt_that_says_nothing_or_too_much_is_a_bad_request(client: OpenAI, prompt: str) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.images.generate(model=MODEL, prompt=prompt)
    assert caught.value.param == "prompt"
    with pytest.raises(openai.BadRequestError) as caught:
        client.images.edit(model=MODEL, image=("in.png", picture(), "image/png"), prompt=prompt)
    assert caught.value.param == "prompt"


@pytest.mark.parametrize(
    "size", ["1x1", "256", "256x", "-1x5", "big", "99999x99999", "200x100", "300x300", "8000x8000"]
)
def test_a_size_that_cannot_be_made_is_a_bad_request(client: OpenAI, size: str) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.images.generate(model=MODEL, prompt="a red apple", size=size)
    assert caught.value.param == "size"


@pytest.mark.parametrize(
    ("field", "value"),
    [("n", 0), ("n", 11), ("partial_images", 4), ("steps", 1000), ("seed", -1), ("guidance", 99.0), ("strength", 1.5)],
)
def test_a_number_out_of_bounds_is_a_bad_request_that_names_it(client: OpenAI, field: str, value: float) -> None:
    body = {"stream": True, field: value}
    if field != "strength":
        with pytest.raises(openai.BadRequestError) as caught:
            client.images.generate(model=MODEL, prompt="a red apple", extra_body=body)
        assert caught.value.param == field
    given = ("in.png", picture(), "image/png")
    with pytest.raises(openai.BadRequestError) as caught:
        client.images.edit(model=MODEL, image=given, prompt="a green apple", extra_body=body)
    assert caught.value.param == field


def test_the_async_client_makes_many_pictures_at_once(gateway: RunningGateway) -> None:
    async def scenario() -> list[bytes]:
        async with AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key="anything", max_retries=0) as client:
            calls = [
                client.images.generate(
                    model=MODEL, prompt="a red apple", response_format="b64_json", extra_body={"steps": 4, "seed": seed}
                )
                for seed in range(4)
            ]
            return [inline(only(answer.data).b64_json) for answer in await asyncio.gather(*calls)]

    made = asyncio.run(scenario())
    assert len(set(made)) == 4
    assert all(open_picture(data).size == (128, 128) for data in made)


def test_the_async_client_streams_generations_and_edits(gateway: RunningGateway) -> None:
    async def scenario() -> list[str]:
        async with AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key="anything", max_retries=0) as client:
            drawn = await client.images.generate(
                model=MODEL, prompt="a red apple", stream=True, partial_images=1, extra_body={"steps": 12}
            )
            types = [event.type async for event in drawn]
            changed = await client.images.edit(
                model=MODEL, image=("in.png", picture(), "image/png"), prompt="a cat", stream=True, extra_body=STEPS
            )
            return [*types, *[event.type async for event in changed]]

    assert asyncio.run(scenario()) == [
        "image_generation.partial_image",
        "image_generation.completed",
        "image_edit.completed",
    ]
