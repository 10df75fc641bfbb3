"""What is seldom seen of a relayed call: silence at odd moments, searches under a pause, what is counted."""

import json
from collections.abc import Awaitable, Callable, Sequence

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
    leap,
    post,
    run_leaping,
    served,
    simple_chat,
    stream_head,
    whole,
)

from sluicegate.backends.backend import AnswerHead, Health
from sluicegate.domain.generation import ModelCard
from sluicegate.doors.lane.refusals import read_refusal, reason_of
from sluicegate.doors.lane.scan import TokenScan
from sluicegate.errors import BackendError, BackendFailed, BackendRefused, BackendTimeout, BackendUnavailable
from sluicegate.observability.tallies import Counter, Histogram

Scene = Callable[[Plant, WiredBackend], Awaitable[None]]
HEARTBEAT = b": heartbeat\n\n"


def play(scene: Scene, backend: WiredBackend | None = None) -> None:
    """Play a scene with one backend in memory, on a clock that leaps."""

    async def scenario() -> None:
        behind = backend or WiredBackend()
        async with served(behind) as plant:
            await scene(plant, behind)

    run_leaping(scenario())


def counted(family: Counter | Histogram) -> dict[tuple[str, ...], int]:
    """How often each series counted."""
    return {series.labels: sum(series.values[: len(family.dump().bounds) + 1]) for series in family.dump().series}


# --- silence ---


def test_while_a_refusal_comes_slowly_nothing_is_begun() -> None:
    async def scene(plant: Plant, backend: WiredBackend) -> None:
        caller = plant.connect()
        caller.feed(post(CHAT, chat(stream=True)))
        refusal = whole(b'{"error":{"message":"too much"}}', "application/json", 422)
        backend.last.say(refusal[:-5])
        await leap(16.0)
        await leap(16.0)
        backend.last.say(refusal[-5:])
        assert caller.statuses == [422]

    play(scene)


def test_a_stream_that_speaks_is_not_kept_alive_beside() -> None:
    async def scene(plant: Plant, backend: WiredBackend) -> None:
        caller = plant.connect()
        caller.feed(post(CHAT, chat(stream=True)))
        backend.last.say(stream_head())
        for _ in range(5):
            backend.last.say(chunked(chunk_event("a")))
            await leap(10.0)
        assert HEARTBEAT not in caller.written
        caller.leave()

    play(scene)


# --- what goes wrong ---


def test_a_stream_that_finds_another_backend_while_the_caller_takes_nothing_is_held_back() -> None:
    async def scenario() -> None:
        first, second = WiredBackend("first"), WiredBackend("second")
        async with served(first, second) as plant:
            caller = plant.connect()
            caller.feed(post(CHAT, chat(stream=True)))
            first.last.end()
            caller.connection.pause_writing()
            await eventually(lambda: len(second.calls) == 1)
            assert not second.last.wire.is_reading()
            caller.connection.resume_writing()
            assert second.last.wire.is_reading()
            caller.leave()

    run_leaping(scenario())


def test_of_an_endless_refusal_enough_is_enough() -> None:
    async def scene(plant: Plant, backend: WiredBackend) -> None:
        caller = plant.connect()
        caller.feed(post(CHAT, chat()))
        backend.last.say(b"HTTP/1.1 422 No\r\ncontent-length: 9000000\r\n\r\n")
        for _ in range(70):
            backend.last.say(b"x" * 1_000)
            if backend.last.is_cancelled:
                break
        assert backend.last.is_cancelled
        assert caller.statuses == [422]

    play(scene)


def test_a_fault_behind_what_can_still_be_said_is_told_at_once() -> None:
    async def scene(plant: Plant, backend: WiredBackend) -> None:
        caller = plant.connect()
        caller.feed(post("/api/chat", simple_chat()))
        backend.last.say(stream_head() + chunked(chunk_event("a") + b"data: nonsense\n\n"))
        assert backend.last.is_cancelled
        (answer,) = caller.answers
        assert b'"content":"a"' in answer.body
        assert b"event: error\n" in answer.body

    play(scene)


def test_what_a_translation_says_only_at_the_end_is_told() -> None:
    async def scene(plant: Plant, backend: WiredBackend) -> None:
        caller = plant.connect()
        caller.feed(post("/api/chat", simple_chat(stream=False)))
        choice = {"index": 0, "message": {"role": "assistant", "content": "hello"}, "finish_reason": "stop"}
        backend.last.say(whole(json.dumps({"choices": [choice]}).encode()))
        (answer,) = caller.answers
        assert json.loads(answer.body)["content"] == "hello"

    play(scene)


