"""One relayed call in every phase: cancelled, retried, kept alive. Both far ends are in memory."""

import asyncio
import json

import pytest
from tests.lane_driver import (
    CHAT,
    DONE,
    CallerWire,
    Plant,
    WiredBackend,
    chat,
    chunk_event,
    chunked,
    eventually,
    leap,
    post,
    request,
    run_leaping,
    served,
    settled,
    simple_chat,
    stream_head,
    whole,
)
from tests.scenes import HEARTBEAT, last_data, play_pair

from sluicegate.backends.backend import AnswerSink, ChatCall, Health, UpstreamCall


async def cancelled_by(caller: CallerWire, plant: Plant, how: str) -> None:
    """Let the caller leave, half-close, or somebody cancel the call by its id."""
    match how:
        case "leaves":
            caller.leave()
        case "half-closes":
            caller.end()
        case _:
            other = plant.connect()
            other.feed(request("DELETE", "/api/chat/mine"))
            await eventually(lambda: other.statuses == [200])
            assert json.loads(other.answers[0].body) == {"requestId": "mine", "cancelled": True}
            other.leave()


# --- cancelling ---


@pytest.mark.parametrize("how", ["leaves", "half-closes", "cancelled"])
@pytest.mark.parametrize("phase", ["asked", "head", "piece", "stalled", "whole"])
@pytest.mark.parametrize("path", [CHAT, "/api/chat"])
def test_a_cancelled_call_ends_at_its_backend_in_every_phase(path: str, phase: str, how: str) -> None:
    async def scene(plant: Plant, first: WiredBackend, _: WiredBackend) -> None:
        caller = plant.connect()
        is_stream = phase != "whole"
        body = chat(stream=is_stream) if path == CHAT else simple_chat(stream=is_stream)
        caller.feed(post(path, body, "X-Request-Id: mine"))
        far = first.last
        if phase == "whole":
            far.say(whole(b"x" * 10)[:-5])
        elif phase != "asked":
            far.say(stream_head())
        if phase in ("piece", "stalled"):
            caller.stalled = phase == "stalled"
            far.say(chunked(*([chunk_event("x" * 10_000)] * (20 if caller.stalled else 1))))
        await cancelled_by(caller, plant, how)
        await eventually(lambda: far.is_cancelled)
        assert plant.calls()["cancelled"] == 1
        assert plant.fleet.outstanding() == {}
        caller.take()
        if how == "cancelled":
            await eventually(lambda: caller.is_over or bool(caller.answers))
            (answer,) = caller.answers
            told = answer.body if phase in ("asked", "whole") else json.dumps(last_data(answer.body)).encode()
            assert answer.status == (409 if phase in ("asked", "whole") else 200)
            assert b"canceled" in told.lower()
        else:
            await eventually(lambda: not plant.server.connections - {caller.connection} and caller.is_closing())

    play_pair(scene)


@pytest.mark.parametrize("how", ["leaves", "half-closes", "cancelled"])
def test_a_call_that_still_waits_for_a_backend_is_cancelled_too(how: str) -> None:
    async def scene(plant: Plant, first: WiredBackend, second: WiredBackend) -> None:
        first.state = second.state = Health(state="starting")
        caller = plant.connect()
        caller.feed(post(CHAT, chat(stream=True), "X-Request-Id: mine"))
        await settled(caller)
        assert plant.calls()["active"] == 1
        await cancelled_by(caller, plant, how)
        await eventually(lambda: plant.calls()["active"] == 0)
        first.state = Health(state="up")
        await leap(1.0)
        assert first.calls == []
        assert caller.statuses == ([409] if how == "cancelled" else [])

    play_pair(scene)


