"""What is posted on a connection is written at the end of the turn, once, in order, and before the connection ends."""

import asyncio
import gc

import pytest
from tests.lane_driver import (
    CHAT,
    DONE,
    READ_BYTES,
    CallerWire,
    Plant,
    WiredBackend,
    chat,
    chunk_event,
    chunked,
    eventually,
    post,
    request,
    settled,
    stream_head,
    whole,
)
from tests.scenes import play

from sluicegate.doors.http.connection import HIGH_WATER
from sluicegate.wire.outbox import Outbox


def defer(plant: Plant) -> tuple[CallerWire, list[bytes]]:
    """A caller, and the writes on its connection, which wait for the end of the turn as they do in earnest."""
    plant.server.outbox = Outbox()
    caller = plant.connect()
    writes: list[bytes] = []
    take = caller.write

    def write(data: bytes | bytearray | memoryview) -> None:
        writes.append(bytes(data))
        take(data)

    caller.write = write  # type: ignore[method-assign]
    return caller, writes


def test_what_one_turn_has_to_say_is_one_write() -> None:
    async def scene(plant: Plant, backend: WiredBackend) -> None:
        caller, writes = defer(plant)
        caller.feed(post(CHAT, chat(stream=True)))
        backend.last.say(stream_head() + chunked(chunk_event("a") + DONE) + b"0\r\n\r\n")
        assert writes == []
        await asyncio.sleep(0)
        assert len(writes) == 1
        (answer,) = caller.answers
        assert answer.body == chunk_event("a") + DONE

    play(scene)


def test_a_token_waits_for_no_other() -> None:
    async def scene(plant: Plant, backend: WiredBackend) -> None:
        caller, writes = defer(plant)
        caller.feed(post(CHAT, chat(stream=True)))
        backend.last.say(stream_head())
        for word in "abc":
            backend.last.say(chunked(chunk_event(word)))
            await asyncio.sleep(0)
            assert writes[-1].endswith(chunked(chunk_event(word)))
        backend.last.say(b"0\r\n\r\n")
        await settled(caller)
        assert caller.statuses == [200]

    play(scene)


@pytest.mark.parametrize("last", [post(CHAT, b"{"), request("GET", "/cold"), b"nonsense\r\n\r\n"])
def test_the_next_answer_is_behind_what_was_posted(last: bytes) -> None:
    async def scene(plant: Plant, backend: WiredBackend) -> None:
        caller, _ = defer(plant)
        caller.feed(post(CHAT, chat()))
        backend.last.say(whole(b'{"n":1}'))
        caller.feed(last)
        await settled(caller)
        await asyncio.sleep(0.05)
        await settled(caller)
        assert [answer.body == b'{"n":1}' for answer in caller.answers] == [True, False]

    play(scene)


def test_an_answer_is_written_before_its_connection_is_closed() -> None:
    async def scene(plant: Plant, backend: WiredBackend) -> None:
        caller, _ = defer(plant)
        caller.feed(post(CHAT, chat(), "Connection: close"))
        backend.last.say(whole(b"{}"))
        assert caller.statuses == [200]
        assert caller.is_over

    play(scene)


def test_what_fills_a_reading_is_not_followed_by_a_request_from_inside_it() -> None:
    async def scene(plant: Plant, backend: WiredBackend) -> None:
        caller = plant.connect()
        for _ in range(3):
            caller.feed(post(CHAT, chat(user="before")))
            backend.last.say(whole(b"{}"))
        caller.feed(post(CHAT, chat(user="first")))
        first = backend.last
        caller.feed(post(CHAT, chat(user="second")))
        inside = post(CHAT, chat(user="inside"))
        first.say(whole(b"{}"))
        # In the same turn: a whole reading of a third request, and the rest of its body.
        head = f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nContent-Length: "
        size = READ_BYTES - len(head) - 9 + len(inside)
        start = f"{head}{size}\r\n\r\n".encode()
        assert len(start) + size == READ_BYTES + len(inside)
        caller.feed(start + b" " * (READ_BYTES - len(start)))
        caller.feed(inside)
        assert backend.last is first
        await eventually(lambda: backend.last is not first)
        assert b"second" in backend.last.call.body
        backend.last.say(whole(b"{}"))
        await eventually(lambda: len(caller.answers) == 6)
        assert caller.statuses == [200] * 5 + [400]
        assert not [far for far in backend.calls if b'"inside"' in far.call.body[:200]]

    play(scene)