# --- what is counted ---


def test_the_first_token_and_the_time_of_a_call_are_counted_once() -> None:
    async def scene(plant: Plant, backend: WiredBackend) -> None:
        caller = plant.connect()
        caller.feed(post(CHAT, chat(stream=True)))
        backend.last.say(stream_head())
        for word in ("a", "b", "c"):
            backend.last.say(chunked(chunk_event(word)))
        backend.last.say(chunked(DONE, last=True))
        assert counted(plant.metrics.first_token_seconds) == {("m",): 1}
        assert counted(plant.metrics.inference_seconds) == {("m",): 1}
        assert counted(plant.metrics.backend_errors) == {}

    play(scene)


@pytest.mark.parametrize(
    ("said", "reason"),
    [(b"nonsense\r\n\r\n", "http_5xx"), (whole(b"{}", status=429), "http_4xx"), (whole(b"{}", status=503), "refused")],
)
def test_a_failure_is_counted_with_its_backend_and_reason(said: bytes, reason: str) -> None:
    async def scene(plant: Plant, backend: WiredBackend) -> None:
        caller = plant.connect()
        caller.feed(post(CHAT, chat()))
        backend.last.say(said)
        await eventually(lambda: len(caller.answers) == 1)
        assert counted(plant.metrics.backend_errors) == {("wired", "m", reason): 1}

    play(scene)


class _SilentBackend(WiredBackend):
    """One that has not told its models."""

    def cards(self) -> Sequence[ModelCard]:
        """None yet."""
        return []


def test_a_model_that_may_be_invented_is_no_label() -> None:
    async def scene(plant: Plant, backend: WiredBackend) -> None:
        backend.state = Health(state="down")
        caller = plant.connect()
        caller.feed(post(CHAT, chat("invented")))
        await eventually(lambda: caller.statuses == [503])
        assert "invented" not in str(plant.metrics.dump())

    play(scene, _SilentBackend())


# --- refusals ---


@pytest.mark.parametrize(
    ("status", "told", "kind", "shown", "retry_after"),
    [
        (429, None, BackendRefused, 429, 1.0),
        (429, 7.0, BackendRefused, 429, 7.0),
        (422, None, BackendRefused, 422, None),
        (401, None, BackendFailed, 502, None),
        (403, None, BackendFailed, 502, None),
        (503, None, BackendUnavailable, 503, 1.0),
        (503, 30.0, BackendUnavailable, 503, 30.0),
        (500, None, BackendFailed, 502, None),
        (302, None, BackendFailed, 502, None),
    ],
)
def test_an_error_status_of_a_backend_becomes_the_callers_or_the_backends(
    status: int, told: float | None, kind: type[BackendError], shown: int, retry_after: float | None
) -> None:
    error = read_refusal("up", AnswerHead(status, "application/json", told), b'{"error":"no"}')
    assert type(error) is kind
    assert (error.status, error.retry_after) == (shown, retry_after)


def test_a_backends_words_are_cut() -> None:
    error = read_refusal("up", AnswerHead(422, "application/json"), b'{"error":"%b"}' % (b"x" * 60_000))
    assert 1_000 < len(error.message) < 3_000


def test_a_late_backend_is_a_timeout() -> None:
    assert reason_of(BackendTimeout("late")) == "timeout"


# --- the scan ---


def test_what_stands_at_the_end_of_a_large_piece_is_found() -> None:
    for between in (b"", b"}"):
        scan = TokenScan()
        scan.feed(b"x" * 20_000 + b'"total_tokens": 7')
        scan.feed(b"," + between)
        assert scan.total(streamed=False) == 7


def test_the_last_usage_counts() -> None:
    scan = TokenScan()
    scan.feed(b'data: {"total_tokens":3}\n\ndata: {"total_tokens":9}\n\n')
    assert scan.total(streamed=True) == 9


@pytest.mark.parametrize(
    ("said", "ends"),
    [(b"data: x\r\n\r\n", True), (b"data: x\n\n", True), (b"data: x\r\n", False), (b"data: x\n", False), (b"", True)],
)
def test_an_event_ends_with_a_blank_line_of_either_kind(said: bytes, ends: bool) -> None:
    scan = TokenScan()
    scan.feed(said)
    assert scan.ends_an_event is ends
