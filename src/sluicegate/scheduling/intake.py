"""Intake: a caller's request becomes a durable job, or a refusal that names every fault. Nothing in between."""

import contextlib
import hashlib
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from sluicegate.domain.asset import Picture
from sluicegate.domain.generation import (
    IMAGE_FIELDS,
    TASK_INPUTS,
    ImageToImage,
    ModelCard,
    Task,
    TaskInput,
    TextToImage,
    Upscale,
)
from sluicegate.domain.ids import AssetId, Tenant, new_job_id
from sluicegate.domain.job import Idempotency, Job, NewJob, Submission
from sluicegate.domain.principal import Principal
from sluicegate.domain.validation import did_you_mean, find_faults
from sluicegate.errors import Draining, Fault, ImageRejected, InvalidInput, QueueFull, SluicegateError, UnknownAsset
from sluicegate.results.assets import Assets, as_asset_id, decode_reference
from sluicegate.scheduling.costs import Cost, Costs
from sluicegate.scheduling.forecast import Applicant
from sluicegate.scheduling.shedding import Shedding
from sluicegate.storage.contracts import JobStore, Signals

MOST_METADATA_BYTES = 16_384


class JobRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of a submission. One of `model` and `task` may be left out when the other tells."""

    input: dict[str, Any]
    model: Annotated[str, Meta(min_length=1, max_length=200)] | None = None
    task: Task | None = None
    priority: Annotated[int, Meta(ge=-100, le=100)] = 0
    deadline_seconds: Annotated[float, Meta(gt=0, le=604_800)] | None = None
    metadata: Annotated[dict[str, Any], Meta(max_length=64)] = {}


class _Prepared(msgspec.Struct, frozen=True, kw_only=True):
    """A checked input, with the size of the picture to work on and the pictures that are not stored yet."""

    input: dict[str, Any]
    pixels: int | None
    inline: dict[str, Picture]


class Intake:
    """Checks submissions against the models there are, takes their pictures in, and stores the jobs."""

    def __init__(
        self,
        jobs: JobStore,
        assets: Assets,
        signals: Signals,
        cards: Sequence[ModelCard],
        *,
        costs: Costs,
        shedding: Shedding,
        max_attempts: int,
        on_stored: Callable[[Job], None] | None = None,
    ) -> None:
        """`on_stored` is told of each job that was stored here; a replay is none."""
        self._jobs = jobs
        self._assets = assets
        self._signals = signals
        self._cards = tuple(cards)
        self._costs = costs
        self._shedding = shedding
        self._max_attempts = max_attempts
        self._on_stored = on_stored
        self._closed = False

    @property
    def cards(self) -> Sequence[ModelCard]:
        """The picture models that jobs may name."""
        return self._cards

    def close(self) -> None:
        """Take no more jobs: the process is stopping."""
        self._closed = True

    async def submit(self, caller: Principal, request: JobRequest, idempotency_key: str | None = None) -> Submission:
        """Store the job; when this returns, the job survives any restart.

        Raises `InvalidInput` and `ImageRejected` with every fault, `IdempotencyMismatch`, `QueueFull`, `TooLate`,
        `StoreUnavailable`, `Draining`.
        """
        if self._closed:
            raise Draining("this gateway is stopping; send the job again, with its Idempotency-Key", retry_after=2)
        tenant = caller.tenant
        idempotency = Idempotency(idempotency_key, digest(request)) if idempotency_key else None
        if idempotency is not None:
            earlier = await self._jobs.replay(tenant, idempotency)
            if earlier is not None:
                return Submission(earlier, replayed=True)
        _check_metadata(request.metadata)
        card, task = self._choose(request)
        task_input = _complete(card, _decode_input(request.input, task))
        _check_against(card, task_input)
        prepared = await self._prepare(tenant, card, task_input)
        cost = await self._costs.estimate(card, task, task_input, prepared.pixels)
        _check_cost(cost, caller, card)
        applicant = _applicant(caller, card, cost)
        await self._shedding.check(applicant, priority=request.priority, deadline_seconds=request.deadline_seconds)
        resolved, created = await self._take_pictures_in(tenant, prepared)
        new = NewJob(
            id=new_job_id(),
            tenant=tenant,
            tier=caller.tier,
            pool=card.pool,
            cost=cost.counted,
            base_cost=cost.base,
            model=card.id,
            task=task,
            input=resolved,
            priority=request.priority,
            deadline_seconds=request.deadline_seconds,
            max_attempts=self._max_attempts,
            metadata=request.metadata,
        )
        submission = await self._store(new, idempotency, applicant, created)
        if submission.replayed:
            await self._discard(tenant, created)
        else:
            self._signals.notify("jobs", "events")
            if self._on_stored is not None:
                self._on_stored(submission.job)
        return submission

    async def _store(
        self, new: NewJob, idempotency: Idempotency | None, applicant: Applicant, created: Sequence[str]
    ) -> Submission:
        try:
            return await self._jobs.submit(new, idempotency)
        except UnknownAsset as error:
            await self._discard(new.tenant, created)
            raise ImageRejected.of(Fault("input", error.message, "upload it to /v1/assets")) from None
        except QueueFull as error:
            await self._discard(new.tenant, created)
            error.retry_after = await self._shedding.until_one_starts(applicant, otherwise=error.retry_after)
            raise
        except SluicegateError:
            await self._discard(new.tenant, created)
            raise

    def _choose(self, request: JobRequest) -> tuple[ModelCard, Task]:
        if request.model is None and request.task is None:
            raise InvalidInput.of(Fault("model", "required, but absent", _known(self._cards)))
        if request.model is None:
            scale = request.input.get("scale")
            able = [card for card in self._cards if request.task in card.tasks]
            able = [card for card in able if scale is None or card.scale in (None, scale)] or able
            if not able:
                raise InvalidInput.of(Fault("task", f'no model here does "{request.task}"', _known(self._cards)))
            return able[0], request.task or "stylize"
        card = next((card for card in self._cards if card.id == request.model), None)
        if card is None:
            ids = [card.id for card in self._cards]
            mend = did_you_mean(request.model, ids)
            raise InvalidInput.of(Fault("model", f'no picture model "{request.model}" here', mend))
        tasks = [task for task in card.tasks if task != "chat"]
        if request.task is None:
            return card, tasks[0]
        if request.task not in tasks:
            mend = f"it does: {', '.join(tasks)}"
            raise InvalidInput.of(Fault("task", f'"{card.id}" does not do "{request.task}"', mend))
        return card, request.task

    async def _prepare(self, tenant: Tenant, card: ModelCard, task_input: TaskInput) -> _Prepared:
        """Check every picture of the input; nothing is stored yet."""
        given: dict[str, Any] = msgspec.to_builtins(task_input)
        inline: dict[str, Picture] = {}
        pixels: int | None = None
        faults: list[Fault] = []
        for name in IMAGE_FIELDS:
            reference = given.get(name)
            if not isinstance(reference, str):
                continue
            field = f"input.{name}"
            try:
                width, height = await self._measure(tenant, reference, field, inline)
            except InvalidInput as error:
                faults += error.faults
                continue
            if name == "image":
                pixels = width * height
            if name == "image" and card.max_pixels is not None and width * height > card.max_pixels:
                message = f"{width}x{height} pixels are more than {card.id} takes ({card.max_pixels} in all)"
                faults.append(Fault(field, message, "send a smaller picture"))
        if faults:
            raise ImageRejected.of(*faults)
        return _Prepared(input=given, pixels=pixels, inline=inline)

    async def _take_pictures_in(self, tenant: Tenant, prepared: _Prepared) -> tuple[dict[str, Any], list[str]]:
        """The input with every image as an asset id, and the ids of the assets made for it."""
        resolved = dict(prepared.input)
        created: list[str] = []
        try:
            for field, picture in prepared.inline.items():
                asset = await self._assets.record(tenant, picture)
                created.append(asset.id)
                resolved[field.removeprefix("input.")] = asset.id
        except SluicegateError:
            await self._discard(tenant, created)
            raise
        return resolved, created

    async def _measure(self, tenant: Tenant, reference: str, field: str, inline: dict[str, Picture]) -> tuple[int, int]:
        asset_id = as_asset_id(reference)
        if asset_id is not None:
            try:
                asset = await self._assets.get(tenant, asset_id)
            except UnknownAsset:
                raise ImageRejected.of(Fault(field, f'no asset "{asset_id}" here', "upload it to /v1/assets")) from None
            return asset.width, asset.height
        data = decode_reference(reference, field=field)
        info = await self._assets.check(data, field=field)
        inline[field] = Picture(data, info.content_type, info.width, info.height)
        return info.width, info.height

    async def _discard(self, tenant: Tenant, created: Sequence[str]) -> None:
        for asset in created:
            with contextlib.suppress(SluicegateError):
                await self._assets.delete(tenant, AssetId(asset))


def _check_cost(cost: Cost, caller: Principal, card: ModelCard) -> None:
    """One job may not be dearer than the caller's tier grants."""
    most = caller.tier.max_cost
    if most is not None and cost.estimate > most:
        message = (
            f"would cost {cost.estimate:.3g} reference seconds on {card.id}; tier {caller.tier.name} grants {most:g}"
        )
        raise InvalidInput.of(Fault("input", message, "ask for fewer or smaller pictures, or fewer steps, in one job"))


