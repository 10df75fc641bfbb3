"""Between encoded pictures and arrays of 8-bit pixels."""

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter, JpegImagePlugin, PngImagePlugin, WebPImagePlugin

from sluicegate.domain.asset import ContentType, Picture
from sluicegate.domain.generation import OutputFormat
from sluicegate.errors import BackendRefused

Bytes = NDArray[np.uint8]

CONTENT_TYPE: dict[OutputFormat, ContentType] = {"png": "image/png", "webp": "image/webp", "jpeg": "image/jpeg"}
MOST_SIDE: dict[OutputFormat, int] = {"png": 2**31 - 1, "webp": 16_383, "jpeg": 65_500}
"""The longest side, in pixels, that each format's encoder takes."""

_LARGE_PIXELS = 4_194_304
"""Above, WebP is encoded with less effort: it cannot be broken off, and this halves its time (1.7 s for 25 million)."""
_ORIENTATION = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_BLEED_RADIUS = 24
"""How far, in pixels, visible colour is spread into hidden pixels: more than the reach of any network here."""
_LEAST_WEIGHT = 32
"""Of 255: with less alpha, eight bits hold too little of a colour weighted by it."""


@dataclass(frozen=True, slots=True)
class Pixels:
    """A picture: `rgb` is uint8 (height, width, 3); `alpha` is uint8 (height, width), or None when all is opaque."""

    rgb: Bytes
    alpha: Bytes | None = None

    @property
    def height(self) -> int:
        """Rows."""
        return int(self.rgb.shape[0])

    @property
    def width(self) -> int:
        """Columns."""
        return int(self.rgb.shape[1])


def decode(data: bytes, *, field: str, max_pixels: int) -> Pixels:
    """The first frame of a PNG, JPEG or WebP, turned as its EXIF orientation says.

    Raises `BackendRefused`, naming `field`, when the bytes cannot be decoded or are more than `max_pixels`.
    """
    try:
        image = _open(data)
        width, height = image.size
        if width * height <= max_pixels:
            return _to_pixels(image)
    except Exception as error:  # damaged bytes raise nearly anything
        raise BackendRefused(f"{field}: cannot be decoded ({error}); send a whole PNG, JPEG or WebP") from error
    raise BackendRefused(
        f"{field}: {width} x {height} is {width * height:,} pixels, and this model takes at most {max_pixels:,}; "
        "send a smaller picture",
        details={"width": width, "height": height, "max_pixels": max_pixels},
    )


def encode(
    pixels: Pixels,
    form: OutputFormat,
    *,
    check: Callable[[], None] = lambda: None,
    notes: Mapping[str, str] | None = None,
) -> Picture:
    """Encode; equal pixels and notes give equal bytes. JPEG has no alpha: it is laid on white.

    `notes` become text chunks of a PNG; other formats carry none, and nothing of an input is ever carried over.
    `check` is called now and then while bytes are written; whatever it raises ends the encoding.
    """
    image = Image.fromarray(pixels.rgb)
    if pixels.alpha is not None:
        alpha = Image.fromarray(pixels.alpha)
        if form == "jpeg":
            image = Image.composite(image, Image.new("RGB", image.size, "white"), alpha)
        else:
            image.putalpha(alpha)
    target = _CheckedBytes(check)
    match form:
        case "png":
            chunks = PngImagePlugin.PngInfo()
            for name, text in (notes or {}).items():
                chunks.add_itxt(name, text)
            image.save(target, "PNG", compress_level=4, pnginfo=chunks)
        case "webp":
            effort = 4 if pixels.width * pixels.height <= _LARGE_PIXELS else 2
            image.save(target, "WEBP", quality=90, method=effort)
        case "jpeg":
            image.save(target, "JPEG", quality=92)
    return Picture(target.getvalue(), CONTENT_TYPE[form], pixels.width, pixels.height)


def refuse_long_sides(width: int, height: int, form: OutputFormat) -> None:
    """Raise `BackendRefused` when a result of this size does not fit into the format asked for."""
    if max(width, height) > MOST_SIDE[form]:
        raise BackendRefused(
            f'format: the result would be {width} x {height}, and "{form}" holds at most {MOST_SIDE[form]:,} pixels '
            'a side; ask for "png"'
        )


def resize(rgb: Bytes, width: int, height: int) -> Bytes:
    """Lanczos, for (H, W, 3) and (H, W) arrays; the array itself when the size is right already."""
    if rgb.shape[:2] == (height, width):
        return rgb
    return np.asarray(Image.fromarray(rgb).resize((width, height), Image.Resampling.LANCZOS))


def visible_rgb(pixels: Pixels) -> Bytes:
    """The colours, with those of wholly transparent pixels replaced by what is visible near them.

    Files hold arbitrary colours, often black, where nothing shows; a network would carry them over the edge.
    """
    alpha = pixels.alpha
    if alpha is None or alpha.min() > 0 or alpha.max() == 0:
        return pixels.rgb
    image = Image.fromarray(np.dstack((pixels.rgb, alpha)))
    spread = np.asarray(_blurred(image))
    far = np.rint(pixels.rgb[alpha > 0].mean(axis=0)).astype(np.uint8)
    filled = np.where(spread[..., 3:] >= _LEAST_WEIGHT, spread[..., :3], far)
    return np.where(alpha[..., None] > 0, pixels.rgb, filled)


class _CheckedBytes(io.BytesIO):
    """A file in memory that lets every write be stopped."""

    def __init__(self, check: Callable[[], None]) -> None:
        super().__init__()
        self._check = check

    def write(self, data: "bytes | bytearray | memoryview") -> int:  # type: ignore[override]
        self._check()
        return super().write(data)


def _blurred(image: Image.Image) -> Image.Image:
    """Blur with colours weighted by alpha, band by band because the filter takes no premultiplied picture."""
    blur = ImageFilter.BoxBlur(_BLEED_RADIUS)
    bands = [band.filter(blur) for band in image.convert("RGBa").split()]
    return Image.merge("RGBa", bands).convert("RGBA")


def _open(data: bytes) -> Image.Image:
    """The reader for the bytes' format; unlike `Image.open` it has no limits of its own and knows no other format."""
    file = io.BytesIO(data)
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return PngImagePlugin.PngImageFile(file)
    if data.startswith(b"\xff\xd8\xff"):
        return JpegImagePlugin.JpegImageFile(file)
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return WebPImagePlugin.WebPImageFile(file)
    raise ValueError(f"begins with {data[:8]!r}")


def _to_pixels(image: Image.Image) -> Pixels:
    turn = _TURNS.get(_orientation(image))
    if image.mode.startswith(("I", "F")):
        wide = np.asarray(image)
        hidden = image.info.get("transparency")
        alpha = np.where(wide == hidden, 0, 255).astype(np.uint8) if isinstance(hidden, int) else None
        grey = (np.clip(wide, 0, 65_535).astype(np.uint32) * 255 + 32_767) // 65_535
        image = Image.fromarray(grey.astype(np.uint8)).convert("RGB")
        if alpha is not None:
            image.putalpha(Image.fromarray(alpha))
    image = image.convert("RGBA" if image.has_transparency_data else "RGB")
    if turn is not None:
        image = image.transpose(turn)
    array = np.asarray(image)
    if image.mode == "RGB":
        return Pixels(array)
    return Pixels(np.ascontiguousarray(array[..., :3]), np.ascontiguousarray(array[..., 3]))


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # damaged EXIF is no reason to refuse a picture
        return 1
