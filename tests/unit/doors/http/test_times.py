"""How long one caller's connection may take over anything, driven in memory."""

import pytest
from tests.lane_driver import (
    CHAT,
    LIMITS,
    Plant,
    WiredBackend,
    chat,
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


def test_a_head_that_takes_too_long_is_told_and_ended() -> None:
    async def scene(plant: Plant, backend: WiredBackend) -> None:
        caller = plant.connect()
        caller.feed(b"GET / HT")
        caller.tick(19.0)
        assert caller.written == b""
        caller.feed(b"TP/1.1\r\n")
        caller.tick(20.5)
        assert caller.is_over
        assert caller.statuses == [408]
        assert "server.head_seconds" in caller.answers[0].body.decode()

    play(scene)


def test_the_limit_of_a_head_begins_anew_with_each_request() -> None:
    async def scene(plant: Plant, backend: WiredBackend) -> None:
        caller = plant.connect()
        caller.feed(request("GET", "/x"))
        await eventually(lambda: caller.statuses == [200])
        caller.feed(b"GET")
        caller.tick(19.0)
        assert not caller.is_over
        caller.tick(20.5)
        assert caller.statuses == [200, 408]

    play(scene)


def test_who_says_nothing_is_let_go_without_a_word() -> None:
    async def scene(plant: Plant, backend: WiredBackend) -> None:
        caller = plant.connect()
        caller.tick(20.5)
        assert caller.is_aborted
        assert caller.written == b""
        caller = plant.connect()
        caller.feed(request("GET", "/x"))
        await eventually(lambda: caller.statuses == [200])
        caller.tick(LIMITS.keep_alive_seconds - 1)
        assert not caller.is_over
        caller.tick(LIMITS.keep_alive_seconds + 1)
        assert caller.is_aborted
        await settled(caller)

    play(scene)


def test_a_body_may_pause_only_so_long() -> None:
    async def scene(plant: Plant, backend: WiredBackend) -> None:
        caller = plant.connect()
        caller.feed(request("POST", CHAT, b"", "Content-Length: 99") + b"{")
        caller.tick(59.0)
        caller.feed(b" ")
        assert caller.written == b""
        caller.tick(60.5)
        assert caller.statuses == [408]
        assert "server.client_idle_seconds" in caller.answers[0].body.decode()
        assert plant.counts() == {"408": 1}

    play(scene)


def test_no_limit_holds_while_an_answer_is_made() -> None:
    async def scene(plant: Plant, backend: WiredBackend) -> None:
        caller = plant.connect()
        caller.feed(post(CHAT, chat()) + b"GET / HT")
        caller.tick(100_000.0)
        backend.last.say(whole(b"{}"))
        assert caller.statuses == [200]
        caller.tick(19.0)
        assert not caller.is_over
        caller.tick(20.5)
        assert caller.statuses == [200, 408]

    play(scene)


def test_a_caller_who_takes_nothing_is_let_go_and_one_who_takes_a_little_is_not() -> None:
    async def scene(plant: Plant, backend: WiredBackend) -> None:
        for is_slow in (True, False):
            caller = plant.connect()
            caller.stalled = True
            caller.feed(post(CHAT, chat(stream=True)))
            far = backend.last
            far.say(stream_head() + chunked(b"x" * (HIGH_WATER + 10_000)))
            far.say(chunked(b"x" * 100_000))
            assert not far.wire.is_reading()
            caller.tick(0.0)
            if is_slow:
                caller.take(1_000)
                caller.tick(60.5)
                assert not caller.is_aborted
            later = 60.5 + 60.5 * is_slow
            caller.tick(later)
            caller.tick(later)
            assert caller.is_aborted
            await eventually(lambda far=far: far.is_cancelled)  # type: ignore[misc]

    play(scene)


def test_a_caller_who_takes_the_rest_is_sent_more() -> None:
    async def scene(plant: Plant, backend: WiredBackend) -> None:
        caller = plant.connect()
        caller.stalled = True
        caller.feed(post(CHAT, chat(stream=True)))
        backend.last.say(stream_head() + chunked(b"x" * 100_000))
        assert not backend.last.wire.is_reading()
        caller.take(100_000)
        assert backend.last.wire.is_reading()
        caller.tick(100_000.0)
        assert not caller.is_aborted
        backend.last.say(chunked(b"end", last=True))
        caller.take()
        assert caller.answers[0].body == b"x" * 100_000 + b"end"

    play(scene)


def test_nonsense_behind_the_last_request_does_not_stop_its_answer() -> None:
    async def scene(plant: Plant, backend: WiredBackend) -> None:
        caller = plant.connect()
        caller.stalled = True
        caller.feed(post(CHAT, chat(stream=True), "Connection: close") + b"\x00nonsense")
        backend.last.say(stream_head() + chunked(b"x" * 100_000))
        assert not backend.last.wire.is_reading()
        caller.take()
        assert backend.last.wire.is_reading()
        backend.last.say(chunked(b"end", last=True))
        caller.take()
        await eventually(lambda: caller.is_over)
        assert caller.answers[0].body == b"x" * 100_000 + b"end"

    play(scene)


@pytest.mark.parametrize("size", [30_000, 300_000])
def test_a_caller_who_never_takes_the_last_answer_is_let_go(size: int) -> None:
    async def scene(plant: Plant, backend: WiredBackend) -> None:
        caller = plant.connect()
        caller.stalled = True
        caller.feed(post(CHAT, chat(), "Connection: close"))
        backend.last.say(whole(b"x" * size))
        caller.take(max(0, size - 20_000))
        assert caller.is_closing()
        for later in (1_000.0, 2_000.0):
            caller.tick(later)
        assert caller.is_aborted
        await settled(caller)

    play(scene)


def test_after_a_refusal_the_connection_stays_a_moment_so_that_it_is_heard() -> None:
    async def scene(plant: Plant, backend: WiredBackend) -> None:
        caller = plant.connect()
        caller.feed(b"nonsense\r\n\r\n")
        assert caller.has_written_eof
        assert not caller.is_closing()
        caller.feed(b"more of it" * 1_000)
        caller.tick(1.0)
        assert not caller.is_closing()
        caller.tick(2.5)
        assert caller.is_closing()
        await settled(caller)
        assert caller.statuses == [501]

    play(scene)
