"""A picture backend whose work is real but small: it blurs and recolours a picture of 64×64 pixels, step by step.

A few milliseconds of work for each job let a run hold tens of thousands of jobs; everything around the model (claim,
lease, pictures read and stored, record) is the product's own. What to do stands in the prompt:

    chaos KEY [MILLISECONDS [once]]      take at least so long; with `once` only the first time that KEY is drawn
"""

import asyncio
import random
import time
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

from PIL import Image, ImageFilter, ImageOps
from tests.chaos.work_log import NoteSender

from sluicegate.backends.backend import PictureRequest, PictureResult, Report
from sluicegate.domain.asset import Picture
from sluicegate.domain.generation import ImageToImage, ModelCard, TextToImage
from sluicegate.domain.job import Progress
from sluicegate.errors import BackendRefused, JobCanceled, LeaseLost

SIDE = 64
_STEP_SECONDS = 0.004
_LOADING_SHARE = 0.4


class Order(NamedTuple):
    """What a prompt asks for: work on `key` that lasts `seconds`, perhaps only the first time."""

    key: str
    seconds: float = 0.0
    once: bool = False

    @property
    def prompt(self) -> str:
        """The order in words."""
        return f"chaos {self.key} {self.seconds * 1000:g}{' once' if self.once else ''}"

    @classmethod
    def read(cls, prompt: str) -> "Order":
        """The order that a prompt holds; raises `BackendRefused` for any other prompt."""
        match prompt.split():
            case ["chaos", key]:
                return cls(key)
            case ["chaos", key, milliseconds]:
                return cls(key, float(milliseconds) / 1000)
            case ["chaos", key, milliseconds, "once"]:
                return cls(key, float(milliseconds) / 1000, once=True)
            case _:
                raise BackendRefused(f'"{prompt}" is no order of the chaos tests')


class SmallPictures:
    """Serves the names of built-in models, so that the gateway under test is the product as it is shipped."""

    name = "small-pictures"
    kind = "small-pictures"

    def __init__(self, log: NoteSender, marks: Path) -> None:
        """`marks` is a folder that outlives the process: it knows which keys were drawn before."""
        self._log = log
        self._marks = marks
        self._loaded: dict[str, None] = {}
        self._cards = (
            ModelCard(id="sprout", tasks=("text-to-image", "image-to-image"), backend=self.name),
            ModelCard(id="style-transfer", tasks=("image-to-image",), backend=self.name),
        )

    def cards(self) -> Sequence[ModelCard]:
        """The two models."""
        return self._cards

    def loaded(self) -> Sequence[str]:
        """The model that was used last: there is room for one."""
        return tuple(self._loaded)

    async def run(self, request: PictureRequest, report: Report) -> PictureResult:
        """Draw, in a thread."""
        match request.input:
            case TextToImage() | ImageToImage() as asked:
                order = Order.read(asked.prompt)
            case _:
                raise BackendRefused(f"{request.task} is not drawn here")
        self._log.note("taken", order.key)
        return await asyncio.to_thread(self._draw, request, order, asked.seed or 0, report)

    async def close(self) -> None:
        """Nothing to free."""

    def _draw(self, request: PictureRequest, order: Order, seed: int, report: Report) -> PictureResult:
        try:
            return self._steps(request, order, seed, report)
        except (JobCanceled, LeaseLost):
            self._log.note("stopped", order.key)
            raise

    def _steps(self, request: PictureRequest, order: Order, seed: int, report: Report) -> PictureResult:
        rng = random.Random(f"{seed} {order.key}")
        # as a model loads: time between the claim and the drawing, in which nothing is reported
        time.sleep(rng.uniform(0, _LOADING_SHARE) * min(order.seconds, 1.0))
        self._loaded = {request.model: None}
        report(Progress(value=0.0))
        self._log.note("began", order.key)
        began = time.monotonic()
        seconds = order.seconds if self._counts(order) else 0.0
        picture = _first_picture(request, rng)
        steps = max(2, round(seconds / _STEP_SECONDS))
        for step in range(1, steps + 1):
            if step % 16 <= 2:
                picture = ImageOps.posterize(picture.filter(ImageFilter.BoxBlur(1)), 6)
            time.sleep(max(0.0, began + seconds * step / steps - time.monotonic()))
            report(Progress(value=step / steps, step=step, steps=steps))
        out = BytesIO()
        picture.save(out, "PNG", compress_level=1)
        self._log.note("ended", order.key)
        return PictureResult(pictures=(Picture(out.getvalue(), "image/png", picture.width, picture.height),))

    def _counts(self, order: Order) -> bool:
        """Whether the order's time is to be taken: always, or only by the first who marks the key."""
        if not order.once:
            return True
        try:
            (self._marks / order.key).touch(exist_ok=False)
        except FileExistsError:
            return False
        return True


def _first_picture(request: PictureRequest, rng: random.Random) -> Image.Image:
    given = request.images.get("image")
    if given is not None:
        return Image.open(BytesIO(given)).convert("RGB")
    return Image.frombytes("RGB", (SIDE, SIDE), rng.randbytes(SIDE * SIDE * 3))
