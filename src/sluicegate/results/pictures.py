"""What pictures we take, and how we show them. Every function is synchronous and CPU-heavy: call it in a thread."""

import io
import math
import struct
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec

from sluicegate.domain.asset import ContentType, Picture
from sluicegate.domain.generation import OutputFormat
from sluicegate.errors import Fault, ImageRejected

if TYPE_CHECKING:
    from PIL.Image import Image

TAKEN = "send a PNG, JPEG or WebP"
MOST_SCAN_PIXELS = 4_000_000_000
"""Scans × pixels that a JPEG may ask for: each scan of a progressive JPEG visits every pixel, however few its bytes."""
MOST_THUMBNAIL_SIDE = 4_096

_PNG, _JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"
_FOREIGN = (
    (b"GIF8", "a GIF picture"),
    (b"BM", "a BMP picture"),
    (b"II*\0", "a TIFF picture"),
    (b"MM\0*", "a TIFF picture"),
    (b"\0\0\1\0", "an icon (ICO)"),
    (b"\xff\x0a", "a JPEG XL picture"),
    (b"\0\0\0\x0cJXL ", "a JPEG XL picture"),
    (b"\0\0\0\x0cjP  ", "a JPEG 2000 picture"),
    (b"<svg", "an SVG drawing"),
)
_ORIENTATION = 0x0112
_LYING = (5, 6, 7, 8)
"""EXIF orientations in which the stored rows are shown as columns."""

Kind = Literal["PNG", "JPEG", "WebP"]
_CONTENT_TYPES: dict[Kind, ContentType] = {"PNG": "image/png", "JPEG": "image/jpeg", "WebP": "image/webp"}
_KIND_OF: dict[OutputFormat, Kind] = {"png": "PNG", "jpeg": "JPEG", "webp": "WebP"}


class PictureInfo(msgspec.Struct, frozen=True):
    """What a picture is; width and height in pixels as it is shown, its EXIF orientation applied."""

    content_type: ContentType
    width: int
    height: int


def inspect(data: bytes | Path, *, max_pixels: int, field: str = "image") -> PictureInfo:
    """Check that the bytes, or the file's, are a whole PNG, JPEG or WebP of at most `max_pixels`.

    The size is judged by the header, before anything is decoded. Of an animation the first frame counts.
    Raises `ImageRejected`, naming `field`, for any bytes that are not; and `OSError` when the file cannot be read.
    """
    content = data.read_bytes() if isinstance(data, Path) else data
    kind = _kind(content, field)
    try:
        width, height = _header_size(content, kind)
    except (struct.error, IndexError, ValueError) as error:
        raise _rejected(field, f"a {kind} with a damaged header ({error})", "send the whole file") from error
    _check_size(kind, width, height, max_pixels, field)
    try:
        image = _open(content, kind)
    except Exception as error:  # damaged bytes raise nearly anything
        raise _damaged(field, kind, error) from error
    _check_size(kind, *image.size, max_pixels, field)
    _check_scans(content, kind, image.width * image.height, field)
    try:
        if kind == "PNG":
            _check_chunks(content)
        image.load()
        lies = _orientation(image) in _LYING
    except Exception as error:
        raise _damaged(field, kind, error) from error
    width, height = image.size
    return PictureInfo(_CONTENT_TYPES[kind], *((height, width) if lies else (width, height)))


def thumbnail(data: bytes, *, width: int, format: OutputFormat) -> Picture:
    """The picture at most `width` pixels wide and `MOST_THUMBNAIL_SIDE` high, in its proportions, never enlarged.

    Raises `ImageRejected` when the bytes are no picture; they are expected to have passed `inspect`.
    """
    kind = _kind(data, "image")
    try:
        image = _small(_open(data, kind), width)
    except Exception as error:  # damaged bytes raise nearly anything
        raise _damaged("image", kind, error) from error
    return _encode(image, format)


def _rejected(field: str, message: str, mend: str = TAKEN) -> ImageRejected:
    fault = Fault(field, message, mend)
    return ImageRejected(str(fault), faults=(fault,))


def _damaged(field: str, kind: Kind, error: Exception) -> ImageRejected:
    reason = str(error) or type(error).__name__
    return _rejected(field, f"a damaged or incomplete {kind} ({reason})", "send the whole file")


def _kind(data: bytes, field: str) -> Kind:
    if data.startswith(_PNG):
        return "PNG"
    if data.startswith(_JPEG):
        return "JPEG"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WebP"
    if not data:
        raise _rejected(field, "no bytes at all")
    if data[4:8] == b"ftyp":
        raise _rejected(field, f"not taken: a file of type {data[8:12]!r}, such as AVIF, HEIC or a film")
    for start, name in _FOREIGN:
        if data.startswith(start):
            raise _rejected(field, f"not taken: {name}")
    raise _rejected(field, f"no picture that we know: begins with {data[:8]!r}")


def _header_size(data: bytes, kind: Kind) -> tuple[int, int]:
    """Width and height as the first bytes state them, found without the decoder, which may allocate at once."""
    match kind:
        case "PNG":
            if data[12:16] != b"IHDR":
                raise ValueError(f"IHDR expected, found {data[12:16]!r}")
            return struct.unpack_from(">II", data, 16)
        case "WebP":
            return _webp_size(data)
        case "JPEG":
            return _jpeg_size(data)


