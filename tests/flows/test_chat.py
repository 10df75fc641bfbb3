"""Chat through the real gateway and the real language model."""

import json
import os
import signal
import socket
import threading
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.gateway import RunningGateway, eventually, running_gateway
from tests.upstream import scripted_upstream

QUESTION = [{"role": "user", "content": "Tell me a long story about a river."}]


ENDLESS = {"stream": True, "max_tokens": 1500, "ignore_eos": True}
"""Goes on for seconds: `ignore_eos` is llama.cpp's own field, passed on."""


def body(**more: Any) -> dict[str, Any]:
    return {"model": "smollm2-135m", "messages": QUESTION, "max_tokens": 12, **more}


def events(text: str) -> list[dict[str, str]]:
    """Server-sent events as dictionaries of their fields."""
    blocks = [block for block in text.split("\n\n") if block.strip()]
    return [dict(line.partition(": ")[::2] for line in block.splitlines()) for block in blocks]


def streams(gateway: RunningGateway) -> dict[str, int]:
    counts: dict[str, int] = gateway.get("/api/chat/streams").json()
    return counts


def busy_slots(gateway: RunningGateway) -> float:
    """Calls that the model's own server is working on, by its metrics behind ours."""
    text = gateway.get("/metrics").text
    lines = [line for line in text.splitlines() if line.startswith("sluicegate_backend_inflight{")]
    return sum(float(line.rpartition(" ")[2]) for line in lines)


def test_a_whole_answer_has_content_and_usage(gateway: RunningGateway) -> None:
    answer = gateway.post("/v1/chat/completions", json=body())
    assert answer.status_code == 200
    told = answer.json()
    assert told["choices"][0]["message"]["content"]
    assert told["usage"]["total_tokens"] == told["usage"]["prompt_tokens"] + told["usage"]["completion_tokens"]
    assert answer.headers["content-type"].startswith("application/json")


def test_a_streamed_answer_is_events_up_to_done(gateway: RunningGateway) -> None:
    options = {"stream": True, "stream_options": {"include_usage": True}}
    answer = gateway.post("/v1/chat/completions", json=body(**options))
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.headers["x-accel-buffering"] == "no"
    assert answer.headers["cache-control"] == "no-cache"
    datas = [line[6:] for line in answer.text.splitlines() if line.startswith("data: ")]
    assert datas[-1] == "[DONE]"
    chunks = [json.loads(data) for data in datas[:-1]]
    assert "".join(c["choices"][0]["delta"].get("content") or "" for c in chunks if c["choices"])
    assert chunks[-1]["usage"]["completion_tokens"] <= 12


def test_a_picture_model_that_is_asked_to_chat_is_told_where_to_go(gateway: RunningGateway) -> None:
    answer = gateway.post("/v1/chat/completions", json={**body(), "model": "style-transfer"})
    assert answer.status_code == 404
    assert "/v1/jobs" in answer.json()["error"]["message"]
    assert answer.json()["error"]["param"] == "model"


def test_fields_that_we_do_not_know_reach_the_backend(tmp_path: Path) -> None:
    with scripted_upstream() as upstream:
        config = f'[[backends]]\nname = "up"\nkind = "openai"\nurl = "{upstream.url}"\n'
        with running_gateway(tmp_path, config) as gateway:
            gateway.wait_ready()
            sent = {"model": "steady", "messages": QUESTION, "grammar_of_tomorrow": {"deep": [1, 2]}}
            assert gateway.post("/v1/chat/completions", json=sent).status_code == 200
            assert upstream.seen()["last"]["body"]["grammar_of_tomorrow"] == {"deep": [1, 2]}


def test_a_caller_who_leaves_frees_the_model_slot(gateway: RunningGateway) -> None:
    before = streams(gateway)["cancelled"]
    with (
        httpx.Client(timeout=60, trust_env=False) as client,
        client.stream("POST", f"{gateway.url}/v1/chat/completions", json=body(**ENDLESS)) as answer,
    ):
        lines = answer.iter_lines()
        next(lines)
        assert busy_slots(gateway) == 1
    eventually(lambda: streams(gateway)["cancelled"], lambda cancelled: cancelled == before + 1)
    eventually(lambda: busy_slots(gateway), lambda busy: busy == 0)


