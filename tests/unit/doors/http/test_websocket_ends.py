"""How WebSockets end, and what slow and silent callers do to them."""

import asyncio
from typing import cast

import pytest
from starlette.websockets import WebSocketDisconnect
from tests.protocol_driver import Wire
from tests.websocket_house import (
    PATIENCE,
    Echo,
    House,
    closed,
    dial,
    frame,
    heard,
    in_memory,
    opening,
    raw,
    run,
    serving,
    until,
)
from websockets.exceptions import InvalidStatus
from websockets.frames import Opcode

from sluicegate.doors.http.connection import HIGH_WATER, HttpConnection
from sluicegate.doors.websocket_endpoint import SocketCall

# --- the end ---


def test_the_caller_s_code_and_reason_reach_the_application() -> None:
    async def scenario() -> None:
        echo = Echo()
        async with serving(echo) as house:
            async with dial(house.url) as client:
                await client.close(4001, "enough")
            assert await echo.end() == (4001, "enough")
            async with raw(house.port, opening() + frame(Opcode.CLOSE)) as (reader, _):
                await reader.readuntil(b"\r\n\r\n")
                assert await reader.read() == b"\x88\x00"
            assert (await echo.end())[0] == 1005

    run(scenario)


def test_the_application_s_code_and_reason_reach_the_caller() -> None:
    async def handler(call: SocketCall) -> None:
        await call.socket.accept()
        await call.socket.close(4002, "über " + "x" * 200)

    async def scenario() -> None:
        async with serving(handler) as house, dial(house.url) as client:
            told = (await closed(client)).rcvd
            assert told is not None
            assert told.code == 4002
            assert told.reason == "über " + "x" * 117

    run(scenario)


def test_a_handler_that_returns_closes_and_one_that_fails_says_that_it_did(caplog: pytest.LogCaptureFixture) -> None:
    async def returns(call: SocketCall) -> None:
        await call.socket.accept()

    async def fails(call: SocketCall) -> None:
        await call.socket.accept()
        raise ValueError("a secret")

    async def scenario() -> None:
        for handler, code in ((returns, 1000), (fails, 1011)):
            async with serving(handler) as house, dial(house.url) as client:
                told = (await closed(client)).rcvd
                assert told is not None
                assert told.code == code
                assert "secret" not in told.reason

    run(scenario)
    assert "a secret" in caplog.text


def test_what_fails_before_the_handshake_is_answered_is_an_answer_of_http(caplog: pytest.LogCaptureFixture) -> None:
    async def fails(call: SocketCall) -> None:
        raise ValueError("a secret")

    async def says_nothing(call: SocketCall) -> None:
        return

    async def denies(call: SocketCall) -> None:
        await call.socket.close()

    async def scenario() -> None:
        for handler, status in ((fails, 500), (says_nothing, 500), (denies, 403)):
            async with serving(handler) as house:
                with pytest.raises(InvalidStatus) as caught:
                    await dial(house.url)
                assert caught.value.response.status_code == status
                assert b"secret" not in (caught.value.response.body or b"")

    run(scenario)
    assert "a secret" in caplog.text


def test_an_application_hears_of_a_connection_that_is_cut() -> None:
    async def scenario() -> None:
        echo = Echo()
        async with serving(echo) as house:
            async with dial(house.url) as client:
                client.transport.abort()
                assert (await echo.end())[0] == 1006
            async with raw(house.port, opening()) as (reader, writer):
                await reader.readuntil(b"\r\n\r\n")
                writer.write_eof()
                assert (await echo.end())[0] == 1006

    run(scenario)


def test_sending_on_a_closed_socket_says_that_it_is_closed() -> None:
    outcome: asyncio.Queue[int] = asyncio.Queue()

    async def handler(call: SocketCall) -> None:
        await call.socket.accept()
        assert (await call.socket.receive())["type"] == "websocket.disconnect"
        with pytest.raises(WebSocketDisconnect) as caught:
            await call.socket.send_text("too late")
        outcome.put_nowait(caught.value.code)

    async def scenario() -> None:
        async with serving(handler) as house:
            async with dial(house.url):
                pass
            assert await asyncio.wait_for(outcome.get(), PATIENCE) == 1006

    run(scenario)


def test_a_server_that_stops_says_going_away_to_both_sides() -> None:
    async def scenario() -> None:
        echo = Echo()
        async with serving(echo) as house, dial(house.url) as client:
            await client.send("hello")
            assert await client.recv() == "hello"
            stopping = asyncio.create_task(house.server.close())
            told = (await closed(client)).rcvd
            assert told is not None
            assert (told.code, told.reason) == (1001, "this gateway is stopping")
            assert (await echo.end())[0] == 1001
            await stopping

    run(scenario)


