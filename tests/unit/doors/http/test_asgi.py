"""The bridge to ASGI applications: scope, messages, back-pressure, and applications that do wrong."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from tests.lane_driver import (
    CallerWire,
    Plant,
    WiredBackend,
    chunked,
    echo_app,
    eventually,
    post,
    request,
    served,
    settled,
)

from sluicegate.doors.http.connection import HIGH_WATER

Scene = Callable[[Plant, CallerWire], Awaitable[None]]
START: Message = {"type": "http.response.start", "status": 200, "headers": []}


def play(app: ASGIApp, scene: Scene) -> None:
    """Play a scene with one caller of an application."""

    async def run() -> None:
        async with served(WiredBackend(), app=app) as plant:
            caller = plant.connect()
            await scene(plant, caller)
            await settled(caller)
            caller.leave()

    asyncio.run(run())


def answering(*messages: Message) -> ASGIApp:
    """An application that sends these."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for message in messages:
            # A copy: what is sent may be changed on the way.
            await send(dict(message))

    return app


def start(status: int = 200, *headers: tuple[bytes, bytes]) -> Message:
    return {"type": "http.response.start", "status": status, "headers": list(headers)}


def body(data: bytes = b"", *, more: bool = False) -> Message:
    return {"type": "http.response.body", "body": data, "more_body": more}


def test_the_scope_says_what_was_asked() -> None:
    seen: list[dict[str, Any]] = []

    async def scene(plant: Plant, caller: CallerWire) -> None:
        caller.feed(request("GET", "/a%20b/%C3%A9?x=1&y=%20", b"", "X-Two: one", "X-Two: two", version="1.0"))
        await eventually(lambda: bool(caller.answers))

    play(echo_app(seen), scene)
    (scope,) = seen
    assert scope["type"] == "http"
    assert (scope["method"], scope["http_version"], scope["scheme"]) == ("GET", "1.0", "http")
    assert (scope["path"], scope["raw_path"], scope["query_string"]) == ("/a b/é", b"/a%20b/%C3%A9", b"x=1&y=%20")
    assert scope["headers"] == [(b"host", b"localhost"), (b"x-two", b"one"), (b"x-two", b"two")]
    assert (scope["client"], scope["server"]) == (("127.0.0.1", 40_000), ("127.0.0.1", 8_000))


def test_a_body_arrives_in_pieces_and_its_sender_is_held_back() -> None:
    got: list[Message] = []
    go = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await go.wait()
        while not got or got[-1].get("more_body"):
            got.append(await receive())
        await send(START)
        await send(body(b"ok"))

    async def scene(plant: Plant, caller: CallerWire) -> None:
        sent = post("/x", b"y" * 200_000)
        caller.feed(sent[:HIGH_WATER])
        assert caller.is_reading()
        caller.feed(sent[HIGH_WATER:90_000])
        assert not caller.is_reading()
        go.set()
        await eventually(caller.is_reading)
        caller.feed(sent[90_000:])
        await eventually(lambda: caller.statuses == [200])
        assert caller.is_reading()

    play(app, scene)
    assert b"".join(message["body"] for message in got) == b"y" * 200_000


def test_a_body_that_nobody_read_does_not_stop_the_next_request() -> None:
    async def scene(plant: Plant, caller: CallerWire) -> None:
        for count in (1, 2):
            caller.feed(post("/x", b"y" * 200_000))
            await eventually(lambda count=count: len(caller.answers) == count)  # type: ignore[misc]
            assert caller.is_reading()

    play(answering(start(404), body(b"no")), scene)


def test_an_answer_before_the_body_ends_the_connection_without_destroying_itself() -> None:
    async def scene(plant: Plant, caller: CallerWire) -> None:
        sent = post("/x", b"y" * 200_000)
        caller.feed(sent[:100_000])
        await eventually(lambda: caller.is_over)
        assert caller.answers[0].fields["connection"] == "close"
        assert caller.has_written_eof
        assert not caller.is_closing()
        caller.feed(sent[100_000:])
        await settled(caller)
        assert caller.statuses == [413]

    play(answering(start(413), body(b"too large")), scene)


