"""Requests on one connection, each in its turn. Both far ends are in memory, where not told otherwise."""

import asyncio
import gc

import pytest
from tests.lane_driver import (
    CHAT,
    DONE,
    LIMITS,
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
from sluicegate.doors.http.request import Request


def test_a_connection_serves_hot_and_cold_requests_one_after_the_other() -> None:
    async def scene(plant: Plant, backend: WiredBackend) -> None:
        caller = plant.connect()
        for number in range(3):
            caller.feed(post(CHAT, chat()))
            backend.last.say(whole(b'{"n":%d}' % number))
            caller.feed(request("GET", f"/cold/{number}"))
            await eventually(lambda due=2 * number + 2: len(caller.answers) == due)  # type: ignore[misc]
        assert [answer.body for answer in caller.answers] == [
            part for number in range(3) for part in (b'{"n":%d}' % number, b"GET /cold/%d " % number)
        ]
        assert not caller.is_over

    play(scene)


def test_pipelined_requests_are_answered_in_order_whoever_answers_them() -> None:
    async def scene(plant: Plant, backend: WiredBackend) -> None:
        caller = plant.connect()
        caller.feed(
            request("GET", "/first")
            + post(CHAT, chat(), "X-Request-Id: second")
            + request("GET", "/third")
            + post(CHAT, b"{")
        )
        await eventually(lambda: bool(backend.calls))
        assert [answer.body for answer in caller.answers] == [b"GET /first "]
        backend.last.say(whole(b"{}"))
        await eventually(lambda: len(caller.answers) == 4)
        assert caller.statuses == [200, 200, 200, 400]
        assert caller.answers[1].fields["x-request-id"] == "second"
        assert caller.answers[2].body == b"GET /third "

    play(scene)


@pytest.mark.parametrize("path", [CHAT, "/cold"])
@pytest.mark.parametrize("begun", [False, True])
def test_the_body_of_a_request_that_waits_may_come_in_its_turn(path: str, begun: bool) -> None:
    async def scene(plant: Plant, backend: WiredBackend) -> None:
        caller = plant.connect()
        body = chat()
        later = post(path, body, "Expect: 100-continue")
        cut = len(later) - (10 if begun else len(body))
        caller.feed(post(CHAT, chat()) + later[:cut])
        await settled(caller)
        assert caller.written == b""
        backend.last.say(whole(b"{}"))
        await eventually(caller.is_reading)
        await eventually(lambda: b"100 Continue" in caller.written)
        caller.feed(later[cut:])
        if path == CHAT:
            backend.last.say(whole(b"[]"))
        await eventually(lambda: len(caller.answers) == 2)
        assert caller.answers[1].body == (b"[]" if path == CHAT else b"POST /cold " + body)

    play(scene)


def test_requests_behind_one_that_is_the_last_are_not_answered() -> None:
    async def scene(plant: Plant, backend: WiredBackend) -> None:
        caller = plant.connect()
        caller.feed(request("GET", "/last", b"", "Connection: close") + request("GET", "/hidden"))
        await eventually(lambda: caller.is_over)
        assert [answer.body for answer in caller.answers] == [b"GET /last "]
        assert caller.answers[0].fields["connection"] == "close"

    play(scene)


def test_a_request_that_begins_while_the_caller_takes_nothing_is_paused() -> None:
    async def scene(plant: Plant, backend: WiredBackend) -> None:
        caller = plant.connect()
        caller.stalled = True
        caller.feed(post(CHAT, chat()))
        backend.last.say(whole(b"x" * 200_000))
        caller.feed(post(CHAT, chat(stream=True)))
        await settled(caller)
        if len(backend.calls) == 2:
            backend.last.say(stream_head())
            assert not backend.last.wire.is_reading()
        caller.take()
        await eventually(lambda: len(backend.calls) == 2 and backend.last.wire.is_reading())
        caller.leave()
        await settled(caller)

    play(scene)


def test_a_refusal_waits_for_the_answers_before_it() -> None:
    async def scene(plant: Plant, backend: WiredBackend) -> None:
        caller = plant.connect()
        caller.feed(post(CHAT, chat()) + request("GET", "/next") + b"nonsense\r\n\r\n" + request("GET", "/hidden"))
        await settled(caller)
        assert caller.written == b""
        backend.last.say(whole(b"{}"))
        await eventually(lambda: caller.is_over)
        assert caller.statuses == [200, 200, 501]

    play(scene)


# --- what stands behind a request that is being answered ---

NO_HOST = b"GET / HTTP/1.1\r\n\r\n"


@pytest.mark.parametrize("at", [0, 5])
@pytest.mark.parametrize(
    ("line", "behind", "statuses"),
    [
        ("Connection: close", b"x", [200]),
        ("Connection: close", b"\x00nonsense", [200]),
        ("Connection: close", NO_HOST, [200]),
        ("X-Kept: 1", b"\x00nonsense", [200, 501]),
        ("X-Kept: 1", NO_HOST, [200, 400]),
    ],
)
def test_nonsense_behind_a_request_does_not_put_its_answer_under_a_limit(
    at: int, line: str, behind: bytes, statuses: list[int]
) -> None:
    """`at`: how many bytes of the body come with the nonsense; with none all comes in one piece."""

    async def scene(plant: Plant, backend: WiredBackend) -> None:
        caller = plant.connect()
        sent = post(CHAT, chat(stream=True), line)
        if at:
            caller.feed(sent[:-at])
        caller.feed((sent[-at:] if at else sent) + behind)
        for later in (LIMITS.head_seconds, LIMITS.idle_seconds, LIMITS.keep_alive_seconds, 1_000.0):
            caller.tick(later + 1)
        assert not caller.is_over
        backend.last.say(stream_head() + chunked(chunk_event("a")))
        caller.tick(2_000.0)
        backend.last.say(chunked(DONE, last=True))
        await eventually(lambda: caller.is_over)
        assert caller.statuses == statuses
        assert caller.answers[0].body == chunk_event("a") + DONE
        assert plant.counts() == {str(status): 1 for status in statuses} | {"completed": 1, "total": 1}

    play(scene)


def test_requests_behind_one_that_is_answered_are_kept_as_bytes_and_not_too_many() -> None:
    async def scene(plant: Plant, backend: WiredBackend) -> None:
        caller = plant.connect()
        caller.feed(post(CHAT, chat()))
        small = b"GET / HTTP/1.1\r\nHost:localhost\r\n\r\n"
        count = 0
        while caller.is_reading() and count < 20_000:
            caller.feed(small * 500)
            count += 500
            await asyncio.sleep(0)
        assert not caller.is_reading()
        gc.collect()
        alive = sum(type(each) is Request for each in gc.get_objects())
        assert alive <= 1 + 8_192 // len(small) + 1
        backend.last.say(whole(b"{}"))
        await eventually(lambda: caller.written.count(b"HTTP/1.1 200 ") == count + 1)
        assert caller.is_reading()

    play(scene)


@pytest.mark.parametrize("path", ["/x", CHAT])
def test_requests_of_a_caller_who_takes_nothing_wait(path: str) -> None:
    async def scene(plant: Plant, backend: WiredBackend) -> None:
        caller = plant.connect()
        caller.stalled = True
        sent = request("GET", "/x") if path == "/x" else post(path, b"{}")
        count = 0
        while caller.is_reading() and count < 4_000:
            caller.feed(sent * 20)
            count += 20
            await settled(caller)
        assert not caller.is_reading()
        assert len(caller.unsent) < 2 * HIGH_WATER
        caller.stalled = False
        caller.take()
        await eventually(lambda: caller.written.count(b"HTTP/1.1 ") == count)
        assert caller.is_reading()

    play(scene)


@pytest.mark.parametrize("more", [b"", request("GET", "/x"), post(CHAT, chat()) + request("GET", "/x")])
def test_a_request_that_is_refused_in_its_turn_is_the_last(more: bytes) -> None:
    async def scene(plant: Plant, backend: WiredBackend) -> None:
        caller = plant.connect()
        caller.feed(post(CHAT, chat()) + post(CHAT, chat(), "Host: evil.example") + more)
        await settled(caller)
        backend.last.say(whole(b"{}"))
        await eventually(lambda: caller.is_over, timeout=5)
        assert caller.statuses == [200, 403]
        assert len(backend.calls) == 1

    play(scene)


@pytest.mark.parametrize(
    "behind", [b"\x00nonsense", b"GET / HTTP/1.1\r\n\r\n", request("POST", "/x", b"", "Content-Length: a")]
)
def test_who_takes_his_answer_late_gets_all_others_even_before_nonsense(behind: bytes) -> None:
    async def scene(plant: Plant, backend: WiredBackend) -> None:
        caller = plant.connect()
        caller.stalled = True
        caller.feed(post(CHAT, chat()) + request("GET", "/x") + behind)
        backend.last.say(whole(b"x" * 100_000))
        await settled(caller)
        caller.stalled = False
        caller.take()
        await eventually(lambda: caller.is_over, timeout=5)
        assert caller.statuses[:2] == [200, 200]
        assert caller.statuses[2] in (400, 501)

    play(scene)


@pytest.mark.parametrize("behind", [b"", post(CHAT, chat()), request("GET", "/x") * 3, b"GET / HT"])
@pytest.mark.parametrize("stream", [False, True])
def test_a_caller_on_a_real_socket_who_has_left_frees_the_backend_whatever_he_sent_before(
    stream: bool, behind: bytes
) -> None:
    async def scene(plant: Plant, backend: WiredBackend) -> None:
        port = await plant.listen()
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(post(CHAT, chat(stream=stream)) + behind)
        await eventually(lambda: bool(backend.calls))
        await asyncio.sleep(0)
        writer.close()
        await writer.wait_closed()
        await eventually(lambda: backend.last.is_cancelled, timeout=5)
        await eventually(lambda: not plant.server.connections, timeout=5)
        assert len(backend.calls) == 1
        assert plant.counts()["cancelled"] == 1

    play(scene)
