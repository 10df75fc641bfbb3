"""What may be asked of a picture model: tasks, their inputs, and the cards of the models that serve them.

An image in an input is an asset id (``asset_…``), a data URL or plain base64.
Sizes are pixels, strengths run from 0 (nothing changes) to 1 (full effect).
"""

from collections.abc import Mapping
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from sluicegate.domain.fairness import DEFAULT_POOL

Task = Literal["text-to-image", "image-to-image", "stylize", "upscale"]
OutputFormat = Literal["png", "webp", "jpeg"]

ImageRef = Annotated[str, Meta(min_length=1, description="An asset id, a data URL or base64 of a PNG, JPEG or WebP.")]
Unit = Annotated[float, Meta(ge=0, le=1)]
Prompt = Annotated[str, Meta(min_length=1, max_length=32_000)]
Side = Annotated[int, Meta(ge=16, le=4096)]
Count = Annotated[int, Meta(ge=1, le=10, description="Pictures to make; each has the seed after the last one's.")]
Seed = Annotated[int, Meta(ge=0, le=2**53 - 1, description="The same seed gives the same picture.")]
Previews = Annotated[int, Meta(ge=0, le=3, description="Pictures in the making to show as `job.preview` events.")]
STYLE_COUNT = 26
StyleNumber = Annotated[int, Meta(ge=0, le=STYLE_COUNT - 1)]
_BLEND_PART = r"\s*(1?\d|2[0-5])\s*(:\s*\d{0,4}\.?\d{1,4}\s*)?"
StyleBlend = Annotated[
    str,
    Meta(
        pattern=rf"^{_BLEND_PART}(,{_BLEND_PART})*$",
        max_length=500,
        extra={"hint": 'a style number 0-25, or a blend such as "3:0.5,12:0.5"'},
    ),
]


class _Input(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What every task takes."""

    format: OutputFormat = "png"


class TextToImage(_Input, frozen=True, kw_only=True):
    """Make pictures from words."""

    prompt: Prompt
    negative_prompt: Annotated[str, Meta(max_length=32_000)] = ""
    width: Side | None = None
    height: Side | None = None
    steps: Annotated[int, Meta(ge=1, le=150)] | None = None
    guidance: Annotated[float, Meta(ge=0, le=30)] | None = None
    seed: Seed | None = None
    n: Count = 1
    previews: Previews = 3


class ImageToImage(_Input, frozen=True, kw_only=True):
    """Change a picture. Models without a text encoder say in `degraded` that the prompt went unused."""

    image: ImageRef
    prompt: Annotated[str, Meta(max_length=32_000)] = ""
    negative_prompt: Annotated[str, Meta(max_length=32_000)] = ""
    strength: Unit | None = None
    """None: what is usual for the model."""
    style: StyleNumber | StyleBlend | None = None
    style_image: ImageRef | None = None
    steps: Annotated[int, Meta(ge=1, le=150)] | None = None
    guidance: Annotated[float, Meta(ge=0, le=30)] | None = None
    width: Side | None = None
    height: Side | None = None
    seed: Seed | None = None
    n: Count = 1
    previews: Previews = 3


class Stylize(_Input, frozen=True, kw_only=True):
    """Paint a picture in one of 26 styles (`style` 7, or a blend "3:0.5,12:0.5") or in that of `style_image`."""

    image: ImageRef
    style: StyleNumber | StyleBlend | None = None
    style_image: ImageRef | None = None
    strength: Unit = 1.0


class Upscale(_Input, frozen=True, kw_only=True):
    """Enlarge a picture; `scale` must be the model's own factor when given."""

    image: ImageRef
    scale: Literal[2, 4] | None = None


TaskInput = TextToImage | ImageToImage | Stylize | Upscale
TASK_INPUTS: dict[Task, type[TaskInput]] = {
    "text-to-image": TextToImage,
    "image-to-image": ImageToImage,
    "stylize": Stylize,
    "upscale": Upscale,
}
IMAGE_FIELDS = ("image", "style_image")
"""The fields of any task input that hold an image."""


class CostModel(msgspec.Struct, frozen=True, kw_only=True):
    """What a model's work costs, in reference seconds, with MP the megapixels (2²⁰ pixels) of a picture:

    ``fixed + n·(step·steps·order·MP^exponent + pixel·MP)``

    The numbers are measured with the model in memory. The default is a guess that calibration puts right.
    """

    fixed: float = 0.1
    """Once for each job: reading the words, taking the picture in."""
    step: float = 0.5
    """One step at one megapixel."""
    exponent: float = 1.1
    """How a step grows with the megapixels; 0 for a model that always draws at one size."""
    pixel: float = 0.2
    """For each megapixel outside the steps: decoding, enlarging, encoding."""
    order: int = 1
    """Evaluations of the network in one step."""
    usual_steps: int = 1
    """Steps when the caller leaves the number open."""
    usual_megapixels: float = 0.25
    """Size when the caller leaves it open, and no picture tells it."""
    most_megapixels: float | None = None
    """The network is never shown more: larger pictures are shrunk for it, and what it made is enlarged."""
    guidance_doubles: bool = False
    """Whether guidance over 1 evaluates the network twice."""
    strength_shortens: bool = False
    """Whether a strength under 1 leaves out as large a share of the steps."""


class ModelCard(msgspec.Struct, frozen=True, kw_only=True):
    """A model as callers see it. `tasks` holds "chat" or picture tasks; `scale` is an upscaler's factor."""

    id: str
    tasks: tuple[Task | Literal["chat"], ...]
    backend: str
    description: str = ""
    max_pixels: int | None = None
    """The most input pixels (width × height) that the model takes."""
    scale: int | None = None
    sizes: tuple[int, ...] = ()
    """Sides, in pixels, of the square pictures that it makes; empty: the input's own size."""
    steps: tuple[int, int] | None = None
    """Fewest and most steps, for a model that draws from noise; None for any other."""
    strength: float = 1.0
    """What is usual for image-to-image."""
    pool: str = DEFAULT_POOL
    """Where its jobs wait."""
    costs: Mapping[str, CostModel] = {}
    """By task; by "stylize with style_image" and the like where a picture for the style makes it another work."""
