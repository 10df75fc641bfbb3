"""Putting a streamed answer together."""

import asyncio
import itertools
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluicegate.backends.whole_answer import WholeAnswer, as_stream
from sluicegate.errors import BackendFailed


class Recorded:
    """An answer that was recorded."""

    def __init__(self, pieces: list[bytes], content_type: str = "text/event-stream", status: int = 200) -> None:
        self.status = status
        self.content_type = content_type
        self.retry_after: float | None = None
        self._pieces = pieces

    async def chunks(self) -> AsyncIterator[bytes]:
        for piece in self._pieces:
            yield piece

    async def close(self) -> None:
        """Nothing is open."""


def stream(*chunks: dict[str, Any], done: bool = True) -> bytes:
    events = [f"data: {json.dumps(chunk)}\n\n" for chunk in chunks]
    return ("".join(events) + ("data: [DONE]\n\n" if done else "")).encode()


def chunk(delta: dict[str, Any], finish: str | None = None, index: int = 0, **more: Any) -> dict[str, Any]:
    return {"id": "c1", "model": "m", "choices": [{"index": index, "delta": delta, "finish_reason": finish}], **more}


def whole(*pieces: bytes) -> dict[str, Any]:
    async def read() -> bytes:
        return b"".join([piece async for piece in WholeAnswer(Recorded(list(pieces))).chunks()])

    made: dict[str, Any] = json.loads(asyncio.run(read()))
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


def test_an_error_answer_is_passed_on_as_it_is() -> None:
    async def read() -> tuple[int, str, bytes]:
        answer = WholeAnswer(Recorded([b'{"error":', b"1}"], "application/json", 400))
        return answer.status, answer.content_type, b"".join([piece async for piece in answer.chunks()])

    assert asyncio.run(read()) == (400, "application/json", b'{"error":1}')


def test_only_calls_that_are_not_streamed_are_changed() -> None:
    assert as_stream(b'{"stream":true}') is None
    assert as_stream(b"[]") is None
    assert json.loads(as_stream(b'{"n":1,"stream":false}') or b"") == {
        "n": 1,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