def test_an_id_that_is_over_or_unknown_is_not_found() -> None:
    async def scene(plant: Plant, first: WiredBackend, _: WiredBackend) -> None:
        caller = plant.connect()
        caller.feed(post(CHAT, chat(), "X-Request-Id: mine"))
        first.last.say(whole(b"{}"))
        caller.feed(request("DELETE", "/api/chat/mine") + request("DELETE", "/api/chat/other"))
        await eventually(lambda: len(caller.answers) == 3)
        assert caller.statuses == [200, 404, 404]

    play_pair(scene)


# --- another backend ---


def test_a_call_that_found_no_answer_goes_to_another_backend() -> None:
    async def scene(plant: Plant, first: WiredBackend, second: WiredBackend) -> None:
        caller = plant.connect()
        caller.feed(post(CHAT, chat()))
        first.last.end()
        await eventually(lambda: bool(second.calls))
        assert plant.fleet.outstanding() == {("second", "m"): 1}
        assert second.last.call.body == first.last.call.body
        second.last.say(whole(b'{"from":2}'))
        assert caller.answers[0].body == b'{"from":2}'

    play_pair(scene)


@pytest.mark.parametrize("said", [stream_head(), stream_head() + chunked(chunk_event("a"))])
def test_a_call_that_has_begun_to_be_answered_stays_where_it_is(said: bytes) -> None:
    async def scene(plant: Plant, first: WiredBackend, second: WiredBackend) -> None:
        caller = plant.connect()
        caller.feed(post(CHAT, chat(stream=True)))
        first.last.say(said)
        first.last.end()
        await settled(caller)
        assert second.calls == []
        assert last_data(caller.answers[0].body)["error"]["code"] == "backend_failed"

    play_pair(scene)


def test_a_call_whose_caller_was_told_to_wait_stays_where_it_is() -> None:
    async def scene(plant: Plant, first: WiredBackend, second: WiredBackend) -> None:
        caller = plant.connect()
        caller.feed(post(CHAT, chat(stream=True)))
        await leap(15.0)
        assert HEARTBEAT in caller.written
        first.last.end()
        await settled(caller)
        assert second.calls == []
        assert last_data(caller.answers[0].body)["error"]["code"] == "backend_unavailable"

    play_pair(scene)


def test_a_call_is_given_up_when_no_backend_answers() -> None:
    async def scenario() -> None:
        backends = [WiredBackend(f"b{number}") for number in range(5)]
        async with served(*backends) as plant:
            caller = plant.connect()
            caller.feed(post(CHAT, chat()))
            for count in range(3):
                await eventually(lambda count=count: len(backends[count].calls) == 1)  # type: ignore[misc]
                backends[count].last.end()
            await eventually(lambda: caller.statuses == [503])
            assert [len(backend.calls) for backend in backends] == [1, 1, 1, 0, 0]
            assert plant.fleet.outstanding() == {}
            assert plant.calls()["error"] == 1

    run_leaping(scenario())


@pytest.mark.parametrize("status", [400, 404, 429, 500, 503])
def test_a_refusal_is_an_answer_and_is_not_asked_for_again(status: int) -> None:
    async def scene(plant: Plant, first: WiredBackend, second: WiredBackend) -> None:
        caller = plant.connect()
        caller.feed(post(CHAT, chat()))
        first.last.say(whole(b'{"error":{"message":"the words"}}', "application/json", status))
        assert "the words" in json.loads(caller.answers[0].body)["error"]["message"]
        assert second.calls == []

    play_pair(scene)


class _Failing(WiredBackend):
    def send(self, call: ChatCall, sink: AnswerSink) -> UpstreamCall:
        raise ValueError("a fault of ours")


