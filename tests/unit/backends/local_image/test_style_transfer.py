"""Painting with the real networks: styles, strengths, sizes and what is told as degraded."""

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sluicegate.backends.backend import PictureRequest, PictureResult
from sluicegate.backends.local_image import pixels, style_transfer
from sluicegate.backends.local_image.style_transfer import StyleTransfer
from sluicegate.backends.local_image.work import Work
from sluicegate.domain.generation import ImageToImage, Stylize, Upscale
from sluicegate.domain.job import Progress
from sluicegate.errors import BackendRefused


@pytest.fixture(scope="module")
def model() -> StyleTransfer:
    return StyleTransfer(threads=1, max_pixels=2_000_000)


def scene(width: int, height: int, seed: int = 0) -> pixels.Bytes:
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    smooth = np.stack([np.sin(x / 9 + y / (7 + seed) + turn) * 100 + 128 for turn in range(3)], axis=-1)
    array: pixels.Bytes = np.clip(smooth, 0, 255).astype(np.uint8)
    return array


def encoded(array: pixels.Bytes) -> bytes:
    target = io.BytesIO()
    Image.fromarray(array).save(target, "PNG")
    return target.getvalue()


def stylize(model: StyleTransfer, array: pixels.Bytes, **asked: Any) -> PictureResult:
    images = {"image": encoded(array), "style_image": encoded(scene(70, 50, seed=4))}
    request = PictureRequest(
        model="style-transfer", task="stylize", input=Stylize(image="given", **asked), images=images
    )
    return model.run(request, Work(lambda _: None))


def change(model: StyleTransfer, array: pixels.Bytes, **asked: Any) -> PictureResult:
    images = {"image": encoded(array), "style_image": encoded(scene(70, 50, seed=4))}
    asked_for = ImageToImage(image="given", **asked)
    request = PictureRequest(model="style-transfer", task="image-to-image", input=asked_for, images=images)
    return model.run(request, Work(lambda _: None))


def array_of(result: PictureResult) -> pixels.Bytes:
    return np.asarray(Image.open(io.BytesIO(result.pictures[0].data)))


def distance(one: pixels.Bytes, other: pixels.Bytes) -> float:
    return float(np.abs(one.astype(int) - other.astype(int)).mean())


@pytest.mark.parametrize(("width", "height"), [(64, 64), (97, 61), (31, 33), (1, 50), (50, 1), (1, 1)])
@pytest.mark.parametrize("asked", [{"style": 5}, {"style_image": "given"}])
def test_a_picture_keeps_its_size(model: StyleTransfer, width: int, height: int, asked: dict[str, Any]) -> None:
    result = stylize(model, scene(width, height), **asked)
    assert (result.pictures[0].width, result.pictures[0].height) == (width, height)
    assert array_of(result).shape == (height, width, 3)


def test_styles_differ_from_the_picture_and_from_one_another(model: StyleTransfer) -> None:
    array = scene(64, 64)
    made = [array_of(stylize(model, array, style=style)) for style in (0, 7, 25)]
    made.append(array_of(stylize(model, array, style_image="given")))
    for index, one in enumerate(made):
        assert distance(one, array) > 5
        assert all(distance(one, other) > 5 for other in made[:index])


def test_style_0_is_taken_when_none_is_asked_for(model: StyleTransfer) -> None:
    assert stylize(model, scene(64, 64)) == stylize(model, scene(64, 64), style=0)
    assert change(model, scene(64, 64)) == change(model, scene(64, 64), style=0)


def test_a_seed_picks_the_style_when_none_is_asked_for(model: StyleTransfer) -> None:
    assert change(model, scene(64, 64), seed=26 + 9) == change(model, scene(64, 64), style=9)
    assert change(model, scene(64, 64), seed=8, style=9) == change(model, scene(64, 64), style=9)


def test_a_blend_weighs_its_styles(model: StyleTransfer) -> None:
    array = scene(64, 64)
    three, twelve = (array_of(stylize(model, array, style=style)) for style in (3, 12))
    half = array_of(stylize(model, array, style="3:0.5,12:0.5"))
    assert distance(half, three) > 2
    assert distance(half, twelve) > 2
    assert array_of(stylize(model, array, style="3:1,12:0")).tolist() == three.tolist()
    assert stylize(model, array, style="3,12") == stylize(model, array, style="3:2, 12:2")


