"""When posted bytes are written."""

import asyncio
import logging

import pytest

from sluicegate.wire.outbox import Outbox


class Posted:
    """Something that waits to be written."""

    def __init__(self, outbox: Outbox, written: list[str], name: str, *, again: int = 0) -> None:
        self.outbox, self.written, self.name, self.again = outbox, written, name, again

    def flush(self) -> None:
        """See `Posting`."""
        self.written.append(self.name)
        if self.name == "broken":
            raise RuntimeError("a fault of ours")
        if self.again:
            self.again -= 1
            self.outbox.add(self)


def test_all_is_written_at_the_end_of_the_turn_in_its_order() -> None:
    async def scene() -> None:
        written: list[str] = []
        outbox = Outbox()
        for name in ("a", "b", "c"):
            outbox.add(Posted(outbox, written, name))
        assert written == []
        await asyncio.sleep(0)
        assert written == ["a", "b", "c"]
        outbox.add(Posted(outbox, written, "d"))
        await asyncio.sleep(0)
        assert written == ["a", "b", "c", "d"]

    asyncio.run(scene())


def test_what_is_added_while_others_are_written_is_written_a_turn_later() -> None:
    async def scene() -> None:
        written: list[str] = []
        outbox = Outbox()
        outbox.add(Posted(outbox, written, "a", again=1))
        outbox.add(Posted(outbox, written, "b"))
        await asyncio.sleep(0)
        assert written == ["a", "b"]
        await asyncio.sleep(0)
        assert written == ["a", "b", "a"]

    asyncio.run(scene())


def test_the_first_of_many_does_not_wait_for_all_of_them() -> None:
    async def scene() -> None:
        written: list[str] = []
        outbox = Outbox()
        for number in range(64):
            assert written == []
            outbox.add(Posted(outbox, written, str(number)))
        assert written == [str(number) for number in range(64)]
        outbox.add(Posted(outbox, written, "last"))
        assert len(written) == 64
        await asyncio.sleep(0)
        assert written[64:] == ["last"]

    asyncio.run(scene())


def test_one_that_cannot_be_written_does_not_hold_up_the_others(caplog: pytest.LogCaptureFixture) -> None:
    async def scene() -> list[str]:
        written: list[str] = []
        outbox = Outbox()
        for name in ("broken", "a"):
            outbox.add(Posted(outbox, written, name))
        await asyncio.sleep(0)
        return written

    with caplog.at_level(logging.ERROR):
        assert asyncio.run(scene()) == ["broken", "a"]
    assert "could not be written" in caplog.text
