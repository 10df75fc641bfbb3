"""Ollama's dialect at the door and behind it, through the real gateway."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
from tests.gateway import PATIENCE, RunningGateway, eventually, running_gateway
from tests.ollama_peer import OllamaPeer, ollama_peer
from tests.upstream import Upstream, scripted_upstream

TURNS = [{"role": "user", "content": "hello"}]


class House(NamedTuple):
    """A gateway before an Ollama server and an OpenAI-compatible one, which both have the model "wide"."""

    gateway: RunningGateway
    peer: OllamaPeer
    upstream: Upstream


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with ollama_peer() as peer, scripted_upstream("alpha", "wide") as upstream:
        config = f"""
[[backends]]
name = "peer"
kind = "ollama"
url = "{peer.url}"
timeout_seconds = {{ first_byte = 1, idle = 1, total = 20 }}
[[backends]]
name = "upstream"
kind = "openai"
url = "{upstream.url}"
"""
        with running_gateway(tmp_path_factory.mktemp("house"), config) as gateway:
            gateway.wait_ready()
            yield House(gateway, peer, upstream)


def lines(answer: httpx.Response) -> list[dict[str, Any]]:
    return [json.loads(line) for line in answer.text.splitlines()]


def tokens(gateway: RunningGateway, model: str) -> float:
    wanted = f'ai_tokens_processed_total{{model="{model}"}} '
    found = [line for line in gateway.get("/metrics").text.splitlines() if line.startswith(wanted)]
    return float(found[0].rpartition(" ")[2]) if found else 0.0


def test_an_ollama_server_and_its_caller_see_each_others_bytes(house: House) -> None:
    sent = b'{"model":"steady" ,"messages":[{"role":"user","content":"\\u00eb"}],"options":{"num_predict":2.0}}'
    headers = {"x-request-id": "untouched"}
    answer = house.gateway.post("/api/chat", content=sent, headers=headers)
    last = house.peer.seen()["last"]
    assert (last["path"], last["headers"]["content-length"]) == ("/api/chat", str(len(sent)))
    assert last["headers"]["x-request-id"] == answer.headers["x-request-id"] == "untouched"
    assert answer.headers["content-type"] == "application/x-ndjson"
    assert answer.headers["x-accel-buffering"] == "no"
    told = lines(answer)
    assert [line["message"]["content"] for line in told] == ["word0 ", "word1 ", ""]
    # The server's own durations, which nothing here would make up.
    assert (told[-1]["done_reason"], told[-1]["total_duration"]) == ("length", 174_560_334)


def test_the_simple_chat_api_answers_in_its_own_words_from_an_ollama_server(house: House) -> None:
    answer = house.gateway.post("/api/chat", json={"model": "steady", "messages": TURNS, "stream": False})
    assert answer.json()["content"] == "word0 word1 word2 word3 word4 "
    assert answer.json()["usage"] == {"promptTokens": 7, "completionTokens": 5, "totalTokens": 12}
    streamed = house.gateway.post("/api/chat", json={"model": "steady", "messages": TURNS})
    assert streamed.headers["content-type"].startswith("text/event-stream")
    assert '"evalCount":5' in streamed.text


@pytest.mark.parametrize(
    ("request_", "dialect"),
    [
        ({"messages": TURNS, "temperature": 9}, "chat"),
        ({"model": "nobody", "messages": TURNS}, "chat"),
        ({"model": "nobody", "messages": TURNS, "options": {}}, "ollama"),
        ({"model": "nobody", "messages": []}, "ollama"),
        ({"model": 5, "messages": [3], "options": {}}, "ollama"),
        ({"messages": TURNS, "tools": []}, "ollama"),
    ],
)
def test_who_shares_a_path_is_refused_in_the_words_asked_in(
    house: House, request_: dict[str, Any], dialect: str
) -> None:
    answer = house.gateway.post("/api/chat", json=request_)
    assert 400 <= answer.status_code < 500
    assert set(answer.json()) == ({"error"} if dialect == "ollama" else {"error", "message", "details"})


@pytest.mark.parametrize("model", ["steady", "alpha"])
def test_tokens_of_either_server_are_counted_however_it_is_asked(house: House, model: str) -> None:
    calls: list[tuple[str, dict[str, Any]]] = [
        ("/api/chat", {"messages": TURNS, "options": {}}),
        ("/api/chat", {"messages": TURNS, "options": {}, "stream": False}),
        ("/api/generate", {"prompt": "hi"}),
        ("/v1/chat/completions", {"messages": TURNS}),
        ("/v1/chat/completions", {"messages": TURNS, "stream": True, "stream_options": {"include_usage": True}}),
    ]
    for path, body in calls:
        before = tokens(house.gateway, model)
        assert house.gateway.post(path, json={"model": model, **body}).status_code == 200
        assert tokens(house.gateway, model) - before == 12, path


@pytest.mark.parametrize(
    ("model", "script", "words"),
    [
        ("idle-gap", {}, "1 s"),
        ("cut", {}, "before it was complete"),
        ("alpha", {"break_after": 2}, ""),
        ("alpha", {"break_after": 2, "clean_end": True}, "before it was complete"),
    ],
)
def test_a_stream_that_breaks_off_ends_with_a_line_that_says_so(
    house: House, model: str, script: dict[str, Any], words: str
) -> None:
    body = {"model": model, "messages": TURNS, "options": {}, "script": script}
    answer = house.gateway.post("/api/chat", json=body)
    assert answer.status_code == 200
    *parts, last = lines(answer)
    assert [part["message"]["content"] for part in parts] == ["word0 ", "word1 "]
    assert set(last) == {"error"}
    assert words in last["error"]


def test_a_line_cut_in_the_middle_is_not_handed_on(house: House) -> None:
    options = {"script": {"break_after": 1, "token_bytes": 300_000}}
    answer = house.gateway.post("/api/chat", json={"model": "steady", "messages": TURNS, "options": options})
    *parts, last = lines(answer)
    assert [len(part["message"]["content"]) for part in parts] == [300_006]
    assert set(last) == {"error"}


def test_a_silent_server_is_a_timeout_in_ollamas_words(house: House) -> None:
    answer = house.gateway.post("/api/generate", json={"model": "slow-head", "prompt": "hi"})
    assert answer.status_code == 504
    assert set(answer.json()) == {"error"}


def test_a_model_on_servers_of_both_kinds_is_asked_of_both(house: House) -> None:
    before = house.peer.seen()["requests"], house.upstream.seen()["requests"]
    for _ in range(4):
        told = lines(house.gateway.post("/api/chat", json={"model": "wide", "messages": TURNS, "options": {}}))
        assert (told[-1]["model"], told[-1]["done"], told[-1]["eval_count"]) == ("wide", True, 5)
        answer = house.gateway.post("/v1/chat/completions", json={"model": "wide", "messages": TURNS})
        assert answer.json()["usage"]["total_tokens"] == 12
    after = house.peer.seen()["requests"], house.upstream.seen()["requests"]
    assert min(now - then for now, then in zip(after, before, strict=True)) >= 3


def test_clients_that_look_whether_anyone_is_there_find_someone(house: House) -> None:
    greeting = house.gateway.get("/")
    assert greeting.text.startswith("Ollama is running")
    assert greeting.headers["content-type"].startswith("text/plain")
    head = httpx.head(f"{house.gateway.url}/", trust_env=False)
    assert (head.status_code, head.content) == (200, b"")
    assert house.gateway.get("/api/version").json() == {"version": "0.13.0"}
    assert house.gateway.post("/api/blobs/sha256:00", content=b"x").status_code == 403


def test_the_documents_have_every_route(house: House) -> None:
    paths = house.gateway.get("/openapi.json").json()["paths"]
    assert {"/api/generate", "/api/embed", "/api/embeddings", "/api/tags", "/api/ps", "/api/show"} <= set(paths)
    words = paths["/api/generate"]["post"]["responses"]["4XX"]["content"]["application/json"]["schema"]["$ref"]
    assert words.endswith("/OllamaError")


def test_the_command_line_talks_to_an_ollama_server(house: House, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "sluicegate", "chat", "--model", "steady", "--json", "hello"],
        cwd=tmp_path,
        env={**os.environ, "SLUICEGATE_URL": house.gateway.url},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["usage"]["completion_tokens"] == 5


def test_a_server_that_dies_and_comes_back_is_found_again(tmp_path: Path) -> None:
    with ollama_peer() as peer:
        config = f'[[backends]]\nname = "peer"\nkind = "ollama"\nurl = "{peer.url}"\n'
        with running_gateway(tmp_path, config) as gateway:
            gateway.wait_ready()
            peer.kill()
            body = {"model": "steady", "prompt": "hi", "stream": False}
            refused = gateway.post("/api/generate", json=body)
            assert refused.status_code == 503
            assert 'no backend of "steady" can be reached: peer:' in refused.json()["error"]
            peer.start()
            answer = eventually(
                lambda: gateway.post("/api/generate", json=body), lambda answer: answer.status_code == 200
            )
            assert answer.json()["response"] == "word0 word1 word2 word3 word4 "


def test_many_streams_at_once_keep_their_lines_apart(house: House) -> None:
    async def scenario() -> list[str]:
        limits = httpx.Limits(max_connections=40)
        async with httpx.AsyncClient(trust_env=False, timeout=PATIENCE, limits=limits) as client:
            calls = [
                client.post(
                    f"{house.gateway.url}/api/chat",
                    json={
                        "model": "steady",
                        "messages": TURNS,
                        "options": {"script": {"word": f"w{number}-", "token_delay": 0.002}},
                    },
                )
                for number in range(40)
            ]
            answers = await asyncio.gather(*calls)
            return ["".join(line["message"]["content"] for line in lines(answer)) for answer in answers]

    told = asyncio.run(scenario())
    assert told == ["".join(f"w{number}-{index} " for index in range(5)) for number in range(40)]
