"""Server-sent events, heartbeats, and callers who leave."""

import asyncio
import itertools
from collections.abc import AsyncGenerator

from hypothesis import given
from hypothesis import strategies as st
from starlette.types import Message

from sluicegate.backends.events import EventReader
from sluicegate.doors.relay import TokenScan
from sluicegate.doors.streams import sse, while_connected, with_heartbeats


def test_an_event_has_its_fields_in_order() -> None:
    assert sse({"a": 1}, event="x", event_id=7) == b'id: 7\nevent: x\ndata: {"a":1}\n\n'
    assert sse([]) == b"data: []\n\n"


def test_silence_is_filled_with_heartbeats_and_the_source_is_closed() -> None:
    closed = asyncio.Event()
    go_on = asyncio.Event()

    async def source() -> AsyncGenerator[int, None]:
        try:
            yield 1
            await go_on.wait()
            yield 2
        finally:
            closed.set()

    async def scenario() -> list[int | None]:
        seen: list[int | None] = []
        async for item in with_heartbeats(source(), seconds=0.001):
            if not seen or item != seen[-1]:
                seen.append(item)
            if item is None:
                go_on.set()
        return seen

    assert asyncio.run(scenario()) == [1, None, 2]
    assert closed.is_set()


def test_leaving_heartbeats_early_closes_the_source() -> None:
    closed: list[bool] = []

    async def source() -> AsyncGenerator[int, None]:
        try:
            yield 1
            await asyncio.Event().wait()
        finally:
            closed.append(True)

    async def scenario() -> None:
        items = with_heartbeats(source(), seconds=60)
        assert await anext(items) == 1
        await items.aclose()

    asyncio.run(scenario())
    assert closed == [True]


def test_work_is_cancelled_and_cleaned_up_when_the_caller_leaves() -> None:
    cleaned: list[bool] = []

    async def scenario() -> None:
        gone = asyncio.Event()

        async def receive() -> Message:
            await gone.wait()
            return {"type": "http.disconnect"}

        async def work() -> None:
            try:
                gone.set()
                await asyncio.Event().wait()
            finally:
                cleaned.append(True)

        await while_connected(receive, work())

    asyncio.run(scenario())
    assert cleaned == [True]


def test_what_work_raises_reaches_the_server() -> None:
    async def scenario() -> str:
        async def receive() -> Message:
            await asyncio.Event().wait()
            raise AssertionError

        async def work() -> None:
            raise ValueError("mine")

        try:
            await while_connected(receive, work())
        except ValueError as error:
            return str(error)
        return ""

    assert asyncio.run(scenario()) == "mine"


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(edges)]


STREAM = (
    b'data: {"choices":[{"delta":{"content":"\xc3\xa9 one"}}]}\n\n: heartbeat\n\n'
    b'data: {"choices":[{"delta":{"content":"two"}}]}\r\n\r\ndata:{"x":1}\n\n'
    b'data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}}\n\ndata: [DONE]\n\n'
)


@given(st.lists(st.integers(0, len(STREAM)), max_size=20))
def test_events_are_the_same_however_the_bytes_are_cut(places: list[int]) -> None:
    async def read() -> list[bytes]:
        async def pieces() -> AsyncGenerator[bytes, None]:
            for piece in cut(STREAM, places):
                yield piece

        reader = EventReader(pieces())
        found = [data async for data in reader]
        assert reader.is_done
        await reader.finish()
        return found

    found = asyncio.run(read())
    assert len(found) == 4
    assert found[2] == b'{"x":1}'


@given(st.lists(st.integers(0, len(STREAM)), max_size=20))
def test_tokens_are_counted_from_usage_however_the_bytes_are_cut(places: list[int]) -> None:
    scan = TokenScan()
    for piece in cut(STREAM, places):
        scan.feed(piece)
    assert scan.total(streamed=True) == 5


@given(st.integers(1, 40), st.lists(st.integers(0, 2_000), max_size=20))
def test_without_usage_a_stream_counts_its_events(events: int, places: list[int]) -> None:
    data = b"".join(b'data: {"n":%d}\n\n' % number for number in range(events)) + b"data: [DONE]\n\n"
    scan = TokenScan()
    for piece in cut(data, places):
        scan.feed(piece)
    assert scan.total(streamed=True) == events
    assert TokenScan().total(streamed=False) == 0
