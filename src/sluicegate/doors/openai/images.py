"""``POST /v1/images/generations`` and ``/v1/images/edits``: a job whose caller waits.

parse ▶ choose the model ▶ take the picture in ▶ submit the job ▶ answer when it has ended
"""

import base64
from contextlib import suppress
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta
from starlette.datastructures import FormData, UploadFile

from sluicegate.domain.generation import Count, ModelCard, OutputFormat, Previews, Task, Unit
from sluicegate.domain.ids import AssetId
from sluicegate.domain.validation import did_you_mean
from sluicegate.doors.endpoint import Answer, Call, Endpoint
from sluicegate.doors.openai.image_answers import ImageAnswers, Wanted
from sluicegate.doors.uploads import FORM, content_kind, decode_fields, file_pieces, open_form
from sluicegate.errors import Fault, InvalidInput, MalformedBody, SluicegateError, UnknownModel
from sluicegate.results.assets import Assets
from sluicegate.scheduling.intake import Intake, JobRequest

_MOST_FILES = 17
"""As many as OpenAI's own route takes, mask included, so that more than one can be answered with a clear word."""
_MOST_FIELDS = 64
_PARAMS = {"format": "output_format", "width": "size", "height": "size", "previews": "partial_images"}
"""Fields of a job's input that this dialect names otherwise."""

Prompt = Annotated[str, Meta(max_length=32_000, pattern=r"\S", extra={"hint": "say what the picture shows"})]
Size = Annotated[
    str,
    Meta(
        pattern=r"^(auto|[1-9]\d{1,3}x[1-9]\d{1,3})$",
        description='Width and height in pixels, such as "256x256"; "auto" leaves it to the model.',
        extra={"hint": 'WIDTHxHEIGHT such as "256x256", or "auto"'},
    ),
]


class ImageFields(msgspec.Struct, frozen=True, kw_only=True):
    """What both routes take; null counts as absent, and fields that we do not name are ignored."""

    prompt: Prompt
    model: Annotated[str, Meta(min_length=1, max_length=200)] | None = None
    n: Count | None = None
    size: Size | None = None
    response_format: Literal["url", "b64_json"] | None = None
    output_format: OutputFormat | None = None
    stream: bool | None = None
    partial_images: Previews | None = None
    negative_prompt: str | None = None
    steps: int | None = None
    guidance: float | None = None
    seed: int | None = None

    @property
    def asked_size(self) -> str | None:
        """The size where one was asked for."""
        return None if self.size == "auto" else self.size

    @property
    def shown(self) -> int:
        """How many previews the caller will see: none without a stream."""
        return (self.partial_images or 0) if self.stream else 0

    def task_input(self) -> dict[str, Any]:
        """The input of a job; its bounds are checked by the intake."""
        width, _, height = (self.asked_size or "").partition("x")
        given = {
            "prompt": self.prompt,
            "negative_prompt": self.negative_prompt,
            "width": int(width) if width else None,
            "height": int(height) if height else None,
            "steps": self.steps,
            "guidance": self.guidance,
            "seed": self.seed,
            "n": self.n or 1,
            "format": self.output_format or "png",
            "previews": self.shown,
        }
        return {name: value for name, value in given.items() if value is not None}


class GenerationRequest(ImageFields, frozen=True, kw_only=True):
    """Pictures from words."""


class EditRequest(ImageFields, frozen=True, kw_only=True):
    """Changes to a picture, which comes as the form's file `image`. `strength` 0 keeps it, 1 leaves nothing of it."""

    strength: Unit | None = None

    def task_input(self) -> dict[str, Any]:
        """The input of a job, all but the picture."""
        return {**super().task_input(), "strength": 0.6 if self.strength is None else self.strength}