def test_an_application_that_writes_faster_than_the_caller_takes_is_held_back() -> None:
    sent: list[int] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(START)
        for number in range(20):
            await send(body(b"x" * 20_000, more=True))
            sent.append(number)
        await send(body())

    async def scene(plant: Plant, caller: CallerWire) -> None:
        caller.stalled = True
        caller.feed(request("GET", "/x"))
        await settled(caller)
        assert len(sent) == HIGH_WATER // 20_000
        for _ in range(25):
            caller.take()
            await settled(caller)
        assert caller.answers[0].body == b"x" * 400_000

    play(app, scene)


def test_who_leaves_is_told_as_a_disconnect_and_writing_goes_nowhere() -> None:
    got: list[Message] = []
    ended = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(START)
        await send(body(b"a", more=True))
        got.extend([await receive(), await receive(), await receive()])
        await send(body(b"b"))
        ended.set()

    async def scene(plant: Plant, caller: CallerWire) -> None:
        caller.feed(request("GET", "/x"))
        await settled(caller)
        caller.leave()
        await eventually(ended.is_set)
        assert caller.written.endswith(b"a\r\n")

    play(app, scene)
    assert [message["type"] for message in got] == ["http.request", "http.disconnect", "http.disconnect"]


def test_an_application_that_is_held_back_goes_on_when_the_caller_leaves() -> None:
    ended = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(START)
        for _ in range(20):
            await send(body(b"x" * 50_000, more=True))
        ended.set()

    async def scene(plant: Plant, caller: CallerWire) -> None:
        caller.stalled = True
        caller.feed(request("GET", "/x"))
        await settled(caller)
        assert not ended.is_set()
        caller.leave()
        await eventually(ended.is_set)

    play(app, scene)


def test_after_its_answer_an_application_hears_that_all_is_over() -> None:
    got: list[Message] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        got.append(await receive())
        await send(START)
        await send(body(b"ok"))
        got.append(await receive())
        await send(body(b"more"))

    async def scene(plant: Plant, caller: CallerWire) -> None:
        caller.feed(request("GET", "/x"))
        await eventually(lambda: len(got) == 2)
        assert caller.answers[0].body == b"ok"

    play(app, scene)
    assert [message["type"] for message in got] == ["http.request", "http.disconnect"]


@pytest.mark.parametrize(
    ("messages", "version", "head", "tail"),
    [
        ((START, body(b"ok")), "1.1", b"content-length: 2\r\n\r\n", b"\r\n\r\nok"),
        ((START, body(b"o", more=True), body(b"k")), "1.1", b"transfer-encoding: chunked", b"1\r\nk\r\n0\r\n\r\n"),
        ((START, body(b"o", more=True), body()), "1.1", b"transfer-encoding: chunked", b"1\r\no\r\n0\r\n\r\n"),
        ((START, body(b"o", more=True), body(b"k")), "1.0", b"connection: close\r\n\r\n", b"\r\n\r\nok"),
        ((START, body(b"ok")), "1.0", b"content-length: 2\r\nconnection: close", b"\r\n\r\nok"),
        (
            (start(200, (b"Content-Length", b"2")), body(b"o", more=True), body(b"k")),
            "1.1",
            b"content-length: 2",
            b"ok",
        ),
        ((start(204), body()), "1.1", b"HTTP/1.1 204 No Content\r\n\r\n", b"\r\n\r\n"),
        ((start(204), body(b"too much")), "1.1", b"HTTP/1.1 204 No Content\r\n\r\n", b"\r\n\r\n"),
        ((start(304, (b"ETag", b'"1"')), body()), "1.1", b'etag: "1"\r\n\r\n', b"\r\n\r\n"),
        ((start(299), body()), "1.1", b"HTTP/1.1 299 \r\n", b"content-length: 0\r\n\r\n"),
    ],
)
def test_answers_are_framed_as_their_messages_and_the_version_allow(
    messages: tuple[Message, ...], version: str, head: bytes, tail: bytes
) -> None:
    async def scene(plant: Plant, caller: CallerWire) -> None:
        caller.feed(request("GET", "/x", version=version))
        await settled(caller)
        told = re.sub(rb"date: [^\r\n]+\r\n", b"", caller.written)
        assert len(told) < len(caller.written)
        assert head in told
        assert told.endswith(tail)
        assert caller.is_over is (version == "1.0")

    play(answering(*messages), scene)


