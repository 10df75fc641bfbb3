"""Which pictures are taken, what is said of those that are not, and how thumbnails look."""

import io
import random
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sluicegate.domain.generation import OutputFormat
from sluicegate.errors import ImageRejected
from sluicegate.results.pictures import MOST_THUMBNAIL_SIDE, PictureInfo, inspect, thumbnail

MOST = 1_000_000
FORMATS: dict[OutputFormat, str] = {"png": "PNG", "jpeg": "JPEG", "webp": "WEBP"}
ORIENTATION = 0x0112


def noise(width: int, height: int, channels: int = 3) -> Image.Image:
    return Image.fromarray(np.random.default_rng(7).integers(0, 256, (height, width, channels), np.uint8))


def encoded(image: Image.Image, form: str, **options: object) -> bytes:
    target = io.BytesIO()
    image.save(target, form, **options)
    return target.getvalue()


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width: int, height: int, *chunks: bytes) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks)


def refusal(data: bytes, *, max_pixels: int = MOST) -> str:
    with pytest.raises(ImageRejected) as caught:
        inspect(data, max_pixels=max_pixels, field="style_image")
    assert [fault.path for fault in caught.value.faults] == ["style_image"]
    assert caught.value.faults[0].suggestion
    return caught.value.message


@pytest.mark.parametrize("form", FORMATS)
def test_each_format_taken_is_told_with_its_size(form: OutputFormat) -> None:
    data = encoded(noise(40, 30), FORMATS[form])
    assert inspect(data, max_pixels=MOST) == PictureInfo(f"image/{form}", 40, 30)  # type: ignore[arg-type]


def test_a_file_is_inspected_as_its_bytes_are(tmp_path: Path) -> None:
    file = tmp_path / "upload"
    file.write_bytes(encoded(noise(9, 5), "WEBP", lossless=True))
    assert inspect(file, max_pixels=MOST) == PictureInfo("image/webp", 9, 5)


def test_a_missing_file_is_not_mistaken_for_a_bad_picture(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        inspect(tmp_path / "gone", max_pixels=MOST)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_every_mode_of_png_is_taken(mode: str) -> None:
    image = Image.new("I;16", (8, 4), 40_000) if mode == "I;16" else noise(8, 4).convert(mode)
    assert inspect(encoded(image, "PNG"), max_pixels=MOST).width == 8
    assert thumbnail(encoded(image, "PNG"), width=4, format="webp").width == 4


def test_a_cmyk_jpeg_is_taken() -> None:
    assert inspect(encoded(noise(8, 4).convert("CMYK"), "JPEG"), max_pixels=MOST).height == 4


def test_the_first_frame_of_an_animation_counts() -> None:
    for form in ("PNG", "WEBP"):
        data = encoded(noise(8, 4), form, save_all=True, append_images=[noise(8, 4).rotate(180)])
        assert inspect(data, max_pixels=MOST).width == 8


@pytest.mark.parametrize("form", FORMATS)
def test_a_turned_picture_is_told_as_it_is_shown(form: OutputFormat) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    data = encoded(noise(40, 30), FORMATS[form], exif=exif)
    info = inspect(data, max_pixels=MOST)
    assert (info.width, info.height) == (30, 40)
    shown = thumbnail(data, width=15, format="png")
    assert (shown.width, shown.height) == (15, 20)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "no bytes at all"),
        (b"hello, picture", "begins with b'hello, p'"),
        (b"%PDF-1.7 ...", "begins with b'%PDF-1.7'"),
        (b"GIF89a\x01\x00\x01\x00", "a GIF picture"),
        (b"BM" + bytes(60), "a BMP picture"),
        (b"II*\0" + bytes(60), "a TIFF picture"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "an SVG drawing"),
        (b"\0\0\0\x20ftypavif" + bytes(20), "b'avif'"),
        (b"GIF89a" + encoded(noise(4, 4), "PNG"), "a GIF picture"),
    ],
)
def test_other_bytes_are_named_and_refused(data: bytes, words: str) -> None:
    message = refusal(data)
    assert words in message
    assert "send a PNG, JPEG or WebP" in message


def test_a_real_gif_is_refused_although_the_library_could_read_it() -> None:
    assert "a GIF picture" in refusal(encoded(noise(4, 4), "GIF"))


def test_a_huge_header_is_refused_before_anything_is_decoded() -> None:
    message = refusal(png(60_000, 60_000), max_pixels=40_000_000)
    assert "60000 x 60000 = 3,600,000,000 pixels" in message
    assert "40,000,000" in message
    webp = b"RIFF\x1e\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0" + (16_382).to_bytes(3, "little") * 2
    assert "16383 x 16383" in refusal(webp)
    jpeg = b"\xff\xd8\xff\xc0\0\x11\x08" + struct.pack(">HH", 65_000, 64_000) + bytes(40)
    assert "64000 x 65000" in refusal(jpeg)


