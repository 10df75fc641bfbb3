"""``sluicegate generate``: a picture made, changed, painted in a style or enlarged, and saved."""

import asyncio
import time
import uuid
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from sluicegate.cli.client import Client, Json, Unreachable
from sluicegate.cli.connection import Target, connect_or_start
from sluicegate.cli.files import Destination, download, upload
from sluicegate.cli.follow import Follower
from sluicegate.cli.options import json_option, store_options, url_options
from sluicegate.cli.preview import show_preview
from sluicegate.cli.progress import display
from sluicegate.cli.terminal import Failure, argument_text, print_json, run, say, seconds_text, size_text

SUBMIT_TRIES = 3
_ENDS = {"failed": "failed", "canceled": "was canceled", "expired": "expired"}
CANCEL_SECONDS = 5.0
"""How long an interrupted command tries to withdraw its job."""


class SizeType(click.ParamType[tuple[int, int]]):
    """A size in pixels, WIDTHxHEIGHT."""

    name = "WxH"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        """Width and height."""
        if isinstance(value, tuple):
            return value
        width, _, height = str(value).lower().partition("x")
        if not (width.isascii() and width.isdigit() and height.isascii() and height.isdigit()):
            self.fail(f'"{value}" is no size; write for example 512x512', param, ctx)
        return int(width), int(height)


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What the caller asked for. None: not said, so the model decides."""

    prompt: str | None
    image: Path | None
    style_image: Path | None
    style: str | None
    model: str | None
    task: str | None
    size: tuple[int, int] | None
    scale: int | None
    numbers: Json
    """Fields that go into the input as they are: strength, steps, seed, guidance, n, negative_prompt."""
    deadline_seconds: float | None
    destination: Destination

    def chosen_task(self) -> str | None:
        """The task that was named, or that the options mean; None leaves it to the model that was named."""
        if self.task:
            return self.task
        if self.scale is not None:
            return "upscale"
        if self.image is None:
            return None if self.model and not self.prompt else "text-to-image"
        if self.prompt:
            return "image-to-image"
        if self.style is not None or self.style_image:
            return "stylize"
        return None if self.model else "image-to-image"

    def body(self, assets: dict[str, str]) -> Json:
        """The submission; `assets` are the ids of the uploaded pictures by field."""
        fields: Json = {"prompt": self.prompt, "scale": self.scale, "style": self._style(), **self.numbers}
        if self.size is not None:
            fields |= {"width": self.size[0], "height": self.size[1]}
        fields = {name: value for name, value in fields.items() if value is not None}
        body: Json = {"input": {**fields, **assets, "format": self.destination.format}}
        extras = {"model": self.model, "task": self.chosen_task(), "deadline_seconds": self.deadline_seconds}
        return body | {name: value for name, value in extras.items() if value is not None}

    def _style(self) -> int | str | None:
        return int(self.style) if self.style is not None and self.style.isdigit() else self.style


_PICTURE = click.Path(exists=True, dir_okay=False, readable=True, path_type=Path)


@click.command(
    short_help="Make, change, paint or enlarge a picture.",
    epilog="""\b
