"""Sprout as a backend's model."""

import asyncio
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.gateway import picture

from sluicegate.backends.backend import PictureRequest, PictureResult
from sluicegate.backends.local_image import LocalImage
from sluicegate.domain.generation import ImageToImage, Task, TextToImage
from sluicegate.domain.job import Progress
from sluicegate.errors import BackendRefused
from sluicegate.settings import BackendSettings

SETTINGS = BackendSettings(name="local-image", kind="local-image", models=("sprout",))


def run(asked: TextToImage | ImageToImage, image: bytes = b"") -> tuple[PictureResult, list[Progress]]:
    """The result and every report."""

    async def scenario() -> tuple[PictureResult, list[Progress]]:
        backend = LocalImage(SETTINGS)
        reports: list[Progress] = []
        task: Task = "image-to-image" if isinstance(asked, ImageToImage) else "text-to-image"
        images = {"image": image} if image else {}
        try:
            request = PictureRequest(model="sprout", task=task, input=asked, images=images)
            return await backend.run(request, reports.append), reports
        finally:
            await backend.close()

    return asyncio.run(scenario())


def pixels(data: bytes) -> Any:
    return np.asarray(Image.open(BytesIO(data)).convert("RGBA"), np.int16)


def test_guidance_and_what_is_unwanted_change_the_picture() -> None:
    plain, _ = run(TextToImage(prompt="a red apple", seed=1))
    unguided, _ = run(TextToImage(prompt="a red apple", seed=1, guidance=1.0))
    averse, _ = run(TextToImage(prompt="a red apple", seed=1, negative_prompt="apple"))
    assert len({result.pictures[0].data for result in (plain, unguided, averse)}) == 3


def test_progress_counts_every_step_and_tile_and_ends_at_1() -> None:
    result, reports = run(TextToImage(prompt="a cat", seed=1, steps=5, width=512, n=2, previews=2))
    assert [made.width for made in result.pictures] == [512, 512]
    values = [report.value for report in reports]
    assert values == sorted(values)
    assert values[-1] == 1.0
    shown = [report for report in reports if report.preview is not None]
    steps = [report.step or 0 for report in shown]
    assert steps == sorted(set(steps))
    assert len({report.preview for report in shown}) == len(shown) >= 2


def test_a_given_picture_keeps_its_proportions_in_the_square() -> None:
    result, _ = run(ImageToImage(image="asset", prompt="a cat", strength=0.0, seed=1), picture(256, 64, seed=4))
    drawn = pixels(result.pictures[0].data)
    assert drawn.shape == (128, 128, 4)
    assert drawn[:48, :, 3].max() == 0
    assert drawn[48:80, :, 3].min() == 255


def test_styles_by_number_are_not_sprouts() -> None:
    with pytest.raises(BackendRefused, match="no styles by number"):
        run(ImageToImage(image="asset", prompt="a cat", style=3, seed=1), picture())


def test_too_much_guidance_is_lowered_and_told() -> None:
    result, _ = run(TextToImage(prompt="a cat", seed=1, steps=4, guidance=30.0))
    assert "guidance 30 was lowered to 12" in result.degraded