def _applicant(caller: Principal, card: ModelCard, cost: Cost) -> Applicant:
    return Applicant(
        pool=card.pool,
        tenant=caller.tenant,
        weight=caller.tier.weight,
        max_running=caller.tier.concurrent_jobs,
        model=card.id,
        cost=cost.counted,
    )


def _decode_input(value: Mapping[str, Any], task: Task) -> TaskInput:
    kind = TASK_INPUTS[task]
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        faults = find_faults(dict(value), kind, "input") or [Fault("input", str(error))]
        raise InvalidInput.of(*faults) from None


def _complete(card: ModelCard, task_input: TaskInput) -> TaskInput:
    """Choose now what the caller left open: the job then holds all that is needed to make its pictures again."""
    chosen: dict[str, Any] = {}
    if isinstance(task_input, ImageToImage) and task_input.strength is None:
        chosen["strength"] = card.strength
    if card.steps is not None and isinstance(task_input, TextToImage | ImageToImage) and task_input.seed is None:
        chosen["seed"] = secrets.randbelow(2**32)
    return msgspec.structs.replace(task_input, **chosen)


def _check_drawing(card: ModelCard, asked: TextToImage | ImageToImage) -> Iterator[Fault]:
    """Faults of what a model that draws from words is asked for."""
    if card.steps is None:
        return
    if not asked.prompt.strip():
        yield Fault("input.prompt", "is empty or holds only blanks", "say what to draw")
    least, most = card.steps
    if asked.steps is not None and not least <= asked.steps <= most:
        yield Fault(
            "input.steps", f"{card.id} takes {least} to {most}, got {asked.steps}", "leave it out for the usual"
        )
    width, height = asked.width or asked.height, asked.height or asked.width
    if width != height or (width is not None and width not in card.sizes):
        sizes = ", ".join(f"{side}x{side}" for side in card.sizes)
        yield Fault("input.width", f"{card.id} does not make {width}x{height}", f"sizes: {sizes}")


