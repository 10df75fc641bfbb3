"""What options mean, and how a job is submitted, followed and withdrawn."""

import asyncio
import json
import sys
from asyncio.subprocess import PIPE
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from tests.unit.cli.scripted_gateway import (
    Answer,
    job_value,
    json_answer,
    problem_answer,
    scripted_gateway,
    stream_answer,
)

from sluicegate.cli import main
from sluicegate.cli.connection import Target, connect
from sluicegate.cli.files import Destination
from sluicegate.cli.generate import Order, follow, submit
from sluicegate.cli.terminal import Failure

IN = Path("in.png")


def order(**said: Any) -> Order:
    fields = ("prompt", "image", "style_image", "style", "model", "task", "size", "scale", "deadline_seconds")
    nothing: dict[str, Any] = dict.fromkeys(fields)
    return Order(**{**nothing, "numbers": {}, "destination": Destination(Path("out.webp"), force=False), **said})


@pytest.mark.parametrize(
    ("said", "task"),
    [
        ({"prompt": "an apple"}, "text-to-image"),
        ({"prompt": "an apple", "model": "sprout"}, "text-to-image"),
        ({"prompt": "an apple", "image": IN}, "image-to-image"),
        ({"image": IN}, "image-to-image"),
        ({"image": IN, "model": "realesrgan-x4"}, None),
        ({"image": IN, "style": "7"}, "stylize"),
        ({"image": IN, "style_image": IN, "model": "style-transfer"}, "stylize"),
        ({"image": IN, "style": "7", "prompt": "a river"}, "image-to-image"),
        ({"image": IN, "scale": 4}, "upscale"),
        ({"image": IN, "style": "7", "task": "upscale"}, "upscale"),
    ],
)
def test_the_options_say_the_task(said: dict[str, Any], task: str | None) -> None:
    assert order(**said).chosen_task() == task


def test_a_submission_holds_what_was_said_and_nothing_else() -> None:
    body = order(
        prompt="an apple",
        image=IN,
        style="7",
        size=(320, 240),
        numbers={"strength": 0.5, "steps": None, "n": 2},
        deadline_seconds=60.0,
    ).body({"image": "asset_1"})

    assert body == {
        "task": "image-to-image",
        "deadline_seconds": 60.0,
        "input": {
            "prompt": "an apple",
            "image": "asset_1",
            "style": 7,
            "width": 320,
            "height": 240,
            "strength": 0.5,
            "n": 2,
            "format": "webp",
        },
    }


def test_a_blend_of_styles_stays_text() -> None:
    assert order(image=IN, style="3:0.5,12:0.5").body({})["input"]["style"] == "3:0.5,12:0.5"


@pytest.mark.parametrize("size", ["512", "512x", "x512", "-1x5", "a x b", "512*512"])
def test_a_size_that_is_none_is_refused(size: str) -> None:
    result = CliRunner().invoke(main, ["generate", "an apple", "--size", size])

    assert result.exit_code == 2
    assert "512x512" in result.stderr


def test_nothing_to_make_is_a_usage_error() -> None:
    result = CliRunner().invoke(main, ["generate"])

    assert result.exit_code == 2
    assert "PROMPT" in result.stderr


def test_a_submission_whose_answer_is_lost_is_repeated_under_the_same_key() -> None:
    async def scenario() -> None:
        async with scripted_gateway() as gateway, connect(Target(url=gateway.url)) as client:
            gateway.script("POST", "/v1/jobs", Answer(b""), Answer(b""), json_answer(job_value("queued"), 202))

            job = await submit(client, {"input": {}})

            assert job["id"] == "job_1"
            keys = {seen.headers["idempotency-key"] for seen in gateway.seen}
            assert len(gateway.seen) == 3
            assert len(keys) == 1

    asyncio.run(scenario())


