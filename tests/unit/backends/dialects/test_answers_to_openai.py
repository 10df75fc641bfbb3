"""What an Ollama server answers, in OpenAI's dialect; the official library's types read all of it."""

import json
from typing import Any

import pytest
from openai.types import Completion
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from tests.unit.backends.dialects.recorded import (
    BROKEN_OLLAMA,
    CALL,
    CHAT_END,
    COUNTS,
    LOGPROBS,
    OLD_CALL,
    OLLAMA_CHATS,
    OLLAMA_TEXTS,
    TEXT_END,
    chat_line,
    lines,
    outcome,
    text_line,
)

from sluicegate.backends.dialects.answers_to_openai import answer_to_openai
from sluicegate.backends.dialects.logprobs import text_logprobs
from sluicegate.backends.dialects.to_ollama import OllamaCall
from sluicegate.backends.dialects.translation import Translation
from sluicegate.errors import BackendFailed
from sluicegate.testing import ManualClock

USAGE = {
    "prompt_tokens": 11,
    "completion_tokens": 3,
    "total_tokens": 14,
    "prompt_tokens_details": {"cached_tokens": 4},
}


def translation(kind: Any = "chat", *, stream: bool = True, usage: bool = True) -> Translation:
    call = OllamaCall(kind=kind, path="", body=b"", model="asked", stream=stream, include_usage=usage)
    return answer_to_openai(call, answer_id="id-1", clock=ManualClock(1_700_000_000.5))


def check(chunk: dict[str, Any], kind: Any) -> None:
    if kind == "chat":
        ChatCompletionChunk.model_validate(chunk, strict=True)
        return
    # OpenAI's own chunks of completions have a null reason until the last, which the library's type does not admit.
    choices = [choice | {"finish_reason": choice["finish_reason"] or "stop"} for choice in chunk["choices"]]
    Completion.model_validate(chunk | {"choices": choices}, strict=True)


def streamed(body: bytes, kind: Any = "chat", *, usage: bool = True) -> list[dict[str, Any]]:
    """The chunks; the stream must be whole."""
    made = translation(kind, usage=usage)
    assert made.content_type == "text/event-stream"
    *told, done, rest = (made.feed(body) + made.finish()).split(b"\n\n")
    assert (done, rest) == (b"data: [DONE]", b"")
    chunks = [json.loads(event.removeprefix(b"data: ")) for event in told]
    for chunk in chunks:
        check(chunk, kind)
        assert (chunk["id"], chunk["model"], chunk["created"]) == ("id-1", "asked", 1_700_000_000)
    return chunks


def deltas(name: str) -> list[dict[str, Any]]:
    return [choice["delta"] for chunk in streamed(OLLAMA_CHATS[name]) for choice in chunk["choices"]]


def whole(line: dict[str, Any], kind: Any = "chat") -> dict[str, Any]:
    made = translation(kind, stream=False)
    assert (made.content_type, made.feed(lines(line))) == ("application/json", b"")
    told: dict[str, Any] = json.loads(made.finish())
    return told


def test_a_stream_begins_with_the_role_and_ends_with_reason_and_usage() -> None:
    chunks = streamed(OLLAMA_CHATS["plain"])
    assert [chunk["choices"] for chunk in chunks] == [
        [{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}],
        [{"index": 0, "delta": {"content": "Hel"}, "finish_reason": None}],
        [{"index": 0, "delta": {"content": "lo, Zoë 🐑"}, "finish_reason": None}],
        [{"index": 0, "delta": {}, "finish_reason": "stop"}],
        [],
    ]
    assert [chunk.get("usage") for chunk in chunks] == [None] * 4 + [USAGE]
    assert "usage" not in streamed(OLLAMA_CHATS["plain"], usage=False)[-1]


@pytest.mark.parametrize("name", OLLAMA_CHATS)
def test_every_recorded_chat_is_a_whole_stream(name: str) -> None:
    chunks = streamed(OLLAMA_CHATS[name])
    assert chunks[0]["choices"][0]["delta"]["role"] == "assistant"
    reasons = [choice["finish_reason"] for chunk in chunks for choice in chunk["choices"]]
    wanted = {"tools": "tool_calls", "cut by its limit": "length"}.get(name, "stop")
    assert reasons == [None] * (len(reasons) - 1) + [wanted]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("crlf and blank lines", "Hi"),
        ("byte order mark", "Hi"),
        ("escaped", "é🐑\n\u2028"),
        ("text in the last line", "all"),
        ("last line without message", "Hi"),
        ("after the end", "Hi"),
    ],
)
def test_odd_chats_lose_no_text(name: str, text: str) -> None:
    assert "".join(delta.get("content", "") for delta in deltas(name)) == text


def test_reasoning_comes_apart_from_the_answer() -> None:
    assert [delta.get("reasoning_content") for delta in deltas("thinking")] == [None, "hm", " so", None, None]


