"""Sprout as a backend's model: from a request to encoded pictures, with previews and an enlargement where asked.

read the prompts ▸ draw all n in one pass at 128 x 128 ▸ enlarge each through Real-ESRGAN ▸ encode with notes
"""

import base64
import hashlib
import json
import math
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from sluicegate.backends.backend import PictureRequest, PictureResult
from sluicegate.backends.local_image import pixels
from sluicegate.backends.local_image.real_esrgan import RealEsrgan, tile_count
from sluicegate.backends.local_image.sprout import model as sprout
from sluicegate.backends.local_image.work import Work
from sluicegate.domain.generation import ImageToImage, TextToImage
from sluicegate.errors import BackendRefused

STAGES: dict[int, tuple[int, ...]] = {128: (), 256: (2,), 512: (4,), 1024: (4, 2)}
"""For each side that can be asked for, the enlargements that lead to it."""
USUAL_STRENGTH = 0.6
_ENLARGED_PIXELS = 1024 * 1024


class Drawer:
    """The networks in memory; those that enlarge are loaded when first needed. `run` is for one thread at a time."""

    def __init__(self, threads: int, max_pixels: int, *, notes_prompts: bool) -> None:
        self._threads = threads
        self._max_pixels = max_pixels
        self._notes_prompts = notes_prompts
        self._sprout = sprout.Sprout(threads)
        self._enlargers: dict[int, RealEsrgan] = {}

    def run(self, request: PictureRequest, work: Work) -> PictureResult:
        """Draw `n` pictures; picture k has the seed `seed` + k. The same request gives the same bytes."""
        asked = request.input
        if not isinstance(asked, TextToImage | ImageToImage):
            raise BackendRefused(f'task: {request.model} draws pictures, got "{request.task}"')
        side = asked.width or asked.height or sprout.SIDE
        if side not in STAGES or side != (asked.height or side):
            sides = ", ".join(map(str, STAGES))
            raise BackendRefused(f"width, height: {request.model} makes squares with sides of {sides}")
        start = self._start(asked, request)
        steps = asked.steps or sprout.USUAL_STEPS
        guidance = sprout.USUAL_GUIDANCE if asked.guidance is None else min(asked.guidance, sprout.MOST_GUIDANCE)
        seeds = [(asked.seed or 0) + index for index in range(asked.n)]
        work.plan(steps + asked.n * (_tiles(side) + 1), "drawing")
        drawing = self._sprout.draw(
            [asked.prompt] * asked.n,
            seeds,
            negative_prompt=asked.negative_prompt,
            steps=steps,
            guidance=guidance,
            start=start,
            on_step=lambda step: self._tell(step, work),
            preview_every=math.ceil(steps / (asked.previews + 1)) if asked.previews else steps + 1,
        )
        pictures = []
        for seed, rgba in zip(seeds, drawing.pictures, strict=True):
            picture = self._enlarge(pixels.Pixels(rgba[..., :3], rgba[..., 3]), side, work)
            notes = self._notes(request, asked, seed=seed, steps=steps, guidance=guidance)
            pictures.append(pixels.encode(picture, asked.format, check=work.check, notes=notes))
            work.advance("encoding")
        recipe = {"weights": self._weights, "seeds": seeds, "steps": steps, "guidance": guidance, "side": side}
        return PictureResult(
            pictures=tuple(pictures),
            degraded=_degraded(asked, side, drawing, guidance),
            details={"unknown_words": list(drawing.unknown), "recipe": recipe},
        )

    def _start(self, asked: TextToImage | ImageToImage, request: PictureRequest) -> sprout.Start | None:
        """The picture to begin from, fitted into the square with its proportions kept."""
        if not isinstance(asked, ImageToImage):
            return None
        if asked.style is not None or asked.style_image is not None:
            raise BackendRefused("style, style_image: sprout has no styles by number; name one in the prompt")
        given = pixels.decode(request.images["image"], field="image", max_pixels=self._max_pixels)
        scale = sprout.SIDE / max(given.width, given.height)
        width, height = (max(1, round(length * scale)) for length in (given.width, given.height))
        square = np.zeros((sprout.SIDE, sprout.SIDE, 4), np.uint8)
        top, left = (sprout.SIDE - height) // 2, (sprout.SIDE - width) // 2
        alpha = np.full((height, width), 255, np.uint8)
        if given.alpha is not None:
            alpha = pixels.resize(given.alpha, width, height)
        small = pixels.resize(pixels.visible_rgb(given), width, height)
        square[top : top + height, left : left + width] = np.dstack((small, alpha))
        return sprout.Start(square, USUAL_STRENGTH if asked.strength is None else asked.strength)

    def _tell(self, step: sprout.Step, work: Work) -> None:
        work.advance("drawing")
        if step.preview is not None and step.done < step.steps:
            shown = pixels.encode(pixels.Pixels(step.preview[..., :3], step.preview[..., 3]), "webp")
            work.show(f"data:image/webp;base64,{base64.b64encode(shown.data).decode()}")

    def _enlarge(self, picture: pixels.Pixels, side: int, work: Work) -> pixels.Pixels:
        for scale in STAGES[side]:
            enlarger = self._enlargers.get(scale)
            if enlarger is None:
                enlarger = self._enlargers[scale] = RealEsrgan(scale, self._threads, _ENLARGED_PIXELS)
            picture = enlarger.enlarge(picture, work)
        return picture

    def _notes(
        self, request: PictureRequest, asked: TextToImage | ImageToImage, *, seed: int, steps: int, guidance: float
    ) -> dict[str, str]:
        """What a PNG says of how it was made."""
        settings: dict[str, Any] = {
            "model": request.model,
            "weights": self._weights,
            "seed": seed,
            "steps": steps,
            "guidance": guidance,
        }
        if isinstance(asked, ImageToImage):
            settings["strength"] = asked.strength
        if self._notes_prompts:
            settings |= {"prompt": asked.prompt, "negative_prompt": asked.negative_prompt}
        return {"Software": "Sluicegate", "Comment": json.dumps(settings, ensure_ascii=False, sort_keys=True)}

    @cached_property
    def _weights(self) -> str:
        """The weights' digest: with other weights the same recipe makes other pictures."""
        digest = hashlib.sha256()
        for file in sorted(Path(sprout.__file__).parent.glob("*.onnx")):
            digest.update(file.read_bytes())
        return digest.hexdigest()[:16]


def _tiles(side: int) -> int:
    """Tiles of all enlargements of one picture."""
    tiles, current = 0, sprout.SIDE
    for scale in STAGES[side]:
        tiles += tile_count(current, current)
        current *= scale
    return tiles


def _degraded(
    asked: TextToImage | ImageToImage, side: int, drawing: sprout.Drawing, guidance: float
) -> tuple[str, ...]:
    notes = []
    if STAGES[side]:
        path = ", then ".join(f"{scale} times" for scale in STAGES[side])
        notes.append(f"drawn at {sprout.SIDE} x {sprout.SIDE} and enlarged {path} by Real-ESRGAN")
    if drawing.unread:
        notes.append(f"the prompt was read up to a number of words; unread: {', '.join(drawing.unread[:20])}")
    if asked.guidance is not None and asked.guidance != guidance:
        notes.append(f"guidance {asked.guidance:g} was lowered to {guidance:g}")
    return tuple(notes)
