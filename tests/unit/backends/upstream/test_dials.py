"""Connections that are slow to come, or that nobody waits for any more."""

import contextlib
import socket
from collections.abc import Awaitable, Callable, Iterator

import pytest
from tests.sinks import Recorder
from tests.upstream import Upstream
from tests.upstream_calls import client_of, over, send

from sluicegate.errors import BackendError, BackendUnavailable

Play = Callable[[Callable[[], Awaitable[None]]], None]


@contextlib.contextmanager
def full_house() -> Iterator[str]:
    """The address of a server to which no connection comes about: its queue is full, and nobody empties it."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1"


def test_a_server_that_cannot_be_reached_in_time_counts_as_unavailable(play: Play) -> None:
    async def scene() -> None:
        heard: list[BackendUnavailable] = []
        with full_house() as url:
            async with client_of(url, limits={"connect": 0.1}, on_unavailable=heard.append) as client:
                sink = await over(client, "steady")
        assert isinstance(sink.error, BackendUnavailable), "nothing was sent, so another backend may be tried"
        assert "connected" not in sink.error.details
        assert sink.error.details["limit"] == "connect"
        assert heard == [sink.error]

    play(scene)


def test_the_next_call_gets_the_connection_that_a_cancelled_one_began_to_make(play: Play, upstream: Upstream) -> None:
    async def scene() -> None:
        async with client_of(upstream.url, most=1) as client:
            for _ in range(3):
                send(client, "steady", Recorder()).cancel()
            sink = await over(client, "steady")
            assert sink.ended
        assert upstream.seen()["connections"] == 1

    play(scene)


def test_a_connection_that_is_being_made_serves_one_call_only(play: Play, upstream: Upstream) -> None:
    async def scene() -> None:
        async with client_of(upstream.url, most=2) as client:
            send(client, "steady", Recorder()).cancel()
            sinks = [Recorder() for _ in range(2)]
            for sink in sinks:
                send(client, "steady", sink)
            with pytest.raises(BackendUnavailable, match="every connection"):
                send(client, "steady", Recorder())
            for sink in sinks:
                await sink.over.wait()
                assert sink.ended
        assert upstream.seen()["connections"] == 2

    play(scene)


def test_a_call_that_was_given_a_connection_under_way_may_leave_it_as_well(play: Play, upstream: Upstream) -> None:
    async def scene() -> None:
        async with client_of(upstream.url, most=1) as client:
            send(client, "steady", Recorder()).cancel()
            second = Recorder()
            send(client, "steady", second).cancel()
            assert (await over(client, "steady")).ended
            assert not second.over.is_set()

    play(scene)


class Hasty(Recorder):
    """Does something as soon as it is told of a failure."""

    def __init__(self, then: Callable[[], object]) -> None:
        super().__init__()
        self._then = then

    def answer_failed(self, error: BackendError) -> None:
        """See `AnswerSink`."""
        super().answer_failed(error)
        self._then()


def test_a_connection_that_was_given_up_is_given_to_no_other_call(play: Play) -> None:
    async def scene() -> None:
        second = Recorder()
        with full_house() as url:
            async with client_of(url, limits={"connect": 0.1}, most=4) as client:
                send(client, "steady", Hasty(lambda: send(client, "steady", second)))
                await second.over.wait()
        assert second.failure.details.get("limit") == "connect"

    play(scene)