def test_what_was_answered_before_is_written_although_a_call_is_given_up() -> None:
    async def scene(plant: Plant, backend: WiredBackend) -> None:
        caller, _ = defer(plant)
        caller.feed(post(CHAT, b"{") + post(CHAT, chat()))
        await eventually(lambda: bool(backend.calls))
        caller.end()
        await settled(caller)
        assert bytes(caller.written).startswith(b"HTTP/1.1 400")
        assert backend.last.is_cancelled

    play(scene)


def test_an_answer_is_written_for_who_sends_nothing_more() -> None:
    async def scene(plant: Plant, backend: WiredBackend) -> None:
        caller, _ = defer(plant)
        caller.feed(post(CHAT, chat()))
        backend.last.say(whole(b"{}"))
        caller.end()
        assert caller.statuses == [200]
        assert caller.is_over

    play(scene)


def test_what_a_caller_said_is_forgotten_with_the_end_of_the_answer() -> None:
    async def scene(plant: Plant, backend: WiredBackend) -> None:
        caller = plant.connect()
        for word in ("one", "two", "six"):
            caller.feed(post(CHAT, chat(user=f"secret-{word}")))
            backend.last.say(whole(b"{}"))
            backend.calls.clear()
        assert caller.statuses == [200] * 3
        words = [each for each in gc.get_objects() if isinstance(each, list) and each and isinstance(each[0], bytes)]
        assert not [each for each in words if b"secret-" in each[0]]

    play(scene)


def test_a_server_that_closes_idle_connections_writes_first_what_was_posted_on_them() -> None:
    async def scene(plant: Plant, backend: WiredBackend) -> None:
        caller, _ = defer(plant)
        caller.feed(post(CHAT, chat()))
        backend.last.say(whole(b"{}"))
        caller.connection.close_idle()
        assert caller.statuses == [200]
        assert caller.is_over

    play(scene)


def test_who_takes_nothing_is_not_posted_more_and_more_in_one_turn() -> None:
    async def scene(plant: Plant, backend: WiredBackend) -> None:
        caller, _ = defer(plant)
        caller.stalled = True
        caller.feed(post(CHAT, chat(stream=True)))
        backend.last.say(stream_head())
        said = 0
        while backend.last.wire.is_reading():
            backend.last.say(chunked(b"data: " + b"x" * 30_000 + b"\n\n"))
            said += 30_000
            assert said < 4 * HIGH_WATER
        caller.take()
        await settled(caller)
        assert backend.last.wire.is_reading()

    play(scene)


def test_nothing_is_written_for_who_has_left() -> None:
    async def scene(plant: Plant, backend: WiredBackend) -> None:
        caller, writes = defer(plant)
        caller.feed(post(CHAT, chat()))
        backend.last.say(whole(b"{}"))
        caller.leave()
        await settled(caller)
        assert writes == []

    play(scene)


def test_a_remembered_request_says_its_own_length_and_was_judged_by_nobody() -> None:
    async def scene(plant: Plant, backend: WiredBackend) -> None:
        caller = plant.connect()
        for _ in range(2):
            caller.feed(post(CHAT, chat()))
            backend.last.say(whole(b"{}"))
        for name in ("a", "a longer name", "a"):
            body = chat(user=name)
            request = caller.connection.recall(post(CHAT, body))
            assert request is not None
            assert (request.body, request.size, request.is_whole) == (body, len(body), True)
            assert request.fields[b"content-length"] == b"%d" % len(body)
            assert dict(request.headers) == request.fields
            assert (request.judged, request.principal) == (None, None)
            request.judged = "something"

    play(scene)