@pytest.mark.parametrize(
    "messages",
    [
        (START, body(b"hello")),
        (start(200, (b"content-length", b"5")), body(b"hello")),
        (start(200, (b"content-length", b"5")), body()),
        (START, body(b"hel", more=True), body(b"lo")),
    ],
)
def test_head_is_answered_without_a_body_and_the_connection_goes_on(messages: tuple[Message, ...]) -> None:
    async def scene(plant: Plant, caller: CallerWire) -> None:
        for count in (1, 2):
            caller.feed(request("HEAD", "/x"))
            await settled(caller)
            assert caller.written.count(b"HTTP/1.1 200 OK\r\n") == count
        assert caller.written.endswith(b"\r\n\r\n")
        assert not caller.is_over

    play(answering(*messages), scene)


def test_an_application_decides_that_the_connection_ends_and_names_no_coding_of_its_own() -> None:
    async def scene(plant: Plant, caller: CallerWire) -> None:
        caller.feed(request("GET", "/x"))
        await eventually(lambda: caller.is_over)
        assert caller.written.count(b"connection: close") == 1
        assert caller.answers[0].body == b"ok"

    given = ((b"Connection", b"close"), (b"Transfer-Encoding", b"chunked"), (b"Upgrade", b"x"))
    play(answering(start(200, *given), body(b"ok")), scene)


async def raising(scope: Scope, receive: Receive, send: Send) -> None:
    raise ValueError("mine")


async def raising_late(scope: Scope, receive: Receive, send: Send) -> None:
    await send(START)
    await send(body(b"part", more=True))
    raise ValueError("mine")


@pytest.mark.parametrize(
    "app",
    [
        raising,
        raising_late,
        answering(),
        answering(START),
        answering(START, body(b"part", more=True)),
        answering(body(b"headless")),
        answering(start(200, (b"content-length", b"5")), body(b"four")),
        answering(start(200, (b"content-length", b"3")), body(b"four")),
        answering(start(200, (b"content-length", b"x")), body(b"four")),
        answering({"type": "websocket.accept"}),
    ],
)
def test_an_application_that_fails_ends_the_connection_so_that_no_part_is_taken_for_the_whole(
    app: ASGIApp, caplog: pytest.LogCaptureFixture
) -> None:
    async def scene(plant: Plant, caller: CallerWire) -> None:
        caller.feed(request("GET", "/x") + request("GET", "/hidden"))
        await settled(caller)
        assert caller.is_aborted
        assert caller.written.count(b"HTTP/1.1 ") <= 1
        assert not caller.written.endswith(b"0\r\n\r\n")

    play(app, scene)


def test_a_chunked_body_cut_by_a_fault_is_told_as_a_disconnect() -> None:
    got: list[Message] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        while not got or got[-1]["type"] == "http.request":
            got.append(await receive())
        await send(start(400))
        await send(body(b"cut"))

    async def scene(plant: Plant, caller: CallerWire) -> None:
        caller.feed(request("POST", "/x", b"", "Transfer-Encoding: chunked") + chunked(b"abc"))
        await eventually(lambda: bool(got))
        caller.feed(b"nonsense\r\n")
        await eventually(lambda: caller.is_over)
        assert caller.statuses == [400]

    play(app, scene)
    assert [message["type"] for message in got] == ["http.request", "http.disconnect"]
