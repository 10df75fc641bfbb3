"""A call's answer on the wire: its head, its framing, ids, limits and refusals, for every kind of caller."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
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
    post,
    request,
    served,
    settled,
    simple_chat,
    stream_head,
    whole,
)

Scene = Callable[[Plant, WiredBackend], Awaitable[None]]
MEGABYTES = b"x" * 3_000_000
MEGABYTES_CHUNKED = stream_head("application/json") + chunked(MEGABYTES, last=True)


def play(scene: Scene, **more: Any) -> None:
    """Play a scene with one backend in memory."""

    async def run() -> None:
        backend = WiredBackend()
        async with served(backend, **more) as plant:
            await scene(plant, backend)

    asyncio.run(run())


def test_a_stream_says_that_it_is_one_and_is_relayed_untouched() -> None:
    async def scene(plant: Plant, backend: WiredBackend) -> None:
        caller = plant.connect()
        caller.feed(post(CHAT, chat(stream=True), "X-Request-Id: mine"))
        sent = [chunk_event("a"), b": their comment\r\n\r\n", b"data: no JSON\n\n", DONE]
        backend.last.say(stream_head("text/event-stream; charset=utf-8") + chunked(*sent, last=True))
        (answer,) = caller.answers
        assert answer.body == b"".join(sent)
        assert {
            "content-type": "text/event-stream; charset=utf-8",
            "cache-control": "no-cache",
            "x-accel-buffering": "no",
            "transfer-encoding": "chunked",
            "x-request-id": "mine",
        }.items() <= answer.fields.items()
        assert "date" in answer.fields
        assert "connection" not in answer.fields

    play(scene)


def test_a_whole_answer_is_relayed_untouched_with_its_length() -> None:
    async def scene(plant: Plant, backend: WiredBackend) -> None:
        caller = plant.connect()
        caller.feed(post(CHAT, chat()))
        backend.last.say(stream_head("application/json; charset=utf-8") + chunked(b'{"a": ', b'"\xc3\xa9"}', last=True))
        (answer,) = caller.answers
        assert answer.body == b'{"a": "\xc3\xa9"}'
        assert answer.fields["content-type"] == "application/json; charset=utf-8"
        assert "x-accel-buffering" not in answer.fields

    play(scene)


@pytest.mark.parametrize("path", [CHAT, "/v1/completions", "/v1/embeddings"])
def test_every_route_of_this_dialect_asks_its_own_path_with_the_callers_bytes(path: str) -> None:
    bodies = {
        CHAT: chat(unknown={"deep": [1, 2]}),
        "/v1/completions": b'{"model": "m", "prompt": ["a", "b"], "unknown": 1}',
        "/v1/embeddings": b'{"model": "m", "input": [[1, 2]], "unknown": 1}',
    }

    async def scene(plant: Plant, backend: WiredBackend) -> None:
        caller = plant.connect()
        caller.feed(post(path, bodies[path], "X-Request-Id: mine"))
        call = backend.last.call
        assert (call.path, call.body, call.request_id) == (path.removeprefix("/v1/"), bodies[path], "mine")
        backend.last.say(whole(b"{}"))
        assert caller.statuses == [200]

    play(scene)


@pytest.mark.parametrize(
    ("given", "is_kept"),
    [("mine-1.a:b_C", True), ("x" * 128, True), ("x" * 129, False), ("not sane", False), ("a\x7f", False), ("", False)],
)
@pytest.mark.parametrize("body", [chat(), b"{"])
def test_a_sane_id_of_the_caller_is_kept(given: str, is_kept: bool, body: bytes) -> None:
    async def scene(plant: Plant, backend: WiredBackend) -> None:
        caller = plant.connect()
        caller.feed(post(CHAT, body, f"X-Request-Id: {given}"))
        if backend.calls:
            backend.last.say(whole(b"{}"))
        (answer,) = caller.answers
        if "\x7f" not in given:
            told = answer.fields["x-request-id"]
            assert (told == given) is is_kept
            assert is_kept or told.startswith("req_")
        caller.leave()

    play(scene)


# --- HTTP/1.0 ---


@pytest.mark.parametrize("line", ["", "Connection: keep-alive"])
def test_a_stream_for_http_1_0_lasts_until_the_connection_ends(line: str) -> None:
    async def scene(plant: Plant, backend: WiredBackend) -> None:
        caller = plant.connect()
        caller.feed(post(CHAT, chat(stream=True), *([line] if line else []), version="1.0"))
        backend.last.say(stream_head() + chunked(chunk_event("a")))
        assert caller.written.endswith(b"\r\n\r\n" + chunk_event("a"))
        backend.last.say(chunked(DONE, last=True))
        assert caller.is_closing()
        (answer,) = caller.answers
        assert answer.body == chunk_event("a") + DONE
        assert answer.fields["connection"] == "close"
        assert "transfer-encoding" not in answer.fields
        assert caller.written.count(b"connection: ") == 1

    play(scene)


def test_a_broken_stream_for_http_1_0_tells_why_in_plain_bytes() -> None:
    async def scene(plant: Plant, backend: WiredBackend) -> None:
        caller = plant.connect()
        caller.feed(post(CHAT, chat(stream=True), version="1.0"))
        backend.last.say(stream_head() + chunked(chunk_event("a")))
        backend.last.end()
        assert caller.is_closing()
        assert caller.answers[0].body.startswith(chunk_event("a") + b'data: {"error"')

    play(scene)


@pytest.mark.parametrize("line", ["", "Connection: keep-alive"])
def test_errors_for_http_1_0_say_once_whether_the_connection_goes_on(line: str) -> None:
    async def scene(plant: Plant, backend: WiredBackend) -> None:
        for body, status in ((b"{", 400), (chat(model="nobody"), 404)):
            caller = plant.connect()
            caller.feed(post(CHAT, body, *([line] if line else []), version="1.0"))
            await eventually(lambda caller=caller: bool(caller.answers))  # type: ignore[misc]
            (answer,) = caller.answers
            assert answer.status == status
            assert answer.fields["connection"] == ("keep-alive" if line else "close")
            assert caller.written.count(b"connection: ") == 1
            assert caller.is_over is not bool(line)
            caller.leave()

    play(scene)


# --- long answers ---


@pytest.mark.parametrize(
    ("version", "line", "sent", "framing", "keeps"),
    [
        ("1.1", "", whole(MEGABYTES), ("content-length", "3000000"), True),
        ("1.1", "Connection: close", whole(MEGABYTES), ("content-length", "3000000"), False),
        ("1.1", "", MEGABYTES_CHUNKED, ("transfer-encoding", "chunked"), True),
        ("1.0", "", whole(MEGABYTES), ("content-length", "3000000"), False),
        ("1.0", "Connection: keep-alive", whole(MEGABYTES), ("content-length", "3000000"), True),
        ("1.0", "Connection: keep-alive", MEGABYTES_CHUNKED, ("connection", "close"), False),
    ],
)  # fmt: skip
def test_an_answer_of_megabytes_is_not_kept_in_memory(
    version: str, line: str, sent: bytes, framing: tuple[str, str], keeps: bool
) -> None:
    async def scene(plant: Plant, backend: WiredBackend) -> None:
        caller = plant.connect()
        caller.feed(post(CHAT, chat(), *([line] if line else []), version=version))
        for start in range(0, len(sent), 100_000):
            if start == 900_000:
                assert caller.written == b""
            if start == 1_300_000:
                assert len(caller.written) > 1_000_000
            backend.last.say(sent[start : start + 100_000])
        (answer,) = caller.answers
        assert answer.body == MEGABYTES
        name, value = framing
        assert answer.fields[name] == value
        assert caller.is_over is not keeps
        assert caller.written[:1_000].count(b"connection: ") == (0 if version == "1.1" and keeps else 1)
        if keeps:
            caller.feed(post(CHAT, b"{", *([line] if line else []), version=version))
            assert caller.statuses == [200, 400]

    play(scene)


def test_an_answer_that_breaks_off_is_told_by_status_while_nothing_is_sent_and_by_its_end_later() -> None:
    async def scene(plant: Plant, backend: WiredBackend) -> None:
        caller = plant.connect()
        caller.feed(post(CHAT, chat()))
        backend.last.say(whole(MEGABYTES)[:500_000])
        backend.last.end()
        assert caller.statuses == [502]
        caller.feed(post(CHAT, chat()))
        backend.last.say(whole(MEGABYTES)[:1_500_000])
        backend.last.end()
        assert caller.is_aborted
        assert plant.counts() == {"200": 1, "502": 1, "total": 2, "error": 2}

    play(scene)


def test_a_caller_who_takes_a_long_answer_slowly_holds_its_backend_back() -> None:
    async def scene(plant: Plant, backend: WiredBackend) -> None:
        caller = plant.connect()
        caller.stalled = True
        caller.feed(post(CHAT, chat()))
        sent = whole(MEGABYTES)
        fed = 0
        while backend.last.wire.is_reading() and fed < len(sent):
            backend.last.say(sent[fed : fed + 100_000])
            fed += 100_000
        assert 1_000_000 < fed < 1_300_000
        caller.take()
        assert backend.last.wire.is_reading()
        caller.leave()

    play(scene)


# --- limits ---


def test_past_the_most_streams_callers_are_told_to_come_back() -> None:
    async def scene(plant: Plant, backend: WiredBackend) -> None:
        first, second = plant.connect(), plant.connect()
        first.feed(post(CHAT, chat(stream=True)))
        second.feed(post(CHAT, chat()) + post("/api/chat", simple_chat()))
        assert second.statuses == [503, 503]
        assert {answer.fields["retry-after"] for answer in second.answers} == {"1"}
        assert b"server.max_streams" in second.answers[0].body
        backend.last.say(stream_head() + chunked(DONE, last=True))
        second.feed(post(CHAT, chat()))
        backend.last.say(whole(b"{}"))
        assert second.statuses == [503, 503, 200]

    play(scene, max_streams=1)


def test_an_id_that_is_running_is_a_conflict_and_harms_the_running_call_not() -> None:
    async def scene(plant: Plant, backend: WiredBackend) -> None:
        first, second = plant.connect(), plant.connect()
        first.feed(post(CHAT, chat(), "X-Request-Id: mine"))
        second.feed(post(CHAT, chat(), "X-Request-Id: mine"))
        assert second.statuses == [409]
        assert second.answers[0].fields["x-request-id"] == "mine"
        backend.last.say(whole(b"{}"))
        assert first.statuses == [200]
        second.feed(post(CHAT, chat(), "X-Request-Id: mine"))
        backend.last.say(whole(b"{}"))
        assert second.statuses == [409, 200]

    play(scene)


def test_a_full_backend_is_told_with_a_time_to_come_back() -> None:
    async def scenario() -> None:
        backend = WiredBackend("one", most=1)
        async with served(backend) as plant:
            first, second = plant.connect(), plant.connect()
            first.feed(post(CHAT, chat()))
            second.feed(post(CHAT, chat()))
            await eventually(lambda: second.statuses == [503])
            assert second.answers[0].fields["retry-after"] == "1"
            assert json.loads(second.answers[0].body)["error"]["code"] == "overloaded"
            backend.last.say(whole(b"{}"))

    asyncio.run(scenario())


@pytest.mark.parametrize("begun", [False, True])
@pytest.mark.parametrize("path", [CHAT, "/api/chat"])
def test_draining_lets_calls_end_and_then_tells_those_that_do_not(path: str, begun: bool) -> None:
    async def scene(plant: Plant, backend: WiredBackend) -> None:
        body = chat(stream=True) if path == CHAT else simple_chat()
        quick, slow, late = plant.connect(), plant.connect(), plant.connect()
        for caller in (quick, slow):
            caller.feed(post(path, body))
            if begun:
                backend.last.say(stream_head() + chunked(chunk_event("a")))
        if not begun:
            backend.calls[0].say(stream_head())
        draining = asyncio.create_task(plant.exchanges.drain(0.05))
        await settled(quick)
        late.feed(post(path, body))
        assert late.statuses == [503]
        assert late.answers[0].fields["retry-after"] == "2"
        backend.calls[0].say(chunked(chunk_event("b", "stop"), DONE, last=True))
        assert quick.statuses == [200]
        await draining
        (told,) = slow.answers
        assert told.status == (200 if begun else 503)
        assert b"stopping" in told.body
        assert backend.calls[1].is_cancelled
        ended = plant.calls()
        assert (ended["completed"], ended["cancelled"], ended["active"]) == (1, 1, 0)

    play(scene)


# --- what is counted ---


def test_every_ending_is_counted_once_and_the_tokens_with_it() -> None:
    async def scene(plant: Plant, backend: WiredBackend) -> None:
        caller = plant.connect()
        caller.feed(post(CHAT, chat()))
        backend.last.say(whole(b'{"usage":{"prompt_tokens":3,"completion_tokens":4,"total_tokens":7}}'))
        caller.feed(post(CHAT, chat(stream=True)))
        backend.last.say(stream_head() + chunked(chunk_event("a"), chunk_event("b"), chunk_event("c")))
        caller.leave()
        await settled(caller)
        other = plant.connect()
        other.feed(post(CHAT, chat()))
        other.leave()
        await settled(other)
        assert plant.tokens() == 7 + 3
        assert plant.counts() == {"200": 2, "499": 1, "total": 3, "completed": 1, "cancelled": 2}

    play(scene)


def test_what_a_caller_invents_never_becomes_a_label() -> None:
    async def scene(plant: Plant, backend: WiredBackend) -> None:
        caller = plant.connect()
        caller.feed(post(CHAT, chat(model="invented")) + request("GET", "/invented"))
        await eventually(lambda: caller.statuses == [404, 404])
        assert b"invented" not in msgspec.json.encode(plant.metrics.dump())

    play(scene)
