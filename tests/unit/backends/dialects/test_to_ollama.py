"""Requests of OpenAI's dialect in Ollama's."""

import json
from typing import Any

import pytest

from sluicegate.backends.dialects.to_ollama import (
    OllamaCall,
    chat_to_ollama,
    completion_to_ollama,
    embeddings_to_ollama,
)
from sluicegate.errors import InvalidInput, MalformedBody

HELLO = [{"role": "user", "content": "hello"}]
SCHEMA = {"type": "object", "properties": {"age": {"type": "integer"}}}
ADD = {"type": "function", "function": {"name": "add", "parameters": SCHEMA, "strict": True}}
SUB = {"type": "function", "function": {"name": "sub"}}


def chat(messages: list[dict[str, Any]] | None = None, **more: Any) -> dict[str, Any]:
    body = {"model": "m", "messages": HELLO if messages is None else messages, **more}
    made: dict[str, Any] = json.loads(chat_to_ollama(json.dumps(body).encode()).body)
    return made


def turns(*messages: dict[str, Any]) -> Any:
    return chat(list(messages))["messages"]


def faults(call: Any, body: dict[str, Any]) -> dict[str, str]:
    with pytest.raises(InvalidInput) as caught:
        call(json.dumps(body).encode())
    return {fault.path: str(fault) for fault in caught.value.faults}


def test_a_plain_chat_is_not_streamed_and_sets_no_options() -> None:
    assert chat() == {"model": "m", "messages": HELLO, "stream": False}


def test_the_call_tells_what_the_answer_must_know() -> None:
    body = {"model": "m", "messages": HELLO, "stream": True, "stream_options": {"include_usage": True}}
    call = chat_to_ollama(json.dumps(body).encode())
    assert call == OllamaCall(kind="chat", path="api/chat", body=call.body, model="m", stream=True, include_usage=True)


def test_sampling_goes_into_options_and_the_callers_own_options_win() -> None:
    made = chat(
        temperature=0.5,
        top_p=0.9,
        seed=7,
        stop="END",
        max_tokens=10,
        max_completion_tokens=20,
        presence_penalty=1,
        frequency_penalty=-1,
        top_k=40,
        min_p=0.1,
        repetition_penalty=1.1,
        user="someone",
        logit_bias={},
        keep_alive="10m",
        options={"num_ctx": 8192, "seed": 8},
    )
    assert made["options"] == {
        "temperature": 0.5,
        "top_p": 0.9,
        "seed": 8,
        "stop": ["END"],
        "num_predict": 20,
        "presence_penalty": 1,
        "frequency_penalty": -1,
        "top_k": 40,
        "min_p": 0.1,
        "repeat_penalty": 1.1,
        "num_ctx": 8192,
    }
    assert made["keep_alive"] == "10m"
    assert not {"user", "logit_bias", "max_tokens"} & set(made)


@pytest.mark.parametrize(
    ("wanted", "format_"),
    [
        ({"type": "text"}, None),
        ({"type": "json_object"}, "json"),
        ({"type": "json_schema", "json_schema": {"name": "a", "strict": True, "schema": SCHEMA}}, SCHEMA),
    ],
)
def test_a_response_format_becomes_a_format(wanted: dict[str, Any], format_: Any) -> None:
    assert chat(response_format=wanted).get("format") == format_


@pytest.mark.parametrize(
    ("more", "think"),
    [
        ({}, None),
        ({"reasoning_effort": "none"}, False),
        ({"reasoning_effort": "minimal"}, "low"),
        ({"reasoning": {"effort": "high"}, "reasoning_effort": "low"}, "high"),
        ({"think": True, "reasoning_effort": "low"}, True),
        ({"think": "medium"}, "medium"),
        ({"chat_template_kwargs": {"enable_thinking": False}}, False),
        ({"chat_template_kwargs": {"enable_thinking": "x"}}, None),
    ],
)
def test_every_way_to_ask_for_thinking_is_understood(more: dict[str, Any], think: Any) -> None:
    assert chat(**more).get("think") == think


def test_tools_are_passed_on_as_they_are_and_a_choice_narrows_them() -> None:
    assert chat(tools=[ADD, SUB], tool_choice="required")["tools"] == [ADD, SUB]
    assert "tools" not in chat(tools=[ADD], tool_choice="none")
    assert chat(tools=[ADD, SUB], tool_choice={"type": "function", "function": {"name": "sub"}})["tools"] == [SUB]


def test_a_tools_result_names_the_tool_that_was_called() -> None:
    call = {"id": "a", "type": "function", "function": {"name": "add", "arguments": '{"a": 1, "b": [2.5]}'}}
    bare = {"type": "function", "function": {"name": "sub", "arguments": ""}}
    assert turns(
        {"role": "developer", "content": "be kind"},
        {"role": "assistant", "content": None, "tool_calls": [call, bare], "reasoning_content": "hm"},
        {"role": "tool", "tool_call_id": "a", "content": "3"},
        {"role": "function", "name": "sub", "content": "4"},
    ) == [
        {"role": "system", "content": "be kind"},
        {
            "role": "assistant",
            "content": "",
            "thinking": "hm",
            "tool_calls": [
                {"id": "a", "function": {"name": "add", "arguments": {"a": 1, "b": [2.5]}}},
                {"function": {"name": "sub", "arguments": {}}},
            ],
        },
        {"role": "tool", "content": "3", "tool_name": "add", "tool_call_id": "a"},
        {"role": "tool", "content": "4", "tool_name": "sub"},
    ]


