"""Which requests are hot, who is let in, and what becomes of those that are not. Both far ends are in memory."""

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
    settled,
    simple_chat,
    stream_head,
    whole,
)
from tests.scenes import play, play_pair

from sluicegate.doors.http.limits import HttpLimits

PAGE = "https://app.example"
SMALL = HttpLimits(max_body_bytes=1_000, head_seconds=20.0, idle_seconds=60.0)

# --- hot paths ---


@pytest.mark.parametrize(
    ("path", "plain"),
    [
        ("/v1/chat/completion%73", CHAT),
        ("/v1%2Fchat%2fcompletions", CHAT),
        ("/%761/chat/completions?x=1", CHAT),
        ("/api/cha%74", "/api/chat"),
    ],
)
def test_a_hot_path_is_hot_however_it_is_written(path: str, plain: str, caplog: pytest.LogCaptureFixture) -> None:
    async def scene(plant: Plant, first: WiredBackend, _: WiredBackend) -> None:
        caller = plant.connect()
        caller.feed(post(path, chat() if plain == CHAT else simple_chat(stream=True)))
        assert len(first.calls) == 1
        if plain == CHAT:
            first.last.say(whole(b"{}"))
        else:
            first.last.say(stream_head() + chunked(chunk_event("a", "stop"), DONE, last=True))
        await eventually(lambda: caller.statuses == [200])
        assert [series.labels for series in plant.metrics.requests.dump().series] == [("POST", plain, "200")]
        assert not [record for record in caplog.records if record.levelname == "ERROR"]

    play_pair(scene)


@pytest.mark.parametrize("path", ["/v1/chat/completions%2F", "/v1/chat/completion%2573", "/v1/chat/completions%00"])
def test_what_only_resembles_a_hot_path_is_not_found(path: str, caplog: pytest.LogCaptureFixture) -> None:
    async def scene(plant: Plant, first: WiredBackend, _: WiredBackend) -> None:
        caller = plant.connect()
        caller.feed(post(path, chat()))
        await eventually(lambda: caller.statuses == [404])
        assert first.calls == []
        assert not [record for record in caplog.records if record.levelname == "ERROR"]

    play_pair(scene)


def test_the_methods_of_a_hot_path_are_told_however_it_is_written() -> None:
    async def scene(plant: Plant, first: WiredBackend, _: WiredBackend) -> None:
        for path in (CHAT, "/v1/chat/completion%73"):
            caller = plant.connect()
            caller.feed(request("GET", path))
            await eventually(lambda caller=caller: caller.statuses == [405])  # type: ignore[misc]
            assert "POST" in caller.answers[0].fields["allow"]

    play_pair(scene)


# --- who is let in ---


@pytest.mark.parametrize(
    "line", ["Host: evil.example", "Origin: https://evil.example", "Origin: null", "Host: evil.example:8000"]
)
@pytest.mark.parametrize("body", ["Content-Length: 15000000", "Transfer-Encoding: chunked"])
def test_who_is_not_let_in_hears_so_before_the_body(line: str, body: str) -> None:
    async def scene(plant: Plant, backend: WiredBackend) -> None:
        caller = plant.connect()
        caller.feed(request("POST", CHAT, b"", line, body, "Expect: 100-continue"))
        await eventually(lambda: caller.is_over)
        assert caller.statuses == [403]
        assert b"100 Continue" not in caller.written
        assert caller.answers[0].fields["connection"] == "close"
        assert plant.counts() == {"403": 1}

    play(scene)


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (request("POST", CHAT, b"", "Content-Length: 1001", f"Origin: {PAGE}"), 413),
        (request("GET", "/" + "x" * 9_000, b"", f"Origin: {PAGE}"), 414),
        (request("POST", CHAT, b"", "Host: evil.example", "Content-Length: 9", f"Origin: {PAGE}"), 403),
    ],
)
def test_a_page_of_an_allowed_origin_can_read_a_refusal(sent: bytes, status: int) -> None:
    async def scene(plant: Plant, backend: WiredBackend) -> None:
        caller = plant.connect()
        caller.feed(sent)
        await eventually(lambda: caller.is_over)
        (answer,) = caller.answers
        assert answer.status == status
        # Before the head is understood nobody knows whose page it was.
        told = answer.fields.get("access-control-allow-origin")
        assert told == (None if status == 414 else PAGE)

    play(scene, limits=SMALL, cors_origins=[PAGE])


def test_a_refusal_of_the_server_does_not_count_as_a_quick_answer() -> None:
    async def scene(plant: Plant, backend: WiredBackend) -> None:
        caller = plant.connect()
        caller.feed(b"POST /v1/chat/completions HT")
        caller.tick(21.0)
        assert caller.statuses == [408]
        assert plant.counts() == {"408": 1}
        assert not plant.metrics.request_seconds.dump().series

    play(scene)


# --- the gateway stops ---


@pytest.mark.parametrize("first", [request("GET", "/a"), post(CHAT, chat()), post(CHAT, b"{")])
@pytest.mark.parametrize("behind", [b"", request("GET", "/b"), post(CHAT, chat()) + request("GET", "/c")])
def test_the_next_answer_is_a_connections_last_once_the_server_has_said_goodbye(first: bytes, behind: bytes) -> None:
    async def scene(plant: Plant, backend: WiredBackend) -> None:
        caller = plant.connect()
        plant.server.say_goodbye()
        caller.feed(first + behind)
        if first == post(CHAT, chat()):
            backend.last.say(whole(b"{}"))
        await eventually(lambda: caller.is_over)
        await settled(caller)
        (answer,) = caller.answers
        assert answer.fields["connection"] == "close"
        assert len(backend.calls) == (first == post(CHAT, chat()))

    play(scene)


def test_a_call_that_runs_when_the_server_says_goodbye_is_answered_and_then_all_is_over() -> None:
    async def scene(plant: Plant, backend: WiredBackend) -> None:
        caller = plant.connect()
        caller.feed(post(CHAT, chat(stream=True)) + request("GET", "/b"))
        backend.last.say(stream_head() + chunked(chunk_event("a")))
        plant.server.say_goodbye()
        assert not caller.is_over
        backend.last.say(chunked(DONE, last=True))
        await eventually(lambda: caller.is_over)
        await settled(caller)
        (answer,) = caller.answers
        assert answer.body == chunk_event("a") + DONE

    play(scene)
