"""Requests of Ollama's dialect in OpenAI's."""

import json
from typing import Any

import pytest

from sluicegate.backends.dialects.to_openai import (
    OpenAICall,
    chat_to_openai,
    embed_to_openai,
    embeddings_to_openai,
    generate_to_openai,
)
from sluicegate.errors import InvalidInput, MalformedBody

HELLO = [{"role": "user", "content": "hello"}]
SCHEMA = {"type": "object", "properties": {"age": {"type": "integer"}}}
TOOL = {"type": "function", "function": {"name": "add", "parameters": SCHEMA}}


def chat(messages: list[dict[str, Any]] | None = None, **more: Any) -> dict[str, Any]:
    body = {"model": "m", "messages": HELLO if messages is None else messages, "stream": False, **more}
    made: dict[str, Any] = json.loads(chat_to_openai(json.dumps(body).encode()).body)
    return made


def generate(**more: Any) -> tuple[OpenAICall, dict[str, Any]]:
    call = generate_to_openai(json.dumps({"model": "m", "prompt": "hello", "stream": False, **more}).encode())
    return call, json.loads(call.body)


def faults(call: Any, body: dict[str, Any]) -> dict[str, str]:
    with pytest.raises(InvalidInput) as caught:
        call(json.dumps(body).encode())
    return {fault.path: str(fault) for fault in caught.value.faults}


def test_a_chat_is_streamed_with_usage_unless_it_says_otherwise() -> None:
    call = chat_to_openai(json.dumps({"model": "m", "messages": HELLO}).encode())
    assert (call.kind, call.path, call.model, call.stream) == ("chat", "chat/completions", "m", True)
    assert json.loads(call.body) == {
        "model": "m",
        "messages": HELLO,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    assert chat() == {"model": "m", "messages": HELLO, "stream": False}


def test_options_become_fields_and_those_of_loading_are_left_out() -> None:
    made = chat(
        keep_alive=-1,
        truncate=True,
        tool_choice="auto",
        options={
            "temperature": 0.5,
            "seed": 42.0,
            "num_predict": 10,
            "stop": "END",
            "top_k": 20,
            "repeat_penalty": 1.5,
            "num_ctx": 4096,
            "num_gpu": 1,
            "nonsense": True,
        },
    )
    assert made == {
        "model": "m",
        "messages": HELLO,
        "stream": False,
        "tool_choice": "auto",
        "temperature": 0.5,
        "seed": 42,
        "max_tokens": 10,
        "stop": ["END"],
        "top_k": 20,
        "repeat_penalty": 1.5,
        "repetition_penalty": 1.5,
    }
    assert "max_tokens" not in chat(options={"num_predict": -1})


@pytest.mark.parametrize(
    ("wanted", "made"),
    [
        ("", None),
        (None, None),
        ("json", {"type": "json_object"}),
        (SCHEMA, {"type": "json_schema", "json_schema": {"name": "answer", "schema": SCHEMA}}),
    ],
)
def test_a_format_becomes_a_response_format(wanted: Any, made: Any) -> None:
    assert chat(format=wanted).get("response_format") == made


def test_thinking_is_a_switch_or_a_level() -> None:
    assert chat(think=False)["chat_template_kwargs"] == {"enable_thinking": False}
    assert chat(think="high")["reasoning_effort"] == "high"


def test_calls_get_ids_and_results_find_their_calls() -> None:
    calls = [{"function": {"name": name, "arguments": {"a": 1}}} for name in ("add", "sub", "add")]
    made = chat(
        [
            {"role": "Assistant", "content": "", "thinking": "hm", "tool_calls": calls},
            {"role": "tool", "content": "2", "tool_name": "sub"},
            {"role": "tool", "content": "1", "tool_name": "add"},
            {"role": "tool", "content": "3"},
            {"role": "assistant", "tool_calls": [{"id": "mine", "function": {"name": "add", "arguments": {}}}]},
            {"role": "tool", "content": "4", "tool_call_id": "mine"},
        ],
        tools=[TOOL],
    )
    assert made["tools"] == [TOOL]
    first, *results = made["messages"]
    assert first["role"] == "assistant"
    assert first["reasoning_content"] == "hm"
    assert [call["id"] for call in first["tool_calls"]] == ["call_0_0", "call_0_1", "call_0_2"]
    assert first["tool_calls"][0]["function"] == {"name": "add", "arguments": '{"a":1}'}
    assert [turn.get("tool_call_id") for turn in results] == ["call_0_1", "call_0_0", "call_0_2", None, "mine"]


@pytest.mark.parametrize(
    ("image", "kind"),
    [("iVBORw0KGgoA", "png"), ("/9j/AAAA", "jpeg"), ("R0lGODlh", "gif"), ("UklGRAAA", "webp")],
)
def test_pictures_become_data_urls_of_their_kind(image: str, kind: str) -> None:
    made = chat([{"role": "user", "content": "see", "images": [image]}])
    picture = {"type": "image_url", "image_url": {"url": f"data:image/{kind};base64,{image}"}}
    assert made["messages"][0]["content"] == [{"type": "text", "text": "see"}, picture]


@pytest.mark.parametrize(
    ("messages", "path"),
    [
        ([{"role": "user", "content": "x", "images": ["AAAA"]}], "messages[0].images[0]"),
        ([{"role": "user", "content": "x", "images": ["!"]}], "messages[0].images[0]"),
        ([{"role": "tool", "content": "x"}], "messages[0]"),
        ([{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]}], "arguments"),
    ],
)
def test_messages_that_cannot_be_said_are_named(messages: list[dict[str, Any]], path: str) -> None:
    assert any(path in place for place in faults(chat_to_openai, {"model": "m", "messages": messages}))