Examples:
  sluicegate generate "a red apple" -o apple.png
  sluicegate generate --image photo.jpg --style 7 --strength 0.8 -o painted.png
  sluicegate generate --image small.png --scale 4 -o large.webp""",
)
@click.argument("prompt", required=False)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="File to write: .png, .jpg or .webp. Default: JOB.png."
)
@click.option("--force", is_flag=True, help="Overwrite a file that exists.")
@click.option("-i", "--image", type=_PICTURE, help="Picture to start from.")
@click.option("--strength", type=click.FloatRange(0, 1), help="How far to change it, 0-1. Default: 1.")
@click.option("--style", help='A style, 0-25, or a blend such as "3:0.5,12:0.5".')
@click.option("--style-image", type=_PICTURE, help="A picture whose style to take.")
@click.option("--scale", type=click.Choice(["2", "4"]), help="Enlarge so many times.")
@click.option("-m", "--model", help="Model to use. Default: the first that does the task.")
@click.option(
    "--task",
    type=click.Choice(["text-to-image", "image-to-image", "stylize", "upscale"]),
    help="What to do. Default: what the other options mean.",
)
@click.option("--size", type=SizeType(), help="Width and height in pixels, such as 512x512. Default: the model's own.")
@click.option("--steps", type=click.IntRange(min=1), help="Denoising steps. Default: the model's own.")
@click.option("--guidance", type=float, help="How closely to keep to the prompt. Default: the model's own.")
@click.option("--negative-prompt", help="What to keep out of the picture.")
@click.option("--seed", type=click.IntRange(min=0), help="The same seed gives the same picture. Default: by chance.")
@click.option(
    "-n", "--number", type=click.IntRange(1, 10), help="How many pictures; saved as NAME-1, NAME-2 … Default: 1."
)
@click.option(
    "--timeout", type=click.FloatRange(0, 604_800, min_open=True), help="Seconds until the job expires. Default: never."
)
@click.option("--no-preview", is_flag=True, help="Do not draw the picture in the terminal.")
@json_option
@url_options
@store_options
def generate(
    *,
    prompt: str | None,
    output: Path | None,
    force: bool,
    image: Path | None,
    strength: float | None,
    style: str | None,
    style_image: Path | None,
    scale: str | None,
    model: str | None,
    task: str | None,
    size: tuple[int, int] | None,
    steps: int | None,
    guidance: float | None,
    negative_prompt: str | None,
    seed: int | None,
    number: int | None,
    timeout: float | None,
    no_preview: bool,
    as_json: bool,
    url: str | None,
    api_key: str | None,
    config: Path | None,
    data_dir: Path | None,
) -> None:
    """Make a picture from PROMPT, or change one: the job is queued, followed to its end and its result saved.

    With --scale the picture is enlarged, with --style or --style-image painted, with --image and PROMPT changed.
    Ctrl-C withdraws the job. When no --url is given and no gateway answers on this machine, one is started for as
    long as this command runs (that is what --config and --data-dir are for).
    """
    if prompt is None and image is None:
        raise click.UsageError('say what to make: a PROMPT such as "a red apple", or --image with a picture to change')
    numbers = {"strength": strength, "steps": steps, "guidance": guidance, "seed": seed, "n": number}
    order = Order(
        prompt=argument_text(prompt) if prompt is not None else None,
        image=image,
        style_image=style_image,
        style=style,
        model=model,
        task=task,
        size=size,
        scale=int(scale) if scale else None,
        numbers=numbers | {"negative_prompt": argument_text(negative_prompt) if negative_prompt else None},
        deadline_seconds=timeout,
        destination=Destination(output, force),
    )
    order.destination.check(number or 1)
    target = Target(url=url, api_key=api_key, config=config, data_dir=data_dir)
    began = time.monotonic()
    job, paths = run(_generate(target, order, quiet=as_json))
    _tell(job, paths, time.monotonic() - began, as_json=as_json, preview=not no_preview)


async def _generate(target: Target, order: Order, *, quiet: bool) -> tuple[Json, list[Path]]:
    """Upload, submit, follow, download; the ended job and the files written."""
    async with connect_or_start(target) as client:
        pictures = {"image": order.image, "style_image": order.style_image}
        assets = {name: await upload(client, path) for name, path in pictures.items() if path is not None}
        job = await submit(client, order.body(assets))
        job = await follow(client, job, quiet=quiet)
        paths = order.destination.paths(job)
        for output, path in zip(job["outputs"], paths, strict=True):
            await download(client, output, path)
        return job, paths


async def submit(client: Client, body: Json) -> Json:
    """Submit once, whatever the network does: the key makes repeats safe. Interrupted, it withdraws what it made."""
    key = uuid.uuid4().hex

    async def insist() -> Json:
        for attempt in range(1, SUBMIT_TRIES + 1):
            try:
                return await client.submit(body, key)
            except Unreachable:
                if attempt == SUBMIT_TRIES:
                    raise
        raise AssertionError("unreachable")

    sending = asyncio.ensure_future(insist())
    try:
        return await asyncio.shield(sending)
    except asyncio.CancelledError:
        done, _ = await asyncio.wait({sending}, timeout=CANCEL_SECONDS)
        sending.cancel()
        if done and not sending.cancelled() and sending.exception() is None:
            await withdraw(client, sending.result()["id"])
        raise


async def follow(client: Client, job: Json, *, quiet: bool) -> Json:
    """Show the job until it has succeeded. Raises `Failure` with the reason when it ends otherwise."""
    try:
        with display(quiet=quiet) as shown:
            async with aclosing(Follower(client, job).snapshots()) as snapshots:
                async for current in snapshots:
                    shown.show(current)
                    job = current
    except asyncio.CancelledError:
        await withdraw(client, job["id"])
        raise
    if job["status"] != "succeeded":
        raise Failure(why_not(job))
    return job


async def withdraw(client: Client, job_id: str) -> None:
    """Cancel a job whose caller has left; when the gateway does not answer in time, say that it goes on."""
    try:
        async with asyncio.timeout(CANCEL_SECONDS):
            await client.cancel(job_id)
    except (Failure, TimeoutError):
        say(f"{job_id} could not be canceled and may go on: sluicegate jobs cancel {job_id}")
    else:
        say(f"{job_id} canceled")


def why_not(job: Json) -> str:
    """Why a job ended without a result, in one or two lines."""
    error = job.get("error") or {}
    reason = f": {error.get('message')} ({error.get('code')})" if error else ""
    mend = "; the deadline passed first, give it more with --timeout" if job["status"] == "expired" else ""
    return f"the job {_ENDS[job['status']]}{reason}{mend}\n  ({job['id']}, model {job['model']}, {job['task']})"


def _tell(job: Json, paths: list[Path], seconds: float, *, as_json: bool, preview: bool) -> None:
    if as_json:
        files = [{"path": str(path), **output} for path, output in zip(paths, job["outputs"], strict=True)]
        print_json({"job": job, "files": files, "seconds": round(seconds, 3)})
        return
    for path, output in zip(paths, job["outputs"], strict=True):
        if preview:
            show_preview(path)
        size = f"{output['width']}x{output['height']}"
        click.echo(f"{path}  {size}  {size_text(output['size_bytes'])}  {seconds_text(seconds)}")
    for note in job.get("degraded") or []:
        say(f"note: {note}")