@pytest.mark.parametrize("asked", [{"style": 7}, {"style_image": "given"}])
def test_strength_runs_from_the_picture_itself_to_the_full_style(model: StyleTransfer, asked: dict[str, Any]) -> None:
    array = scene(90, 64)
    assert array_of(stylize(model, array, strength=0.0, **asked)).tolist() == array.tolist()
    full, half, little = (array_of(stylize(model, array, strength=share, **asked)) for share in (1.0, 0.5, 0.02))
    assert distance(half, full) == pytest.approx(distance(half, array), rel=0.05)
    assert distance(little, array) < 3


def test_alpha_is_kept_and_hidden_colours_with_strength_0(model: StyleTransfer) -> None:
    array = np.dstack((scene(64, 64), np.tile(np.arange(64, dtype=np.uint8) * 4, (64, 1))))
    made = array_of(stylize(model, array, style=2))
    assert made[..., 3].tolist() == array[..., 3].tolist()
    assert array_of(stylize(model, array, strength=0.0)).tolist() == array.tolist()


def test_the_same_request_twice_gives_the_same_bytes(model: StyleTransfer) -> None:
    for asked in ({"style": "1:0.2,20:0.8"}, {"style_image": "given"}):
        assert stylize(model, scene(80, 60), **asked) == stylize(model, scene(80, 60), **asked)


def test_a_style_and_a_style_image_together_are_refused(model: StyleTransfer) -> None:
    with pytest.raises(BackendRefused, match="both are given; send one of them"):
        stylize(model, scene(64, 64), style=1, style_image="given")


@pytest.mark.parametrize("style", ["26:1", "3:0", "3:0,4:0", "3:" + "9" * 60])
def test_a_blend_that_names_no_share_of_a_known_style_is_refused(model: StyleTransfer, style: str) -> None:
    with pytest.raises(BackendRefused, match=r"^style: "):
        stylize(model, scene(64, 64), style=style)


def test_a_prompt_is_told_as_unused(model: StyleTransfer) -> None:
    assert change(model, scene(64, 64)).degraded == ()
    (words,) = change(model, scene(64, 64), prompt="a red apple", steps=20).degraded
    assert "no text encoder" in words
    assert words.endswith("prompt, steps.")


def test_a_picture_too_large_to_paint_is_painted_smaller_and_that_is_told(
    model: StyleTransfer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(style_transfer, "PAINTED_PIXELS", 128 * 128)
    result = stylize(model, scene(512, 256), style=3)
    assert result.pictures[0].width == 512
    assert result.degraded == (
        "The picture was painted at 181 x 90 pixels and enlarged to 512 x 256, so it is softer.",
    )


def test_a_style_image_paints_large_pictures_softly_and_tells_so(model: StyleTransfer) -> None:
    assert stylize(model, scene(384, 200), style_image="given").degraded == ()
    (words,) = stylize(model, scene(768, 400), style_image="given").degraded
    assert "painted at 384 x 200 pixels and enlarged to 768 x 400" in words


def test_a_picture_over_the_limit_is_refused_with_the_limit(model: StyleTransfer) -> None:
    with pytest.raises(BackendRefused, match="image: 2001 x 1000 is 2,001,000 pixels, and this model takes at most"):
        stylize(model, np.zeros((1_000, 2_001, 3), np.uint8))


def test_progress_counts_reading_painting_and_encoding(model: StyleTransfer) -> None:
    seen: list[Progress] = []
    images = {"image": encoded(scene(64, 64))}
    request = PictureRequest(model="style-transfer", task="stylize", input=Stylize(image="given"), images=images)
    model.run(request, Work(seen.append))
    assert [progress.message for progress in seen] == ["reading", "painting", "encoding", ""]
    assert [(progress.step, progress.steps) for progress in seen] == [(0, 3), (1, 3), (2, 3), (3, 3)]


def test_another_task_is_refused(model: StyleTransfer) -> None:
    request = PictureRequest(model="style-transfer", task="upscale", input=Upscale(image="given"), images={})
    with pytest.raises(BackendRefused, match='stylizes and changes pictures, got "upscale"'):
        model.run(request, Work(lambda _: None))
