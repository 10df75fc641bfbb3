"""What stands between a connection and who takes its answer."""

import asyncio

import pytest
from tests.sinks import Recorder

from sluicegate.backends.backend import AnswerHead, AnswerSink, UpstreamCall
from sluicegate.backends.between import Between
from sluicegate.backends.refusals import RefusalSink
from sluicegate.backends.translating import TranslatingSink
from sluicegate.errors import BackendFailed, BackendUnavailable


class Shouting:
    """A translation into capitals that ends with an exclamation mark; fulfils `Translation`."""

    content_type = "text/loud"

    def feed(self, data: bytes) -> bytes:
        if b"?" in data:
            raise BackendFailed("it asks")
        return data.upper().replace(b" ", b"")

    def finish(self) -> bytes:
        return b"!"


class Line:
    """A call whose answer a test gives; fulfils `UpstreamCall`."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    def pause(self) -> None:
        self.heard.append("pause")

    def resume(self) -> None:
        self.heard.append("resume")

    def cancel(self) -> None:
        self.heard.append("cancel")


def between(sink: Recorder, *, only: str = "") -> tuple[TranslatingSink, Line]:
    line = Line()
    return TranslatingSink(sink, Shouting(), only=only).follow(lambda _: line), line


def run(answer: AnswerSink, head: AnswerHead, *pieces: bytes) -> None:
    answer.answer_begun(head)
    for piece in pieces:
        answer.answer_piece(piece)
    answer.answer_ended()


OK = AnswerHead(200, "text/event-stream", None, 5)


def test_an_answer_is_translated_and_its_length_is_unknown() -> None:
    sink = Recorder()
    run(between(sink)[0], OK, b"he", b" ", b"llo")
    assert sink.head == AnswerHead(200, "text/loud")
    assert sink.pieces == [b"HE", b"LLO", b"!"]
    assert sink.ended


@pytest.mark.parametrize("head", [AnswerHead(400, "text/event-stream", 3.0, 2), AnswerHead(200, "application/json")])
def test_errors_and_other_content_types_are_passed_on_as_they_are(head: AnswerHead) -> None:
    sink = Recorder()
    run(between(sink, only="text/event-stream")[0], head, b"hi?")
    assert sink.head == head
    assert (sink.body, sink.ended) == (b"hi?", True)


def test_a_translation_that_fails_cancels_the_call_and_tells_the_sink_once() -> None:
    sink = Recorder()
    answer, line = between(sink)
    run(answer, OK, b"a", b"why?", b"b")
    assert line.heard == ["cancel"]
    assert isinstance(sink.error, BackendFailed)
    assert sink.body == b"A"


def test_nothing_is_handed_on_after_a_cancel_even_at_the_end() -> None:
    sink = Recorder(on_piece=lambda: answer.cancel())  # noqa: PLW0108 - the sink is made before what it cancels
    answer, line = between(sink)
    run(answer, OK, b"a", b"b")
    assert sink.pieces == [b"A"]
    assert not sink.over.is_set()
    assert line.heard == ["cancel"]


def test_pauses_and_failures_go_through() -> None:
    sink = Recorder()
    answer, line = between(sink)
    answer.pause()
    answer.resume()
    answer.answer_failed(BackendUnavailable("gone"))
    assert line.heard == ["pause", "resume"]
    assert isinstance(sink.error, BackendUnavailable)


@pytest.mark.parametrize(
    ("status", "words", "told"),
    [
        (500, b'{"error":{"message":"image input is not supported"}}', 400),
        (501, b'{"error":{"message":"This server does not support embeddings"}}', 400),
        (500, b'{"error":{"message":"out of memory"}}', 500),
        (503, b'{"error":{"message":"invalid"}}', 503),
        (500, b"", 500),
    ],
)
def test_a_500_that_blames_the_request_becomes_a_400(status: int, words: bytes, told: int) -> None:
    sink = Recorder()
    answer = RefusalSink(sink).follow(lambda _: Line())
    run(answer, AnswerHead(status, "application/json", None, len(words)), *([words[:9], words[9:]] if words else []))
    assert sink.head == AnswerHead(told, "application/json", None, len(words))
    assert (sink.body, sink.ended) == (words, True)


def test_an_endless_500_is_let_go() -> None:
    sink = Recorder()
    answer = RefusalSink(sink).follow(lambda _: Line())
    answer.answer_begun(AnswerHead(500, "text/plain"))
    for _ in range(3):
        answer.answer_piece(bytes(40_000))
    assert len(sink.body) == 120_000


def test_a_refusal_that_breaks_off_is_a_failure() -> None:
    sink = Recorder()
    answer = RefusalSink(sink).follow(lambda _: Line())
    answer.answer_begun(AnswerHead(500, "text/plain"))
    answer.answer_failed(BackendFailed("broke off"))
    assert sink.head is None
    assert isinstance(sink.error, BackendFailed)


def test_between_passes_everything_on_and_is_silent_before_its_call_is_made() -> None:
    async def scenario() -> None:
        sink = Recorder()
        nothing = Between(sink)
        nothing.pause()
        nothing.resume()

        def begin(inner: AnswerSink) -> UpstreamCall:
            asyncio.get_running_loop().call_soon(run, inner, OK, b"hello")
            return Line()

        nothing.follow(begin)
        await sink.over.wait()
        assert (sink.head, sink.body) == (OK, b"hello")
        nothing.cancel()

    asyncio.run(scenario())
