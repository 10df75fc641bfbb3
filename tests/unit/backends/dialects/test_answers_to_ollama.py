"""What an OpenAI-compatible server answers, in Ollama's dialect; the official client's types read all of it."""

import json
from typing import Any

import ollama
import pytest
from tests.unit.backends.dialects.recorded import (
    BROKEN_OPENAI,
    LOGPROBS,
    OPENAI_CHATS,
    OPENAI_TEXTS,
    USAGE,
    chunk,
    events,
    outcome,
    text_chunk,
)

from sluicegate.backends.dialects.answers_to_ollama import answer_to_ollama, answer_unasked
from sluicegate.backends.dialects.to_openai import OpenAICall
from sluicegate.backends.dialects.translation import Translation
from sluicegate.errors import BackendFailed
from sluicegate.testing import ManualClock


def call_for(kind: Any, *, stream: bool = True, answered: Any = None) -> OpenAICall:
    return OpenAICall(kind=kind, path="", body=b"", model="asked", stream=stream, answered=answered)


def translation(kind: Any = "chat", *, stream: bool = True, clock: ManualClock | None = None) -> Translation:
    return answer_to_ollama(call_for(kind, stream=stream), clock=clock or ManualClock(1_700_000_000.5), started=0)


def streamed(body: bytes, kind: Any = "chat") -> list[dict[str, Any]]:
    """The lines; the last one, and no other, must be done."""
    made = translation(kind)
    assert made.content_type == "application/x-ndjson"
    told = (made.feed(body) + made.finish()).splitlines()
    lines: list[dict[str, Any]] = [json.loads(line) for line in told]
    for line in lines:
        (ollama.ChatResponse if kind == "chat" else ollama.GenerateResponse).model_validate(line, strict=True)
        assert (line["model"], line["created_at"]) == ("asked", "2023-11-14T22:13:20.500000Z")
    assert [line["done"] for line in lines] == [False] * (len(lines) - 1) + [True]
    return lines


def text_of(lines: list[dict[str, Any]], field: str = "content") -> str:
    return "".join(line["message"].get(field) or "" for line in lines)


def calls_of(lines: list[dict[str, Any]]) -> list[tuple[str, str, Any]]:
    calls = [call for line in lines for call in line["message"].get("tool_calls", ())]
    assert [call["function"]["index"] for call in calls] == list(range(len(calls)))
    return [(call.get("id", ""), call["function"]["name"], call["function"]["arguments"]) for call in calls]


def whole(body: dict[str, Any], kind: Any = "chat") -> dict[str, Any]:
    made = translation(kind, stream=False)
    assert made.feed(json.dumps(body).encode()) == b""
    told: dict[str, Any] = json.loads(made.finish())
    return told


def completion(message: dict[str, Any], **more: Any) -> dict[str, Any]:
    choice = {"index": 0, "message": message, "finish_reason": "stop", **more}
    return {"id": "c", "object": "chat.completion", "choices": [choice], "usage": USAGE["usage"]}


def test_a_stream_is_lines_of_text_and_a_last_one_with_counts() -> None:
    *texts, last = streamed(OPENAI_CHATS["plain"])
    assert [line["message"] for line in texts] == [
        {"role": "assistant", "content": "Hel"},
        {"role": "assistant", "content": "lo, Zoë 🐑"},
    ]
    assert last["message"] == {"role": "assistant", "content": ""}
    assert (last["done_reason"], last["prompt_eval_count"], last["eval_count"]) == ("stop", 11, 3)
    assert last["prompt_eval_cached_count"] == 4
    assert streamed(OPENAI_CHATS["usage before the end"])[-1]["prompt_eval_count"] == 11


@pytest.mark.parametrize("name", OPENAI_CHATS)
def test_every_recorded_chat_is_a_whole_stream(name: str) -> None:
    lines = streamed(OPENAI_CHATS[name])
    text = {"plain": "Hello, Zoë 🐑", "reasoning": "Yes", "reasoning_content": "Yes"}.get(name, "Hi")
    assert text_of(lines) == ("" if "call" in name else text)
    assert lines[-1]["done_reason"] == ("length" if name in ("timings", "a call cut by the limit") else "stop")


@pytest.mark.parametrize("name", ["reasoning", "reasoning_content"])
def test_reasoning_becomes_thinking(name: str) -> None:
    assert text_of(streamed(OPENAI_CHATS[name]), "thinking") == "hm"


@pytest.mark.parametrize(
    ("name", "calls"),
    [
        ("tool calls in pieces", [("a", "add", {"a": 1}), ("b", "sub", {})]),
        ("tool calls without index", [("a", "add", {"a": 1}), ("b", "sub", {})]),
        ("tool calls without index and id", [("", "add", {"a": 1}), ("", "sub", {})]),
        ("tool calls all numbered 0", [("a", "add", {"a": 1}), ("b", "sub", {})]),
        ("a call cut by the limit", [("a", "add", {})]),
    ],
)
def test_pieces_of_tool_calls_are_put_together(name: str, calls: list[Any]) -> None:
    assert calls_of(streamed(OPENAI_CHATS[name])) == calls


