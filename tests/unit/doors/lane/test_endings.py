"""How relayed calls end: refused, broken, odd. Both far ends are in memory."""

import json
from collections.abc import Callable

import pytest
from tests.lane_driver import (
    CHAT,
    DONE,
    Plant,
    WiredBackend,
    chat,
    chunk_event,
    chunked,
    eventually,
    post,
    run_leaping,
    served,
    settled,
    simple_chat,
    stream_head,
    whole,
)
from tests.scenes import last_data, play_pair

from sluicegate.backends.backend import AnswerSink, ChatCall, UpstreamCall
from sluicegate.backends.dialects.answers_to_openai import answer_to_openai
from sluicegate.backends.dialects.to_ollama import completion_to_ollama
from sluicegate.backends.dialects.translation import Translation
from sluicegate.backends.translating import TranslatingSink
from sluicegate.backends.whole_answer import whole_answer
from sluicegate.domain.clock import SystemClock


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b'{"error":{"message":"as OpenAI has it","type":"x"}}', "as OpenAI has it"),
        (b'{"error":"as Ollama has it"}', "as Ollama has it"),
        (b'{"message":"as others have it"}', "as others have it"),
        (b'{"detail":"as FastAPI has it"}', "as FastAPI has it"),
        (b"<html>no JSON</html>", "status 422"),
        (b"", "status 422"),
        (b'{"error":{"message":"' + b"x" * 100_000 + b'"}}', "status 422"),
        (b"[" * 50_000, "status 422"),
    ],
)
@pytest.mark.parametrize("path", [CHAT, "/api/chat"])
def test_the_words_of_a_refusal_are_found_in_any_form(path: str, body: bytes, words: str) -> None:
    async def scene(plant: Plant, first: WiredBackend, _: WiredBackend) -> None:
        caller = plant.connect()
        caller.feed(post(path, chat(stream=True) if path == CHAT else simple_chat(model="m")))
        sent = whole(body, "application/json", 422)
        for start in range(0, len(sent), 20_000):
            if not first.last.is_cancelled:
                first.last.say(sent[start : start + 20_000])
        (answer,) = caller.answers
        assert answer.status == 422
        told = json.loads(answer.body)
        assert words in (told["error"]["message"] if path == CHAT else told["message"])
        assert not caller.is_over

    play_pair(scene)


@pytest.mark.parametrize(
    "pieces",
    [
        [chunked(chunk_event("a"), b"data: nonsense\n\n"), chunked(chunk_event("b"))],
        [chunked(chunk_event("a")), chunked(b"data: nonsense\n\n")],
        [chunked(chunk_event("a"), b'data: {"error":{"message":"oh"}}\n\n', last=True)],
        [chunked(chunk_event("a"), last=True)],
        [chunked(chunk_event("a")) + b"zz\r\n"],
    ],
)
def test_a_translated_stream_that_goes_wrong_ends_with_an_error_and_the_backend_is_let_go(pieces: list[bytes]) -> None:
    async def scene(plant: Plant, first: WiredBackend, _: WiredBackend) -> None:
        caller = plant.connect()
        caller.feed(post("/api/chat", simple_chat()))
        first.last.say(stream_head())
        for piece in pieces:
            first.last.say(piece)
        await eventually(lambda: caller.is_over)
        (answer,) = caller.answers
        assert b'"content":"a"' in answer.body
        assert b"event: error\n" in answer.body
        assert last_data(answer.body)["code"] == "BACKEND_FAILED"
        assert plant.calls()["error"] == 1
        assert plant.fleet.outstanding() == {}

    play_pair(scene)


@pytest.mark.parametrize("stream", [False, True])
def test_a_page_is_no_translated_answer(stream: bool) -> None:
    async def scene(plant: Plant, first: WiredBackend, _: WiredBackend) -> None:
        caller = plant.connect()
        caller.feed(post("/api/chat", simple_chat(stream=stream)))
        first.last.say(whole(b"<html></html>", "text/html"))
        assert caller.statuses == [502]
        assert not caller.is_over

    play_pair(scene)


@pytest.mark.parametrize("cut", [1, 10, 40])
def test_a_stream_that_breaks_inside_an_event_gets_a_blank_line_before_the_error(cut: int) -> None:
    async def scene(plant: Plant, first: WiredBackend, _: WiredBackend) -> None:
        caller = plant.connect()
        caller.feed(post(CHAT, chat(stream=True)))
        event = chunk_event("b")
        first.last.say(stream_head() + chunked(chunk_event("a"), event[:-cut]))
        first.last.end()
        await eventually(lambda: caller.is_over)
        body = caller.answers[0].body
        assert body.startswith(chunk_event("a") + event[:-cut] + b"\n\ndata: ")
        assert last_data(body)["error"]["code"] == "backend_failed"
        assert DONE not in body

    play_pair(scene)


