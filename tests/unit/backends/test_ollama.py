"""Kind "ollama" against a scripted Ollama server, and against servers that are none."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from tests.gateway import free_port
from tests.ollama_models import MODELS
from tests.ollama_peer import OllamaPeer, ollama_peer
from tests.sinks import Recorder
from tests.upstream import Upstream, eventually, scripted_upstream

from sluicegate.backends.answer import Answer, ask
from sluicegate.backends.backend import ChatCall, WireDialect
from sluicegate.backends.fleet import Fleet
from sluicegate.backends.ollama import OllamaBackend
from sluicegate.backends.openai import OpenAIBackend
from sluicegate.errors import BackendFailed, InvalidInput, MalformedBody
from sluicegate.settings import BackendSettings

HELLO = [{"role": "user", "content": "hello"}]
Scene = Callable[[OllamaBackend], Awaitable[None]]


@pytest.fixture(scope="module")
def peer() -> Iterator[OllamaPeer]:
    with ollama_peer() as running:
        yield running


@pytest.fixture
def other() -> Iterator[Upstream]:
    """A server that answers GETs as it is told."""
    with scripted_upstream("steady", key="secret") as upstream:
        yield upstream


def play(url: str, scene: Scene, *, key: str = "", wait: bool = True, **more: Any) -> None:
    async def run() -> None:
        variable = "OLLAMA_KEY" if key else ""
        settings = BackendSettings(name="o", kind="ollama", url=url, api_key_env=variable, **more)
        backend = OllamaBackend(settings, environment={"OLLAMA_KEY": key}, probe_seconds=0.05, down_probe_seconds=0.05)
        await backend.start()
        try:
            await eventually(lambda: backend.health().state != "starting")
            assert not wait or backend.health().state == "up"
            await scene(backend)
        finally:
            await backend.stop()

    asyncio.run(run())


async def call(
    backend: OllamaBackend, path: str, body: dict[str, Any], *, stream: bool = False, dialect: WireDialect = "openai"
) -> Answer:
    request = {**body, "stream": stream} if "input" not in body else body
    return await ask(backend.send, ChatCall(path, json.dumps(request).encode(), "req_1", stream, dialect))


def tags(*models: dict[str, Any]) -> str:
    return json.dumps(
        {"models": [{"name": model["model"], "digest": f"d-{model['model']}", **model} for model in models]}
    )


def test_its_models_are_those_of_the_server_with_what_it_tells_of_them(peer: OllamaPeer) -> None:
    async def scene(backend: OllamaBackend) -> None:
        cards = {card.id: card for card in backend.cards()}
        assert set(cards) == {f"{name}:latest" for name in MODELS}
        assert cards["steady:latest"].tasks == ("chat",)
        assert cards["steady:latest"].description == "llama, 8.0B, Q4_0, 8192 tokens of context"
        assert cards["embedder:latest"].tasks == ()
        assert backend.models()["thinking:latest"].capabilities[-1] == "thinking"

    play(peer.url, scene)


def test_the_details_of_a_model_are_asked_for_once(peer: OllamaPeer) -> None:
    async def scene(backend: OllamaBackend) -> None:
        asked, cards = peer.seen()["requests"], backend.cards()
        probes = peer.seen()["probes"]
        await peer.wait_until("probes", probes + 3)
        assert peer.seen()["requests"] == asked
        assert backend.cards() is cards

    play(peer.url, scene)


def test_a_server_that_tells_all_in_its_list_is_asked_for_nothing_else(other: Upstream) -> None:
    listed = tags(
        {"model": "a:1", "capabilities": ["completion"], "context_length": 4096, "details": {"family": "qwen"}}
    )
    other.tell("/api/tags", 200, listed)

    async def scene(backend: OllamaBackend) -> None:
        (card,) = backend.cards()
        assert (card.id, card.description) == ("a:1", "qwen, 4096 tokens of context")
        assert other.seen()["requests"] == 0

    play(other.root, scene)


def test_models_whose_details_are_refused_are_served_all_the_same(other: Upstream) -> None:
    other.tell("/api/tags", 200, tags({"model": "error-500"}, {"model": "drops"}, {"model": "b:1"}))

    async def scene(backend: OllamaBackend) -> None:
        assert [card.id for card in backend.cards()] == ["error-500", "drops", "b:1"]

    play(other.root, scene, key="secret")


def test_one_digest_may_have_several_names(other: Upstream) -> None:
    same = {"digest": "same", "details": {"family": "llama"}}
    other.tell("/api/tags", 200, tags({"model": "a:1", **same}, {"model": "a:latest", **same}))

    async def scene(backend: OllamaBackend) -> None:
        assert [card.id for card in backend.cards()] == ["a:1", "a:latest"]
        assert {name: model.id for name, model in backend.models().items()} == {"a:1": "a:1", "a:latest": "a:latest"}

    play(other.root, scene, key="secret")


def test_models_that_the_settings_name_are_the_only_ones(peer: OllamaPeer) -> None:
    async def scene(backend: OllamaBackend) -> None:
        assert [card.id for card in backend.cards()] == ["steady"]

    play(peer.url, scene, models=("steady",))


def test_a_server_without_models_is_up(other: Upstream) -> None:
    other.tell("/api/tags", 200, '{"models":null}')

    async def scene(backend: OllamaBackend) -> None:
        assert list(backend.cards()) == []

    play(other.root, scene)


@pytest.mark.parametrize(
    ("status", "text", "reason"),
    [
        (404, "404 page not found", "o: GET api/tags is answered with 404; is url the root of an Ollama server?"),
        (401, "no", "o: GET api/tags is refused with 401; name the variable of its key in api_key_env"),
        (500, "no", "o: GET api/tags is answered with 500"),
        (200, "<html>", "the backend sent what is no answer of Ollama's dialect"),
        (200, "{nonsense", "the backend sent what is no answer of Ollama's dialect"),
    ],
)
def test_a_server_that_is_none_is_down_and_the_mend_is_told(
    other: Upstream, status: int, text: str, reason: str
) -> None:
    other.tell("/api/tags", status, text)

    async def scene(backend: OllamaBackend) -> None:
        assert backend.health().state == "down"
        assert backend.health().reason.startswith(reason)

    play(other.root, scene, wait=False)


def test_a_server_that_is_not_there_is_down() -> None:
    async def scene(backend: OllamaBackend) -> None:
        assert backend.health().state == "down"

    play(f"http://127.0.0.1:{free_port()}", scene, wait=False)


def test_a_call_in_its_own_dialect_and_its_answer_are_untouched(peer: OllamaPeer) -> None:
    body = (
        b'{"model": "wide",\n "messages":[{"role":"user","content":"hi"}], "options":{"num_predict":2.0}, "odd":1.50}'
    )

    async def scene(backend: OllamaBackend) -> None:
        answer = await ask(backend.send, ChatCall("api/chat", body, "req_7", True, "ollama"))
        assert (answer.status, answer.content_type) == (200, "application/x-ndjson")
        lines = (await answer.read()).splitlines()
        assert [json.loads(line)["done"] for line in lines] == [False, False, True]
        assert "Zoë 🐑 0 ".encode() in lines[0]
        last = peer.seen()["last"]
        assert (last["path"], last["body"]) == ("/api/chat", json.loads(body))
        assert int(last["headers"]["content-length"]) == len(body)
        assert last["headers"]["x-request-id"] == "req_7"

    play(peer.url, scene)


def test_a_refusal_in_its_own_dialect_is_untouched(peer: OllamaPeer) -> None:
    async def scene(backend: OllamaBackend) -> None:
        answer = await call(backend, "api/chat", {"model": "nobody", "messages": HELLO}, dialect="ollama")
        assert (answer.status, await answer.read()) == (404, b'{"error": "model \'nobody\' not found"}')

    play(peer.url, scene)


def test_a_chat_in_openais_dialect_is_translated_both_ways(peer: OllamaPeer) -> None:
    async def scene(backend: OllamaBackend) -> None:
        body = {"model": "steady", "messages": HELLO, "max_tokens": 2, "stop": "END"}
        answer = await call(backend, "chat/completions", body)
        whole = json.loads(await answer.read())
        assert (answer.status, answer.content_type, answer.length) == (200, "application/json", None)
        assert (whole["id"], whole["object"]) == ("chatcmpl-req_1", "chat.completion")
        assert whole["choices"][0]["message"]["content"] == "word0 word1 "
        assert whole["choices"][0]["finish_reason"] == "length"
        last = peer.seen()["last"]
        assert last["path"] == "/api/chat"
        assert last["body"]["options"] == {"stop": ["END"], "num_predict": 2}

    play(peer.url, scene)


def test_a_completion_and_embeddings_are_translated_both_ways(peer: OllamaPeer) -> None:
    async def scene(backend: OllamaBackend) -> None:
        answer = await call(backend, "completions", {"model": "steady", "prompt": "a"}, stream=True)
        assert answer.content_type == "text/event-stream"
        events = (await answer.read()).split(b"\n\n")
        assert (events[-2], events[-1]) == (b"data: [DONE]", b"")
        assert json.loads(events[0][6:])["id"] == "cmpl-req_1"
        answer = await call(backend, "embeddings", {"model": "embedder", "input": ["a", "b"]})
        assert [entry["index"] for entry in json.loads(await answer.read())["data"]] == [0, 1]

    play(peer.url, scene)


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({"model": "nobody"}, 404, "model 'nobody' not found"),
        ({"model": "embedder"}, 400, '"embedder" does not support chat'),
        ({"model": "error-503"}, 503, "scripted 503"),
    ],
)
def test_a_refusal_is_told_in_openais_words(peer: OllamaPeer, body: dict[str, Any], status: int, words: str) -> None:
    async def scene(backend: OllamaBackend) -> None:
        answer = await call(backend, "chat/completions", {"messages": HELLO, **body}, stream=True)
        assert (answer.status, answer.content_type) == (status, "application/json")
        assert json.loads(await answer.read())["error"]["message"] == words
        assert backend.health().state == "up"

    play(peer.url, scene)


@pytest.mark.parametrize("model", ["breaks", "cut", "fails"])
def test_an_answer_that_breaks_is_a_failure_after_what_came_of_it(peer: OllamaPeer, model: str) -> None:
    async def scene(backend: OllamaBackend) -> None:
        recorder = Recorder()
        request = json.dumps({"model": model, "messages": HELLO, "stream": True}).encode()
        backend.send(ChatCall("chat/completions", request, "req_1", True), recorder)
        await recorder.over.wait()
        assert isinstance(recorder.failure, BackendFailed)
        assert b"word1 " in recorder.body
        assert b"[DONE]" not in recorder.body

    play(peer.url, scene)


@pytest.mark.parametrize("dialect", ["openai", "ollama"])
def test_a_call_that_is_cancelled_ends_at_the_server(peer: OllamaPeer, dialect: WireDialect) -> None:
    async def scene(backend: OllamaBackend) -> None:
        before = peer.seen()["cancelled"]
        path = "chat/completions" if dialect == "openai" else "api/chat"
        answer = await call(backend, path, {"model": "endless", "messages": HELLO}, stream=True, dialect=dialect)
        await anext(answer.chunks())
        answer.close()
        await peer.wait_until("cancelled", before + 1)

    play(peer.url, scene)


@pytest.mark.parametrize(
    ("path", "body", "kind", "words"),
    [
        ("audio/speech", b"{}", InvalidInput, 'nothing of the kind of "audio/speech"'),
        ("embeddings", b'{"model":"embedder","input":[1,2]}', InvalidInput, "embeds text, not tokens"),
        (
            "chat/completions",
            b'{"model":"steady","messages":[{"role":"user"}],"n":2}',
            InvalidInput,
            "answers once, not 2 times",
        ),
        ("chat/completions", b"{nonsense", MalformedBody, "not valid JSON"),
    ],
)
def test_what_cannot_be_said_in_its_dialect_is_refused(
    peer: OllamaPeer, path: str, body: bytes, kind: type[Exception], words: str
) -> None:
    async def scene(backend: OllamaBackend) -> None:
        with pytest.raises(kind, match=words):
            backend.send(ChatCall(path, body, "req_1"), Recorder())

    play(peer.url, scene)


def test_a_model_is_found_by_its_name_with_and_without_latest() -> None:
    own = OllamaBackend(BackendSettings(name="o", kind="ollama", url="http://h", models=("a:latest", "b", "c:1b")))
    other = OpenAIBackend(BackendSettings(name="p", kind="openai", url="http://h/v1", models=("a", "d")))
    fleet = Fleet([own, other])
    found = {
        name: [each.name for each in fleet.serving(name)] for name in ("a", "a:latest", "b:latest", "c", "d:latest")
    }
    assert found == {"a": ["o", "p"], "a:latest": ["o"], "b:latest": ["o"], "c": [], "d:latest": []}


def test_a_server_that_dies_is_down_at_once_and_up_again_when_it_is_back() -> None:
    with ollama_peer() as mortal:

        async def scene(backend: OllamaBackend) -> None:
            mortal.kill()
            await eventually(lambda: backend.health().state == "down")
            await asyncio.to_thread(mortal.start)
            await eventually(lambda: backend.health().state == "up")

        play(mortal.url, scene)
