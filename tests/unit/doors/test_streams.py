"""Server-sent events, heartbeats, and callers who leave."""

import asyncio
from collections.abc import AsyncGenerator

from starlette.types import Message

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
