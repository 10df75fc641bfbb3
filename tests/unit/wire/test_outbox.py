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
            self.outbox.add_answer(self)


def test_all_is_written_at_the_end_of_the_turn_in_its_order() -> None:
    async def scene() -> None:
        written: list[str] = []
        outbox = Outbox()
        for name in ("a", "b", "c"):
            outbox.add_answer(Posted(outbox, written, name))
        assert written == []
        await asyncio.sleep(0)
        assert written == ["a", "b", "c"]
        outbox.add_answer(Posted(outbox, written, "d"))
        await asyncio.sleep(0)
        assert written == ["a", "b", "c", "d"]

    asyncio.run(scene())


def test_requests_are_written_before_answers() -> None:
    async def scene() -> None:
        written: list[str] = []
        outbox = Outbox()
        for add, name in (
            (outbox.add_answer, "answer 1"),
            (outbox.add_request, "request 1"),
            (outbox.add_answer, "answer 2"),
            (outbox.add_request, "request 2"),
        ):
            add(Posted(outbox, written, name))
        await asyncio.sleep(0)
        assert written == ["request 1", "request 2", "answer 1", "answer 2"]

    asyncio.run(scene())


@pytest.mark.parametrize("is_request", [True, False])
def test_many_in_one_direction_take_those_in_the_other_along(is_request: bool) -> None:
    async def scene() -> None:
        written: list[str] = []
        outbox = Outbox()
        adds = [outbox.add_answer, outbox.add_request]
        many, one = reversed(adds) if is_request else adds
        one(Posted(outbox, written, "alone"))
        for _ in range(63):
            many(Posted(outbox, written, "one of many"))
        assert written == []
        many(Posted(outbox, written, "one of many"))
        assert sorted(written) == ["alone", *["one of many"] * 64]

    asyncio.run(scene())


def test_a_turn_begins_with_its_first_posting_and_ends_with_itself() -> None:
    async def scene() -> None:
        times = iter((5.0, 7.0))
        outbox = Outbox(most=1, now=lambda: next(times))
        for began in (5.0, 7.0):
            assert outbox.turn_began == 0.0
            outbox.add_answer(Posted(outbox, [], "a"))
            outbox.add_request(Posted(outbox, [], "b"))
            assert outbox.turn_began == began
            await asyncio.sleep(0)
        assert outbox.turn_began == 0.0

    asyncio.run(scene())


def test_what_is_added_while_others_are_written_is_written_a_turn_later() -> None:
    async def scene() -> None:
        written: list[str] = []
        outbox = Outbox()
        outbox.add_answer(Posted(outbox, written, "a", again=1))
        outbox.add_answer(Posted(outbox, written, "b"))
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
            outbox.add_answer(Posted(outbox, written, str(number)))
        assert written == [str(number) for number in range(64)]
        outbox.add_answer(Posted(outbox, written, "last"))
        assert len(written) == 64
        await asyncio.sleep(0)
        assert written[64:] == ["last"]

    asyncio.run(scene())


def test_one_that_cannot_be_written_does_not_hold_up_the_others(caplog: pytest.LogCaptureFixture) -> None:
    async def scene() -> list[str]:
        written: list[str] = []
        outbox = Outbox()
        for name in ("broken", "a"):
            outbox.add_answer(Posted(outbox, written, name))
        await asyncio.sleep(0)
        return written

    with caplog.at_level(logging.ERROR):
        assert asyncio.run(scene()) == ["broken", "a"]
    assert "could not be written" in caplog.text