def _check_against(card: ModelCard, task_input: TaskInput) -> None:
    """Rules that need the model: an upscaler has one factor; a style is given once."""
    if isinstance(task_input, TextToImage | ImageToImage):
        faults = list(_check_drawing(card, task_input))
        if faults:
            raise InvalidInput.of(*faults)
    if isinstance(task_input, Upscale) and card.scale is not None and task_input.scale not in (None, card.scale):
        fault = Fault("input.scale", f"{card.id} enlarges by {card.scale}, not {task_input.scale}", "leave scale out")
        raise InvalidInput.of(fault)
    style = getattr(task_input, "style", None)
    if isinstance(style, str) and not any(_weights(style)):
        raise InvalidInput.of(Fault("input.style", f'every weight of "{style}" is 0', "give one a weight over 0"))
    style, image = getattr(task_input, "style", None), getattr(task_input, "style_image", None)
    if style is not None and image is not None:
        raise InvalidInput.of(Fault("input.style", "given together with style_image", "send one of the two"))


def _weights(blend: str) -> Iterator[float]:
    """The weights in a blend such as "3:0.5,12"; a style without one counts 1."""
    for part in blend.split(","):
        _, colon, weight = part.partition(":")
        yield float(weight) if colon else 1.0


def _check_metadata(metadata: Mapping[str, Any]) -> None:
    size = len(msgspec.json.encode(metadata))
    if size > MOST_METADATA_BYTES:
        message = f"{size} bytes as JSON; at most {MOST_METADATA_BYTES} are kept with a job"
        raise InvalidInput.of(Fault("metadata", message, "keep the rest on your side, under the job's id"))


def _known(cards: Sequence[ModelCard]) -> str:
    return "models: " + ", ".join(f"{card.id} ({', '.join(card.tasks)})" for card in cards)


def digest(request: JobRequest) -> str:
    """SHA-256 (hex) of a submission, the same for equal requests whatever the order of their fields."""
    return hashlib.sha256(msgspec.json.encode(request, order="deterministic")).hexdigest()
