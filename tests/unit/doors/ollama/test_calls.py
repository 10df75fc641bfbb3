"""Calls of Ollama's dialect as orders, for backends of both dialects."""

import json
from typing import Any

import msgspec
import pytest

from sluicegate.backends.backend import ChatCall, WireDialect
from sluicegate.backends.dialects.translation import Translation
from sluicegate.backends.fleet import Fleet
from sluicegate.backends.ollama import OllamaBackend
from sluicegate.backends.openai import OpenAIBackend
from sluicegate.domain.clock import SystemClock
from sluicegate.domain.ids import RequestId, Tenant
from sluicegate.domain.principal import Principal
from sluicegate.doors.http.request import Request
from sluicegate.doors.lane.orders import Order, Reply
from sluicegate.doors.ollama.answers import WholeLines
from sluicegate.doors.ollama.calls import OllamaRoute
from sluicegate.errors import BackendUnavailable, InvalidInput, MalformedBody, UnknownModel
from sluicegate.settings import BackendSettings

TURNS = [{"role": "user", "content": "hi"}]
CALLER = Principal(tenant=Tenant("t"))


def fleet() -> Fleet:
    """Backends with the models "plain", "llama:latest" and, on both, "both"."""
    other = BackendSettings(name="other", kind="openai", url="http://h/v1", models=("plain", "both"))
    own = BackendSettings(name="own", kind="ollama", url="http://h", models=("llama:latest", "both"))
    return Fleet([OpenAIBackend(other), OllamaBackend(own)])


def take(path: str, body: Any) -> Order | Reply:
    made = Request(b"POST", path.encode(), b"", [], {})
    made.pieces = [body if isinstance(body, bytes) else json.dumps(body).encode()]
    return OllamaRoute(path, fleet(), SystemClock(), {"painter"}).order(made, CALLER, RequestId("r"))


def order(path: str, body: Any) -> Order:
    taken = take(path, body)
    assert isinstance(taken, Order)
    return taken


def form(asked: Order, dialect: WireDialect) -> ChatCall:
    assert not isinstance(asked.form, ChatCall)
    return asked.form(dialect)


def translation(asked: Order, dialect: WireDialect) -> Translation | None:
    assert asked.translation is not None
    return asked.translation(dialect)


def test_an_ollama_server_gets_the_callers_bytes() -> None:
    body = b'{ "model":"llama", "messages":[{"role":"user","content":"\\u00eb"}],"odd":1.50}'
    asked = order("/api/chat", body)
    call = form(asked, "ollama")
    assert (call.path, call.body, call.dialect, call.stream) == ("api/chat", body, "ollama", True)
    assert isinstance(translation(asked, "ollama"), WholeLines)
    assert (asked.model, asked.stream) == ("llama", True)


def test_an_answer_that_is_not_streamed_is_the_servers_own() -> None:
    asked = order("/api/chat", {"model": "llama", "messages": TURNS, "stream": False})
    assert translation(asked, "ollama") is None
    assert (asked.stream, form(asked, "ollama").stream) == (False, False)


def test_any_other_backend_gets_openais_dialect_with_the_name_that_it_knows() -> None:
    asked = order("/api/chat", {"model": "plain:latest", "messages": TURNS, "options": {"num_predict": 3}})
    call = form(asked, "openai")
    told = json.loads(call.body)
    assert (call.path, call.stream, asked.model) == ("chat/completions", True, "plain")
    assert (told["model"], told["messages"], told["max_tokens"], told["stream"]) == ("plain", TURNS, 3, True)
    answer = translation(asked, "openai")
    assert answer is not None
    assert answer.content_type == "application/x-ndjson"
    piece = answer.feed(b'data: {"choices":[{"index":0,"delta":{"content":"ho"}}]}\n\n')
    assert json.loads(piece)["model"] == "plain:latest"


@pytest.mark.parametrize(
    ("path", "body", "native", "foreign", "stream"),
    [
        ("/api/generate", {"prompt": "hi"}, "api/generate", "chat/completions", True),
        ("/api/generate", {"prompt": "hi", "raw": True}, "api/generate", "completions", True),
        ("/api/generate", {"prompt": "hi", "stream": False}, "api/generate", "chat/completions", False),
        ("/api/embed", {"input": ["hi"]}, "api/embed", "embeddings", False),
        ("/api/embeddings", {"prompt": "hi"}, "api/embeddings", "embeddings", False),
    ],
)
def test_every_route_knows_both_ways(path: str, body: dict[str, Any], native: str, foreign: str, stream: bool) -> None:
    asked = order(path, {"model": "both", **body})
    assert (form(asked, "ollama").path, form(asked, "openai").path) == (native, foreign)
    assert (asked.stream, form(asked, "openai").stream) == (stream, stream)


@pytest.mark.parametrize(
    ("path", "body", "reason"),
    [
        ("/api/chat", {}, "load"),
        ("/api/chat", {"messages": [], "keep_alive": 0}, "unload"),
        ("/api/generate", {"prompt": ""}, "load"),
    ],
)
def test_loading_a_model_is_an_ollama_servers_affair_and_otherwise_done(
    path: str, body: dict[str, Any], reason: str
) -> None:
    own = order(path, {"model": "llama", **body})
    assert (own.stream, form(own, "ollama").stream) == (False, False)
    for model in ("plain", "both"):
        reply = take(path, {"model": model, **body})
        assert isinstance(reply, Reply)
        told = json.loads(reply.body)
        assert (told["model"], told["done"], told["done_reason"]) == (model, True, reason)


def test_embedding_nothing_gives_nothing() -> None:
    reply = take("/api/embed", {"model": "plain", "input": []})
    assert isinstance(reply, Reply)
    assert json.loads(reply.body)["embeddings"] == []
    reply = take("/api/embeddings", {"model": "plain", "prompt": ""})
    assert isinstance(reply, Reply)
    assert json.loads(reply.body) == {"embedding": []}


def test_a_model_that_comes_up_while_it_is_to_be_loaded_is_asked_for_again() -> None:
    asked = order("/api/chat", {"model": "coming"})
    with pytest.raises(BackendUnavailable, match='"coming" has only now come up; ask again'):
        form(asked, "openai")


def test_a_model_that_paints_is_no_model_here() -> None:
    with pytest.raises(UnknownModel, match="makes pictures and no words; send the work to /v1/jobs"):
        take("/api/generate", {"model": "painter", "prompt": "hi"})


@pytest.mark.parametrize(
    ("body", "kind", "words"),
    [
        ({"messages": TURNS}, InvalidInput, "model: required"),
        ({"model": "", "messages": TURNS}, InvalidInput, "model: "),
        ({"model": "llama", "messages": "hi"}, InvalidInput, "messages: expected array"),
        (b"{nonsense", MalformedBody, "not valid JSON"),
        (b"", MalformedBody, "the body is empty"),
    ],
)
def test_what_names_no_model_is_refused_before_a_backend_is_asked(body: Any, kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=words):
        take("/api/chat", body)


def test_what_cannot_be_said_to_another_backend_is_refused_only_there() -> None:
    asked = order("/api/generate", {"model": "both", "prompt": "hi", "template": "{{ .Prompt }}"})
    assert msgspec.json.decode(form(asked, "ollama").body)["template"]
    with pytest.raises(InvalidInput, match="this backend keeps its own template"):
        form(asked, "openai")
