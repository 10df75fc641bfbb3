"""Calls that are left, paused or stopped on their way, against the scripted server and on both event loops."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from tests.sinks import Recorder
from tests.upstream import Upstream, eventually
from tests.upstream_calls import client_of, over, send

from sluicegate.errors import BackendFailed, BackendUnavailable

Play = Callable[[Callable[[], Awaitable[None]]], None]


def test_cancelling_while_connecting_keeps_the_connection_for_the_next_call(play: Play, upstream: Upstream) -> None:
    async def scene() -> None:
        async with client_of(upstream.url, most=1) as client:
            left = Recorder()
            send(client, "steady", left).cancel()
            await eventually(lambda: client.idle == 1)
            assert (await over(client, "steady")).ended
            assert not left.over.is_set()
            assert upstream.seen()["requests"] == 1
            assert upstream.seen()["connections"] == 1

    play(scene)


def test_cancelling_before_the_head_is_seen_by_the_server(play: Play, upstream: Upstream) -> None:
    async def scene() -> None:
        async with client_of(upstream.url) as client:
            sink = Recorder()
            call = send(client, "slow-head", sink)
            await upstream.wait_until("open", 1)
            call.cancel()
            call.cancel()
            assert (await upstream.wait_until("cancelled", 1))["open"] == 0
            assert sink.head is None
            assert not sink.over.is_set()

    play(scene)


def test_cancelling_between_pieces_is_seen_by_the_server(play: Play, upstream: Upstream) -> None:
    async def scene() -> None:
        async with client_of(upstream.url) as client:
            sink = Recorder()
            call = send(client, "endless", sink)
            await sink.begun.wait()
            call.cancel()
            await upstream.wait_until("cancelled", 1)
            assert not sink.over.is_set()

    play(scene)


@pytest.mark.parametrize("moment", ["begun", "piece"])
def test_cancelling_from_inside_the_sink_silences_the_rest(play: Play, upstream: Upstream, moment: str) -> None:
    async def scene() -> None:
        async with client_of(upstream.url) as client:

            def leave() -> None:
                call.cancel()

            sink = Recorder(on_begun=leave) if moment == "begun" else Recorder(on_piece=leave)
            call = send(client, "endless", sink)
            await upstream.wait_until("cancelled", 1)
            assert len(sink.pieces) == (0 if moment == "begun" else 1)
            assert not sink.over.is_set()

    play(scene)


def test_a_paused_flood_stops_the_server_until_it_goes_on(play: Play, upstream: Upstream) -> None:
    async def scene() -> None:
        async with client_of(upstream.url, limits={"idle": 0.3}) as client:
            sink = Recorder(on_begun=lambda: call.pause())  # noqa: PLW0108 - the call is made after its sink
            call = send(client, "flood", sink)
            stands = await standstill(upstream)
            assert len(sink.body) < 1_000_000
            assert not sink.over.is_set(), "a pause of our own is no idle server"
            call.resume()
            await upstream.wait_until("sent", stands + 5_000_000)
            call.pause()
            assert await standstill(upstream) > stands
            call.cancel()
            await upstream.wait_until("cancelled", 1)

    play(scene)


async def standstill(upstream: Upstream) -> int:
    """How much was sent when nothing more has gone out for 40 questions."""
    sent, same = -1, 0
    while same < 40:
        await asyncio.sleep(0)
        now: int = (await asyncio.to_thread(upstream.seen))["sent"]
        same = same + 1 if now == sent and now > 0 else 0
        sent = now
    return sent


def test_the_limit_of_the_whole_call_ends_a_paused_one(play: Play, upstream: Upstream) -> None:
    async def scene() -> None:
        async with client_of(upstream.url, limits={"total": 0.3}) as client:
            sink = Recorder(on_begun=lambda: call.pause())  # noqa: PLW0108 - the call is made after its sink
            call = send(client, "endless", sink)
            await sink.over.wait()
            assert sink.failure.details["limit"] == "total"
            await upstream.wait_until("cancelled", 1)

    play(scene)


def test_a_pause_while_connecting_holds_from_the_first_byte(play: Play, upstream: Upstream) -> None:
    async def scene() -> None:
        async with client_of(upstream.url) as client:
            sink = Recorder()
            call = send(client, "steady", sink)
            call.pause()
            await upstream.wait_until("completed", 1)
            assert sink.head is None
            call.resume()
            await sink.over.wait()
            assert sink.ended

    play(scene)


def test_a_call_that_ends_while_paused_leaves_a_connection_that_reads(play: Play, upstream: Upstream) -> None:
    async def scene() -> None:
        async with client_of(upstream.url) as client:
            sink = Recorder(on_begun=lambda: call.pause())  # noqa: PLW0108 - the call is made after its sink
            call = send(client, "trailers", sink)
            await sink.over.wait()
            assert (await over(client, "steady")).ended
            assert upstream.seen()["connections"] == 1

    play(scene)


def test_closing_the_client_fails_what_is_under_way_and_refuses_more(play: Play, upstream: Upstream) -> None:
    async def scene() -> None:
        async with client_of(upstream.url) as client:
            answering, asked, connecting = Recorder(), Recorder(), Recorder()
            send(client, "endless", answering)
            await answering.begun.wait()
            send(client, "slow-head", asked)
            await upstream.wait_until("open", 2)
            send(client, "steady", connecting)
            await client.close()
            assert isinstance(answering.error, BackendFailed)
            assert isinstance(asked.error, BackendUnavailable)
            assert isinstance(connecting.error, BackendUnavailable)
            await upstream.wait_until("cancelled", 2)
            with pytest.raises(BackendUnavailable, match="stopped"):
                send(client, "steady", Recorder())

    play(scene)
