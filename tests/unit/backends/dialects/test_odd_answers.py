"""Answers of a form that nobody foresaw are failures of the backend, and nothing else."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from sluicegate.backends.dialects.answers_to_ollama import answer_to_ollama
from sluicegate.backends.dialects.answers_to_openai import answer_to_openai
from sluicegate.backends.dialects.lines import Lines
from sluicegate.backends.dialects.to_ollama import completion_to_ollama
from sluicegate.backends.dialects.to_openai import chat_to_openai, generate_to_openai
from sluicegate.backends.dialects.translation import StreamTranslation, Translation, WholeTranslation
from sluicegate.backends.whole_answer import whole_answer
from sluicegate.errors import BackendFailed
from sluicegate.testing import ManualClock

MESSAGES = b'"messages":[{"role":"user","content":"x"}]'
DONE = b"data: [DONE]\n\n"
MOST_NANOSECONDS = 2**63 - 1


def from_ollama(stream: bool) -> Translation:
    asked = completion_to_ollama(b'{"model":"m","prompt":"x","stream":%b}' % json.dumps(stream).encode())
    return answer_to_openai(asked, answer_id="mine", clock=ManualClock(0.0))


def from_events(path: str) -> Translation:
    translation = whole_answer(path)
    assert translation is not None
    return translation


@pytest.mark.parametrize(
    ("translation", "said"),
    [
        (lambda: from_ollama(False), b'{"response":"r","done":true,"logprobs":[{"token":"a","top_logprobs":5}]}'),
        (lambda: from_ollama(False), b'{"response":"r","done":true,"logprobs":[{"token":"a","top_logprobs":[1]}]}'),
        (lambda: from_ollama(True), b'{"response":"r","done":false,"logprobs":[{"token":"a","top_logprobs":5}]}\n'),
        (lambda: from_events("chat/completions"), b'data: {"choices":null}\n\n'),
        (lambda: from_events("chat/completions"), b'data: {"choices":7}\n\n'),
        (
            lambda: from_events("chat/completions"),
            b'data: {"choices":[{"delta":{"tool_calls":[5]},"finish_reason":"stop"}]}\n\n',
        ),
        (lambda: from_events("completions"), b'data: {"choices":[{"text":5}]}\n\n'),
    ],
)
@pytest.mark.parametrize("end", [b"", DONE])
def test_an_answer_of_a_form_that_nobody_foresaw_is_the_backends_failure(
    translation: Callable[[], Translation], said: bytes, end: bytes
) -> None:
    with pytest.raises(BackendFailed):
        translated(translation(), said if said.startswith(b"{") else said + end)


def translated(translation: Translation, said: bytes) -> bytes:
    return translation.feed(said) + translation.finish()


class Stumbling:
    """Knows one word, and no end."""

    content_type = "text/plain"
    is_over = False

    def take(self, payload: bytes) -> bytes:
        """See `Renderer`."""
        return {b"a": b"A"}[payload]

    def end(self) -> bytes:
        """See `Renderer`."""
        raise KeyError("end")


def test_a_fault_of_ours_in_a_stream_is_told_behind_what_came_before_it() -> None:
    made = StreamTranslation(Lines(10), Stumbling())
    assert made.feed(b"a\nbad\nb\n") == b"A"
    with pytest.raises(BackendFailed, match="cannot be translated"):
        made.feed(b"")
    with pytest.raises(BackendFailed, match="cannot be translated"):
        made.finish()


def test_a_fault_of_ours_at_the_end_is_told() -> None:
    made = StreamTranslation(Lines(10), Stumbling())
    assert made.feed(b"a\n") == b"A"
    with pytest.raises(BackendFailed, match="cannot be translated"):
        made.finish()
    with pytest.raises(BackendFailed, match="cannot be translated"):
        translated(WholeTranslation(lambda body: bytes.fromhex(body.decode())), b"zz")


@pytest.mark.parametrize("told", ["1e308", "-1e308", "1e15", "-1", "0"])
@pytest.mark.parametrize("kind", [chat_to_openai, generate_to_openai])
def test_times_that_no_clock_shows_become_numbers_that_every_client_can_read(
    kind: Callable[[bytes], Any], told: str
) -> None:
    said = (
        json.dumps(
            {"choices": [{"index": 0, "message": {"content": "x"}, "text": "x", "finish_reason": "stop"}]}
        ).removesuffix("}")
        + f', "timings": {{"prompt_ms": {told}, "predicted_ms": {told}}}}}'
    )
    body = b'{"model":"m","stream":false,%b}' % (MESSAGES if kind is chat_to_openai else b'"prompt":"x"')
    made = answer_to_ollama(kind(body), clock=ManualClock(0.0), started=0.0)
    answer = json.loads(made.feed(said.encode()) + made.finish())
    durations = [value for name, value in answer.items() if name.endswith("_duration")]
    assert len(durations) >= 3
    assert all(isinstance(value, int) and 0 <= value <= MOST_NANOSECONDS for value in durations)