def _webp_size(data: bytes) -> tuple[int, int]:
    """Source: RFC 9649, sections 2.5 to 2.7, and RFC 6386, section 9.1."""
    chunk = data[12:16]
    if chunk == b"VP8X":
        return 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little")
    if chunk == b"VP8L":
        bits = struct.unpack_from("<I", data, 21)[0]
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if chunk == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, 26)
        return width & 0x3FFF, height & 0x3FFF
    raise ValueError(f"VP8 expected, found {chunk!r}")


def _jpeg_size(data: bytes) -> tuple[int, int]:
    """From the frame header. Source: ITU-T T.81, B.1.1.4 and B.2.2."""
    at = 2
    while True:
        while data[at] == 0xFF:
            at += 1
        marker = data[at]
        if marker == 0xDA:
            raise ValueError("no frame header before the first scan")
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack_from(">HH", data, at + 4)
            return width, height
        at += 1
        if marker != 0x01 and not 0xD0 <= marker <= 0xD8:
            at += struct.unpack_from(">H", data, at)[0]
        at = data.index(b"\xff", at)


def _check_size(kind: Kind, width: int, height: int, max_pixels: int, field: str) -> None:
    if width < 1 or height < 1:
        raise _rejected(field, f"a {kind} of {width} x {height} pixels", "send a picture that has pixels")
    if width * height > max_pixels:
        message = f"a {kind} of {width} x {height} = {width * height:,} pixels, and at most {max_pixels:,} are taken"
        side = math.isqrt(max_pixels)
        raise _rejected(field, message, f"make it smaller, for example {side} x {side}")


def _check_scans(data: bytes, kind: Kind, pixels: int, field: str) -> None:
    if kind != "JPEG":
        return
    scans = data.count(b"\xff\xda")
    if scans * pixels > MOST_SCAN_PIXELS:
        message = f"a JPEG of {scans:,} scans over {pixels:,} pixels, more than any encoder writes"
        raise _rejected(field, message, "save it again as a baseline JPEG or a PNG")


def _check_chunks(data: bytes) -> None:
    """Check every chunk up to IEND against its CRC; the decoder skips those of the pixels. Source: RFC 2083, 3.2."""
    view, at = memoryview(data), len(_PNG)
    while True:
        length, kind = struct.unpack_from(">I4s", data, at)
        (stated,) = struct.unpack_from(">I", data, at + 8 + length)
        if zlib.crc32(view[at + 4 : at + 8 + length]) != stated:
            raise ValueError(f"the checksum of its chunk {kind!r} at byte {at} is wrong")
        if kind == b"IEND":
            return
        at += 12 + length


def _open(data: bytes, kind: Kind) -> "Image":
    """The decoder for just this format; `Image.open` would try others and has a pixel limit of its own."""
    from PIL.JpegImagePlugin import JpegImageFile
    from PIL.PngImagePlugin import PngImageFile
    from PIL.WebPImagePlugin import WebPImageFile

    file = io.BytesIO(data)
    match kind:
        case "PNG":
            return PngImageFile(file)
        case "JPEG":
            return JpegImageFile(file)
        case "WebP":
            return WebPImageFile(file)


def _orientation(image: "Image") -> int:
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # damaged EXIF is no reason to refuse a picture
        return 1


def _small(image: "Image", width: int) -> "Image":
    from PIL.Image import Resampling

    orientation = _orientation(image)
    lies = orientation in _LYING
    full_width, full_height = image.size[::-1] if lies else image.size
    shrink = min(1.0, width / full_width, MOST_THUMBNAIL_SIDE / full_height)
    small_width, small_height = max(1, round(full_width * shrink)), max(1, round(full_height * shrink))
    target = (small_height, small_width) if lies else (small_width, small_height)
    image.draft("RGB", target)
    image = _plain(image)
    if image.size != target:
        image = image.resize(target, Resampling.LANCZOS, reducing_gap=3.0)
    return _turn(image, orientation)


def _plain(image: "Image") -> "Image":
    """The same picture as RGB, or as RGBA where it has transparency."""
    if image.mode.startswith("I;16"):
        image = image.point(lambda value: value / 257, "L")
        image.info.pop("transparency", None)
    return image.convert("RGBA" if image.has_transparency_data else "RGB")


def _turn(image: "Image", orientation: int) -> "Image":
    """Upright, for an EXIF orientation from 1 to 8; others leave the picture as it is."""
    from PIL.Image import Transpose

    turns = {
        2: Transpose.FLIP_LEFT_RIGHT,
        3: Transpose.ROTATE_180,
        4: Transpose.FLIP_TOP_BOTTOM,
        5: Transpose.TRANSPOSE,
        6: Transpose.ROTATE_270,
        7: Transpose.TRANSVERSE,
        8: Transpose.ROTATE_90,
    }
    turn = turns.get(orientation)
    return image if turn is None else image.transpose(turn)


def _encode(image: "Image", form: OutputFormat) -> Picture:
    image.info = {}  # or profiles and comments of the original would be written along
    target = io.BytesIO()
    match form:
        case "png":
            image.save(target, "PNG")
        case "webp":
            image.save(target, "WEBP", quality=80)
        case "jpeg":
            _on_white(image).save(target, "JPEG", quality=85)
    content_type = _CONTENT_TYPES[_KIND_OF[form]]
    return Picture(target.getvalue(), content_type, image.width, image.height)


def _on_white(image: "Image") -> "Image":
    from PIL import Image

    if image.mode != "RGBA":
        return image
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