def test_a_stream_that_breaks_between_events_gets_nothing_more_than_the_error() -> None:
    async def scene(plant: Plant, first: WiredBackend, _: WiredBackend) -> None:
        caller = plant.connect()
        caller.feed(post(CHAT, chat(stream=True)))
        first.last.say(stream_head() + chunked(chunk_event("a")))
        first.last.end()
        await eventually(lambda: caller.is_over)
        assert caller.answers[0].body.startswith(chunk_event("a") + b'data: {"error"')

    play_pair(scene)


# --- answers that end with their connection ---

UNTIL_CLOSE = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"


@pytest.mark.parametrize("path", [CHAT, "/api/chat"])
@pytest.mark.parametrize("rest", [b'data: {"cho', chunk_event("b")[:-1], b"d", b"data: [DO"])
def test_a_stream_whose_connection_ends_inside_an_event_is_told_as_broken(path: str, rest: bytes) -> None:
    async def scene(plant: Plant, first: WiredBackend, second: WiredBackend) -> None:
        caller = plant.connect()
        caller.feed(post(path, chat(stream=True) if path == CHAT else simple_chat()))
        first.last.say(UNTIL_CLOSE + chunk_event("a") + rest)
        first.last.end()
        await eventually(lambda: caller.is_over)
        (answer,) = caller.answers
        told = last_data(answer.body)
        assert (told["error"]["code"] if path == CHAT else told["code"].lower()) == "backend_failed"
        assert plant.calls()["error"] == 1
        assert second.calls == []

    play_pair(scene)


@pytest.mark.parametrize("end", [DONE, DONE[:-1], DONE[:-2], b"data: [DONE]\r\n\r\n", b"", b"\r\n"])
def test_a_stream_whose_connection_ends_behind_its_events_is_complete(end: bytes) -> None:
    async def scene(plant: Plant, first: WiredBackend, _: WiredBackend) -> None:
        caller = plant.connect()
        caller.feed(post(CHAT, chat(stream=True)))
        first.last.say(UNTIL_CLOSE + chunk_event("a") + end)
        first.last.end()
        await settled(caller)
        assert [answer.body for answer in caller.answers] == [chunk_event("a") + end]
        assert not caller.is_over
        assert plant.calls()["completed"] == 1

    play_pair(scene)


# --- answers of a form that nobody foresaw ---


class Foreign(WiredBackend):
    """A backend whose answers are translated on their way here, as those of the adapters are."""

    def __init__(self, translation: Callable[[], Translation]) -> None:
        super().__init__()
        self._translation = translation

    def send(self, call: ChatCall, sink: AnswerSink) -> UpstreamCall:
        """See `ChatBackend.send`."""
        return TranslatingSink(sink, self._translation()).follow(
            lambda between: super(Foreign, self).send(call, between)
        )


def from_ollama() -> Translation:
    """As before an Ollama server."""
    asked = completion_to_ollama(b'{"model":"m","prompt":"x"}')
    return answer_to_openai(asked, answer_id="mine", clock=SystemClock())


def from_events() -> Translation:
    """As before a server that has to stream whatever was asked for."""
    translation = whole_answer("chat/completions")
    assert translation is not None
    return translation


ODD_TOPS = b'{"model":"m","response":"r","done":true,"logprobs":[{"token":"a","top_logprobs":5}]}'
ODD_CALLS = b'data: {"choices":[{"delta":{"tool_calls":[5]},"finish_reason":"stop"}]}\n\n'
ODD_CHOICES = b'data: {"choices":null}\n\n'


@pytest.mark.parametrize(
    ("translation", "path", "said"),
    [
        (from_ollama, "/v1/completions", ODD_TOPS),
        (from_events, CHAT, ODD_CALLS + DONE),
        (from_events, CHAT, ODD_CALLS),
        (from_events, CHAT, ODD_CHOICES),
    ],
)
def test_an_answer_that_cannot_be_translated_is_told_and_nothing_stays_taken(
    translation: Callable[[], Translation], path: str, said: bytes
) -> None:
    async def scenario() -> None:
        backend = Foreign(translation)
        async with served(backend) as plant:
            caller = plant.connect()
            caller.feed(post(path, chat() if path == CHAT else b'{"model":"m","prompt":"x"}'))
            backend.last.say(whole(said, "text/event-stream"))
            assert caller.statuses == [502]
            assert (plant.calls()["active"], plant.fleet.outstanding()) == (0, {})
            assert plant.calls()["error"] == 1
            assert not caller.is_over

    run_leaping(scenario())
