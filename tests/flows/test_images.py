"""OpenAI's image routes: odd forms, callers who leave, repeats, and the job behind each call."""

import base64
import contextlib
import json
import socket
import sqlite3
import threading
from typing import Any

import httpx
import pytest
from tests.gateway import RunningGateway, eventually, open_picture, picture

GENERATIONS, EDITS = "/v1/images/generations", "/v1/images/edits"
QUICK = {"steps": "4", "seed": "7"}
SLOW = {"prompt": "a red apple", "size": "1024x1024", "n": 10, "steps": 50}
"""Minutes of work: only ever withdrawn."""


def edit(gateway: RunningGateway, *files: tuple[str, bytes], **fields: str) -> httpx.Response:
    """POST an edit with these files and text fields."""
    parts = [(name, ("in.png", data, "image/png")) for name, data in files]
    return gateway.post(EDITS, files=parts or None, data={"prompt": "a green apple", **QUICK, **fields})


def refusal(answer: httpx.Response, status: int = 400) -> dict[str, Any]:
    """The error of an answer in OpenAI's dialect."""
    assert answer.status_code == status, answer.text
    error: dict[str, Any] = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return error


def newest(gateway: RunningGateway) -> dict[str, Any]:
    """The job that was submitted last."""
    job: dict[str, Any] = gateway.get("/v1/jobs?limit=1").json()["data"][0]
    return job


def other_than(gateway: RunningGateway, before: str) -> dict[str, Any]:
    """The first job after `before`."""
    return eventually(lambda: newest(gateway), lambda job: job["id"] != before)


@pytest.fixture
def latest(gateway: RunningGateway, asset: str) -> str:
    """A job that ended before the test begins."""
    return str(gateway.submit({"task": "stylize", "input": {"image": asset}}, prefer="wait=60")["id"])


def test_a_form_without_a_picture_is_told_what_it_has(gateway: RunningGateway) -> None:
    error = refusal(edit(gateway, ("photo", picture())))
    assert error["param"] == "image"
    assert "photo" in error["message"]


@pytest.mark.parametrize("names", [("image", "image"), ("image[]", "image[]"), ("image[0]", "image[1]")])
def test_two_pictures_are_refused(gateway: RunningGateway, names: tuple[str, str]) -> None:
    error = refusal(edit(gateway, *((name, picture()) for name in names)))
    assert error["param"] == "image"
    assert "2 pictures" in error["message"]


def test_a_text_in_place_of_the_picture_is_refused(gateway: RunningGateway) -> None:
    files = {"photo": ("x.png", picture(), "image/png")}
    answer = gateway.post(EDITS, files=files, data={"prompt": "a cat", "image": "in.png"})
    assert refusal(answer)["param"] == "image"


@pytest.mark.parametrize("data", [b"", b"hello", picture()[:200], b"GIF89a" + bytes(40)])
@pytest.mark.parametrize("key", [None, "not-a-picture"])
def test_a_file_that_is_no_picture_is_refused(gateway: RunningGateway, data: bytes, key: str | None) -> None:
    headers = {"idempotency-key": key} if key else {}
    files = {"image": ("in.png", data, "image/png")}
    error = refusal(gateway.post(EDITS, files=files, data={"prompt": "a cat"}, headers=headers))
    assert error["param"] == "image"


def test_a_form_cut_before_its_end_is_malformed(gateway: RunningGateway) -> None:
    form = b'--b\r\nContent-Disposition: form-data; name="prompt"\r\n\r\na cat\r\n'
    form += b'--b\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\n\r\n' + picture()
    headers = {"content-type": "multipart/form-data; boundary=b"}
    assert refusal(gateway.post(EDITS, content=form, headers=headers))["code"] == "malformed_body"
    assert gateway.post(EDITS, content=form + b"\r\n--b--\r\n", headers=headers).status_code == 200


@pytest.mark.parametrize("kind", ["application/json", "multipart/form-data", "text/plain", ""])
def test_a_body_that_is_no_form_is_malformed(gateway: RunningGateway, kind: str) -> None:
    answer = gateway.post(EDITS, content=b'{"prompt": "a cat"}', headers={"content-type": kind})
    error = refusal(answer)
    assert error["code"] == "malformed_body"
    assert error["param"] is None


@pytest.mark.parametrize(
    ("field", "text"), [("n", "two"), ("n", "0"), ("stream", "perhaps"), ("strength", "1.1"), ("size", "10x")]
)
def test_a_text_field_that_does_not_convert_is_named(gateway: RunningGateway, field: str, text: str) -> None:
    assert refusal(edit(gateway, ("image", picture()), **{field: text}))["param"] == field


def test_a_refused_edit_leaves_no_asset_behind(gateway: RunningGateway) -> None:
    def assets() -> int:
        with contextlib.closing(sqlite3.connect(gateway.data_dir / "sluicegate.db")) as database:
            return int(database.execute("SELECT count(*) FROM asset").fetchone()[0])

    before = assets()
    refusal(edit(gateway, ("image", picture()), size="200x100"))
    assert assets() == before
    gateway.upload(picture())
    assert assets() == before + 1


