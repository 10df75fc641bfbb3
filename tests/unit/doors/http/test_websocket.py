"""WebSockets on our own server: the real client on a real socket, and frames by hand where that one is too polite."""

import asyncio
import contextlib
import itertools
import json
import struct
from collections.abc import AsyncIterator

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.protocol_driver import Wire
from tests.websocket_house import (
    MOST_BYTES,
    PATIENCE,
    Echo,
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
from websockets.typing import Subprotocol

from sluicegate.doors.websocket_endpoint import SocketCall


async def read_close(reader: asyncio.StreamReader) -> tuple[int, str]:
    """The code and reason of the close frame that comes next on a raw connection, behind which nothing comes."""
    head = await reader.readexactly(2)
    assert head[0] == 0x88
    data = await reader.readexactly(head[1])
    assert await reader.read() == b""
    return struct.unpack("!H", data[:2])[0], data[2:].decode()


# --- messages ---


def test_every_kind_of_message_comes_back_as_it_was() -> None:
    sent: list[str | bytes] = ["hello", "", "grüße 🌊", b"", b"\x00\xff", "x" * 70_000, b"y" * MOST_BYTES]

    async def scenario() -> None:
        async with serving(Echo()) as house, dial(house.url) as client:
            for message in sent:
                await client.send(message)
                assert await client.recv() == message

    run(scenario)


def test_a_message_in_fragments_comes_back_whole() -> None:
    async def scenario() -> None:
        async with serving(Echo()) as house, dial(house.url) as client:
            await client.send(["", "one ", "", "two ", "three"])
            assert await client.recv() == "one two three"
            await client.send([b"a", b"", b"b"])
            assert await client.recv() == b"ab"

    run(scenario)


def test_a_letter_may_be_cut_between_two_fragments() -> None:
    async def scenario() -> None:
        frames = frame(Opcode.TEXT, b"\xe2\x82", fin=False) + frame(Opcode.CONT, b"\xac")
        async with serving(Echo()) as house, raw(house.port, opening() + frames) as (reader, _):
            await reader.readuntil(b"\r\n\r\n")
            assert await reader.readexactly(5) == b"\x81\x03\xe2\x82\xac"

    run(scenario)


def test_frames_that_come_with_the_handshake_are_not_lost() -> None:
    async def scenario() -> None:
        early = opening() + frame(Opcode.TEXT, b"early")
        async with serving(Echo()) as house, raw(house.port, early) as (reader, _):
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 101 Switching Protocols\r\n")
            assert b"\r\nsec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n" in head
            assert b"\r\nx-request-id: req_" in head
            assert b"extensions" not in head
            assert await reader.readexactly(7) == b"\x81\x05early"

    run(scenario)


def test_a_ping_is_answered_also_inside_a_fragmented_message() -> None:
    async def scenario() -> None:
        async with serving(Echo()) as house, dial(house.url) as client:

            async def pieces() -> AsyncIterator[str]:
                yield "before "
                await asyncio.wait_for(await client.ping(b"between"), PATIENCE)
                yield "after"

            await client.send(pieces())
            assert await client.recv() == "before after"

    run(scenario)


def fragments(message: str | bytes, data: st.DataObject) -> bytes:
    """The frames of one message, cut anywhere, with pings between them."""
    payload = message.encode() if isinstance(message, str) else message
    first = Opcode.TEXT if isinstance(message, str) else Opcode.BINARY
    parts = cut(payload, data.draw(st.lists(st.integers(0, len(payload)), max_size=3)))
    made = b""
    for number, part in enumerate(parts):
        made += frame(Opcode.CONT if number else first, part, fin=number == len(parts) - 1)
        made += frame(Opcode.PING, b"?") if data.draw(st.booleans()) else b""
    return made


def cut(data: bytes, places: list[int]) -> list[bytes]:
    bounds = [0, *sorted(places), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(bounds)]


@given(sent=st.lists(st.one_of(st.text(max_size=300), st.binary(max_size=300)), max_size=8), data=st.data())
def test_any_messages_in_any_fragments_and_pieces_come_back_unchanged(
    sent: list[str | bytes], data: st.DataObject
) -> None:
    stream = b"".join(fragments(message, data) for message in sent)
    pieces = cut(stream, data.draw(st.lists(st.integers(0, len(stream)), max_size=6)))

    async def scenario() -> None:
        echo = Echo()
        async with in_memory(echo) as (wire, _):
            for piece in filter(None, pieces):
                wire.feed(piece)
                await asyncio.sleep(0)
            await until(lambda: len(answers(wire)) >= len(sent))
            assert answers(wire) == sent
            wire.feed(frame(Opcode.CLOSE, b"\x03\xe8bye"))
            assert await echo.end() == (1000, "bye")
            assert heard(wire)[-1] is Opcode.CLOSE

    run(scenario)


def answers(wire: Wire) -> list[str | bytes]:
    return [word for word in heard(wire) if isinstance(word, str | bytes)]


# --- what is no WebSocket ---


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        (frame(Opcode.BINARY, b"x" * (MOST_BYTES + 1)), 1009),
        (frame(Opcode.TEXT, b"x" * MOST_BYTES, fin=False) + frame(Opcode.CONT, b"y"), 1009),
        (frame(Opcode.TEXT, b"\xff\xfe"), 1007),
        (frame(Opcode.TEXT, b"\xe2\x82"), 1007),
        (b"\x81\x05plain", 1002),
        (frame(Opcode.CONT, b"of nothing"), 1002),
        (frame(Opcode.TEXT, b"one", fin=False) + frame(Opcode.TEXT, b"two"), 1002),
        (b"\xf1" + frame(Opcode.TEXT, b"reserved bits")[1:], 1002),
        (b"\x83" + frame(Opcode.TEXT, b"an opcode of tomorrow")[1:], 1002),
        (b"\x09" + frame(Opcode.PING, b"in fragments")[1:], 1002),
        (frame(Opcode.CLOSE, b"\x03"), 1002),
        (frame(Opcode.CLOSE, b"\x00\x00"), 1002),
    ],
    ids=lambda value: str(value) if isinstance(value, int) else "frames",
)
def test_frames_against_the_rules_close_the_socket_with_a_code(bad: bytes, code: int) -> None:
    async def scenario() -> None:
        echo = Echo()
        async with serving(echo) as house, raw(house.port, opening()) as (reader, writer):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(bad)
            assert (await read_close(reader))[0] == code
            writer.close()
            assert (await echo.end())[0] == code

    run(scenario)