def test_an_interrupted_follower_withdraws_its_job(capsys: pytest.CaptureFixture[str]) -> None:
    async def scenario() -> None:
        async with scripted_gateway() as gateway, connect(Target(url=gateway.url)) as client:
            gateway.script("GET", "/v1/jobs/job_1/events", stream_answer(": heartbeat\n\n", hold=True))
            gateway.script("POST", "/v1/jobs/job_1/cancel", json_answer(job_value("canceled")))
            task = asyncio.create_task(follow(client, job_value("running"), quiet=False))
            await gateway.arrived["/v1/jobs/job_1/events"].wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert len(gateway.requests("POST", "/v1/jobs/job_1/cancel")) == 1

    asyncio.run(scenario())
    assert "job_1 canceled" in capsys.readouterr().err


def test_an_interrupt_while_submitting_withdraws_the_job_that_was_made() -> None:
    async def scenario() -> None:
        async with scripted_gateway() as gateway, connect(Target(url=gateway.url)) as client:
            gateway.script("POST", "/v1/jobs", json_answer(job_value("queued"), 202))
            gateway.script("POST", "/v1/jobs/job_1/cancel", json_answer(job_value("canceled")))
            task = asyncio.create_task(submit(client, {"input": {}}))
            await gateway.arrived["/v1/jobs"].wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert len(gateway.requests("POST", "/v1/jobs/job_1/cancel")) == 1

    asyncio.run(scenario())


def test_a_job_that_cannot_be_withdrawn_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    async def scenario() -> None:
        async with scripted_gateway() as gateway, connect(Target(url=gateway.url)) as client:
            gateway.script("GET", "/v1/jobs/job_1/events", stream_answer(hold=True))
            gateway.script("POST", "/v1/jobs/job_1/cancel", problem_answer(503, "not now"))
            task = asyncio.create_task(follow(client, job_value("running"), quiet=True))
            await gateway.arrived["/v1/jobs/job_1/events"].wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(scenario())
    assert "sluicegate jobs cancel job_1" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("ended", "words"),
    [
        (job_value("failed", error={"code": "backend_failed", "message": "out of memory"}), "out of memory"),
        (job_value("expired"), "--timeout"),
        (job_value("canceled"), "the job was canceled"),
    ],
)
def test_a_job_without_a_result_says_why(ended: dict[str, Any], words: str) -> None:
    async def scenario() -> None:
        async with connect(Target(url="http://127.0.0.1:1")) as client:
            await follow(client, ended, quiet=True)

    with pytest.raises(Failure, match=words) as caught:
        asyncio.run(scenario())
    assert "job_1" in caught.value.message


def test_a_failed_job_ends_the_command_with_its_reason_and_an_empty_stdout(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with scripted_gateway() as gateway:
            picture = {"id": "asset_1", "sha256": "0" * 64, "size_bytes": 0, "width": 8, "height": 8, "url": "u"}
            failed = job_value("failed", error={"code": "backend_failed", "message": "out of memory"})
            gateway.script("POST", "/v1/assets", json_answer(picture, 201))
            gateway.script("POST", "/v1/jobs", json_answer(failed, 202))
            (tmp_path / "in.png").write_bytes(b"\x89PNG")
            arguments = ["generate", "--image", str(tmp_path / "in.png"), "--scale", "2", "--json"]
            arguments += ["-o", str(tmp_path / "out.png"), "--url", gateway.url]
            command = [sys.executable, "-m", "sluicegate", *arguments]
            child = await asyncio.create_subprocess_exec(*command, stdout=PIPE, stderr=PIPE)
            out, err = await child.communicate()

            assert (child.returncode, out) == (1, b"")
            assert err.startswith(b"Error: the job failed: out of memory (backend_failed)")
            sent = json.loads(gateway.requests("POST", "/v1/jobs")[0].body)
            assert sent == {"task": "upscale", "input": {"scale": 2, "image": "asset_1", "format": "png"}}

    asyncio.run(scenario())
