"""The client against a scripted server in a second process, on both event loops."""

import asyncio
import json
from collections.abc import Awaitable, Callable

import pytest
from tests.sinks import Recorder
from tests.upstream import Upstream, eventually, scripted_upstream
from tests.upstream_calls import CHAT, body, client_of, over, send

from sluicegate.errors import BackendFailed, BackendTimeout, BackendUnavailable, InvalidInput

Play = Callable[[Callable[[], Awaitable[None]]], None]


def test_an_answer_is_begun_then_comes_in_pieces_and_ends(play: Play, upstream: Upstream) -> None:
    async def scene() -> None:
        async with client_of(upstream.url) as client:
            sink = Recorder()
            client.send(CHAT, body("steady"), b"x-request-id: r1\r\n", sink)
            assert sink.head is None, "nothing is told before send has returned"
            await sink.over.wait()
            assert sink.head is not None
            assert (sink.head.status, sink.head.content_type) == (200, "text/event-stream")
            assert sink.body.endswith(b"data: [DONE]\n\n")
            assert sink.ended
            assert upstream.seen()["last"]["headers"]["x-request-id"] == "r1"

    play(scene)


def test_the_length_and_the_seconds_to_wait_are_told_where_the_server_tells_them(
    play: Play, upstream: Upstream
) -> None:
    async def scene() -> None:
        async with client_of(upstream.url) as client:
            sink = await over(client, "error-429")
            assert sink.head is not None
            assert sink.head.retry_after == 7.0
            assert sink.head.length == len(sink.body)

    play(scene)


@pytest.mark.parametrize("model", ["trailers", "interim"])
def test_framing_that_is_seldom_seen_leaves_the_connection_fit(play: Play, upstream: Upstream, model: str) -> None:
    async def scene() -> None:
        async with client_of(upstream.url) as client:
            for _ in range(3):
                sink = await over(client, model)
                assert sink.body == b"hello"
                assert sink.ended
                assert sink.head is not None
                assert sink.head.content_type == "text/plain"
            assert upstream.seen()["connections"] == 1

    play(scene)


@pytest.mark.parametrize("model", ["until-close", "http-1.0"])
def test_a_body_may_last_until_the_connection_ends(play: Play, upstream: Upstream, model: str) -> None:
    async def scene() -> None:
        async with client_of(upstream.url) as client:
            for _ in range(2):
                sink = await over(client, model)
                assert sink.body == b"until the end"
                assert sink.ended
            assert upstream.seen()["connections"] == 2

    play(scene)


def test_an_answer_without_a_body_ends_at_once(play: Play, upstream: Upstream) -> None:
    async def scene() -> None:
        async with client_of(upstream.url) as client:
            sink = await over(client, "empty")
            assert sink.head is not None
            assert sink.head.status == 204
            assert (sink.ended, sink.pieces) == (True, [])

    play(scene)


@pytest.mark.parametrize(
    ("model", "came"),
    [("cut-body", b"hello"), ("cut-chunk-size", b"hello"), ("cut-chunk", b"hel"), ("bad-chunk", b"hello")],
)
def test_an_answer_that_breaks_off_fails_after_what_came(
    play: Play, upstream: Upstream, model: str, came: bytes
) -> None:
    async def scene() -> None:
        async with client_of(upstream.url) as client:
            sink = await over(client, model)
            assert isinstance(sink.error, BackendFailed)
            assert sink.body == came

    play(scene)


@pytest.mark.parametrize("model", ["nonsense", "switches", "two-lengths", "long-head", "odd-coding"])
def test_what_is_no_answer_to_the_call_is_a_failure(play: Play, upstream: Upstream, model: str) -> None:
    async def scene() -> None:
        async with client_of(upstream.url) as client:
            sink = await over(client, model)
            assert isinstance(sink.error, BackendFailed)
            assert "does not speak HTTP as it should" in sink.error.message
            assert sink.head is None

    play(scene)


def test_a_head_that_is_cut_off_counts_as_no_answer(play: Play, upstream: Upstream) -> None:
    async def scene() -> None:
        heard: list[BackendUnavailable] = []
        async with client_of(upstream.url, on_unavailable=heard.append) as client:
            sink = await over(client, "cut-head")
            assert isinstance(sink.error, BackendUnavailable)
            assert sink.error.details == {"connected": True}
            assert heard == [sink.error]

    play(scene)


def test_bytes_behind_the_end_spoil_the_connection_but_not_the_answer(play: Play, upstream: Upstream) -> None:
    async def scene() -> None:
        async with client_of(upstream.url) as client:
            for _ in range(2):
                sink = await over(client, "too-much")
                assert sink.body == b"hello"
                assert sink.ended
            assert upstream.seen()["connections"] == 2

    play(scene)


def test_an_answer_that_comes_before_the_request_was_wholly_sent_counts(play: Play, upstream: Upstream) -> None:
    async def scene() -> None:
        async with client_of(upstream.url) as client:
            sink = Recorder()
            client.send("early", bytes(30_000_000), b"", sink)
            await sink.over.wait()
            assert sink.head is not None
            assert sink.head.status == 413
            assert sink.ended
            assert (await over(client, "steady")).ended

    play(scene)