def test_a_stream_is_cancelled_by_its_request_id_and_told_so(gateway: RunningGateway) -> None:
    seen: list[str] = []
    begun = threading.Event()

    def read() -> None:
        request = {"messages": QUESTION, "maxTokens": 1500}
        headers = {"x-request-id": "cancel-me"}
        with httpx.stream("POST", f"{gateway.url}/api/chat", json=request, headers=headers, timeout=60) as answer:
            assert answer.headers["x-request-id"] == "cancel-me"
            for line in answer.iter_lines():
                seen.append(line)
                begun.set()

    reader = threading.Thread(target=read)
    reader.start()
    assert begun.wait(30)
    assert gateway.delete("/api/chat/cancel-me").json() == {"requestId": "cancel-me", "cancelled": True}
    reader.join(30)
    told = events("\n".join(seen))
    assert told[-1]["event"] == "error"
    assert json.loads(told[-1]["data"])["code"] == "CANCELED"
    assert gateway.delete("/api/chat/cancel-me").status_code == 404


def test_the_simple_api_streams_chunks_and_then_done(gateway: RunningGateway) -> None:
    answer = gateway.post("/api/chat", json={"messages": QUESTION, "maxTokens": 5}, headers={"x-request-id": "abc"})
    told = events(answer.text)
    assert {event["id"] for event in told} == {"abc"}
    assert {event["event"] for event in told[:-1]} == {"chat.completion.chunk"}
    first = json.loads(told[0]["data"])
    assert first["model"] == "smollm2-135m"
    assert first["done"] is False
    assert told[-1]["event"] == "chat.completion.done"
    done = json.loads(told[-1]["data"])
    assert done["done"] is True
    assert done["evalCount"] == 5
    assert done["totalDuration"] > 0


def test_the_simple_api_answers_whole_when_asked(gateway: RunningGateway) -> None:
    told = gateway.post("/api/chat", json={"messages": QUESTION, "maxTokens": 5, "stream": False}).json()
    assert set(told) == {"requestId", "model", "content", "usage"}
    assert told["content"]
    usage = told["usage"]
    assert usage["totalTokens"] == usage["promptTokens"] + usage["completionTokens"]


@pytest.mark.parametrize(
    ("fault", "field"),
    [
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "robot", "content": "hi"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": ""}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": "x" * 10_001}]}, "messages[0].content"),
        ({"messages": QUESTION, "temperature": 2.1}, "temperature"),
        ({"messages": QUESTION, "temperature": "warm"}, "temperature"),
        ({"messages": QUESTION, "maxTokens": 0}, "maxTokens"),
        ({"messages": QUESTION, "maxTokens": 4097}, "maxTokens"),
        ({"messages": QUESTION, "stream": "yes"}, "stream"),
        ({"messages": QUESTION, "max_tokens": 5}, "max_tokens"),
        ({}, "messages"),
    ],
)
def test_the_simple_api_names_the_field_at_fault(gateway: RunningGateway, fault: dict[str, Any], field: str) -> None:
    answer = gateway.post("/api/chat", json=fault)
    assert answer.status_code == 400
    told = answer.json()
    assert told["error"] == "INVALID_REQUEST"
    assert field in [detail["field"] for detail in told["details"]]
    assert field in told["message"]


def test_counts_of_streams_add_up(gateway: RunningGateway) -> None:
    gateway.post("/api/chat", json={"messages": QUESTION, "maxTokens": 1})
    counts = streams(gateway)
    assert counts["total"] == counts["completed"] + counts["cancelled"] + counts["error"]
    assert counts["completed"] >= 1


def test_the_language_model_is_restarted_when_it_dies(tmp_path: Path) -> None:
    with running_gateway(tmp_path, '[[backends]]\nname = "local-llm"\nkind = "local-llm"\n') as gateway:
        gateway.wait_ready()
        (pid,) = gateway.llm_pids()
        os.kill(pid, signal.SIGKILL)
        answer = eventually(lambda: gateway.post("/v1/chat/completions", json=body()), lambda a: a.status_code == 200)
        assert answer.json()["choices"][0]["message"]["content"]
        assert gateway.llm_pids() != [pid]


def test_nothing_outlives_a_gateway_that_was_killed(tmp_path: Path) -> None:
    with running_gateway(tmp_path) as gateway:
        gateway.wait_ready()
        pids = [*gateway.llm_pids(), *gateway.worker_pids()]
        assert len(pids) == 2
        gateway.kill()
        eventually(lambda: [pid for pid in pids if Path(f"/proc/{pid}").exists()], lambda alive: not alive)


