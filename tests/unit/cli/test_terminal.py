"""Words, sizes, durations and previews on a terminal."""

import asyncio
import io
import os
import signal
from pathlib import Path

import click
import pytest
from PIL import Image
from rich.console import Console
from tests.unit.cli.scripted_gateway import job_value

from sluicegate.cli.preview import render
from sluicegate.cli.progress import describe, share
from sluicegate.cli.terminal import TERMINATED, argument_text, printable, run, seconds_text, size_text


def test_what_a_model_says_cannot_steer_the_terminal() -> None:
    assert printable("red\x1b[31m\x07 and\r\x9b2J more\n\tlines") == "red[31m and2J more\n\tlines"
    assert printable("grüße 👩‍🚀 \u00ad") == "grüße 👩‍🚀 \u00ad"


def test_an_argument_with_foreign_bytes_becomes_proper_text() -> None:
    assert argument_text(os.fsdecode(b"caf\xe9")) == "caf\ufffd"
    assert argument_text("grün") == "grün"


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0 B"), (999, "999 B"), (34_567, "34.6 kB"), (999_960, "1.0 MB"), (2_500_000_000, "2.5 GB")]
)
def test_sizes_are_for_people(size: int, text: str) -> None:
    assert size_text(size) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(-1, "0.0 s"), (0.84, "0.8 s"), (12.4, "12 s"), (185, "3 min 05 s"), (7_800, "2 h 10 min")]
)
def test_durations_are_for_people(seconds: float, text: str) -> None:
    assert seconds_text(seconds) == text


def test_a_job_is_described_by_its_place_its_step_or_its_state() -> None:
    assert describe(job_value("queued", queue_position=3)) == "queued, place 3"
    assert describe(job_value("running", progress={"value": 0.4, "step": 2, "steps": 5})) == "step 2/5"
    assert describe(job_value("running", progress={"value": 0.4, "message": "loading\x1b"})) == "loading"
    assert describe(job_value("failed")) == "failed"
    assert share(job_value("running", progress={"value": 0.4})) == 0.4
    assert share(job_value("succeeded")) == 1.0


def test_sigterm_ends_a_command_after_its_clean_up() -> None:
    cleaned = []

    async def work() -> None:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            await asyncio.Event().wait()
        finally:
            cleaned.append(True)

    with pytest.raises(click.exceptions.Exit) as caught:
        run(work())
    assert caught.value.exit_code == TERMINATED
    assert cleaned == [True]


def test_ctrl_c_ends_a_command_after_its_clean_up() -> None:
    cleaned = []

    async def work() -> None:
        try:
            os.kill(os.getpid(), signal.SIGINT)
            await asyncio.Event().wait()
        finally:
            cleaned.append(True)

    with pytest.raises(click.exceptions.Exit) as caught:
        run(work())
    assert caught.value.exit_code == 130
    assert cleaned == [True]


def test_a_preview_shows_two_pixels_in_each_cell(tmp_path: Path) -> None:
    picture = Image.new("RGB", (2, 2))
    for place, colour in zip(
        [(0, 0), (1, 0), (0, 1), (1, 1)], ["#ff0000", "#00ff00", "#0000ff", "#ffffff"], strict=True
    ):
        picture.putpixel(place, tuple(bytes.fromhex(colour[1:])))
    picture.save(tmp_path / "a.png")

    text = render(tmp_path / "a.png", 40)

    assert text.plain == "▀▀"
    styles = [str(span.style) for span in text.spans]
    assert styles == ["#ff0000 on #0000ff", "#00ff00 on #ffffff"]


@pytest.mark.parametrize(("size", "cells"), [((640, 480), 40), ((3, 500), 40), ((500, 1), 40), ((1, 1), 40)])
def test_a_preview_fits_the_terminal_whatever_the_shape(tmp_path: Path, size: tuple[int, int], cells: int) -> None:
    Image.new("RGBA", size, (10, 20, 30, 128)).save(tmp_path / "a.png")

    text = render(tmp_path / "a.png", cells)

    lines = text.plain.split("\n")
    assert all(len(line) == min(cells, size[0]) for line in lines)
    Console(file=io.StringIO(), width=80).print(text)