def test_a_fault_of_ours_is_500_and_leaves_nothing_counted(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        async with served(_Failing()) as plant:
            caller = plant.connect()
            caller.feed(post(CHAT, chat(), "X-Request-Id: mine"))
            await eventually(lambda: caller.statuses == [500])
            assert b"a fault of ours" not in caller.written
            assert (plant.calls()["active"], plant.fleet.outstanding()) == (0, {})
            caller.feed(request("GET", "/api/chat/streams"))
            await eventually(lambda: caller.statuses == [500, 200])

    run_leaping(scenario())


# --- silence ---


@pytest.mark.parametrize("path", [CHAT, "/api/chat"])
def test_a_silent_stream_is_kept_alive_before_its_head_and_between_its_events(path: str) -> None:
    async def scene(plant: Plant, first: WiredBackend, _: WiredBackend) -> None:
        caller = plant.connect()
        caller.feed(post(path, chat(stream=True) if path == CHAT else simple_chat()))
        await leap(14.0)
        assert caller.written == b""
        await leap(1.0)
        assert caller.written.count(HEARTBEAT) == 1
        await leap(15.0)
        assert caller.written.count(HEARTBEAT) == 2
        first.last.say(stream_head() + chunked(chunk_event("a")))
        await leap(14.0)
        assert caller.written.count(HEARTBEAT) == 2
        await leap(1.5)
        assert caller.written.count(HEARTBEAT) == 3
        first.last.say(chunked(chunk_event("b", "stop"), DONE, last=True))
        (answer,) = caller.answers
        assert answer.fields["content-type"].startswith("text/event-stream")
        assert answer.body.startswith(HEARTBEAT * 2)
        assert caller.written.count(b"HTTP/1.1 200 OK") == 1
        assert plant.calls()["completed"] == 1

    play_pair(scene)


def test_nothing_is_put_into_the_middle_of_an_event() -> None:
    async def scene(plant: Plant, first: WiredBackend, _: WiredBackend) -> None:
        caller = plant.connect()
        caller.feed(post(CHAT, chat(stream=True)))
        event = chunk_event("a")
        first.last.say(stream_head() + chunked(event[:20]))
        await leap(31.0)
        assert HEARTBEAT not in caller.written
        first.last.say(chunked(event[20:]))
        await leap(16.0)
        assert caller.written.count(HEARTBEAT) == 1
        caller.leave()

    play_pair(scene)


def test_who_takes_nothing_gets_no_heartbeats() -> None:
    async def scene(plant: Plant, first: WiredBackend, _: WiredBackend) -> None:
        caller = plant.connect()
        caller.stalled = True
        caller.feed(post(CHAT, chat(stream=True)))
        first.last.say(stream_head() + chunked(chunk_event("x" * 100_000)))
        await leap(40.0)
        assert HEARTBEAT not in caller.unsent
        caller.leave()

    play_pair(scene)


def test_a_whole_answer_is_waited_for_in_silence() -> None:
    async def scene(plant: Plant, first: WiredBackend, _: WiredBackend) -> None:
        caller = plant.connect()
        caller.feed(post(CHAT, chat()))
        await leap(100.0)
        assert caller.written == b""
        caller.leave()

    play_pair(scene)


@pytest.mark.parametrize("status", [400, 429, 500])
def test_a_refusal_behind_a_heartbeat_is_told_inside_the_stream(status: int) -> None:
    async def scene(plant: Plant, first: WiredBackend, _: WiredBackend) -> None:
        caller = plant.connect()
        caller.feed(post(CHAT, chat(stream=True)))
        await leap(15.0)
        first.last.say(whole(b'{"error":"no"}', "application/json", status))
        await eventually(lambda: caller.is_over)
        (answer,) = caller.answers
        assert answer.status == 200
        assert "no" in last_data(answer.body)["error"]["message"]

    play_pair(scene)


def test_after_the_end_nothing_ticks_any_more() -> None:
    async def scene(plant: Plant, first: WiredBackend, _: WiredBackend) -> None:
        caller = plant.connect()
        caller.feed(post(CHAT, chat(stream=True)))
        assert len(plant.wheel) == 2
        first.last.say(stream_head() + chunked(DONE, last=True))
        assert len(plant.wheel) == 1
        caller.leave()
        await asyncio.sleep(0)
        assert len(plant.wheel) == 0

    play_pair(scene)
