"""Refusals and failures in words."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from tests.unit.cli.scripted_gateway import (
    Answer,
    ScriptedGateway,
    bytes_answer,
    job_value,
    json_answer,
    problem_answer,
    scripted_gateway,
)

from sluicegate.cli.client import Client, Refused, Unreachable, content_type_of, refusal
from sluicegate.cli.connection import Target, connect
from sluicegate.cli.terminal import Failure, Misuse

Ask = Callable[[Client], Coroutine[Any, Any, Any]]


def ask(answer: Answer, question: Ask, *, api_key: str | None = None) -> tuple[Any, ScriptedGateway]:
    """What the client makes of one answer to GET /v1/jobs/job_1."""

    async def scenario() -> tuple[Any, ScriptedGateway]:
        async with scripted_gateway() as gateway:
            gateway.script("GET", "/v1/jobs/job_1", answer)
            async with connect(Target(url=gateway.url, api_key=api_key)) as client:
                return await question(client), gateway

    return asyncio.run(scenario())


def get_job(client: Client) -> Coroutine[Any, Any, Any]:
    return client.job("job_1")


def test_every_fault_is_named_with_its_field_and_its_mend() -> None:
    problem = {
        "detail": "all in one line",
        "code": "invalid_input",
        "errors": [
            {"field": "input.scale", "message": "x4 enlarges by 4, not 2", "suggestion": "leave scale out"},
            {"field": "model", "message": "no such model"},
        ],
    }

    text = refusal(422, json.dumps(problem).encode(), {"x-request-id": "req_1"})

    assert text == (
        "input.scale: x4 enlarges by 4, not 2 (leave scale out)\n  model: no such model\n"
        "  (422 invalid_input, request req_1)"
    )


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"error": {"message": "no model here", "type": "server_error", "code": "model_not_found"}}, "no model here"),
        ({"error": {"message": "no model here", "type": "server_error", "code": None}}, "server_error"),
        ({"error": "INVALID_REQUEST", "message": "no model here", "details": []}, "INVALID_REQUEST"),
        ({"detail": "no model here", "code": "model_not_found"}, "model_not_found"),
        (["not", "an", "object"], "not"),
    ],
)
def test_each_dialect_of_errors_is_understood(body: Any, words: str) -> None:
    assert words in refusal(404, json.dumps(body).encode(), {})


def test_an_answer_of_another_program_is_shown_shortened() -> None:
    text = refusal(502, b"<html>" + b"x" * 9_000, {})

    assert text.startswith("<html>xxx")
    assert len(text) < 400


def test_an_error_says_when_to_try_again_and_where_the_key_goes() -> None:
    assert "try again in 7 s" in refusal(503, b"{}", {"retry-after": "7"})
    assert "SLUICEGATE_API_KEY" in refusal(401, b"{}", {})


def test_a_problem_is_raised_as_a_refusal_with_its_status() -> None:
    with pytest.raises(Refused, match="not now") as caught:
        ask(problem_answer(503, "not now"), get_job)
    assert caught.value.status == 503


@pytest.mark.parametrize(
    "answer",
    [
        bytes_answer(b"<html>hello</html>", "text/html"),
        json_answer(["a", "list"]),
        json_answer({"id": "job_1"}),
        json_answer({"id": 3, "status": "queued"}),
    ],
)
def test_another_program_at_the_address_is_recognised(answer: Answer) -> None:
    with pytest.raises(Failure, match="is it a Sluicegate gateway"):
        ask(answer, get_job)


def test_a_redirect_is_not_followed_but_told() -> None:
    answer = json_answer({}, 307, location="https://elsewhere.example/")

    with pytest.raises(Refused, match=r"https://elsewhere\.example/"):
        ask(answer, get_job)


def test_an_answer_that_is_no_http_is_a_broken_connection() -> None:
    with pytest.raises(Unreachable, match="broke"):
        ask(Answer(b"this is no HTTP\r\n\r\n"), get_job)


def test_the_key_is_sent_as_a_bearer() -> None:
    _, gateway = ask(json_answer(job_value("queued")), get_job, api_key="sk-123")

    assert gateway.seen[0].headers["authorization"] == "Bearer sk-123"


def test_an_id_cannot_leave_its_place_in_the_path() -> None:
    async def scenario() -> None:
        async with scripted_gateway() as gateway, connect(Target(url=gateway.url)) as client:
            with pytest.raises(Refused):
                await client.job("../models?x=1")
            assert [seen.path for seen in gateway.seen] == ["/v1/jobs/..%2Fmodels%3Fx%3D1"]

    asyncio.run(scenario())


def test_the_address_may_stand_in_the_dotenv_file(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("SLUICEGATE_URL=http://127.0.0.1:9\n")
    inherited = {name: value for name, value in os.environ.items() if name != "SLUICEGATE_URL"}
    command = [sys.executable, "-m", "sluicegate", "jobs", "list"]

    done = subprocess.run(command, cwd=tmp_path, env=inherited, capture_output=True, text=True, timeout=60, check=False)

    assert done.returncode == 1
    assert done.stderr.startswith("Error: no gateway answers at http://127.0.0.1:9")


@pytest.mark.parametrize("url", ["127.0.0.1:8000", "ftp://host", "http://", "nonsense"])
def test_an_address_that_cannot_be_one_is_refused_before_any_call(url: str) -> None:
    async def scenario() -> None:
        async with connect(Target(url=url)):
            pass

    with pytest.raises(Misuse, match="no address of a gateway"):
        asyncio.run(scenario())


def test_a_key_that_cannot_be_one_is_refused_without_showing_it() -> None:
    async def scenario() -> None:
        async with connect(Target(url="http://127.0.0.1:1", api_key="sk-grün")):
            pass

    with pytest.raises(Misuse) as caught:
        asyncio.run(scenario())
    assert "sk-" not in caught.value.message


def test_the_media_type_is_told_by_the_first_bytes() -> None:
    assert content_type_of(b"\x89PNG\r\n") == "image/png"
    assert content_type_of(b"\xff\xd8\xff\xe0") == "image/jpeg"
    assert content_type_of(b"RIFF1234WEBPVP8 ") == "image/webp"
    assert content_type_of(b"") == "application/octet-stream"