def test_empty_fields_count_as_absent_and_unknown_ones_do_no_harm(gateway: RunningGateway) -> None:
    answer = edit(gateway, ("image[]", picture()), n="", size="", mask="", quality="high", nonsense="1")
    assert answer.status_code == 200, answer.text
    (made,) = answer.json()["data"]
    job = gateway.get(f"/v1/jobs/{answer.json()['sluicegate']['job']}").json()
    assert job["input"]["strength"] == 0.6
    assert open_picture(gateway.get(made["url"].removeprefix(gateway.url)).content).size == (128, 128)


def test_an_edit_by_a_model_with_its_own_size_says_so(gateway: RunningGateway) -> None:
    answer = edit(gateway, ("image", picture(64, 48)), model="style-transfer", size="256x256")
    assert answer.status_code == 200, answer.text
    told = answer.json()
    assert told["size"] == "64x48"
    assert any("not 256x256" in note for note in told["sluicegate"]["degraded"])


def test_null_fields_count_as_absent(gateway: RunningGateway) -> None:
    fields = ("model", "n", "size", "response_format", "output_format", "stream", "partial_images", "negative_prompt")
    body = {"prompt": "a red apple", "steps": 4, **dict.fromkeys(fields)}
    answer = gateway.post(GENERATIONS, json=body)
    assert answer.status_code == 200, answer.text
    assert list(answer.json()["data"][0]) == ["url"]


def test_every_fault_of_the_job_is_told_in_the_words_of_this_dialect(gateway: RunningGateway) -> None:
    answer = gateway.post(GENERATIONS, json={"prompt": "a red apple", "steps": 1000, "size": "300x300"})
    message = refusal(answer)["message"]
    assert "steps: " in message
    assert "input." not in message
    answer = gateway.post(GENERATIONS, json={"prompt": "a red apple", "size": "300x300"})
    assert refusal(answer)["message"].startswith("size: ")


@pytest.mark.parametrize("stream", [False, True])
def test_when_the_caller_leaves_the_job_is_withdrawn(gateway: RunningGateway, latest: str, stream: bool) -> None:
    body = json.dumps({**SLOW, "stream": stream}).encode()
    with socket.create_connection(("127.0.0.1", gateway.port)) as connection:
        head = f"POST {GENERATIONS} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(body)}\r\n\r\n"
        connection.sendall(head.encode() + body)
        job = other_than(gateway, latest)
        assert job["status"] in ("queued", "running")
    assert gateway.finished(job["id"])["status"] == "canceled"


def test_a_caller_with_a_key_may_leave_and_come_back(gateway: RunningGateway, latest: str) -> None:
    headers = {"idempotency-key": "come-back"}
    files = {"image": ("in.png", picture(seed=3), "image/png")}
    fields = {"prompt": "a green apple", "size": "512x512", "steps": "30"}
    form = httpx.Request("POST", f"{gateway.url}{EDITS}", files=files, data=fields, headers=headers)
    head = "".join(f"{name}: {value}\r\n" for name, value in form.headers.items())
    with socket.create_connection(("127.0.0.1", gateway.port)) as connection:
        connection.sendall(f"POST {EDITS} HTTP/1.1\r\n{head}\r\n".encode() + form.read())
        job = other_than(gateway, latest)
    answer = gateway.post(EDITS, files=files, data=fields, headers=headers)
    assert answer.status_code == 200, answer.text
    assert answer.json()["sluicegate"]["job"] == job["id"]
    other = gateway.post(EDITS, files=files, data={**fields, "steps": "4"}, headers=headers)
    assert refusal(other, 422)["code"] == "idempotency_mismatch"


def test_a_job_that_is_canceled_meanwhile_is_a_conflict(gateway: RunningGateway, latest: str) -> None:
    told: list[httpx.Response] = []
    for stream in (False, True):
        call = threading.Thread(
            target=lambda stream=stream: told.append(gateway.post(GENERATIONS, json={**SLOW, "stream": stream}))
        )
        call.start()
        latest = other_than(gateway, latest)["id"]
        gateway.post(f"/v1/jobs/{latest}/cancel")
        call.join()
    whole, streamed = told
    assert refusal(whole, 409)["code"] == "canceled"
    assert streamed.status_code == 200
    assert streamed.headers["content-type"].startswith("text/event-stream")
    lines = streamed.text.strip().splitlines()
    assert lines[0] == "event: error"
    error = json.loads(lines[1].removeprefix("data: "))
    assert error["type"] == "error"
    assert error["error"]["code"] == "canceled"


def test_an_inline_picture_is_the_one_that_the_job_made(gateway: RunningGateway) -> None:
    body = {"prompt": "a red apple", "steps": 4, "response_format": "b64_json", "output_format": "webp"}
    told = gateway.post(GENERATIONS, json=body).json()
    job = gateway.get(f"/v1/jobs/{told['sluicegate']['job']}").json()
    (output,) = job["outputs"]
    assert base64.b64decode(told["data"][0]["b64_json"]) == gateway.get(f"/v1/assets/{output['id']}").content
    assert output["content_type"] == "image/webp"
    assert job["input"]["previews"] == 0, "nobody looks at them"
