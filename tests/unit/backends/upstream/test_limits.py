"""When a connection gives up, on a clock of the test's own and over a transport that leads nowhere."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import cast

from tests.arrive import DeadEnd, arrive, prompt_outbox
from tests.sinks import Recorder

from sluicegate.backends.upstream.address import Address
from sluicegate.backends.upstream.call import Call
from sluicegate.backends.upstream.connection import UpstreamConnection
from sluicegate.backends.upstream.failures import Failures
from sluicegate.backends.upstream.pool import Pool
from sluicegate.settings import TimeoutSettings
from sluicegate.wire.wheel import Wheel

LIMITS = TimeoutSettings(connect=1, first_byte=5, idle=3, total=60)
HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


class Scene:
    """A connection that was asked at `start`."""

    def __init__(self, *, unsent: int = 0) -> None:
        self.wire = DeadEnd()
        self.wire.unsent = unsent
        self.sink = Recorder()
        self.start = asyncio.get_running_loop().time()
        address = Address.parse("http://there/v1")
        pool = Pool(address, most=1, wheel=Wheel(), failures=Failures("up", "there", LIMITS), context=None)
        pool.outbox = prompt_outbox()
        self.connection = pool.new_connection()
        self.connection.connection_made(cast("asyncio.Transport", self.wire))
        self.call = Call(b"", b"", self.sink, LIMITS, self.start)
        self.connection.ask(self.call, self.start)

    def after(self, seconds: float) -> str:
        """The limit that has passed so many seconds after the start, if any."""
        self.connection.tick(self.start + seconds)
        return "" if self.sink.error is None else str(self.sink.error.details["limit"])


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    async def coroutine() -> None:
        await scenario()

    asyncio.run(coroutine())


def test_the_first_byte_may_take_so_long_after_the_request_was_taken() -> None:
    async def scenario() -> None:
        scene = Scene(unsent=1_000)
        assert scene.after(4) == ""
        scene.wire.unsent = 500
        assert scene.after(8) == "", "the request was still going out"
        scene.wire.unsent = 0
        assert scene.after(10) == ""
        assert scene.after(14.9) == ""
        assert scene.after(15.1) == "first_byte"
        assert scene.wire.aborted

    run(scenario)


def test_a_request_that_goes_out_no_further_is_too_late_as_well() -> None:
    async def scenario() -> None:
        scene = Scene(unsent=1_000)
        assert scene.after(0.1) == ""
        assert scene.after(5.0) == ""
        assert scene.after(5.2) == "first_byte"

    run(scenario)


def test_bytes_of_a_head_that_never_ends_do_not_put_the_limit_off() -> None:
    async def scenario() -> None:
        scene = Scene()
        arrive(scene.connection, b"HTTP/1.1 200 OK\r\nX-Slow: ")
        assert scene.after(4.9) == ""
        arrive(scene.connection, b"more")
        assert scene.after(5.1) == "first_byte"

    run(scenario)


def test_an_answer_may_pause_so_long_between_two_pieces() -> None:
    async def scenario() -> None:
        scene = Scene()
        arrive(scene.connection, HEAD)
        assert scene.after(2.9) == ""
        arrive(scene.connection, b"5\r\nhello\r\n")
        assert scene.after(3.5) == "idle", "its clock stood still"

    run(scenario)


def test_a_pause_of_our_own_counts_only_for_the_whole_call() -> None:
    async def scenario() -> None:
        scene = Scene()
        arrive(scene.connection, HEAD)
        scene.call.pause()
        assert not scene.wire.reads
        assert scene.after(30) == ""
        assert scene.after(59) == ""
        assert scene.after(60) == "total"

    run(scenario)


def test_an_answer_that_goes_on_for_ever_ends_with_the_whole_call() -> None:
    async def scenario() -> None:
        scene = Scene()
        arrive(scene.connection, HEAD + b"5\r\nhello\r\n")
        assert scene.after(60) == "total"
        assert scene.sink.body == b"hello"

    run(scenario)


def test_chunk_notes_and_trailers_without_end_are_nonsense() -> None:
    async def scenario() -> None:
        for noise in (b"5;" + b"a" * 70_000, b"0\r\n" + b"X-T: y\r\n" * 10_000):
            scene = Scene()
            arrive(scene.connection, HEAD)
            for start in range(0, len(noise), 1_000):
                arrive(scene.connection, noise[start : start + 1_000])
            assert "without a body" in scene.sink.failure.message

    run(scenario)


def test_an_idle_connection_is_closed_after_four_seconds_or_by_bytes_nobody_asked_for() -> None:
    async def scenario() -> None:
        for is_spoken_to in (False, True):
            scene = Scene()
            arrive(scene.connection, HEAD + b"0\r\n\r\n")
            assert scene.sink.ended
            assert scene.connection.is_fit(scene.start + 3.9)
            if is_spoken_to:
                arrive(scene.connection, b"HTTP/1.1 408 Request Timeout\r\n\r\n")
            else:
                scene.connection.tick(scene.start + 60)
            assert scene.wire.aborted
            assert not scene.connection.is_fit(scene.start)

    run(scenario)


def test_a_connection_that_was_never_made_cannot_be_closed() -> None:
    async def scenario() -> None:
        address = Address.parse("http://there/v1")
        pool = Pool(address, most=1, wheel=Wheel(), failures=Failures("up", "there", LIMITS), context=None)
        connection: UpstreamConnection = pool.new_connection()
        connection.close()
        assert not connection.is_made
        await pool.close()

    run(scenario)
