"""The backend: which built-in picture models there are, and one thread that runs them."""

import asyncio
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

import msgspec

from sluicegate.backends.backend import PictureRequest, PictureResult, Report
from sluicegate.backends.local_image import costs
from sluicegate.backends.local_image.work import Work
from sluicegate.domain.generation import ModelCard
from sluicegate.domain.validation import did_you_mean
from sluicegate.errors import BackendFailed, BackendRefused, BackendUnavailable, Fault, InvalidSettings, SluicegateError
from sluicegate.settings import BackendSettings

PULSE_SECONDS = 0.25
"""How often progress is reported again while a step lasts; cancellation is noticed as often."""
GRACE_SECONDS = 0.5
"""How long a canceled job waits for its thread to stop; what cannot be broken off ends alone and is discarded."""

SPROUT = "sprout"
STYLE_TRANSFER, UPSCALE_2, UPSCALE_4 = "style-transfer", "realesrgan-x2", "realesrgan-x4"
STYLE_TRANSFER_PIXELS = 3 * 2**22
"""4096 x 3072: what most telephones photograph."""
UPSCALED_PIXELS = 3 * 2**23
"""Most pixels of an enlarged picture: under 1 GB with alpha, and less than a worker takes in by default."""


class _Model(Protocol):
    def run(self, request: PictureRequest, work: Work) -> PictureResult:
        """Do the work in the calling thread."""
        ...


class LocalImage:
    """A picture backend of kind ``local-image``. Models load on first use and stay until `close`."""

    kind = "local-image"

    def __init__(self, settings: BackendSettings, *, notes_prompts: bool = False) -> None:
        """`notes_prompts` lets pictures carry the prompt that made them.

        Raises `InvalidSettings` when `settings.models` names a model that is not built in."""
        self.name = settings.name
        self._threads = settings.threads
        self._notes_prompts = notes_prompts
        self._cards = {card.id: card for card in _choose(settings)}
        self._models: dict[str, _Model] = {}
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix=settings.name)
        self._closed = threading.Event()
        self._running: set[Work] = set()

    def cards(self) -> Sequence[ModelCard]:
        """The models of `settings.models`, or all that are built in."""
        return tuple(self._cards.values())

    def loaded(self) -> Sequence[str]:
        """Names of the models now in memory."""
        return tuple(self._models)

    async def run(self, request: PictureRequest, report: Report) -> PictureResult:
        """Do the work in the backend's thread, the event loop staying free.

        Raises `BackendRefused` when the input cannot work, `BackendFailed` when the model failed, `BackendUnavailable`
        after `close`, and whatever `report` raises, within a second of its doing so.
        """
        card = self._card(request)
        work = Work(report)
        self._running.add(work)
        waiting = asyncio.wrap_future(self._thread.submit(self._serve, card, request, work))
        waiting.add_done_callback(_take_note)
        try:
            while not waiting.done():
                await asyncio.wait((waiting,), timeout=PULSE_SECONDS)
                if not waiting.done():
                    work.pulse()
        except BaseException as reason:
            work.stop(reason)
            await asyncio.wait((waiting,), timeout=GRACE_SECONDS)
            raise
        finally:
            self._running.discard(work)
            waiting.cancel()
        return waiting.result()

    async def close(self) -> None:
        """Stop what runs, end the thread and free the models."""
        self._closed.set()
        for work in self._running:
            work.stop(BackendUnavailable(f'backend "{self.name}" is stopping; send the job again'))
        await asyncio.to_thread(self._thread.shutdown)
        self._models.clear()

    def _card(self, request: PictureRequest) -> ModelCard:
        if self._closed.is_set():
            raise BackendUnavailable(f'backend "{self.name}" is closed; start the worker again')
        card = self._cards.get(request.model)
        if card is None:
            mend = did_you_mean(request.model, self._cards)
            raise BackendRefused(f'model: backend "{self.name}" has no "{request.model}" ({mend})')
        if request.task not in card.tasks:
            raise BackendRefused(f'task: {card.id} cannot do "{request.task}"; it does {", ".join(card.tasks)}')
        return card

    def _serve(self, card: ModelCard, request: PictureRequest, work: Work) -> PictureResult:
        try:
            work.check()
            model, load_seconds = self._models.get(card.id), 0.0
            if model is None:
                began = time.monotonic()
                model = self._models[card.id] = _load(card, self._threads, notes_prompts=self._notes_prompts)
                load_seconds = time.monotonic() - began
            result = model.run(request, work)
            return msgspec.structs.replace(result, load_seconds=result.load_seconds + load_seconds)
        except SluicegateError:
            raise
        except ImportError as error:
            raise BackendFailed(f"{card.id}: {error}; install the package again with its dependencies") from error
        except MemoryError as error:
            raise BackendFailed(f"{card.id}: out of memory; send a smaller picture or free memory") from error
        except Exception as error:
            work.check()  # a network that was interrupted says so in words of its own
            raise BackendFailed(f"{card.id}: {type(error).__name__}: {error}; try again") from error


