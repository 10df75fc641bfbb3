"""The bodies of requests on one connection, driven in memory: codings, limits, faults."""

import asyncio

import pytest
from starlette.types import ASGIApp, Receive, Scope, Send
from tests.lane_driver import (
    CHAT,
    Plant,
    WiredBackend,
    chat,
    chunked,
    echo_app,
    eventually,
    post,
    request,
    settled,
    whole,
)
from tests.scenes import play

from sluicegate.doors.http.limits import HttpLimits

SMALL = HttpLimits(max_body_bytes=1_000, head_seconds=20.0, idle_seconds=60.0)
CHUNKED = "Transfer-Encoding: chunked"


def held_app(go: asyncio.Event) -> ASGIApp:
    """An application that answers ``/held`` only after `go`, and everything else as `echo_app`."""
    echo = echo_app()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/held":
            await go.wait()
        await echo(scope, receive, send)

    return app


@pytest.mark.parametrize("path", [CHAT, "/cold"])
def test_chunked_bodies_are_taken_in_any_pieces(path: str) -> None:
    async def scene(plant: Plant, backend: WiredBackend) -> None:
        caller = plant.connect()
        body = chat(user="x" * 3_000)
        sent = request("POST", path, b"", CHUNKED) + chunked(body[:7], body[7:2_000], body[2_000:], last=True)
        for start in range(0, len(sent), 13):
            caller.feed(sent[start : start + 13])
        if path == CHAT:
            assert backend.last.call.body == body
            backend.last.say(whole(b"{}"))
        await eventually(lambda: len(caller.answers) == 1)
        assert caller.answers[0].body == (b"{}" if path == CHAT else b"POST /cold " + body)

    play(scene)


@pytest.mark.parametrize("path", [CHAT, "/cold"])
def test_who_waits_for_the_word_to_go_on_gets_it_once(path: str) -> None:
    async def scene(plant: Plant, backend: WiredBackend) -> None:
        caller = plant.connect()
        sent = post(path, chat(), "Expect: 100-continue")
        caller.feed(sent[: -len(chat())])
        await eventually(lambda: caller.written == b"HTTP/1.1 100 Continue\r\n\r\n")
        caller.feed(sent[-len(chat()) :])
        if path == CHAT:
            backend.last.say(whole(b"{}"))
        await eventually(lambda: caller.statuses == [200])
        assert caller.written.count(b"100 Continue") == 1

    play(scene)


@pytest.mark.parametrize("path", [CHAT, "/cold"])
def test_a_body_that_comes_with_its_head_needs_no_word_to_go_on(path: str) -> None:
    async def scene(plant: Plant, backend: WiredBackend) -> None:
        caller = plant.connect()
        caller.feed(post(path, chat(), "Expect: 100-continue"))
        if path == CHAT:
            await settled(caller)
            backend.last.say(whole(b"{}"))
        await eventually(lambda: caller.statuses == [200])
        assert path != "/cold" or b"100 Continue" not in caller.written

    play(scene)


def test_a_body_over_the_limit_is_refused_before_it_is_asked_for() -> None:
    async def scene(plant: Plant, backend: WiredBackend) -> None:
        caller = plant.connect()
        caller.feed(request("POST", CHAT, b"", "Content-Length: 1001", "Expect: 100-continue"))
        await eventually(lambda: caller.is_over)
        assert caller.statuses == [413]
        assert b"100 Continue" not in caller.written
        assert "max_body_bytes" in caller.answers[0].body.decode()

    play(scene, limits=SMALL)


@pytest.mark.parametrize(
    "sent",
    [
        request("POST", CHAT, b"", "Content-Length: 1001"),
        request("POST", CHAT, b"", "Content-Length: 999999999999999999"),
        request("POST", CHAT, b"", CHUNKED) + chunked(b"x" * 600, b"x" * 600),
    ],
)
def test_a_body_over_the_limit_is_413_in_the_doors_words_and_ends_the_connection(sent: bytes) -> None:
    async def scene(plant: Plant, backend: WiredBackend) -> None:
        caller = plant.connect()
        caller.feed(sent)
        await eventually(lambda: caller.is_over)
        (answer,) = caller.answers
        assert (answer.status, answer.fields["connection"]) == (413, "close")
        assert b'"code":"body_too_large"' in answer.body
        assert caller.written.lower().count(b"connection:") == 1
        assert plant.counts() == {"413": 1}

    play(scene, limits=SMALL)


@pytest.mark.parametrize("path", [CHAT, "/cold"])
@pytest.mark.parametrize("ends", ["", "Connection: close"])
def test_a_fault_in_a_body_is_answered_once(path: str, ends: str) -> None:
    async def scene(plant: Plant, backend: WiredBackend) -> None:
        caller = plant.connect()
        caller.feed(request("POST", path, b"", CHUNKED, *([ends] if ends else [])))
        await settled(caller)
        caller.feed(b"zz\r\n" + request("GET", "/hidden"))
        await eventually(lambda: caller.is_over)
        assert caller.statuses == [400]
        assert backend.calls == []

    play(scene, app=_reading_app())


def _reading_app() -> ASGIApp:
    """As our own doors do: a body that is cut short is 400."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        more = True
        while more:
            message = await receive()
            more = message["type"] != "http.disconnect" and message["more_body"]
        await send({"type": "http.response.start", "status": 400, "headers": []})
        await send({"type": "http.response.body", "body": b"cut short"})

    return app


@pytest.mark.parametrize("path", [CHAT, "/cold"])
@pytest.mark.parametrize("rest", [b"zz\r\n", chunked(b"x" * 2_000)])
def test_a_fault_in_a_body_that_waits_its_turn_is_told_in_its_turn(path: str, rest: bytes) -> None:
    go = asyncio.Event()

    async def scene(plant: Plant, backend: WiredBackend) -> None:
        caller = plant.connect()
        caller.feed(request("GET", "/held"))
        await settled(caller)
        caller.feed(request("POST", path, b"", CHUNKED) + rest)
        await settled(caller)
        assert caller.written == b""
        go.set()
        await eventually(lambda: caller.is_over)
        assert caller.statuses == [200, 413 if len(rest) > 1_000 else 400]

    play(scene, app=held_app(go), limits=SMALL)