def test_a_format_that_is_none_is_refused() -> None:
    assert "format" in faults(chat_to_openai, {"model": "m", "messages": HELLO, "format": "xml"})


def test_generate_is_a_chat_of_one_turn() -> None:
    call, made = generate(system="be kind", images=["iVBORw0KGgoA"], logprobs=True)
    assert (call.kind, call.path) == ("generate", "chat/completions")
    assert [turn["role"] for turn in made["messages"]] == ["system", "user"]
    assert made["messages"][1]["content"][1]["image_url"]["url"].startswith("data:image/png;base64,iVBOR")
    assert (made["logprobs"], made["top_logprobs"]) == (True, 0)


def test_generate_is_a_completion_when_it_is_raw_or_fills_a_gap() -> None:
    call, made = generate(raw=True, options={"num_predict": 3}, logprobs=True, top_logprobs=4)
    assert (call.kind, call.path) == ("generate", "completions")
    assert made == {"model": "m", "prompt": "hello", "stream": False, "max_tokens": 3, "logprobs": 4}
    assert generate(suffix="end")[1]["suffix"] == "end"


@pytest.mark.parametrize(
    ("more", "path"),
    [
        ({"template": "x"}, "template"),
        ({"context": [1]}, "context"),
        ({"raw": True, "system": "x"}, "raw"),
        ({"raw": True, "images": ["iVBORw0KGgoA"]}, "images"),
    ],
)
def test_generations_that_cannot_be_given_are_refused(more: dict[str, Any], path: str) -> None:
    assert path in faults(generate_to_openai, {"model": "m", "prompt": "x", **more})


@pytest.mark.parametrize(
    ("translate", "body"),
    [
        (chat_to_openai, {"messages": []}),
        (chat_to_openai, {}),
        (generate_to_openai, {"prompt": ""}),
        (embed_to_openai, {"input": []}),
        (embeddings_to_openai, {}),
    ],
)
def test_a_call_without_anything_to_do_asks_no_model(translate: Any, body: dict[str, Any]) -> None:
    call = translate(json.dumps({"model": "m", **body}).encode())
    assert (call.answered, call.body, call.model) == ("load", b"", "m")
    for zero in (0, "0s", "0"):
        call = translate(json.dumps({"model": "m", "keep_alive": zero, **body}).encode())
        assert call.answered == "unload"


def test_embeddings_are_asked_for_as_numbers() -> None:
    call = embed_to_openai(b'{"model":"m","input":["a","b"],"dimensions":3,"truncate":true,"keep_alive":"5m"}')
    assert (call.kind, call.path, call.answered) == ("embed", "embeddings", None)
    assert json.loads(call.body) == {"model": "m", "input": ["a", "b"], "dimensions": 3, "encoding_format": "float"}
    old = embeddings_to_openai(b'{"model":"m","prompt":"a"}')
    assert (old.kind, json.loads(old.body)["input"]) == ("embeddings", "a")


@pytest.mark.parametrize("translate", [chat_to_openai, generate_to_openai, embed_to_openai, embeddings_to_openai])
def test_a_body_that_is_no_json_is_malformed(translate: Any) -> None:
    for body in (b"", b"[1", b"\xff"):
        with pytest.raises(MalformedBody):
            translate(body)
    with pytest.raises(InvalidInput):
        translate(b"{}")
