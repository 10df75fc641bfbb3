"""Which readings make a connection rest while the event loop is behind, and what ends its rest."""

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from typing import cast

import pytest
from tests.arrive import DeadEnd, Overwork, arrive, prompt_outbox
from tests.sinks import Recorder

from sluicegate.backends.upstream.address import Address
from sluicegate.backends.upstream.call import Call
from sluicegate.backends.upstream.connection import UpstreamConnection
from sluicegate.backends.upstream.failures import Failures
from sluicegate.backends.upstream.pool import Pool
from sluicegate.settings import TimeoutSettings
from sluicegate.wire.rests import REST_SECONDS
from sluicegate.wire.wheel import Wheel

LIMITS = TimeoutSettings()
STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
WHOLE = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
TOKEN = b"7\r\ndata: x\r\n"


class Scene:
    """A connection at work for a call, on a loop that has no time left; a stream has brought its first tokens."""

    def __init__(self, *, head: bytes = STREAM, context: ssl.SSLContext | None = None) -> None:
        self.overwork = Overwork()
        self.wire, self.sink = DeadEnd(), Recorder(on_piece=self._piece_came)
        self.cancels_at_once = False
        address = Address.parse("http://there/v1")
        pool = Pool(address, most=1, wheel=Wheel(), failures=Failures("up", "there", LIMITS), context=context)
        pool.outbox = prompt_outbox()
        if pool.rests is not None:
            pool.rests = self.overwork.rests
        self.connection: UpstreamConnection = pool.new_connection()
        self.connection.connection_made(cast("asyncio.Transport", self.wire))
        self.call = self.ask()
        arrive(self.connection, head)
        if head == STREAM:
            for _ in range(3):
                arrive(self.connection, TOKEN)
        assert self.wire.reads, "the first tokens of a stream pass"
        self.sink.pieces.clear()

    def ask(self) -> Call:
        """The next call."""
        call = Call(b"", b"", self.sink, LIMITS, asyncio.get_running_loop().time())
        self.connection.ask(call, call.started)
        return call

    def _piece_came(self) -> None:
        if self.cancels_at_once:
            self.call.cancel()

    def rest_is_over(self) -> None:
        """As when the time has come."""
        self.connection.wake()


def run(scenario: Callable[[Scene], Awaitable[None]], *, head: bytes = STREAM) -> None:
    async def coroutine() -> None:
        await scenario(Scene(head=head))

    asyncio.run(coroutine())


def test_a_token_that_comes_late_is_passed_on_and_the_next_ones_are_read_together() -> None:
    async def scenario(scene: Scene) -> None:
        arrive(scene.connection, TOKEN)
        assert scene.sink.body == b"data: x"
        assert not scene.wire.reads
        assert scene.overwork.rests.rests_taken() == 1
        scene.rest_is_over()
        assert scene.wire.reads
        arrive(scene.connection, TOKEN + TOKEN)
        assert scene.sink.body == b"data: x" * 3
        assert not scene.wire.reads

    run(scenario)


def test_it_is_woken_by_itself() -> None:
    async def scenario(scene: Scene) -> None:
        arrive(scene.connection, TOKEN)
        assert not scene.wire.reads
        scene.overwork.clock += REST_SECONDS
        await asyncio.wait_for(scene.wire.resumed.wait(), 10)
        assert scene.wire.reads

    run(scenario)


def test_a_loop_in_time_lets_nothing_rest() -> None:
    async def scenario(scene: Scene) -> None:
        scene.overwork.is_over = True
        arrive(scene.connection, TOKEN)
        assert scene.wire.reads

    run(scenario)


@pytest.mark.parametrize(
    ("head", "data"),
    [
        pytest.param(WHOLE, b"1\r\n{\r\n", id="an answer that is no stream"),
        pytest.param(STREAM.replace(b"200 OK", b"503 No"), TOKEN, id="an error"),
        pytest.param(STREAM, b"2000\r\n" + b"x" * 5_000, id="a large piece"),
        pytest.param(STREAM, b"7", id="less than a piece"),
    ],
)
def test_what_is_no_token_does_not_rest(head: bytes, data: bytes) -> None:
    async def scenario(scene: Scene) -> None:
        for piece in (data, *[TOKEN] * 5 * (head is not STREAM)):
            arrive(scene.connection, piece)
        assert scene.wire.reads
        assert scene.overwork.rests.rests_taken() == 0

    run(scenario, head=head)


def test_the_end_of_an_answer_leaves_the_connection_reading_for_the_next() -> None:
    async def scenario(scene: Scene) -> None:
        arrive(scene.connection, TOKEN)
        scene.rest_is_over()
        arrive(scene.connection, TOKEN + b"0\r\n\r\n")
        assert scene.wire.reads
        assert scene.sink.over.is_set()
        scene.sink = Recorder()
        scene.ask()
        for data in (WHOLE, *[TOKEN] * 5):
            arrive(scene.connection, data)
        assert scene.wire.reads, "what was true of the stream is not true of this answer"
        arrive(scene.connection, b"0\r\n\r\n")
        scene.sink = Recorder()
        scene.ask()
        for data in (STREAM, TOKEN, TOKEN, TOKEN):
            arrive(scene.connection, data)
            assert scene.wire.reads, "its first tokens pass, too"
        arrive(scene.connection, TOKEN)
        assert not scene.wire.reads

    run(scenario)


def test_a_call_that_is_paused_is_not_read_when_its_rest_is_over() -> None:
    async def scenario(scene: Scene) -> None:
        arrive(scene.connection, TOKEN)
        scene.call.pause()
        scene.rest_is_over()
        assert not scene.wire.reads
        scene.call.resume()
        assert scene.wire.reads

    run(scenario)


def test_who_was_cancelled_or_closed_in_its_rest_is_left_alone() -> None:
    async def scenario(scene: Scene) -> None:
        arrive(scene.connection, TOKEN)
        scene.call.cancel()
        assert scene.wire.aborted
        scene.rest_is_over()
        assert not scene.wire.reads

    run(scenario)


def test_nonsense_behind_a_token_closes_the_connection_instead() -> None:
    async def scenario(scene: Scene) -> None:
        arrive(scene.connection, TOKEN + b"nonsense\r\n")
        assert scene.wire.aborted
        assert scene.overwork.rests.rests_taken() == 0

    run(scenario)


def test_an_answer_that_came_before_its_request_was_taken_does_not_rest() -> None:
    async def scenario(scene: Scene) -> None:
        scene.wire.unsent = 1
        arrive(scene.connection, TOKEN)
        assert scene.wire.reads
        assert scene.overwork.rests.rests_taken() == 0
        scene.wire.unsent = 0
        arrive(scene.connection, TOKEN)
        assert not scene.wire.reads

    run(scenario)


def test_nothing_rests_over_tls() -> None:
    async def scene() -> None:
        scene = Scene(context=ssl.create_default_context())
        for _ in range(5):
            arrive(scene.connection, TOKEN)
        assert scene.wire.reads

    asyncio.run(scene())


def test_a_connection_that_its_own_piece_closed_does_not_rest() -> None:
    async def scenario(scene: Scene) -> None:
        scene.cancels_at_once = True
        arrive(scene.connection, TOKEN)
        assert scene.wire.aborted
        assert scene.overwork.rests.rests_taken() == 0

    run(scenario)