def test_a_handshake_that_is_not_answered_when_the_server_stops_is_refused() -> None:
    arrived = asyncio.Event()

    async def handler(call: SocketCall) -> None:
        arrived.set()
        assert (await call.socket.receive())["type"] == "websocket.connect"
        assert (await call.socket.receive())["type"] == "websocket.disconnect"

    async def scenario() -> None:
        async with serving(handler) as house, raw(house.port, opening()) as (reader, writer):
            await arrived.wait()
            stopping = asyncio.create_task(house.server.close())
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 503 ")
            assert b"\r\nretry-after: 2\r\n" in head
            writer.close()
            await stopping

    run(scenario)


def test_a_server_that_stops_opens_no_socket_any_more() -> None:
    async def scenario() -> None:
        house = House(Echo())
        house.server.is_closing = True
        connection = HttpConnection(house.server)
        wire = Wire(connection)
        connection.connection_made(wire)
        wire.feed(opening())
        assert wire.written.startswith(b"HTTP/1.1 503 ")
        wire.end()
        await until(lambda: not house.server.sockets)

    run(scenario)


def test_an_application_that_hears_nothing_of_the_end_is_ended_with_the_server() -> None:
    ended = asyncio.Event()

    async def handler(call: SocketCall) -> None:
        await call.socket.accept()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async def scenario() -> None:
        async with serving(handler) as house, dial(house.url):
            await house.server.close(0.01)
            await asyncio.wait_for(ended.wait(), PATIENCE)

    run(scenario)


# --- slowness ---


def test_a_caller_who_takes_nothing_holds_up_the_sender_and_is_let_go() -> None:
    sent: list[int] = []
    ends: asyncio.Queue[int] = asyncio.Queue()

    async def handler(call: SocketCall) -> None:
        await call.socket.accept()
        try:
            while len(sent) < 10_000:
                await call.socket.send_bytes(b"x" * 10_000)
                sent.append(10_000)
        except WebSocketDisconnect as gone:
            ends.put_nowait(gone.code)

    async def scenario() -> None:
        async with serving(handler, idle_seconds=0.5) as house, raw(house.port, opening()) as (reader, writer):
            cast("asyncio.Transport", writer.transport).pause_reading()
            assert await asyncio.wait_for(ends.get(), PATIENCE) == 1006
            del reader

    run(scenario)
    # the kernel's buffers, and ours
    assert sum(sent) < 20_000_000


def test_an_application_that_takes_nothing_stops_the_reading_until_it_does() -> None:
    takes = asyncio.Event()
    taken: asyncio.Queue[bytes] = asyncio.Queue()

    async def handler(call: SocketCall) -> None:
        await call.socket.accept()
        await takes.wait()
        while (message := await call.socket.receive())["type"] == "websocket.receive":
            taken.put_nowait(message["bytes"])

    async def scenario() -> None:
        async with in_memory(handler) as (wire, _):
            wire.feed(frame(Opcode.BINARY, b"a" * HIGH_WATER))
            assert not wire.is_reading()
            takes.set()
            await until(wire.is_reading)
            assert await asyncio.wait_for(taken.get(), PATIENCE) == b"a" * HIGH_WATER
            for _ in range(300):
                wire.feed(frame(Opcode.BINARY))
            assert not wire.is_reading(), "empty messages take memory, too"
            await until(wire.is_reading)

    run(scenario)


def test_a_flood_of_pings_whose_answers_nobody_takes_is_answered_once() -> None:
    async def scenario() -> None:
        async with in_memory(Echo()) as (wire, connection):
            connection.pause_writing()
            before = len(wire.written)
            for hundred in range(10):
                wire.feed(b"".join(frame(Opcode.PING, b"%d" % (hundred * 100 + number)) for number in range(100)))
            assert len(wire.written) == before
            connection.resume_writing()
            assert bytes(wire.written[before:]) == b"\x8a\x03999"

    run(scenario)


def test_a_caller_who_answers_no_ping_is_gone() -> None:
    async def scenario() -> None:
        echo = Echo()
        async with in_memory(echo) as (wire, connection):
            now = asyncio.get_running_loop().time()
            connection.tick(now + 19)
            assert heard(wire) == []
            connection.tick(now + 21)
            assert heard(wire) == [Opcode.PING]
            wire.feed(frame(Opcode.PONG))
            connection.tick(now + 42)
            assert heard(wire) == [Opcode.PING, Opcode.PING]
            connection.tick(now + 61)
            assert not wire.is_closing()
            connection.tick(now + 63)
            assert wire.is_closing()
            assert await echo.end() == (1006, "no answer to a ping within 20 s")

    run(scenario)


def test_a_caller_who_never_answers_a_close_is_cut_off() -> None:
    async def handler(call: SocketCall) -> None:
        await call.socket.accept()
        await call.socket.close()

    async def scenario() -> None:
        async with in_memory(handler) as (wire, connection):
            await until(lambda: heard(wire) == [Opcode.CLOSE])
            now = asyncio.get_running_loop().time()
            connection.tick(now + 9)
            assert not wire.is_closing()
            connection.tick(now + 11)
            assert wire.is_closing()

    run(scenario)
