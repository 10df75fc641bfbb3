"""The pool's rules, over connections in memory that are made when a test says so, on a clock that leaps."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from tests.arrive import arrive, prompt_outbox
from tests.lane_driver import FarWire, leap, run_leaping, whole
from tests.sinks import Recorder

from sluicegate.backends.upstream.address import Address
from sluicegate.backends.upstream.call import Call
from sluicegate.backends.upstream.connection import UpstreamConnection
from sluicegate.backends.upstream.failures import Failures
from sluicegate.backends.upstream.pool import Pool
from sluicegate.errors import BackendUnavailable
from sluicegate.settings import TimeoutSettings
from sluicegate.wire.wheel import Wheel


class WiredPool(Pool):
    """Connects to nowhere: `made_ones` has every connection with its wire, in their order."""

    def __init__(self, most: int | None = 2, limits: TimeoutSettings | None = None) -> None:
        self.heard: list[BackendUnavailable] = []
        self.limits = limits or TimeoutSettings(connect=5, total=60)
        super().__init__(
            Address.parse("http://there/v1"),
            most=most,
            wheel=Wheel(),
            failures=Failures("up", "there", self.limits),
            context=None,
            on_unavailable=self.heard.append,
        )
        self.outbox = prompt_outbox()
        self.may_connect = asyncio.Event()
        self.may_connect.set()
        self.fault: OSError | None = None
        self.made_ones: list[tuple[UpstreamConnection, FarWire]] = []

    async def connect(self, connection: UpstreamConnection) -> None:
        """Instead of a socket."""
        await self.may_connect.wait()
        if self.fault is not None:
            raise self.fault
        wire = FarWire(connection)  # type: ignore[arg-type]
        self.made_ones.append((connection, wire))
        connection.connection_made(wire)

    def ask(self) -> tuple[Call, Recorder]:
        """A call through the pool."""
        sink = Recorder()
        call = Call(b"", b"", sink, self.limits, asyncio.get_running_loop().time())
        self.carry(call)
        return call, sink


def run(scenario: Callable[[WiredPool], Awaitable[None]], most: int | None = 2) -> None:
    async def coroutine() -> None:
        pool = WiredPool(most)
        await scenario(pool)
        await pool.close()

    run_leaping(coroutine())


async def turns() -> None:
    """Let what is ready run."""
    for _ in range(10):
        await asyncio.sleep(0)


def say(connection: UpstreamConnection, data: bytes) -> None:
    """Bytes of an answer arrive."""
    arrive(connection, data)


def test_the_connection_that_came_back_last_is_taken_first() -> None:
    async def scenario(pool: WiredPool) -> None:
        for _ in range(2):
            pool.ask()
        await turns()
        (first, _), (second, _) = pool.made_ones
        for order in ((first, second), (second, first)):
            for connection in order:
                say(connection, whole(b"{}"))
            call, _ = pool.ask()
            assert call.carrier is order[1]
            other, _ = pool.ask()
            assert other.carrier is order[0]

    run(scenario)


def test_a_dial_that_failed_or_was_too_late_leaves_its_place() -> None:
    async def scenario(pool: WiredPool) -> None:
        pool.fault = OSError("refused")
        for _ in range(3):
            _, sink = pool.ask()
            await turns()
            assert isinstance(sink.failure, BackendUnavailable)
            assert "cannot connect" in sink.failure.message
        assert len(pool.heard) == 3
        pool.fault = None
        pool.may_connect.clear()
        for _ in range(2):
            _, sink = pool.ask()
            await leap(5.0)
            assert isinstance(sink.failure, BackendUnavailable), "nothing was sent"
            assert sink.failure.details["limit"] == "connect"
        assert len(pool.heard) == 5
        pool.may_connect.set()
        _, sink = pool.ask()
        await turns()
        say(pool.made_ones[0][0], whole(b"{}"))
        assert sink.ended

    run(scenario, most=1)


def test_the_limit_of_a_whole_call_counts_while_it_connects() -> None:
    async def coroutine() -> None:
        pool = WiredPool(limits=TimeoutSettings(connect=50, total=3))
        pool.may_connect.clear()
        _, sink = pool.ask()
        await leap(3.0)
        assert sink.failure.details["limit"] == "total"
        await pool.close()

    run_leaping(coroutine())


def test_a_connection_found_unfit_gives_its_place_to_a_fresh_one() -> None:
    async def scenario(pool: WiredPool) -> None:
        pool.ask()
        await turns()
        connection, wire = pool.made_ones[0]
        say(connection, whole(b"{}"))
        wire.close()
        _, sink = pool.ask()
        await turns()
        say(pool.made_ones[1][0], whole(b"{}"))
        assert sink.ended
        assert pool.idle == 1

    run(scenario, most=1)


def test_a_call_found_dead_is_made_on_a_fresh_connection_although_others_are_idle() -> None:
    async def scenario(pool: WiredPool) -> None:
        for _ in range(2):
            pool.ask()
        await turns()
        for connection, _ in pool.made_ones:
            say(connection, whole(b"{}"))
        call, sink = pool.ask()
        assert isinstance(call.carrier, UpstreamConnection)
        call.carrier.eof_received()
        await turns()
        assert len(pool.made_ones) == 3
        say(pool.made_ones[2][0], whole(b"{}"))
        assert sink.ended

    run(scenario)


def test_without_a_bound_nothing_is_kept() -> None:
    async def scenario(pool: WiredPool) -> None:
        for _ in range(3):
            _, sink = pool.ask()
            await turns()
            connection, wire = pool.made_ones[-1]
            say(connection, whole(b"{}"))
            assert sink.ended
            assert wire.is_aborted
        assert pool.idle == 0
        left, sink = pool.ask()
        left.cancel()
        await turns()
        assert not sink.over.is_set()
        assert pool.idle == 0
        assert len(pool.made_ones) == 3

    run(scenario, most=None)


def test_closing_waits_for_every_socket_and_nothing_is_dialled_behind_it() -> None:
    async def scenario(pool: WiredPool) -> None:
        _, answering = pool.ask()
        await turns()
        _, wire = pool.made_ones[0]
        closing = asyncio.create_task(pool.close())
        await asyncio.sleep(0)
        assert wire.is_aborted
        assert isinstance(answering.failure, BackendUnavailable)
        assert not closing.done(), "the socket is not closed yet"
        await closing
        with pytest.raises(BackendUnavailable, match="stopped"):
            pool.ask()

    run(scenario)
