"""What is seldom done to a connection, and must not harm it: heads in two pieces, odd targets, an end at any moment."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from starlette.types import ASGIApp, Receive, Scope, Send
from tests.lane_driver import (
    CHAT,
    Plant,
    WiredBackend,
    chat,
    echo_app,
    eventually,
    leap,
    post,
    request,
    run_leaping,
    served,
    settled,
    whole,
)

from sluicegate.doors.http.answers import render_head
from sluicegate.doors.http.request import Known

Scene = Callable[[Plant, WiredBackend], Awaitable[None]]


def play(scene: Scene, app: ASGIApp | None = None) -> None:
    """Play a scene with one backend in memory."""

    async def run() -> None:
        backend = WiredBackend()
        async with served(backend, app=app or echo_app()) as plant:
            await scene(plant, backend)

    asyncio.run(run())


def test_a_head_over_the_limit_is_refused_though_its_last_piece_ends_it() -> None:
    sent = request("GET", "/x", b"", *[f"X-{number}: {'v' * 500}" for number in range(68)])

    async def scene(plant: Plant, backend: WiredBackend) -> None:
        caller = plant.connect()
        caller.feed(sent[:32_000])
        caller.feed(sent[32_000:])
        await eventually(lambda: caller.is_over)
        assert caller.statuses == [431]

    play(scene)


@pytest.mark.parametrize("target", ['/a"b', "/a<b", "/a>b"])
def test_what_must_be_percent_encoded_is_refused(target: str) -> None:
    async def scene(plant: Plant, backend: WiredBackend) -> None:
        caller = plant.connect()
        caller.feed(request("GET", target))
        await eventually(lambda: caller.is_over)
        assert caller.statuses == [400]

    play(scene)


def test_what_nobody_knows_is_not_expected() -> None:
    async def scene(plant: Plant, backend: WiredBackend) -> None:
        caller = plant.connect()
        caller.feed(request("GET", "/x", b"", "Expect: the-unexpected"))
        await eventually(lambda: caller.is_over)
        assert caller.statuses == [417]

    play(scene)


def test_only_so_many_targets_and_only_short_ones_are_remembered() -> None:
    known = Known()
    known.add(known.targets, b"/" + b"x" * 1_000)
    assert known.targets == set()
    for number in range(3_000):
        known.add(known.targets, b"/%d" % number)
    assert len(known.targets) == 1_000


def test_a_header_that_holds_another_is_not_sent() -> None:
    for header in ((b"x", b"1\r\ny: 2"), (b"x\ny", b"1"), (b"x", b"1\n")):
        with pytest.raises(ValueError, match="line end"):
            render_head(200, [header])


def test_who_may_not_ask_is_not_told_to_go_on() -> None:
    async def scene(plant: Plant, backend: WiredBackend) -> None:
        caller = plant.connect()
        caller.feed(request("POST", CHAT, b"", "Host: evil.example", "Content-Length: 10", "Expect: 100-continue"))
        await eventually(lambda: caller.is_over)
        assert b"100 Continue" not in caller.written
        (answer,) = caller.answers
        assert 400 <= answer.status < 500

    play(scene)


def test_behind_a_hot_request_that_is_the_last_nothing_is_answered() -> None:
    async def scene(plant: Plant, backend: WiredBackend) -> None:
        caller = plant.connect()
        caller.feed(post(CHAT, chat(), "Connection: close") + request("GET", "/hidden"))
        backend.last.say(whole(b"{}"))
        await eventually(lambda: caller.is_over)
        await settled(caller)
        assert [answer.body for answer in caller.answers] == [b"{}"]

    play(scene)


def test_an_answer_before_the_body_is_whole_is_the_last_whoever_gives_it() -> None:
    go = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await go.wait()

    async def scene(plant: Plant, backend: WiredBackend) -> None:
        caller = plant.connect()
        caller.feed(request("POST", "/held", b"", "Content-Length: 10") + b"abc")
        caller.connection.finish()
        assert caller.is_over, "the rest of the body would be read as a request"
        go.set()
        await settled(caller)
        caller.leave()

    play(scene, app)


@pytest.mark.parametrize("path", [CHAT, "/cold"])
def test_while_the_server_closes_an_answer_is_the_last_and_says_so(path: str) -> None:
    go = asyncio.Event()
    echo = echo_app()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await go.wait()
        await echo(scope, receive, send)

    async def scene(plant: Plant, backend: WiredBackend) -> None:
        caller = plant.connect()
        caller.feed(post(path, chat()))
        await settled(caller)
        closing = asyncio.create_task(plant.server.close(5.0))
        await settled(caller)
        assert not caller.is_over
        go.set()
        if path == CHAT:
            backend.last.say(whole(b"{}"))
        await eventually(lambda: caller.is_over)
        (answer,) = caller.answers
        assert answer.status == 200
        assert answer.fields["connection"] == "close"
        await closing

    play(scene, app)


def test_the_word_to_go_on_is_said_once_though_the_body_comes_in_pieces() -> None:
    async def scene(plant: Plant, backend: WiredBackend) -> None:
        caller = plant.connect()
        sent = post("/cold", b"x" * 30, "Expect: 100-continue")
        for start, end in ((0, -30), (-30, -20), (-20, -10)):
            caller.feed(sent[start:end])
            await settled(caller)
        caller.feed(sent[-10:])
        await eventually(lambda: caller.statuses == [200])
        assert caller.written.count(b"100 Continue") == 1

    play(scene)


def test_who_half_closes_while_the_next_turn_is_about_to_begin_is_answered() -> None:
    async def scene(plant: Plant, backend: WiredBackend) -> None:
        caller = plant.connect()
        caller.feed(post(CHAT, chat()) + request("GET", "/b") + request("GET", "/c"))
        backend.last.say(whole(b"{}"))
        caller.end()
        await eventually(lambda: caller.is_over)
        assert [answer.body for answer in caller.answers] == [b"{}", b"GET /b ", b"GET /c "]

    play(scene)


def test_an_upgrade_that_is_asked_for_ahead_of_its_turn_is_an_ordinary_request() -> None:
    upgrade = ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: eA==")

    async def scene(plant: Plant, backend: WiredBackend) -> None:
        caller = plant.connect()
        caller.feed(post(CHAT, chat()) + request("GET", "/socket", b"", *upgrade))
        await settled(caller)
        assert caller.get_protocol() is caller.connection
        backend.last.say(whole(b"{}"))
        await eventually(lambda: len(caller.answers) == 2)
        assert caller.answers[1].body == b"GET /socket "

    play(scene)


def test_bytes_that_trickle_in_do_not_give_a_head_more_time() -> None:
    async def scenario() -> None:
        async with served(WiredBackend(), app=echo_app()) as plant:
            caller = plant.connect()
            for piece in (b"GET / HTTP/1.1\r\n", b"Host: x\r\n", b"X: y\r\n"):
                caller.feed(piece)
                await leap(9.0)
            await eventually(lambda: caller.is_over)
            assert caller.statuses == [408]

    run_leaping(scenario())


def test_the_path_of_a_refused_request_is_no_label() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    async def scene(plant: Plant, backend: WiredBackend) -> None:
        caller = plant.connect()
        caller.feed(request("POST", "/invented", b"", "Transfer-Encoding: chunked") + b"zz\r\n")
        await eventually(lambda: caller.is_over)
        assert caller.statuses == [400]
        assert "invented" not in str(plant.metrics.dump())
        assert plant.counts() == {"400": 1}

    play(scene, app)