def _take_note(waiting: "asyncio.Future[PictureResult]") -> None:
    """Look at the outcome of work that nobody waits for any more, or asyncio would warn of an unseen exception."""
    if not waiting.cancelled():
        waiting.exception()


def _choose(settings: BackendSettings) -> list[ModelCard]:
    built_in = {card.id: card for card in _built_in(settings.name, settings.pool)}
    faults = [
        Fault(f'backends "{settings.name}".models', f'no built-in model "{model}"', did_you_mean(model, built_in))
        for model in settings.models
        if model not in built_in
    ]
    if faults:
        raise InvalidSettings(faults, source="settings")
    return [card for card in built_in.values() if not settings.models or card.id in settings.models]


def _built_in(backend: str, pool: str) -> tuple[ModelCard, ...]:
    painter = ModelCard(
        id=STYLE_TRANSFER,
        tasks=("stylize", "image-to-image"),
        backend=backend,
        description="Paints a picture in one of 26 styles, a blend of them, or the style of another picture.",
        max_pixels=STYLE_TRANSFER_PIXELS,
        pool=pool,
        costs={
            "stylize": costs.PAINTING,
            "image-to-image": costs.PAINTING,
            "stylize with style_image": costs.PAINTING_LIKE,
            "image-to-image with style_image": costs.PAINTING_LIKE,
        },
    )
    enlargers = [
        ModelCard(
            id=model,
            tasks=("upscale",),
            backend=backend,
            description=f"Real-ESRGAN (animevideov3): enlarges a picture {scale} times.",
            max_pixels=UPSCALED_PIXELS // scale**2,
            scale=scale,
            pool=pool,
            costs={"upscale": cost},
        )
        for model, scale, cost in ((UPSCALE_2, 2, costs.ENLARGING_2), (UPSCALE_4, 4, costs.ENLARGING_4))
    ]
    drawer = ModelCard(
        id=SPROUT,
        tasks=("text-to-image", "image-to-image"),
        backend=backend,
        description="Draws small pictures of things from their names, on a transparent ground.",
        max_pixels=STYLE_TRANSFER_PIXELS,
        sizes=(128, 256, 512, 1024),
        steps=(4, 50),
        strength=0.6,
        pool=pool,
        costs={"text-to-image": costs.DRAWING, "image-to-image": costs.REDRAWING},
    )
    return (drawer, painter, *enlargers)


def _load(card: ModelCard, threads: int, *, notes_prompts: bool) -> _Model:
    """Import and construct a model; seconds, and the heavy libraries, are spent here."""
    assert card.max_pixels is not None
    if card.id == SPROUT:
        from sluicegate.backends.local_image.drawing import Drawer

        return Drawer(threads, card.max_pixels, notes_prompts=notes_prompts)
    if card.scale is None:
        from sluicegate.backends.local_image.style_transfer import StyleTransfer

        return StyleTransfer(threads, card.max_pixels)
    from sluicegate.backends.local_image.real_esrgan import RealEsrgan

    return RealEsrgan(card.scale, threads, card.max_pixels)