def test_parts_become_text_and_bare_base64() -> None:
    parts = [
        {"type": "text", "text": "what is"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA", "detail": "low"}},
        {"type": "text", "text": "this?"},
        {"type": "image_url", "image_url": "data:;base64,BBBB"},
    ]
    assert turns({"role": "user", "content": parts}) == [
        {"role": "user", "content": "what is\nthis?", "images": ["AAAA", "BBBB"]}
    ]


@pytest.mark.parametrize(
    ("part", "path", "words"),
    [
        ({"type": "image_url", "image_url": {"url": "https://x/y.png"}}, "image_url.url", "is not fetched"),
        ({"type": "image_url", "image_url": {"url": "data:image/png,x"}}, "image_url.url", "holds no base64"),
        ({"type": "image_url", "image_url": {"url": "data:image/png;base64,A"}}, "image_url.url", "no base64"),
        ({"type": "image_url", "image_url": {"url": "data:image/png;base64,"}}, "image_url.url", "an empty picture"),
        ({"type": "image_url"}, "image_url", "required for this type"),
        ({"type": "text"}, "text", "required for this type"),
        ({"type": "input_audio", "input_audio": {}}, "type", 'takes no "input_audio"'),
    ],
)
def test_content_that_ollama_cannot_take_is_named(part: dict[str, Any], path: str, words: str) -> None:
    told = faults(chat_to_ollama, {"model": "m", "messages": [{"role": "user", "content": [part]}]})
    assert words in told[f"messages[0].content[0].{path}"]


@pytest.mark.parametrize(
    ("more", "path"),
    [
        ({"n": 2}, "n"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        ({"reasoning_effort": "huge"}, "reasoning_effort"),
        ({"tools": [ADD], "tool_choice": {"type": "function", "function": {"name": "x"}}}, "tool_choice.function.name"),
        ({"temperature": "hot"}, "temperature"),
        ({"messages": []}, "messages"),
        (
            {"messages": [{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "[]"}}]}]},
            "messages[0].tool_calls[0].function.arguments",
        ),
    ],
)
def test_what_cannot_be_said_is_refused_with_its_place(more: dict[str, Any], path: str) -> None:
    assert path in faults(chat_to_ollama, {"model": "m", "messages": HELLO, **more})


@pytest.mark.parametrize("body", [b"", b"{", b"[" * 10_000, b'{"model": "\xff"}', b'{"model":"m","seed":1e999}'])
def test_a_body_that_is_no_json_is_malformed(body: bytes) -> None:
    for call in (chat_to_ollama, completion_to_ollama, embeddings_to_ollama):
        with pytest.raises(MalformedBody):
            call(body)


def test_json_that_is_nested_too_deeply_is_malformed() -> None:
    deep = b"[" * 10_000 + b"]" * 10_000
    for body in (deep, b'{"chat_template_kwargs":{"a":' + deep + b"}}"):
        with pytest.raises(MalformedBody, match="nested too deeply"):
            chat_to_ollama(body)


def test_a_completion_becomes_a_generation() -> None:
    body = {
        "model": "m",
        "prompt": ["def f("],
        "suffix": "return",
        "max_tokens": 5,
        "stop": ["a", "b"],
        "logprobs": 2,
        "raw": True,
        "stream": True,
    }
    call = completion_to_ollama(json.dumps(body).encode())
    assert (call.kind, call.path, call.stream, call.include_usage) == ("completion", "api/generate", True, False)
    assert json.loads(call.body) == {
        "model": "m",
        "prompt": "def f(",
        "suffix": "return",
        "stream": True,
        "logprobs": True,
        "top_logprobs": 2,
        "raw": True,
        "options": {"stop": ["a", "b"], "num_predict": 5},
    }


@pytest.mark.parametrize(
    ("more", "path"),
    [({"prompt": ["a", "b"]}, "prompt"), ({"prompt": [1, 2]}, "prompt"), ({"echo": True}, "echo"), ({"n": 3}, "n")],
)
def test_completions_that_ollama_cannot_give_are_refused(more: dict[str, Any], path: str) -> None:
    assert path in faults(completion_to_ollama, {"model": "m", "prompt": "a", **more})


def test_embeddings_keep_their_input_and_remember_their_encoding() -> None:
    body = {"model": "m", "input": ["a", "b"], "dimensions": 4, "encoding_format": "base64", "truncate": False}
    call = embeddings_to_ollama(json.dumps(body).encode())
    assert (call.path, call.as_base64) == ("api/embed", True)
    assert json.loads(call.body) == {"model": "m", "input": ["a", "b"], "dimensions": 4, "truncate": False}
    for wrong in ([1, 2], [[1]], "", []):
        assert "input" in faults(embeddings_to_ollama, {"model": "m", "input": wrong})