def test_pixels_are_counted_to_the_last_one() -> None:
    data = encoded(noise(20, 10), "PNG")
    assert inspect(data, max_pixels=200).height == 10
    assert "20 x 10 = 200 pixels, and at most 199 are taken" in refusal(data, max_pixels=199)


def test_a_picture_without_pixels_is_refused() -> None:
    assert "0 x 5 pixels" in refusal(png(0, 5, chunk(b"IEND", b"")))


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("sixteenths", range(16))
def test_a_picture_cut_short_is_refused(form: OutputFormat, sixteenths: int) -> None:
    data = encoded(noise(64, 48), FORMATS[form])
    assert refusal(data[: len(data) * sixteenths // 16])


@pytest.mark.parametrize("kind", [b"IHDR", b"IDAT", b"IEND"])
def test_a_wrong_checksum_is_refused(kind: bytes) -> None:
    data = bytearray(encoded(noise(8, 8), "PNG"))
    at = data.index(kind)
    length = int.from_bytes(data[at - 4 : at], "big")
    data[at + 4 + length] ^= 1
    assert "damaged or incomplete PNG" in refusal(bytes(data))


@pytest.mark.parametrize("kind", [b"zTXt", b"iCCP"])
def test_a_bomb_of_text_is_not_unpacked(kind: bytes) -> None:
    bomb = chunk(kind, b"name\0\0" + zlib.compress(bytes(200_000_000), 9))
    pixels = chunk(b"IDAT", zlib.compress(bytes(4)))
    assert "damaged or incomplete PNG" in refusal(png(1, 1, bomb, pixels, chunk(b"IEND", b"")))


def test_a_jpeg_of_endless_scans_is_refused() -> None:
    data = encoded(noise(600, 600), "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    message = refusal(data[:-2] + data[last : last + 12] * 12_000 + b"\xff\xd9")
    assert "scans over 360,000 pixels" in message


def test_damage_anywhere_is_a_refusal_or_a_picture_never_another_error() -> None:
    dice = random.Random(3)
    exif = Image.Exif()
    exif[ORIENTATION] = 8
    originals = [encoded(noise(24, 18), form, exif=exif) for form in FORMATS.values()]
    originals.append(encoded(noise(24, 18).convert("P"), "PNG", transparency=3))
    originals.append(encoded(noise(24, 18), "WEBP", save_all=True, append_images=[noise(24, 18).rotate(180)]))
    refused = 0
    for _ in range(3_000):
        data = bytearray(dice.choice(originals))
        for _ in range(dice.choice((1, 2, 30))):
            data[dice.randrange(dice.choice((64, len(data))))] = dice.randrange(256)
        try:
            inspect(bytes(data), max_pixels=MOST)
        except ImageRejected:
            refused += 1
    assert refused > 300
    for length in range(200):
        with pytest.raises(ImageRejected):
            inspect(dice.randbytes(length), max_pixels=MOST)


@pytest.mark.parametrize("form", FORMATS)
def test_a_thumbnail_keeps_proportions_and_is_a_picture_of_the_format(form: OutputFormat) -> None:
    for source in FORMATS.values():
        made = thumbnail(encoded(noise(400, 300), source), width=100, format=form)
        assert (made.width, made.height) == (100, 75)
        assert inspect(made.data, max_pixels=MOST) == PictureInfo(f"image/{form}", 100, 75)  # type: ignore[arg-type]


def test_a_thumbnail_is_never_enlarged() -> None:
    made = thumbnail(encoded(noise(40, 30), "PNG"), width=256, format="png")
    assert (made.width, made.height) == (40, 30)


def test_a_thumbnail_of_a_very_tall_picture_stays_small_enough_for_every_format() -> None:
    made = thumbnail(encoded(noise(10, 20_000), "PNG"), width=256, format="webp")
    assert (made.width, made.height) == (2, MOST_THUMBNAIL_SIDE)


def test_a_thumbnail_keeps_alpha_or_lies_on_white() -> None:
    clear = encoded(Image.new("RGBA", (20, 20), (200, 0, 0, 0)), "PNG")
    kept = Image.open(io.BytesIO(thumbnail(clear, width=10, format="webp").data))
    assert kept.mode == "RGBA"
    assert kept.getpixel((5, 5))[3] == 0  # type: ignore[index]
    laid = Image.open(io.BytesIO(thumbnail(clear, width=10, format="jpeg").data))
    assert laid.getpixel((5, 5)) == (255, 255, 255)


def test_a_thumbnail_carries_no_metadata() -> None:
    exif = Image.Exif()
    exif[0x010E] = "a secret place"
    data = encoded(noise(40, 30), "JPEG", exif=exif, comment=b"a secret place", icc_profile=b"a secret place")
    for form in FORMATS:
        assert b"secret" not in thumbnail(data, width=20, format=form).data


def test_a_thumbnail_of_no_picture_is_refused() -> None:
    with pytest.raises(ImageRejected, match="begins with"):
        thumbnail(b"plain text", width=20, format="png")
    with pytest.raises(ImageRejected, match="damaged"):
        thumbnail(encoded(noise(64, 48), "PNG")[:900], width=20, format="png")
