"""Bad input of every kind gets the right 4xx in the dialect of the door, never a 5xx, and leaves nothing behind."""

import base64
import json
import resource
import socket
import struct
import zlib
from pathlib import Path
from typing import Any

import pytest
from tests.gateway import RunningGateway, picture, running_gateway

CHAT = {"model": "smollm2-135m", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 1}


def png_header(width: int, height: int) -> bytes:
    """A PNG that promises a size and holds next to nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


NOT_JSON = [b"", b"{", b"nonsense", b'{"a":"\xff"}', b"[" * 100_000, b'"\\ud800"', b'{"model":1e999}', b"\x00"]
NOT_PICTURES = [
    b"hello",
    b"GIF89a" + bytes(40),
    b"%PDF-1.7",
    b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    picture()[:200],
    picture(form="JPEG")[:-300],
    picture(form="WEBP")[:-20],
    png_header(60_000, 60_000),
    png_header(0, 10),
    b"\x89PNG\r\n\x1a\n",
]


@pytest.mark.parametrize("body", NOT_JSON)
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/api/chat", "/v1/jobs"])
def test_what_is_no_json_is_refused_in_each_dialect(gateway: RunningGateway, path: str, body: bytes) -> None:
    answer = gateway.post(path, content=body, headers={"content-type": "application/json"})
    assert 400 <= answer.status_code < 500
    told = answer.json()
    match path:
        case "/v1/jobs":
            assert answer.headers["content-type"] == "application/problem+json"
            assert {"type", "title", "status", "detail", "code"} <= set(told)
        case "/api/chat":
            assert told["error"] == "INVALID_REQUEST"
        case _:
            assert told["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"model": None}, "model"),
        ({"model": ""}, "model"),
        ({"messages": "hi"}, "messages"),
        ({"messages": [{"content": "hi"}]}, "messages[0].role"),
        ({"messages": []}, "messages"),
        ({"temperature": 3}, "temperature"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"stream": "yes"}, "stream"),
        ({"n": 0}, "n"),
    ],
)
def test_a_wrong_chat_field_is_named(gateway: RunningGateway, change: dict[str, Any], param: str) -> None:
    answer = gateway.post("/v1/chat/completions", json={**CHAT, **change})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "input"),
        ({"input": {}}, "model"),
        ({"model": "nobody", "input": {}}, "model"),
        ({"task": "dance", "input": {}}, "task"),
        ({"model": "realesrgan-x2", "task": "stylize", "input": {}}, "task"),
        ({"model": "style-transfer", "task": "text-to-image", "input": {"prompt": "a cat"}}, "task"),
        ({"model": "sprout", "input": {}}, "input.prompt"),
        ({"model": "realesrgan-x2", "input": {}}, "input.image"),
        ({"model": "realesrgan-x2", "input": []}, "input"),
        ({"model": "realesrgan-x2", "input": {"image": "asset_" + "0" * 26}}, "input.image"),
        ({"model": "realesrgan-x2", "input": {"image": "***"}}, "input.image"),
        ({"model": "realesrgan-x2", "input": {"image": "https://example.com/a.png"}}, "input.image"),
        ({"model": "realesrgan-x2", "input": {"image": "ASSET", "scale": 4}}, "input.scale"),
        ({"model": "realesrgan-x2", "input": {"image": "ASSET", "scale": 3}}, "input.scale"),
        ({"model": "realesrgan-x2", "input": {"image": "ASSET", "scael": 2}}, "input.scael"),
        ({"task": "stylize", "input": {"image": "ASSET", "style": 26}}, "input.style"),
        ({"task": "stylize", "input": {"image": "ASSET", "style": "3:x"}}, "input.style"),
        ({"task": "stylize", "input": {"image": "ASSET", "strength": 2}}, "input.strength"),
        ({"task": "stylize", "input": {"image": "ASSET", "style": 1, "style_image": "ASSET"}}, "input.style"),
        ({"task": "stylize", "input": {"image": "ASSET", "format": "gif"}}, "input.format"),
        ({"task": "stylize", "input": {"image": "ASSET"}, "priority": 1000}, "priority"),
        ({"task": "stylize", "input": {"image": "ASSET"}, "deadline_seconds": -1}, "deadline_seconds"),
        ({"task": "stylize", "input": {"image": "ASSET"}, "metadata": "x"}, "metadata"),
        ({"task": "stylize", "input": {"image": "ASSET"}, "prioritty": 1}, "prioritty"),
    ],
)
def test_a_wrong_job_field_is_named(gateway: RunningGateway, asset: str, body: dict[str, Any], field: str) -> None:
    sent = json.loads(json.dumps(body).replace("ASSET", asset))
    answer = gateway.post("/v1/jobs", json=sent)
    assert answer.status_code == 422, answer.text
    assert field in [fault["field"] for fault in answer.json()["errors"]]


def test_every_fault_of_a_request_is_told_at_once(gateway: RunningGateway) -> None:
    answer = gateway.post("/v1/jobs", json={"model": 3, "input": {}, "priority": "high", "tsak": "stylize"})
    assert {fault["field"] for fault in answer.json()["errors"]} == {"model", "priority", "tsak"}


@pytest.mark.parametrize("data", NOT_PICTURES)
def test_what_is_no_picture_is_refused_and_nothing_stays(gateway: RunningGateway, data: bytes) -> None:
    before = files(gateway.data_dir)
    upload = gateway.post("/v1/assets", content=data, headers={"content-type": "image/png"})
    form = gateway.post("/v1/assets", files={"file": ("x.png", data, "image/png")})
    inline = base64.b64encode(data).decode()
    job = gateway.post("/v1/jobs", json={"task": "stylize", "input": {"image": inline}})
    for answer in (upload, form, job):
        assert answer.status_code == 422, answer.text
        assert answer.json()["errors"][0]["message"]
    assert files(gateway.data_dir) == before


@pytest.mark.parametrize(
    "path",
    [
        "/v1/jobs/job_00000000000000000000000000",
        "/v1/jobs/..%2f..%2fetc%2fpasswd",
        "/v1/jobs/job_00000000000000000000000000/events",
        "/v1/assets/asset_00000000000000000000000000",
        "/v1/assets/%00",
        "/v1/assets/asset_00000000000000000000000000/thumbnail",
        "/v1/models/nobody",
        "/nowhere",
    ],
)
def test_what_is_unknown_is_not_found(gateway: RunningGateway, path: str) -> None:
    assert gateway.get(path).status_code == 404


@pytest.mark.parametrize(
    "path", ["/v1/jobs?limit=0", "/v1/jobs?limit=x", "/v1/jobs?status=done", "/v1/jobs?colour=red", "/v1/jobs?cursor=1"]
)
def test_a_wrong_query_is_named(gateway: RunningGateway, path: str) -> None:
    answer = gateway.get(path)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == path.partition("?")[2].partition("=")[0]


@pytest.mark.parametrize("query", ["w=8", "w=5000", "w=x", "format=gif", "size=3"])
def test_a_wrong_thumbnail_is_named(gateway: RunningGateway, asset: str, query: str) -> None:
    assert gateway.get(f"/v1/assets/{asset}/thumbnail?{query}").status_code == 422


def test_a_key_and_an_event_id_that_cannot_be_are_refused(gateway: RunningGateway, asset: str) -> None:
    body = {"task": "stylize", "input": {"image": asset}}
    assert gateway.post("/v1/jobs", json=body, headers={"idempotency-key": "k" * 256}).status_code == 422
    job = gateway.submit(body)["id"]
    assert gateway.get(f"/v1/jobs/{job}/events", headers={"last-event-id": "soon"}).status_code == 400


@pytest.mark.parametrize("depth", [500, 900, 960, 975, 990, 1_000, 1_100, 5_000])
@pytest.mark.parametrize(
    ("path", "around"),
    [
        ("/v1/chat/completions", b'{"model":"m","messages":%b}'),
        ("/api/chat", b'{"messages":%b}'),
        ("/v1/jobs", b'{"task":"stylize","input":{"image":"x","style":%b}}'),
        ("/v1/jobs", b'{"task":"stylize","input":{"image":"x"},"metadata":{"a":%b}}'),
    ],
)
def test_json_nested_deeply_is_refused(gateway: RunningGateway, path: str, around: bytes, depth: int) -> None:
    answer = gateway.post(path, content=around % (b"[" * depth + b"]" * depth))
    assert 400 <= answer.status_code < 500, answer.text


def test_a_body_of_many_faults_gets_a_short_answer(gateway: RunningGateway) -> None:
    answer = gateway.post("/api/chat", content=b'{"messages":[' + b",".join([b"{}"] * 200_000) + b"]}")
    assert answer.status_code == 400
    assert len(answer.content) < 20_000


@pytest.mark.parametrize(
    "headers", [{"host": "["}, {"host": "[::1"}, {"origin": "http://["}, {"origin": "http://a]"}, {"host": "a b"}]
)
def test_headers_that_are_no_address_are_no_crash(gateway: RunningGateway, headers: dict[str, str]) -> None:
    answer = gateway.get("/v1/jobs", headers=headers)
    assert 400 <= answer.status_code < 500


@pytest.mark.parametrize(
    "given", ["bytes=0-" + "9" * 5_000, "bytes=" + "9" * 5_000 + "-", "bytes=-" + "9" * 5_000, "bytes=5-1", "lines=1-2"]
)
def test_a_range_that_makes_no_sense_gives_the_whole_picture(gateway: RunningGateway, asset: str, given: str) -> None:
    assert gateway.get(f"/v1/assets/{asset}", headers={"range": given}).status_code == 200


@pytest.mark.parametrize(
    "more",
    [
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,x"}}]}]},
        {"messages": [{"role": "user", "content": [{"type": "text"}]}]},
        {"messages": [{"role": "user", "content": [{}]}]},
        {"messages": [{"role": "assistant", "tool_calls": 5}]},
        {"messages": [{"role": "assistant", "tool_calls": [{}]}]},
        {"tools": [{}]},
        {"tools": [{"type": "function"}]},
        {"tools": [{"type": "dance"}]},
        {"tool_choice": "sometimes"},
        {"response_format": {"type": "poem"}},
        {"grammar": "root ::= ("},
        {"max_tokens": 10**20},
        {"top_k": "many"},
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_what_the_built_in_model_cannot_take_is_the_callers_fault(
    gateway: RunningGateway, more: dict[str, Any], stream: bool
) -> None:
    answer = gateway.post("/v1/chat/completions", json={**CHAT, **more, "stream": stream})
    assert answer.status_code in (200, 400), answer.text
    assert answer.status_code == 400 or "tools" in more


def test_metadata_has_a_size(gateway: RunningGateway, asset: str) -> None:
    body = {"task": "stylize", "input": {"image": asset}, "metadata": {"a": "x" * 20_000}}
    answer = gateway.post("/v1/jobs", json=body)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == "metadata"


@pytest.mark.parametrize("style", ["26:1", "99", "3:0,4:0", "3:" + "9" * 400])
def test_a_blend_that_paints_nothing_is_refused_at_the_door(gateway: RunningGateway, asset: str, style: str) -> None:
    answer = gateway.post("/v1/jobs", json={"task": "stylize", "input": {"image": asset, "style": style}})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == "input.style"


def test_a_form_cut_before_its_end_is_malformed(gateway: RunningGateway) -> None:
    form = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\n\r\n' + picture()
    headers = {"content-type": "multipart/form-data; boundary=b"}
    assert gateway.post("/v1/assets", content=form, headers=headers).status_code == 400
    assert gateway.post("/v1/assets", content=form + b"\r\n--b--\r\n", headers=headers).status_code == 201


def test_a_method_that_a_path_does_not_have_is_told_with_those_it_has(gateway: RunningGateway) -> None:
    answer = gateway.delete("/v1/models")
    assert answer.status_code == 405
    assert answer.headers["allow"] == "GET, HEAD, OPTIONS"


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A gateway that takes little."""
    config = """
[server]
max_body_bytes = 4096
max_upload_bytes = 8192
client_idle_seconds = 1
[worker]
max_pixels = 10000
[[backends]]
name = "local-image"
kind = "local-image"
"""
    with running_gateway(tmp_path_factory.mktemp("small"), config) as running:
        yield running


