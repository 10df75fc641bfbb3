"""Enlarging with the real networks: sizes, seams, alpha and limits."""

import io
from typing import Literal

import numpy as np
import pytest
from PIL import Image

from sluicegate.backends.backend import PictureRequest
from sluicegate.backends.local_image import pixels, real_esrgan
from sluicegate.backends.local_image.real_esrgan import RealEsrgan
from sluicegate.backends.local_image.work import Work
from sluicegate.domain.asset import Picture
from sluicegate.domain.generation import OutputFormat, Stylize, Upscale
from sluicegate.domain.job import Progress
from sluicegate.errors import BackendRefused

MOST = 100_000


@pytest.fixture(scope="module", params=[2, 4])
def model(request: pytest.FixtureRequest) -> RealEsrgan:
    return RealEsrgan(request.param, threads=1, max_pixels=MOST)


def waves(width: int, height: int) -> pixels.Bytes:
    """A picture with both smooth slopes and noise."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    smooth = np.stack([np.sin(x * y / 300 + turn) * 90 + 128 for turn in range(3)], axis=-1)
    noise = np.random.default_rng(5).normal(0, 30, smooth.shape) * (x > width / 2)[..., None]
    array: pixels.Bytes = np.clip(smooth + noise, 0, 255).astype(np.uint8)
    return array


def encoded(array: pixels.Bytes) -> bytes:
    target = io.BytesIO()
    Image.fromarray(array).save(target, "PNG")
    return target.getvalue()


def enlarge(
    model: RealEsrgan,
    array: pixels.Bytes,
    *,
    scale: Literal[2, 4] | None = None,
    form: OutputFormat = "png",
    seen: list[Progress] | None = None,
) -> Picture:
    asked = Upscale(image="given", scale=scale, format=form)
    request = PictureRequest(
        model=f"realesrgan-x{model.scale}", task="upscale", input=asked, images={"image": encoded(array)}
    )
    report = (lambda _: None) if seen is None else seen.append
    (picture,) = model.run(request, Work(report)).pictures
    return picture


def array_of(picture: Picture) -> pixels.Bytes:
    return np.asarray(Image.open(io.BytesIO(picture.data)))


@pytest.mark.parametrize(("width", "height"), [(32, 32), (33, 17), (1, 40), (40, 1), (1, 1), (125, 7)])
def test_every_size_is_enlarged_exactly(model: RealEsrgan, width: int, height: int) -> None:
    picture = enlarge(model, waves(width, height))
    assert (picture.width, picture.height) == (width * model.scale, height * model.scale)
    assert array_of(picture).shape == (height * model.scale, width * model.scale, 3)


def test_the_result_is_the_picture_enlarged_and_not_another(model: RealEsrgan) -> None:
    colours = np.array([[(255, 0, 0), (0, 90, 200)], [(30, 30, 30), (240, 220, 40)]], np.uint8)
    array = colours.repeat(30, axis=0).repeat(40, axis=1)
    made = array_of(enlarge(model, array)).astype(int)
    simple = pixels.resize(array, made.shape[1], made.shape[0]).astype(int)
    assert np.abs(made - simple).mean() < 4
    middles = made[15 * model.scale :: 30 * model.scale, 20 * model.scale :: 40 * model.scale]
    assert np.abs(middles - colours.astype(int)).max() < 12


def test_tiles_leave_no_seam(model: RealEsrgan, monkeypatch: pytest.MonkeyPatch) -> None:
    array = waves(130, 70)
    monkeypatch.setattr(real_esrgan, "TILE", 1_000)
    whole = array_of(enlarge(model, array)).astype(int)
    monkeypatch.setattr(real_esrgan, "TILE", 31)
    tiled = array_of(enlarge(model, array)).astype(int)
    assert np.abs(tiled - whole).max() <= 1
    assert (tiled != whole).mean() < 0.001


def test_the_same_picture_twice_gives_the_same_bytes(model: RealEsrgan) -> None:
    assert enlarge(model, waves(40, 30)).data == enlarge(model, waves(40, 30)).data


def test_alpha_is_enlarged_apart_and_hidden_colours_do_not_show(model: RealEsrgan) -> None:
    array = np.zeros((24, 24, 4), np.uint8)
    array[:, 12:] = (250, 40, 40, 255)
    made = array_of(enlarge(model, array))
    edge = 12 * model.scale
    assert made.shape == (24 * model.scale, 24 * model.scale, 4)
    assert made[:, : edge - 4 * model.scale, 3].max() == 0
    assert made[:, edge + 4 * model.scale :, 3].min() == 255
    assert made[:, edge : edge + model.scale, 0].min() > 200


def test_a_wholly_transparent_picture_stays_so(model: RealEsrgan) -> None:
    assert array_of(enlarge(model, np.zeros((8, 8, 4), np.uint8)))[..., 3].max() == 0


def test_progress_counts_the_tiles_and_the_encoding(model: RealEsrgan) -> None:
    seen: list[Progress] = []
    enlarge(model, waves(130, 20), seen=seen)
    assert [(progress.step, progress.steps) for progress in seen] == [(0, 3), (1, 3), (2, 3), (3, 3)]
    assert seen[-1].value == 1


def test_a_scale_that_is_not_the_models_own_is_refused(model: RealEsrgan) -> None:
    other: Literal[2, 4] = 4 if model.scale == 2 else 2
    with pytest.raises(BackendRefused, match=f"enlarges {model.scale} times, got {other}.*realesrgan-x{other}"):
        enlarge(model, waves(8, 8), scale=other)


def test_a_picture_over_the_limit_is_refused_with_the_limit(model: RealEsrgan) -> None:
    with pytest.raises(BackendRefused, match="1000 x 101 is 101,000 pixels, and this model takes at most 100,000"):
        enlarge(model, np.zeros((101, 1_000, 3), np.uint8))


def test_a_result_too_long_for_its_format_is_refused_before_the_work(model: RealEsrgan) -> None:
    seen: list[Progress] = []
    with pytest.raises(BackendRefused, match='"webp" holds at most 16,383 pixels a side; ask for "png"'):
        enlarge(model, np.zeros((1, 8_200, 3), np.uint8), form="webp", seen=seen)
    assert seen == []


def test_another_task_is_refused(model: RealEsrgan) -> None:
    request = PictureRequest(model="realesrgan-x2", task="stylize", input=Stylize(image="given"), images={})
    with pytest.raises(BackendRefused, match="only upscales"):
        model.run(request, Work(lambda _: None))
