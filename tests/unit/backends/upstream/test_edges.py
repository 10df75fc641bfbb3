"""What is seldom seen of an upstream's connection, over a transport in memory."""

import asyncio
import gzip
from collections.abc import Awaitable, Callable

import pytest
from tests.lane_driver import FarEnd, WiredBackend, leap, run_leaping, stream_head, whole
from tests.sinks import Recorder

from sluicegate.backends.backend import ChatCall
from sluicegate.backends.upstream.call import Call
from sluicegate.errors import BackendFailed, BackendUnavailable
from sluicegate.settings import TimeoutSettings
from sluicegate.wire.outbox import Outbox


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    async def coroutine() -> None:
        await scenario()

    run_leaping(coroutine())


def asked() -> tuple[FarEnd, Recorder]:
    """A call on a connection of its own."""
    backend, sink = WiredBackend(), Recorder()
    backend.send(ChatCall("chat/completions", b"{}", "req_1"), sink)
    return backend.last, sink


def asked_again(far: FarEnd) -> tuple[Call, Recorder]:
    """The next call on the connection."""
    sink = Recorder()
    now = asyncio.get_running_loop().time()
    call = Call(b"", b"", sink, TimeoutSettings(first_byte=5, idle=3), now)
    far.connection.ask(call, now)
    return call, sink


def test_a_server_that_says_it_closes_is_not_asked_again() -> None:
    async def scenario() -> None:
        for line, closes in (("Connection: close", True), ("Connection: keep-alive", False)):
            far, sink = asked()
            far.say(whole(b"{}", "application/json", 200, line))
            assert sink.ended
            assert far.is_cancelled is closes

    run(scenario)


@pytest.mark.parametrize("coding", [b"gzip, chunked", b"gzip", b"identity"])
def test_a_transfer_coding_that_nobody_asked_for_is_nonsense(coding: bytes) -> None:
    async def scenario() -> None:
        far, sink = asked()
        far.say(b"HTTP/1.1 200 OK\r\ntransfer-encoding: %b\r\n\r\n2\r\nok\r\n0\r\n\r\n" % coding)
        assert isinstance(sink.failure, BackendFailed)
        assert sink.head is None
        assert far.is_cancelled

    run(scenario)


@pytest.mark.parametrize("head", [b"204 No\r\n", b"304 Same\r\ncontent-length: 5\r\n"])
def test_an_answer_that_has_no_body_has_no_length_either(head: bytes) -> None:
    async def scenario() -> None:
        far, sink = asked()
        far.say(b"HTTP/1.1 " + head + b"\r\n")
        assert sink.ended
        assert sink.head is not None
        assert sink.head.length == 0

    run(scenario)


def test_a_call_whose_answer_began_is_not_made_again() -> None:
    async def scenario() -> None:
        far, _ = asked()
        far.say(whole(b"{}"))
        _, sink = asked_again(far)
        far.say(b"HTTP/1.1 2")
        far.end()
        assert isinstance(sink.failure, BackendUnavailable)

    run(scenario)


def test_a_call_on_a_new_connection_is_not_made_again() -> None:
    async def scenario() -> None:
        far, sink = asked()
        far.end()
        assert isinstance(sink.failure, BackendUnavailable)

    run(scenario)


def test_a_connection_that_is_being_closed_is_not_asked() -> None:
    async def scenario() -> None:
        far, _ = asked()
        far.say(whole(b"{}"))
        now = asyncio.get_running_loop().time()
        assert far.connection.is_fit(now)
        assert not far.connection.is_fit(now + 4.1), "the server has closed it by then"
        far.wire.close()
        assert not far.connection.is_fit(now)

    run(scenario)


def test_when_the_end_is_told_the_connection_is_free_already() -> None:
    async def scenario() -> None:
        far, sink = asked()
        order: list[str] = []
        far.keep = lambda connection: order.append("free")  # type: ignore[method-assign]
        sink.answer_ended = lambda: order.append("told")  # type: ignore[method-assign]
        far.say(whole(b"{}"))
        assert order == ["free", "told"]

    run(scenario)


def test_a_reset_is_no_end_of_a_body() -> None:
    async def scenario() -> None:
        far, sink = asked()
        far.say(b"HTTP/1.1 200 OK\r\n\r\nhalf")
        far.connection.connection_lost(ConnectionResetError())
        assert isinstance(sink.failure, BackendFailed)
        assert sink.body == b"half"

    run(scenario)


def test_an_answer_whose_request_is_not_wholly_sent_ends_the_connection() -> None:
    async def scenario() -> None:
        far, sink = asked()
        far.wire.get_write_buffer_size = lambda: 10  # type: ignore[method-assign]
        far.say(whole(b"{}"))
        assert sink.ended
        assert far.is_cancelled

    run(scenario)