def test_tool_calls_are_numbered_and_named_and_their_arguments_are_text() -> None:
    first, second = (delta["tool_calls"][0] for delta in deltas("tools") if "tool_calls" in delta)
    assert (first["index"], first["id"], first["type"]) == (0, "call_1", "function")
    assert first["function"] == {"name": "add", "arguments": '{"a":1,"b":[2.5,"ü"]}'}
    assert (second["index"], second["function"]) == (1, {"name": "add", "arguments": "{}"})
    assert second["id"].startswith("call_")
    assert second["id"] == deltas("tools")[-2]["tool_calls"][0]["id"]


def test_log_probabilities_are_kept() -> None:
    (told,) = (chunk["choices"][0]["logprobs"] for chunk in streamed(OLLAMA_CHATS["logprobs"])[1:2])
    assert told["content"][0]["token"] == "Hi"
    assert told["content"][0]["top_logprobs"][0]["logprob"] == -1.5


@pytest.mark.parametrize("name", OLLAMA_TEXTS)
def test_every_recorded_generation_is_a_whole_stream(name: str) -> None:
    chunks = streamed(OLLAMA_TEXTS[name], "completion")
    assert chunks[-2]["choices"] == [{"index": 0, "text": "", "logprobs": None, "finish_reason": "stop"}]
    text = "".join(choice["text"] for chunk in chunks for choice in chunk["choices"])
    assert text == {"plain": "Hello, Zoë 🐑", "thinking": "Yes", "logprobs": "HiHi"}.get(name, "Hi")


def test_log_probabilities_of_texts_know_their_offsets() -> None:
    told = [chunk["choices"][0]["logprobs"] for chunk in streamed(OLLAMA_TEXTS["logprobs"], "completion")[:2]]
    assert told[1] == {
        "tokens": ["Hi"],
        "token_logprobs": [-0.5],
        "top_logprobs": [{"Ho": -1.5}],
        "text_offset": [2],
    }
    several = text_logprobs([{"token": "ab", "logprob": -1}, {"token": "c", "logprob": -2}, {"token": "d"}], 5)
    assert several is not None
    assert several["text_offset"] == [5, 7, 8]


@pytest.mark.parametrize("name", BROKEN_OLLAMA)
def test_an_answer_that_is_not_whole_is_a_failure_after_what_came(name: str) -> None:
    came, failure = outcome(translation(), [BROKEN_OLLAMA[name]])
    assert failure
    assert (b'"Hi"' in came) == (b'"Hi"' in BROKEN_OLLAMA[name])
    assert b"[DONE]" not in came


def test_the_words_of_an_error_are_passed_on() -> None:
    made = translation()
    made.feed(BROKEN_OLLAMA["error in the middle"])
    with pytest.raises(BackendFailed, match="reported an error: an error was encountered while running the model"):
        made.finish()
    with pytest.raises(BackendFailed, match="out of memory"):
        translation().feed(BROKEN_OLLAMA["error at once"])


def test_a_huge_line_is_a_failure_and_a_large_one_is_not() -> None:
    text = "x" * 3_000_000
    assert streamed(lines(chat_line(text), CHAT_END))[1]["choices"][0]["delta"]["content"] == text
    with pytest.raises(BackendFailed, match="over 16777216 bytes"):
        translation().feed(lines(chat_line("x" * 2**24)))


def test_a_whole_chat_is_a_completion() -> None:
    message = {"role": "assistant", "content": "", "thinking": "hm", "tool_calls": [CALL, OLD_CALL]}
    told = whole({**CHAT_END, "message": message})
    ChatCompletion.model_validate(told, strict=True)
    assert (told["object"], told["usage"], told["model"]) == ("chat.completion", USAGE, "asked")
    choice = told["choices"][0]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["content"] is None
    assert choice["message"]["reasoning_content"] == "hm"
    assert [call["function"]["name"] for call in choice["message"]["tool_calls"]] == ["add", "add"]
    assert "index" not in choice["message"]["tool_calls"][0]


def test_a_whole_generation_is_a_completion() -> None:
    told = whole({**TEXT_END, **text_line("Hi", logprobs=LOGPROBS), **COUNTS, "done": True}, "completion")
    Completion.model_validate(told, strict=True)
    assert (told["object"], told["choices"][0]["text"]) == ("text_completion", "Hi")
    assert told["choices"][0]["logprobs"]["text_offset"] == [0]


@pytest.mark.parametrize("line", [chat_line("Hi"), {"error": "no memory"}, {"message": 7}])
def test_a_whole_answer_that_is_none_is_a_failure(line: dict[str, Any]) -> None:
    with pytest.raises(BackendFailed):
        whole(line)


def test_arguments_that_are_text_already_stay_it() -> None:
    call = {"function": {"name": "add", "arguments": '{"a": 1}'}}
    told = whole({**CHAT_END, "message": {"role": "assistant", "content": "", "tool_calls": [call]}})
    assert told["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"] == '{"a": 1}'