def test_a_server_that_takes_no_request_is_too_late_with_its_first_byte(play: Play, upstream: Upstream) -> None:
    async def scene() -> None:
        async with client_of(upstream.url, limits={"first_byte": 0.3}) as client:
            sink = Recorder()
            client.send("deaf", bytes(30_000_000), b"", sink)
            await sink.over.wait()
            assert isinstance(sink.error, BackendTimeout)
            assert sink.error.details["limit"] == "first_byte"

    play(scene)


def test_more_calls_than_connections_are_refused_at_once(play: Play, upstream: Upstream) -> None:
    async def scene() -> None:
        async with client_of(upstream.url, most=2) as client:
            calls = [send(client, "endless", Recorder()) for _ in range(2)]
            with pytest.raises(BackendUnavailable, match="every connection"):
                send(client, "steady", Recorder())
            await upstream.wait_until("open", 2)
            with pytest.raises(BackendUnavailable, match="every connection"):
                send(client, "steady", Recorder())
            calls[0].cancel()
            assert (await over(client, "steady")).ended, "a call that was cancelled frees its place at once"

    play(scene)


def test_the_connection_that_came_back_last_serves_next(play: Play, upstream: Upstream) -> None:
    async def scene() -> None:
        async with client_of(upstream.url) as client:
            await asyncio.gather(*(over(client, "steady") for _ in range(3)))
            assert client.idle == 3
            for _ in range(5):
                await over(client, "steady")
            assert upstream.seen()["connections"] == 3
            assert client.idle == 3

    play(scene)


def test_an_idle_connection_is_closed_as_early_as_the_server_tells(play: Play, upstream: Upstream) -> None:
    async def scene() -> None:
        async with client_of(upstream.url) as client:
            await over(client, "steady", stream=False, headers="Keep-Alive: timeout=1, max=9\r\n")
            assert client.idle == 1
            await eventually(lambda: client.idle == 0, timeout=3.0)
            await over(client, "steady", stream=False, headers="Keep-Alive: max=0\r\n")
            assert client.idle == 0

    play(scene)


def test_a_connection_that_the_server_closes_while_idle_is_forgotten(play: Play) -> None:
    async def scene() -> None:
        with scripted_upstream() as upstream:
            async with client_of(upstream.url) as client:
                assert (await over(client, "steady")).ended
                upstream.kill()
                await eventually(lambda: client.idle == 0)
                await asyncio.to_thread(upstream.start)
                assert (await over(client, "steady")).ended

    play(scene)


def test_a_used_connection_found_dead_is_replaced_once_and_a_new_one_never(play: Play, upstream: Upstream) -> None:
    async def scene() -> None:
        heard: list[BackendUnavailable] = []
        async with client_of(upstream.url, on_unavailable=heard.append) as client:
            await over(client, "steady")
            assert (await over(client, "drops-reused")).ended
            assert heard == []
            sink = await over(client, "drops")
            assert isinstance(sink.error, BackendUnavailable)
            assert "before it answered" in sink.error.message
            seen = upstream.seen()
            assert (seen["requests"], seen["connections"]) == (5, 3)

    play(scene)


def test_a_huge_request_arrives_whole(play: Play, upstream: Upstream) -> None:
    async def scene() -> None:
        async with client_of(upstream.url) as client:
            sink = await over(client, "steady", filler="x" * 3_000_000)
            assert sink.ended
            assert len(upstream.seen()["last"]["body"]["script"]["filler"]) == 3_000_000

    play(scene)


def test_a_coded_body_is_unpacked_and_its_length_not_told(play: Play, upstream: Upstream) -> None:
    async def scene() -> None:
        async with client_of(upstream.url) as client:
            sink = await over(client, "gzip", stream=False)
            assert json.loads(sink.body)["usage"]
            assert sink.head is not None
            assert sink.head.length is None

    play(scene)


def test_a_path_from_the_root_and_a_path_below_the_base(play: Play, upstream: Upstream) -> None:
    async def scene() -> None:
        upstream.tell("/health", 503, "ill")
        async with client_of(upstream.url) as client:
            assert await client.get("/health", timeout=5) == (503, b"ill")
            status, listed = await client.get("models", timeout=5)
            assert status == 200
            assert json.loads(listed)["data"]
            assert client.idle == 0, "a probe uses a connection of its own"

    play(scene)


def test_a_probe_that_is_not_answered_is_too_late(play: Play) -> None:
    async def scene() -> None:
        with scripted_upstream() as upstream:
            async with client_of(upstream.url) as client:
                upstream.freeze()
                with pytest.raises(BackendTimeout, match=r"did not answer within 0\.2 s"):
                    await client.get("models", timeout=0.2)
                upstream.thaw()

    play(scene)


def test_a_path_that_would_forge_a_request_is_refused(play: Play, upstream: Upstream) -> None:
    async def scene() -> None:
        async with client_of(upstream.url) as client:
            with pytest.raises(InvalidInput, match="path"):
                client.send("chat HTTP/1.1\r\nx: y", b"", b"", Recorder())

    play(scene)
