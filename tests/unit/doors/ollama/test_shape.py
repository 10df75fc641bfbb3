"""Whose call a ``POST /api/chat`` is."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluicegate.backends.fleet import Fleet
from sluicegate.backends.openai import OpenAIBackend
from sluicegate.domain.clock import SystemClock
from sluicegate.domain.ids import RequestId, Tenant
from sluicegate.domain.principal import Principal
from sluicegate.doors.chat.chat import SimpleChatRequest, SimpleChatRoute
from sluicegate.doors.http.request import Request
from sluicegate.doors.lane.orders import Order
from sluicegate.doors.ollama.calls import PATHS
from sluicegate.doors.ollama.shape import FIELDS, is_ollama_chat, ollama_routes
from sluicegate.errors import InvalidInput
from sluicegate.settings import BackendSettings

TURNS = [{"role": "user", "content": "hi"}]
CALLER = Principal(tenant=Tenant("t"))


def request(body: object, **headers: str) -> Request:
    fields = {name.replace("_", "-").encode(): value.encode() for name, value in headers.items()}
    made = Request(b"POST", b"/api/chat", b"", list(fields.items()), fields)
    made.pieces = [body if isinstance(body, bytes) else json.dumps(body).encode()]
    return made


def fleet() -> Fleet:
    return Fleet([OpenAIBackend(BackendSettings(name="b", kind="openai", url="http://h/v1", models=("m",)))])


@pytest.mark.parametrize(
    "body",
    [
        *({"model": "m", "messages": TURNS, field: None} for field in FIELDS),
        {"model": "m", "messages": [{**TURNS[0], "images": ["aGk="]}]},
        {"model": "m", "messages": [*TURNS, {"role": "tool", "content": "3"}]},
        {"model": "m", "messages": [*TURNS, {"role": "assistant", "thinking": "hm"}]},
        {"model": "m", "messages": [*TURNS, {"role": "assistant", "tool_calls": []}]},
        {"model": "m", "messages": [{"role": "user", "tool_name": "add"}]},
        {"model": "m", "messages": [{"role": "user", "tool_call_id": "1"}]},
        {"model": "m", "messages": []},
        {"model": "m", "messages": None},
        {"model": "m"},
        {"options": {}},
        {"model": "m", "messages": [3], "options": {}},
        {"model": "m", "messages": "hi", "tools": []},
    ],
)
def test_what_only_ollama_has_makes_it_ollamas(body: dict[str, Any]) -> None:
    assert is_ollama_chat(json.dumps(body).encode())


@pytest.mark.parametrize(
    "body",
    [
        {"messages": TURNS},
        {"model": "m", "messages": TURNS, "stream": False},
        {"messages": TURNS, "temperature": 1, "maxTokens": 5},
        {"model": "m", "messages": [{"role": "user", "content": '"options": {}, "images": []'}]},
        {"model": "m", "messages": TURNS, "max_tokens": 5},
        {"messages": []},
        {},
        {"model": "m", "messages": ["hi"]},
        {"model": "m", "messages": "hi"},
        [],
        b"",
        b"{nonsense",
        b"\xff",
        b"[" * 100_000,
        b'{"messages":3,"options":' + b"[" * 100_000,
        b'{"messages":3,"options":nonsense}',
    ],
)
def test_anything_else_is_a_call_of_the_simple_dialect_or_a_fault_in_one(body: object) -> None:
    assert not is_ollama_chat(body if isinstance(body, bytes) else json.dumps(body).encode())


@given(st.recursive(st.none() | st.booleans() | st.text(max_size=5), lambda inner: st.lists(inner, max_size=3)))
def test_no_field_of_the_simple_dialect_decides_whatever_it_holds(value: object) -> None:
    for field in ("temperature", "maxTokens", "stream", "model"):
        assert not is_ollama_chat(json.dumps({"messages": TURNS, field: value}).encode())


def test_the_two_dialects_share_only_what_they_must() -> None:
    assert not set(FIELDS) & set(SimpleChatRequest.__struct_encode_fields__)


@pytest.mark.parametrize(
    ("headers", "dialect"),
    [
        ({"user_agent": "ollama-python/0.6.3 (x86_64 linux) Python/3.11"}, "ollama"),
        ({"user_agent": "ollama-js/0.5"}, "ollama"),
        ({"accept": "application/x-ndjson"}, "ollama"),
        ({"accept": "text/event-stream"}, "chat"),
        ({"user_agent": "curl/8 ollama"}, "chat"),
        ({}, "chat"),
    ],
)
def test_a_call_that_could_be_either_is_decided_by_its_headers(headers: dict[str, str], dialect: str) -> None:
    simple = SimpleChatRoute(lambda: (), SystemClock())
    shared = next(route for route in ollama_routes(fleet(), SystemClock(), simple=simple) if route.path == "/api/chat")
    asked = request({"model": "m", "messages": TURNS}, **headers)
    order = shared.order(asked, CALLER, RequestId("r"))
    assert isinstance(order, Order)
    assert order.native == ("ollama" if dialect == "ollama" else "openai")
    assert shared.dialect_of(asked) == dialect


def test_each_call_is_judged_for_itself() -> None:
    simple = SimpleChatRoute(lambda: (), SystemClock())
    shared = next(route for route in ollama_routes(fleet(), SystemClock(), simple=simple) if route.path == "/api/chat")
    faulty, fine = request({"messages": []}), request({"model": "m", "messages": TURNS, "options": {}})
    with pytest.raises(InvalidInput):
        shared.order(faulty, CALLER, RequestId("r"))
    assert (shared.dialect_of(fine), shared.dialect_of(faulty), shared.dialect_of(fine)) == ("ollama", "chat", "ollama")


def test_only_chat_is_shared() -> None:
    simple = SimpleChatRoute(lambda: (), SystemClock())
    asked = request({"messages": TURNS})
    routes = ollama_routes(fleet(), SystemClock(), simple=simple)
    dialects = {route.path: route.dialect_of(asked) for route in routes}
    assert dialects == {path: "chat" if path == "/api/chat" else "ollama" for path in PATHS}