def test_a_call_is_paused_and_resumed_as_often_as_is_wished() -> None:
    async def scenario() -> None:
        far, sink = asked()
        far.say(whole(b"{}"))
        call, sink = asked_again(far)
        for _ in range(3):
            call.pause()
            assert not far.wire.is_reading()
            call.resume()
            assert far.wire.is_reading()
        call.cancel()
        assert far.is_cancelled
        assert not sink.over.is_set()

    run(scenario)


def test_a_call_that_ends_while_paused_leaves_a_connection_that_reads_and_one_that_begins_so_does_not() -> None:
    async def scenario() -> None:
        far, sink = asked()
        far.say(whole(b"{}"))
        call, sink = asked_again(far)
        call.pause()
        far.say(whole(b"{}"))
        assert sink.ended
        assert far.wire.is_reading()
        now = asyncio.get_running_loop().time()
        paused = Call(b"", b"", Recorder(), TimeoutSettings(), now)
        paused.pause()
        far.connection.ask(paused, now)
        assert not far.wire.is_reading()
        paused.cancel()

    run(scenario)


def test_what_comes_behind_an_answer_is_no_part_of_it() -> None:
    async def scenario() -> None:
        far, sink = asked()
        far.say(whole(b"{}") + whole(b"more"))
        assert sink.ended
        assert sink.body == b"{}"
        assert far.is_cancelled

    run(scenario)


@pytest.mark.parametrize("cut", [1, 8, 12])
def test_half_a_packed_body_is_a_failure_though_its_length_is_right(cut: int) -> None:
    async def scenario() -> None:
        far, sink = asked()
        far.say(whole(gzip.compress(b"hello" * 100)[:-cut], "text/plain", 200, "content-encoding: gzip"))
        assert isinstance(sink.failure, BackendFailed)

    run(scenario)


def test_who_cancels_at_the_head_hears_nothing_of_the_body_that_came_with_it() -> None:
    async def scenario() -> None:
        far, _ = asked()
        far.say(whole(b"{}"))
        call, _ = asked_again(far)
        call.sink = sink = Recorder(on_begun=call.cancel)
        far.say(whole(b"{}"))
        assert sink.head is not None
        assert sink.pieces == []
        assert not sink.over.is_set()

    run(scenario)


def test_a_server_may_think_longer_than_it_may_pause() -> None:
    async def scenario() -> None:
        far, _ = asked()
        far.say(whole(b"{}"))
        _, sink = asked_again(far)
        await leap(4.0)
        far.say(stream_head())
        far.connection.tick(asyncio.get_running_loop().time())
        assert sink.error is None
        await leap(3.0)
        far.connection.tick(asyncio.get_running_loop().time())
        assert sink.failure.details["limit"] == "idle"

    run(scenario)


def test_the_first_bytes_of_a_head_are_no_answer_yet() -> None:
    async def scenario() -> None:
        far, _ = asked()
        far.say(whole(b"{}"))
        _, sink = asked_again(far)
        await leap(4.0)
        far.say(b"HTTP/1.1 2")
        await leap(1.0)
        far.connection.tick(asyncio.get_running_loop().time())
        assert sink.failure.details["limit"] == "first_byte"

    run(scenario)


def test_a_call_that_is_over_tells_its_sink_no_more() -> None:
    async def scenario() -> None:
        for is_failure in (False, True):
            far, _ = asked()
            far.say(whole(b"{}"))
            call, sink = asked_again(far)
            far.say(stream_head())
            if is_failure:
                call.fail(BackendFailed("no"))
            else:
                call.came(None, b"")
            assert sink.over.is_set()
            call.fail(BackendFailed("again"))
            call.came(None, b"")
            far.connection.close()

    run(scenario)


def test_a_request_is_written_at_the_end_of_the_turn_unless_it_was_cancelled() -> None:
    async def scenario() -> None:
        for is_cancelled in (False, True):
            far, _ = asked()
            far.say(whole(b"{}"))
            far.outbox = Outbox()
            before = bytes(far.wire.written)
            call, _ = asked_again(far)
            call.head = b"POST "
            far.connection.ask(call, 0.0)
            if is_cancelled:
                call.cancel()
            assert far.wire.written == before
            await asyncio.sleep(0)
            assert far.wire.written == before + (b"" if is_cancelled else b"POST ")

    run(scenario)


def test_a_server_that_answers_before_the_request_is_written_is_not_asked_again() -> None:
    async def scenario() -> None:
        for answer in (whole(b"{}"), whole(b'{"n":1}', "application/json", 200, "X-Other: 1")):
            far, _ = asked()
            far.say(whole(b"{}"))
            far.outbox = Outbox()
            call = Call(b"POST ", b"{}", sink := Recorder(), TimeoutSettings(), 0.0)
            far.connection.ask(call, 0.0)
            far.say(answer)
            assert sink.ended
            assert far.is_cancelled

    run(scenario)
