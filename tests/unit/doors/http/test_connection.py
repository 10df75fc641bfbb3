"""One caller's connection, driven in memory: heads, half-closing, the end."""

import asyncio

import pytest
from starlette.types import Receive, Scope, Send
from tests.lane_driver import CHAT, Plant, WiredBackend, chat, eventually, post, request, settled, whole
from tests.scenes import play, play_pair


def test_a_head_of_the_largest_size_is_taken_in_any_pieces() -> None:
    sent = request("GET", "/x", b"", *[f"X-{number}: {'v' * 1_000}" for number in range(30)])

    async def scene(plant: Plant, backend: WiredBackend) -> None:
        for step in (len(sent), 10_000, 997, 1):
            caller = plant.connect()
            for start in range(0, len(sent), step):
                caller.feed(sent[start : start + step])
            await eventually(lambda caller=caller: caller.statuses == [200])  # type: ignore[misc]
            caller.leave()

    play(scene)


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (request("GET", "/x", b"", *[f"X-{number}: {'v' * 1_000}" for number in range(40)]), 431),
        (request("GET", "/x", b"", *[f"X-{number}: 1" for number in range(101)]), 431),
        (request("GET", "/x", b"", "X-Long: " + "v" * 40_000), 431),
        (request("GET", "/" + "x" * 9_000), 414),
        (b"GET /" + b"x" * 40_000, 431),
        (b"GET / HTTP/1.1\r\nX-Long: " + b"x" * 40_000, 431),
    ],
)
@pytest.mark.parametrize("step", [1 << 20, 1_500])
def test_a_head_over_the_limit_is_refused_in_any_pieces(sent: bytes, status: int, step: int) -> None:
    async def scene(plant: Plant, backend: WiredBackend) -> None:
        caller = plant.connect()
        for start in range(0, len(sent), step):
            if not caller.is_over:
                caller.feed(sent[start : start + step])
        if step > len(sent) and not sent.endswith(b"\r\n\r\n"):
            caller.feed(b"x")
        await eventually(lambda: caller.is_over)
        assert caller.statuses in ([status], [431])

    play(scene)


def test_the_bytes_of_a_body_do_not_count_for_the_head_behind_it() -> None:
    async def scene(plant: Plant, backend: WiredBackend) -> None:
        caller = plant.connect()
        first, second = post("/a", b"b" * 60_000), request("GET", "/b")
        caller.feed(first[:10])
        caller.feed(first[10:] + second[:8])
        await eventually(lambda: len(caller.answers) == 1)
        caller.feed(second[8:])
        await eventually(lambda: caller.statuses == [200, 200])

    play(scene)


def test_who_half_closes_behind_a_cold_request_is_answered() -> None:
    async def scene(plant: Plant, backend: WiredBackend) -> None:
        caller = plant.connect()
        caller.feed(request("GET", "/a") + request("GET", "/b"))
        caller.end()
        await eventually(caller.is_closing)
        assert [answer.body for answer in caller.answers] == [b"GET /a ", b"GET /b "]

    play(scene)


def test_who_half_closes_between_two_turns_is_answered() -> None:
    async def scene(plant: Plant, backend: WiredBackend) -> None:
        go = asyncio.Event()
        caller = plant.connect()
        caller.feed(post(CHAT, b"{}"))
        assert caller.statuses == [400]
        caller.feed(request("GET", "/held") + request("GET", "/b"))
        caller.end()
        await eventually(caller.is_closing)
        assert caller.statuses == [400, 200, 200]
        assert not go.is_set()

    play(scene)


def test_who_half_closes_while_a_model_works_for_him_has_left() -> None:
    async def scene(plant: Plant, backend: WiredBackend) -> None:
        caller = plant.connect()
        caller.feed(post(CHAT, chat(stream=True)))
        caller.end()
        await eventually(lambda: backend.last.is_cancelled)
        assert plant.calls()["cancelled"] == 1

    play(scene)


def test_who_half_closes_in_a_head_or_between_requests_is_let_go() -> None:
    async def scene(plant: Plant, backend: WiredBackend) -> None:
        for sent in (b"", b"GET / HT", request("POST", CHAT, b"", "Content-Length: 9")):
            caller = plant.connect()
            caller.feed(sent)
            caller.end()
            assert caller.is_closing()
            await settled(caller)
            assert caller.written == b""

    play(scene)


@pytest.mark.parametrize(
    ("version", "line", "keeps"),
    [
        ("1.1", "", True),
        ("1.1", "Connection: close", False),
        ("1.0", "", False),
        ("1.0", "Connection: keep-alive", True),
    ],
)
@pytest.mark.parametrize("path", [CHAT, "/cold"])
def test_the_connection_is_kept_as_the_request_asks(path: str, version: str, line: str, keeps: bool) -> None:
    async def scene(plant: Plant, backend: WiredBackend) -> None:
        caller = plant.connect()
        caller.feed(post(path, chat(), *([line] if line else []), version=version))
        if path == CHAT:
            backend.last.say(whole(b"{}"))
        await eventually(lambda: caller.statuses == [200])
        assert caller.is_over is not keeps
        told = caller.answers[0].fields.get("connection")
        assert told == (None if version == "1.1" and keeps else "keep-alive" if keeps else "close")

    play(scene)


def test_the_server_as_a_whole_tells_its_methods() -> None:
    async def scene(plant: Plant, _: WiredBackend, __: WiredBackend) -> None:
        caller = plant.connect()
        caller.feed(request("OPTIONS", "*"))
        await eventually(lambda: caller.statuses == [204])
        assert "POST" in caller.answers[0].fields["allow"]
        assert not caller.is_over

    play_pair(scene)


@pytest.mark.parametrize("header", [(b"x-bad", b"a\r\nb: c"), (b"x\nbad", b"a")])
def test_in_place_of_a_head_that_cannot_be_written_an_application_may_say_another(header: tuple[bytes, bytes]) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [header]})
        with pytest.raises(ValueError, match="line end"):
            await send({"type": "http.response.body", "body": b"x"})
        await send({"type": "http.response.start", "status": 500, "headers": []})
        await send({"type": "http.response.body", "body": b"sorry"})

    async def scene(plant: Plant, backend: WiredBackend) -> None:
        caller = plant.connect()
        caller.feed(request("GET", "/x"))
        await eventually(lambda: caller.is_over or bool(caller.answers))
        assert caller.statuses == [500]
        assert b"bad" not in caller.written

    play(scene, app=app)