class ImagesDoor:
    """Serves pictures."""

    def __init__(self, intake: Intake, assets: Assets, answers: ImageAnswers, *, max_upload_bytes: int) -> None:
        self._intake = intake
        self._assets = assets
        self._answers = answers
        self._max_upload_bytes = max_upload_bytes

    def endpoints(self) -> list[Endpoint]:
        """The routes of this door."""
        return [
            Endpoint(
                method="POST",
                path="/v1/images/generations",
                handler=self.generate,
                dialect="openai",
                tag="OpenAI",
                summary="Pictures from words, streamed (`stream: true`) or whole",
                description="`seed`, `steps`, `guidance` and `negative_prompt` are taken beside OpenAI's fields.",
                body=GenerationRequest,
                answers={200: "application/json or text/event-stream"},
            ),
            Endpoint(
                method="POST",
                path="/v1/images/edits",
                handler=self.edit,
                dialect="openai",
                tag="OpenAI",
                summary="Change a picture by words, streamed (`stream: true`) or whole",
                description="A form: the file `image`, the text `prompt`, and the fields of /v1/images/generations; "
                "`strength` (0 to 1, 0.6 when absent) is how much changes. Masks are not supported yet.",
                body=FORM,
                answers={200: "application/json or text/event-stream"},
            ),
        ]

    async def generate(self, call: Call) -> Answer:
        """Make pictures from words."""
        asked, _ = await call.decode(GenerationRequest)
        card = self._choose(asked.model, "text-to-image")
        request = JobRequest(model=card.id, task="text-to-image", input=asked.task_input())
        return await self._submit(call, asked, request)

    async def edit(self, call: Call) -> Answer:
        """Make pictures from a picture and words."""
        kind = content_kind(call)
        if kind != FORM:
            mend = f"send {FORM} with the file image and the text prompt"
            raise MalformedBody(f'the content type is "{kind[:80]}"; {mend}')
        limits = {"max_bytes": self._max_upload_bytes, "max_files": _MOST_FILES, "max_fields": _MOST_FIELDS}
        async with open_form(call, **limits) as form:
            file = _the_picture(form)
            texts = {name: value for name, value in form.multi_items() if isinstance(value, str)}
            asked = decode_fields(texts, EditRequest)
            card = self._choose(asked.model, "image-to-image")
            if call.idempotency_key() is None:
                return await self._edit_upload(call, asked, card, file)
            # Inside the request the picture is the same at each repeat, which an upload's id is not.
            image = base64.b64encode(await file.read()).decode()
            return await self._submit(call, asked, _edit_request(card, asked, image))

    async def _edit_upload(self, call: Call, asked: EditRequest, card: ModelCard, file: UploadFile) -> Answer:
        tenant = call.principal.tenant
        asset = await self._assets.accept_upload(tenant, file_pieces(file), field="image")
        try:
            return await self._submit(call, asked, _edit_request(card, asked, asset.id))
        except SluicegateError:
            with suppress(SluicegateError):
                await self._assets.delete(tenant, AssetId(asset.id))
            raise

    async def _submit(self, call: Call, asked: ImageFields, request: JobRequest) -> Answer:
        tenant, key = call.principal.tenant, call.idempotency_key()
        try:
            submission = await self._intake.submit(call.principal, request, key)
        except InvalidInput as error:
            raise _renamed(error) from None
        wanted = Wanted(
            tenant=tenant,
            job=submission.job.id,
            base_url=call.base_url,
            kind="image_edit" if request.task == "image-to-image" else "image_generation",
            response_format=asked.response_format or "url",
            size=asked.asked_size,
            partial_images=asked.shown,
            is_kept=key is not None,
        )
        return self._answers.streamed(wanted) if asked.stream else self._answers.whole(wanted)

    def _choose(self, wanted: str | None, task: Task) -> ModelCard:
        """The model named, or the first that does the task. Raises `UnknownModel`, `InvalidInput`."""
        cards = {card.id: card for card in self._intake.cards}
        able = [card for card in cards.values() if task in card.tasks]
        if wanted is None and able:
            return able[0]
        if wanted is None:
            raise UnknownModel(f'no model here does "{task}"', details={"param": "model"})
        if wanted not in cards:
            mend = did_you_mean(wanted, [card.id for card in able])
            message = f'no picture model "{wanted}" here' + (f"; {mend}" if mend else "")
            raise UnknownModel(message, details={"param": "model"})
        if cards[wanted] not in able:
            mend = f"models that do: {', '.join(card.id for card in able)}" if able else None
            raise InvalidInput.of(Fault("model", f'"{wanted}" does not do "{task}"', mend))
        return cards[wanted]


def _edit_request(card: ModelCard, asked: EditRequest, image: str) -> JobRequest:
    return JobRequest(model=card.id, task="image-to-image", input={**asked.task_input(), "image": image})


def _the_picture(form: FormData) -> UploadFile:
    """The one file to change. Raises `InvalidInput`."""
    if form.get("mask"):
        mend = "leave it out; strength says how much of the whole picture changes"
        raise InvalidInput.of(Fault("mask", "masks are not supported yet", mend))
    found = [value for name, value in form.multi_items() if name == "image" or name.startswith("image[")]
    mend = "send one file, as -F image=@in.png does"
    if not found:
        raise InvalidInput.of(
            Fault("image", f"required, but absent (the form has {', '.join(form) or 'nothing'})", mend)
        )
    if len(found) > 1:
        raise InvalidInput.of(Fault("image", f"{len(found)} pictures, but one at a time is changed", mend))
    file = found[0]
    if not isinstance(file, UploadFile):
        raise InvalidInput.of(Fault("image", "a text, where a file is expected", mend))
    return file


def _renamed(error: InvalidInput) -> InvalidInput:
    """The same error about the fields of this dialect instead of those of a job."""
    faults = []
    for fault in error.faults:
        name = fault.path.removeprefix("input").removeprefix(".")
        faults.append(Fault(_PARAMS.get(name, name), fault.message, fault.suggestion))
    return type(error).of(*faults)