def test_durations_are_those_of_the_backend_or_measured() -> None:
    last = streamed(OPENAI_CHATS["timings"])[-1]
    assert (last["prompt_eval_duration"], last["eval_duration"]) == (1_500_000, 20_250_000)
    assert (last["prompt_eval_count"], last["eval_count"]) == (5, 1)
    clock = ManualClock()
    made = translation(clock=clock)
    clock.advance(2)
    made.feed(events(chunk({"role": "assistant"}), chunk({"content": "Hi"}), done=False))
    clock.advance(3)
    last = json.loads(made.feed(events(chunk({"content": "Ho"}), chunk({}, "stop"))).splitlines()[-1])
    assert (last["prompt_eval_duration"], last["eval_duration"]) == (2_000_000_000, 3_000_000_000)
    assert (last["total_duration"], last["eval_count"]) == (5_000_000_000, 2)
    assert "prompt_eval_count" not in last


def test_log_probabilities_are_kept() -> None:
    assert streamed(OPENAI_CHATS["logprobs"])[0]["logprobs"] == LOGPROBS
    columns = {"tokens": ["Hi"], "token_logprobs": [-0.5], "top_logprobs": [{"Ho": -1.5}], "text_offset": [0]}
    told = text_chunk("Hi", "stop")
    told["choices"][0]["logprobs"] = columns
    assert streamed(events(told), "generate")[0]["logprobs"] == LOGPROBS


@pytest.mark.parametrize("body", [*OPENAI_TEXTS.values(), OPENAI_CHATS["plain"], OPENAI_CHATS["reasoning"]])
def test_a_generation_may_come_from_a_completion_or_a_chat(body: bytes) -> None:
    lines = streamed(body, "generate")
    assert "".join(line["response"] for line in lines) in ("Hello", "Hi", "Hello, Zoë 🐑", "Yes")
    assert not any("message" in line for line in lines)


def test_a_generation_has_no_place_for_tool_calls() -> None:
    (last,) = streamed(BROKEN_OPENAI["arguments that are no object"], "generate")
    assert last["response"] == ""


@pytest.mark.parametrize("name", BROKEN_OPENAI)
def test_an_answer_that_is_not_whole_is_a_failure_after_what_came(name: str) -> None:
    came, failure = outcome(translation(), [BROKEN_OPENAI[name]])
    assert failure
    assert (b'"Hi"' in came) == (b'"Hi"' in BROKEN_OPENAI[name])
    assert b'"done":true' not in came


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("error in the middle", "out of memory"),
        ("llama.cpp's error field", "context shift is disabled"),
        ("vLLM's error object", "engine died"),
        ("cut", "before it was complete"),
        ("arguments that are no object", 'called the tool "add" with arguments that are no object'),
    ],
)
def test_a_failure_says_what_happened(name: str, words: str) -> None:
    assert words in outcome(translation(), [BROKEN_OPENAI[name]])[1]


def test_a_whole_chat_is_one_line() -> None:
    function = {"name": "add", "arguments": '{"a": 1}'}
    calls = [{"id": "a", "type": "function", "function": function}, {"id": "a", "function": function}]
    message = {"role": "assistant", "content": None, "reasoning_content": "hm", "tool_calls": calls}
    told = whole(completion(message))
    ollama.ChatResponse.model_validate(told, strict=True)
    assert (told["message"]["content"], told["message"]["thinking"]) == ("", "hm")
    assert calls_of([told]) == [("a", "add", {"a": 1})] * 2
    assert (told["done"], told["done_reason"], told["eval_count"]) == (True, "stop", 3)
    assert told["eval_duration"] > 0


def test_a_whole_generation_may_come_from_a_completion_or_a_chat() -> None:
    assert whole(completion({"content": "Hi"}, logprobs={"content": LOGPROBS}), "generate")["logprobs"] == LOGPROBS
    told = whole({"choices": [{"text": "Hi", "finish_reason": "length"}]}, "generate")
    assert (told["response"], told["done_reason"]) == ("Hi", "length")
    assert "eval_count" not in told


@pytest.mark.parametrize("body", [{}, {"choices": []}, {"error": {"message": "no"}}, {"choices": [{"message": 7}]}])
def test_a_whole_answer_that_is_none_is_a_failure(body: dict[str, Any]) -> None:
    with pytest.raises(BackendFailed):
        whole(body)


def test_calls_that_ask_no_model_are_answered() -> None:
    clock = ManualClock(1_700_000_000.5)
    chat = json.loads(answer_unasked(call_for("chat", answered="load"), clock=clock))
    assert chat == {
        "model": "asked",
        "created_at": "2023-11-14T22:13:20.500000Z",
        "message": {"role": "assistant", "content": ""},
        "done": True,
        "done_reason": "load",
    }
    generated = json.loads(answer_unasked(call_for("generate", answered="unload"), clock=clock))
    assert (generated["response"], generated["done_reason"]) == ("", "unload")
    assert json.loads(answer_unasked(call_for("embed", answered="load"), clock=clock))["embeddings"] == []
    assert json.loads(answer_unasked(call_for("embeddings", answered="load"), clock=clock)) == {"embedding": []}


def test_too_many_or_too_large_tool_calls_are_a_failure() -> None:
    made = translation()
    piece = {"function": {"name": "f", "arguments": ""}}
    with pytest.raises(BackendFailed, match="over 1024 tools"):
        made.feed(events(chunk({"tool_calls": [{"index": number, **piece} for number in range(1025)]})))
    made = translation()
    large = {"index": 0, "function": {"name": "f", "arguments": "x" * 2**22}}
    with pytest.raises(BackendFailed, match="letters"):
        made.feed(events(*[chunk({"tool_calls": [large]})] * 5))