@pytest.fixture(scope="module")
def troubled(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A gateway before an upstream that misbehaves on request."""
    with scripted_upstream() as upstream:
        config = f"""
[[backends]]
name = "up"
kind = "openai"
url = "{upstream.url}"
timeout_seconds = {{ first_byte = 1, idle = 1, total = 20 }}
"""
        with running_gateway(tmp_path_factory.mktemp("troubled"), config) as gateway:
            gateway.wait_ready()
            yield gateway


@pytest.mark.parametrize(
    ("model", "status"),
    [
        ("slow-head", 504),
        ("error-400", 400),
        ("error-401", 502),
        ("error-429", 429),
        ("error-500", 502),
        ("error-503", 503),
        ("nonsense", 502),
    ],
)
def test_a_backend_in_trouble_is_told_in_openai_words(troubled: RunningGateway, model: str, status: int) -> None:
    answer = troubled.post("/v1/chat/completions", json={"model": model, "messages": QUESTION})
    assert answer.status_code == status, answer.text
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}


@pytest.mark.parametrize("model", ["breaks", "idle-gap"])
def test_a_stream_that_breaks_off_ends_with_an_error_event(troubled: RunningGateway, model: str) -> None:
    answer = troubled.post("/v1/chat/completions", json={"model": model, "messages": QUESTION, "stream": True})
    datas = [line[6:] for line in answer.text.splitlines() if line.startswith("data: ")]
    assert "[DONE]" not in datas
    assert json.loads(datas[-1])["error"]["message"]


@pytest.mark.parametrize("model", ["redirects", "empty"])
def test_an_answer_that_is_none_is_the_backends_failure(troubled: RunningGateway, model: str) -> None:
    for path in ("/v1/chat/completions", "/api/chat"):
        for stream in (False, True):
            answer = troubled.post(path, json={"model": model, "messages": QUESTION, "stream": stream})
            assert answer.status_code == 502, answer.text


@pytest.mark.parametrize("model", ["cut", "page"])
def test_the_simple_api_never_calls_a_part_the_whole(troubled: RunningGateway, model: str) -> None:
    answer = troubled.post("/api/chat", json={"model": model, "messages": QUESTION})
    assert "chat.completion.done" not in answer.text
    assert answer.status_code == 502 or events(answer.text)[-1]["event"] == "error"


def test_translated_streams_reuse_their_connection_to_the_backend(tmp_path: Path) -> None:
    with scripted_upstream() as upstream:
        config = f'[[backends]]\nname = "up"\nkind = "openai"\nurl = "{upstream.url}"\n'
        with running_gateway(tmp_path, config) as gateway:
            gateway.wait_ready()
            before = upstream.seen()["connections"]
            for _ in range(5):
                gateway.post("/api/chat", json={"model": "steady", "messages": QUESTION})
            # one for the calls, and perhaps those of a probe and of our own looks
            assert upstream.seen()["connections"] - before <= 4


def test_a_caller_who_takes_nothing_is_let_go(tmp_path: Path) -> None:
    with scripted_upstream() as upstream:
        config = f"""
[server]
client_idle_seconds = 1
[[backends]]
name = "up"
kind = "openai"
url = "{upstream.url}"
"""
        with running_gateway(tmp_path, config) as gateway:
            gateway.wait_ready()
            script = {"endless": True, "token_bytes": 100_000}
            request = json.dumps({"model": "endless", "messages": QUESTION, "stream": True, "script": script}).encode()
            with socket.create_connection(("127.0.0.1", gateway.port)) as connection:
                head = (
                    f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(request)}\r\n\r\n"
                )
                connection.sendall(head.encode() + request)
                eventually(lambda: streams(gateway), lambda counts: counts["active"] == 1)
                eventually(lambda: streams(gateway), lambda counts: counts["active"] == 0)
            eventually(lambda: upstream.seen()["cancelled"], lambda cancelled: cancelled >= 1)


def test_no_secret_and_no_prompt_is_logged(tmp_path: Path) -> None:
    with scripted_upstream(key="sk-very-secret") as upstream:
        config = f'[[backends]]\nname = "up"\nkind = "openai"\nurl = "{upstream.url}"\napi_key_env = "UP_KEY"\n'
        with running_gateway(tmp_path, config, {"UP_KEY": "sk-very-secret"}) as gateway:
            gateway.wait_ready()
            headers = {"authorization": "Bearer sk-caller-secret", "x-request-id": "seen-in-the-log"}
            request = {"model": "steady", "messages": [{"role": "user", "content": "my private words"}]}
            assert gateway.post("/v1/chat/completions", json=request, headers=headers).status_code == 200
            gateway.stop()
            log = gateway.log()
    line = next(json.loads(line) for line in log.splitlines() if "seen-in-the-log" in line)
    assert line["event"] == "request"
    assert {"tenant", "route", "status", "duration_ms", "method"} <= set(line)
    for secret in ("sk-very-secret", "sk-caller-secret", "my private words"):
        assert secret not in log
