"""Decoding any mode to 8-bit RGB and alpha, and encoding back."""

import io
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from sluicegate.backends.local_image.pixels import Pixels, decode, encode, refuse_long_sides, resize, visible_rgb
from sluicegate.domain.generation import OutputFormat
from sluicegate.errors import BackendRefused, JobCanceled

FORMS: tuple[OutputFormat, ...] = ("png", "webp", "jpeg")


def noise(width: int, height: int, channels: int = 3) -> "np.ndarray[tuple[int, ...], np.dtype[np.uint8]]":
    return np.random.default_rng(2).integers(0, 256, (height, width, channels), np.uint8)


def stored(image: Image.Image, form: str = "PNG", **options: object) -> Pixels:
    target = io.BytesIO()
    image.save(target, form, **options)
    return decode(target.getvalue(), field="image", max_pixels=10_000)


def test_png_pixels_come_back_as_they_were() -> None:
    array = noise(7, 5, 4)
    picture = encode(Pixels(array[..., :3].copy(), array[..., 3].copy()), "png")
    assert (picture.width, picture.height, picture.content_type) == (7, 5, "image/png")
    back = decode(picture.data, field="image", max_pixels=35)
    assert back.rgb.tolist() == array[..., :3].tolist()
    assert back.alpha is not None
    assert back.alpha.tolist() == array[..., 3].tolist()


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB"])
def test_opaque_modes_decode_to_rgb_without_alpha(mode: str) -> None:
    image = Image.fromarray(noise(6, 4)).convert(mode)
    back = stored(image)
    assert back.alpha is None
    assert back.rgb.tolist() == np.asarray(image.convert("RGB")).tolist()


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_modes_with_alpha_decode_to_rgb_and_alpha(mode: str) -> None:
    image = Image.fromarray(noise(6, 4, 4), "RGBA").convert(mode)
    back = stored(image)
    assert back.alpha is not None
    assert np.dstack((back.rgb, back.alpha)).tolist() == np.asarray(image.convert("RGBA")).tolist()


def test_a_transparent_palette_colour_becomes_alpha() -> None:
    image = Image.fromarray(np.array([[0, 1]], np.uint8)).convert("P")
    back = stored(image, transparency=1)
    assert back.alpha is not None
    assert back.alpha.tolist() == [[255, 0]]


def test_sixteen_bit_grey_is_scaled_and_not_clipped() -> None:
    wide = Image.fromarray(np.array([[0, 257, 32_896, 65_535]], np.uint16))
    back = stored(wide)
    assert back.rgb[0, :, 0].tolist() == [0, 1, 128, 255]
    keyed = stored(wide, transparency=257)
    assert keyed.alpha is not None
    assert keyed.alpha.tolist() == [[255, 0, 255, 255]]


def test_cmyk_is_decoded_to_its_colours() -> None:
    back = stored(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG")
    assert back.rgb[4, 4, 0] > 200
    assert back.rgb[4, 4, 1:].max() < 60


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_exif_orientation_is_applied(orientation: int) -> None:
    from PIL import ImageOps

    exif = Image.Exif()
    exif[0x0112] = orientation
    image = Image.fromarray(noise(6, 4))
    target = io.BytesIO()
    image.save(target, "PNG", exif=exif)
    with Image.open(io.BytesIO(target.getvalue())) as again:
        upright = ImageOps.exif_transpose(again)
        assert upright is not None
        assert stored(image, exif=exif).rgb.tolist() == np.asarray(upright).tolist()


@pytest.mark.parametrize("data", [b"", b"plain text", b"\x89PNG\r\n\x1a\n" + bytes(30), b"\xff\xd8\xff" + bytes(30)])
def test_bytes_that_are_no_picture_are_refused(data: bytes) -> None:
    with pytest.raises(BackendRefused, match="style_image: cannot be decoded"):
        decode(data, field="style_image", max_pixels=100)


def test_a_picture_over_the_limit_is_refused_with_both_figures() -> None:
    data = encode(Pixels(noise(11, 10)), "png").data
    with pytest.raises(BackendRefused, match="image: 11 x 10 is 110 pixels, and this model takes at most 100;"):
        decode(data, field="image", max_pixels=100)


@pytest.mark.parametrize("form", FORMS)
def test_equal_pixels_give_equal_bytes_of_the_format(form: OutputFormat) -> None:
    one, two = (encode(Pixels(noise(20, 10)), form) for _ in range(2))
    assert one == two
    assert one.content_type == f"image/{form}"
    with Image.open(io.BytesIO(one.data)) as image:
        assert image.format == form.upper()
        assert image.size == (20, 10)


def test_jpeg_is_laid_on_white() -> None:
    clear = Pixels(np.zeros((8, 8, 3), np.uint8), np.zeros((8, 8), np.uint8))
    assert decode(encode(clear, "jpeg").data, field="image", max_pixels=64).rgb.min() > 250


def test_encoding_can_be_stopped_between_two_writes() -> None:
    calls: list[int] = []

    def check() -> None:
        calls.append(1)
        if len(calls) == 5:
            raise JobCanceled("withdrawn")

    with pytest.raises(JobCanceled):
        encode(Pixels(noise(600, 600)), "png", check=check)
    assert len(calls) == 5


@pytest.mark.parametrize(
    ("form", "width", "accepted"),
    [("webp", 16_383, True), ("webp", 16_384, False), ("jpeg", 65_500, True), ("jpeg", 65_501, False)],
)
def test_the_longest_side_of_each_format_is_the_encoders_own(form: OutputFormat, width: int, accepted: bool) -> None:
    picture = Pixels(np.zeros((1, width, 3), np.uint8))
    if accepted:
        refuse_long_sides(width, 1, form)
        assert encode(picture, form).width == width
        return
    with pytest.raises(BackendRefused, match=f"{width} x 1"):
        refuse_long_sides(width, 1, form)
    with pytest.raises((ValueError, OSError)):
        encode(picture, form)


def test_hidden_pixels_take_the_colour_of_their_surroundings() -> None:
    rgb = np.zeros((8, 200, 3), np.uint8)
    rgb[:, :20] = (10, 200, 30)
    alpha = np.where(np.arange(200) < 20, 255, 0).astype(np.uint8)[None].repeat(8, axis=0)
    shown = visible_rgb(Pixels(rgb, alpha))
    assert shown[:, :20].tolist() == rgb[:, :20].tolist()
    assert np.abs(shown[:, 20:].astype(int) - (10, 200, 30)).max() <= 6


@pytest.mark.parametrize("make", [Pixels, lambda rgb: Pixels(rgb, rgb[..., 0] | 1)])
def test_a_picture_without_hidden_pixels_is_left_alone(make: Callable[..., Pixels]) -> None:
    rgb = noise(6, 4)
    assert visible_rgb(make(rgb)) is rgb


def test_resizing_to_the_same_size_changes_nothing() -> None:
    rgb = noise(6, 4)
    assert resize(rgb, 6, 4) is rgb
    assert resize(rgb, 12, 3).shape == (3, 12, 3)