def test_a_body_over_the_limit_is_413_whether_its_length_is_told_or_not(small: RunningGateway) -> None:
    before = files(small.data_dir)
    big = b'{"model":"' + b"x" * 5_000 + b'"}'
    pieces = [big[:3_000], big[3_000:]]
    for path in ("/v1/chat/completions", "/api/chat", "/v1/jobs"):
        assert small.post(path, content=big).status_code == 413
        assert small.post(path, content=iter(pieces)).status_code == 413
    upload = bytes(9_000)
    assert small.post("/v1/assets", content=upload).status_code == 413
    assert small.post("/v1/assets", content=iter([upload[:5_000], upload[5_000:]])).status_code == 413
    assert small.post("/v1/assets", files={"file": ("x.png", upload, "image/png")}).status_code == 413
    assert files(small.data_dir) == before


def test_a_caller_who_pauses_in_a_body_is_told_and_let_go(small: RunningGateway) -> None:
    for path in ("/v1/jobs", "/v1/assets"):
        with socket.create_connection(("127.0.0.1", small.port), timeout=30) as connection:
            connection.sendall(f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99\r\n\r\n{{".encode())
            told = b""
            while piece := connection.recv(65_536):
                told += piece
        assert told.startswith(b"HTTP/1.1 408 ")


def test_an_upload_for_which_there_is_no_room_is_told_in_the_doors_words(tmp_path: Path) -> None:
    with running_gateway(tmp_path) as gateway:
        assert gateway.process is not None
        before = files(gateway.data_dir)
        _, hard = resource.prlimit(gateway.process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(gateway.process.pid, resource.RLIMIT_FSIZE, (1_500_000, hard))
        data = bytes(4_000_000)
        for upload in ({"content": data}, {"files": {"file": ("x.png", data, "image/png")}}):
            answer = gateway.post("/v1/assets", **upload)
            assert answer.status_code == 503, answer.text
            assert answer.json()["code"] == "store_unavailable"
            assert answer.headers["x-request-id"]
        assert files(gateway.data_dir) == before
        resource.prlimit(gateway.process.pid, resource.RLIMIT_FSIZE, (hard, hard))
        assert gateway.upload(picture())


def test_a_picture_of_too_many_pixels_is_refused_with_the_limit(small: RunningGateway) -> None:
    answer = small.post("/v1/assets", content=picture(200, 100, form="JPEG"))
    assert answer.status_code == 422
    assert "10" in answer.json()["detail"]


def test_an_upload_cut_short_leaves_nothing_behind(gateway: RunningGateway) -> None:
    before = files(gateway.data_dir)
    data = picture(300, 200)
    with socket.create_connection(("127.0.0.1", gateway.port)) as connection:
        head = f"POST /v1/assets HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(data)}\r\n\r\n".encode()
        connection.sendall(head + data[: len(data) // 2])
        connection.shutdown(socket.SHUT_WR)
        connection.recv(65_536)
    gateway.upload(picture(10, 10, seed=123))
    after = files(gateway.data_dir)
    assert len(after - before) == 1
    assert not [name for name in after if "staging/" in name]


def files(data_dir: Path) -> set[str]:
    """The stored pictures and whatever is being written."""
    root = data_dir / "assets"
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file() and path.name != ".lock"}
