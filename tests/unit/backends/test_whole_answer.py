"""Putting a streamed answer together."""

import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluicegate.backends.whole_answer import as_stream, whole_answer
from sluicegate.errors import BackendFailed


def stream(*chunks: dict[str, Any], done: bool = True) -> bytes:
    events = [f"data: {json.dumps(chunk)}\n\n" for chunk in chunks]
    return ("".join(events) + ("data: [DONE]\n\n" if done else "")).encode()


def chunk(delta: dict[str, Any], finish: str | None = None, index: int = 0, **more: Any) -> dict[str, Any]:
    return {"id": "c1", "model": "m", "choices": [{"index": index, "delta": delta, "finish_reason": finish}], **more}


def whole(*pieces: bytes, path: str = "chat/completions") -> dict[str, Any]:
    translation = whole_answer(path)
    assert translation.content_type == "application/json"
    said = b"".join([translation.feed(piece) for piece in pieces])
    made: dict[str, Any] = json.loads(said + translation.finish())
    return made


TALK = stream(
    chunk({"role": "assistant", "content": None}),
    chunk({"content": "Hel"}),
    chunk({"content": "lo, Zoë"}),
    chunk({}, "stop"),
    {"id": "c1", "choices": [], "usage": {"total_tokens": 7}},
)


@given(st.lists(st.integers(0, len(TALK)), max_size=12))
def test_however_the_bytes_are_cut_the_text_is_whole(places: list[int]) -> None:
    edges = [0, *sorted(places), len(TALK)]
    made = whole(*(TALK[start:end] for start, end in itertools.pairwise(edges)))
    assert made["object"] == "chat.completion"
    assert made["choices"] == [
        {"index": 0, "message": {"role": "assistant", "content": "Hello, Zoë"}, "finish_reason": "stop"}
    ]
    assert made["usage"] == {"total_tokens": 7}
    assert made["id"] == "c1"


def test_tool_calls_are_joined_by_their_index() -> None:
    def begin(index: int, name: str) -> dict[str, Any]:
        function = {"name": name, "arguments": ""}
        return {"tool_calls": [{"index": index, "id": f"t{index}", "type": "function", "function": function}]}

    def go_on(index: int, arguments: str) -> dict[str, Any]:
        return {"tool_calls": [{"index": index, "function": {"arguments": arguments}}]}

    deltas = [begin(0, "add"), go_on(0, '{"a":'), begin(1, "sub"), go_on(0, "1}"), go_on(1, "{}")]
    made = whole(stream(*map(chunk, deltas), chunk({}, "tool_calls")))
    assert made["choices"][0]["message"]["tool_calls"] == [
        {"id": "t0", "type": "function", "function": {"name": "add", "arguments": '{"a":1}'}},
        {"id": "t1", "type": "function", "function": {"name": "sub", "arguments": "{}"}},
    ]


def test_several_choices_and_logprobs_are_kept_apart() -> None:
    told = chunk({"content": "b"}, "stop", index=1)
    told["choices"][0]["logprobs"] = {"content": [{"token": "b"}]}
    more = chunk({"content": "a"}, "length", index=0)
    made = whole(stream(told, more))
    assert [choice["message"]["content"] for choice in made["choices"]] == ["a", "b"]
    assert made["choices"][1]["logprobs"] == {"content": [{"token": "b"}]}


@pytest.mark.parametrize(
    "data",
    [
        stream(chunk({"content": "Hel"}), done=False),
        stream(),
        stream({"error": {"message": "out of memory"}}),
        b"data: nonsense\n\n",
    ],
)
def test_an_answer_that_is_not_complete_is_a_failure(data: bytes) -> None:
    with pytest.raises(BackendFailed):
        whole(data)


def test_a_stream_without_its_last_words_is_whole_when_its_choices_are() -> None:
    assert whole(stream(chunk({"content": "a"}, "stop"), done=False))["choices"][0]["message"]["content"] == "a"


def test_plain_completions_are_joined_by_their_texts() -> None:
    def text(words: str, index: int, finish: str | None = None) -> dict[str, Any]:
        return {"id": "c1", "choices": [{"text": words, "index": index, "finish_reason": finish}]}

    told = stream(text("a", 0), text("x", 1), text("b", 0), text("", 1, "length"), text("", 0, "stop"))
    made = whole(told, path="completions")
    assert made["object"] == "text_completion"
    assert made["choices"] == [
        {"text": "ab", "index": 0, "logprobs": None, "finish_reason": "stop"},
        {"text": "x", "index": 1, "logprobs": None, "finish_reason": "length"},
    ]


def test_only_calls_that_are_not_streamed_are_changed() -> None:
    assert as_stream(b'{"stream":true}') is None
    assert as_stream(b"[]") is None
    assert json.loads(as_stream(b'{"n":1,"stream":false}') or b"") == {
        "n": 1,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