def test_a_caller_who_is_refused_in_the_middle_of_his_words_still_hears_why() -> None:
    async def scenario() -> None:
        async with serving(Echo()) as house, raw(house.port, opening()) as (reader, writer):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(frame(Opcode.BINARY, b"x" * 20 * MOST_BYTES))
            with contextlib.suppress(ConnectionError):
                await writer.drain()
            code, reason = await read_close(reader)
            assert code == 1009
            assert str(MOST_BYTES) in reason

    run(scenario)


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"sec-websocket-version": b"12"}, 426),
        ({"sec-websocket-version": None}, 400),
        ({"sec-websocket-key": None}, 400),
        ({"sec-websocket-key": b"short"}, 400),
    ],
)
def test_a_handshake_against_the_rules_is_refused_in_words(changes: dict[str, bytes | None], status: int) -> None:
    async def scenario() -> None:
        async with serving(Echo()) as house, raw(house.port, opening(changes=changes)) as (reader, _):
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 %d " % status)
            assert b"\r\nsec-websocket-version: 13\r\n" in head
            told = json.loads(await reader.read())
            assert told["error"] == ("INVALID_REQUEST" if status == 400 else "HANDSHAKE_REFUSED")
            assert "RFC 6455" in told["message"]

    run(scenario)


def test_pages_of_another_site_are_refused_before_the_upgrade() -> None:
    async def scenario() -> None:
        async with serving(Echo()) as house:
            for wrong in ({"origin": "https://evil.example"}, {"additional_headers": {"Origin": "null"}}):
                with pytest.raises(InvalidStatus) as caught:
                    await dial(house.url, **wrong)
                response = caught.value.response
                assert response.status_code == 403
                assert response.headers["X-Request-Id"].startswith("req_")
                assert response.body is not None
                assert json.loads(response.body)["error"] == "ORIGIN_REFUSED"
            own = f"http://127.0.0.1:{house.port}"
            for right in (own, "https://app.example"):
                async with dial(house.url, origin=right) as client:
                    await client.send("hello")
                    assert await client.recv() == "hello"

    run(scenario)


def test_a_foreign_host_name_is_refused_before_the_upgrade() -> None:
    async def scenario() -> None:
        async with serving(Echo()) as house, raw(house.port, opening(changes={"host": b"evil.example"})) as (reader, _):
            assert (await reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 403 ")

    run(scenario)


@pytest.mark.parametrize("path", ["/ech", "/health", "/"])
def test_a_path_without_a_websocket_is_not_found_before_the_upgrade(path: str) -> None:
    async def scenario() -> None:
        async with serving(Echo()) as house:
            with pytest.raises(InvalidStatus) as caught:
                await dial(house.url.replace("/echo", path))
            assert caught.value.response.status_code == 404
            if path == "/ech":
                assert caught.value.response.body is not None
                assert b"did you mean" in caught.value.response.body

    run(scenario)


def test_who_asks_for_the_path_as_a_page_is_told_to_open_a_websocket() -> None:
    async def scenario() -> None:
        async with serving(Echo()) as house, httpx.AsyncClient(trust_env=False) as client:
            answer = await client.get(f"http://127.0.0.1:{house.port}/echo")
            assert answer.status_code == 426
            assert answer.json()["error"] == "UPGRADE_REQUIRED"
            assert (await client.get(f"http://127.0.0.1:{house.port}/health")).json() == {"status": "ok"}

    run(scenario)


# --- the handshake ---


def test_an_application_chooses_a_subprotocol_and_adds_headers() -> None:
    async def handler(call: SocketCall) -> None:
        offered = call.socket.scope["subprotocols"]
        await call.socket.accept(subprotocol=offered[-1], headers=[(b"X-Kind", b"test")])

    async def scenario() -> None:
        offers = [Subprotocol("first.v1"), Subprotocol("second.v1")]
        async with serving(handler) as house, dial(house.url, subprotocols=offers) as client:
            assert client.subprotocol == "second.v1"
            assert client.response is not None
            assert client.response.headers["X-Kind"] == "test"

    run(scenario)


def test_a_socket_is_counted_by_its_status_and_not_by_its_length() -> None:
    async def scenario() -> None:
        echo = Echo()
        async with serving(echo) as house:
            async with dial(house.url, additional_headers={"X-Request-Id": "my-own"}) as client:
                assert client.response is not None
                assert client.response.headers["X-Request-Id"] == "my-own"
            await echo.end()
            with pytest.raises(InvalidStatus):
                await dial(house.url, origin="https://evil.example")
            text = house.metrics.render().decode()
        assert 'http_requests_total{method="GET",path="/echo",status_code="101"} 1' in text
        assert 'http_requests_total{method="GET",path="/echo",status_code="403"} 1' in text
        assert 'http_request_duration_seconds_count{method="GET",path="/echo"} 1' in text

    run(scenario)
