"""Two ends of a line: questions get their own answers, news come in order, a lost end is told."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import msgspec
import pytest

from sluicegate.app.channel import Channel, LineLost
from sluicegate.app.messages import (
    Answer,
    CancelTold,
    CancelWanted,
    Letter,
    MetricsTold,
    MetricsWanted,
    News,
    PlantTold,
    ProcessesWanted,
    Question,
    Whereabouts,
)
from sluicegate.domain.ids import RequestId, Tenant
from sluicegate.observability.tallies import MetricsDump, numbers
from sluicegate.supervision import Change


class End:
    """Keeps the news, answers by `answers`."""

    def __init__(self, answers: Callable[[Question], Awaitable[Answer | None]] | None = None) -> None:
        self.news: list[News] = []
        self.answers = answers or self._found

    async def asked(self, question: Question) -> Answer | None:
        return await self.answers(question)

    async def _found(self, question: Question) -> Answer | None:
        assert isinstance(question, CancelWanted)
        return CancelTold(found=question.request_id == "here")


@asynccontextmanager
async def joined(here: End, there: End) -> AsyncIterator[tuple[Channel, Channel]]:
    ends = socket.socketpair()
    one = await Channel.over(ends[0], here.news.append, here.asked)
    two = await Channel.over(ends[1], there.news.append, there.asked)
    try:
        yield one, two
    finally:
        await one.close()
        await two.close()


def wanted(name: str) -> CancelWanted:
    return CancelWanted(Tenant("t"), RequestId(name))


def dump(size: int) -> MetricsDump:
    return MetricsDump.of([numbers("x_total", "X.", ("n",), [((str(n),), n) for n in range(size)], kind="counter")])


def test_both_ends_ask_at_once_and_each_question_has_its_own_answer() -> None:
    async def scenario() -> None:
        async with joined(End(), End()) as (one, two):
            names = ["here", "elsewhere"] * 20
            answers = await asyncio.gather(*(end.ask(wanted(name), 10) for name in names for end in (one, two)))
            assert answers == [CancelTold(found=name == "here") for name in names for _ in range(2)]

    asyncio.run(scenario())


def test_an_answer_that_takes_long_holds_up_no_other() -> None:
    async def scenario() -> None:
        release = asyncio.Event()

        async def patient(question: Question) -> Answer | None:
            if isinstance(question, MetricsWanted):
                await release.wait()
                return MetricsTold(dump(3), 1)
            return CancelTold(found=True)

        async with joined(End(), End(patient)) as (one, _):
            slow = asyncio.create_task(one.ask(MetricsWanted(), 10))
            assert await one.ask(wanted("x"), 10) == CancelTold(found=True)
            assert not slow.done()
            release.set()
            assert await slow == MetricsTold(dump(3), 1)

    asyncio.run(scenario())


def test_news_of_every_kind_and_size_come_whole_and_in_order() -> None:
    change = Change(state="up", ready={"url": "http://127.0.0.1:1/v1"})
    news: list[News] = [
        PlantTold((Whereabouts("llm", change, "key"),), workers_start=True),
        *(MetricsTold(dump(size), size) for size in (0, 1, 20_000, 7)),
    ]

    async def scenario() -> None:
        here = End()
        async with joined(here, End()) as (one, two):
            for each in news:
                two.tell(each)
            await two.ask(wanted("after them"), 10)
            await one.ask(wanted("after them"), 10)
            assert here.news == news

    asyncio.run(scenario())


def test_news_that_nobody_reads_are_dropped_before_they_pile_up() -> None:
    async def scenario() -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            end = End()
            channel = await Channel.over(ours, end.news.append, end.asked)
            large = MetricsTold(dump(50_000), 1)
            for _ in range(200):
                channel.tell(large)
            size = len(msgspec.msgpack.encode(Letter("news", 0, large)))
            assert channel.unsent < 4_000_000 + size
            theirs.close()
            await channel.lost.wait()

    asyncio.run(scenario())


def test_a_question_fails_when_no_answer_comes_and_when_the_other_end_goes() -> None:
    async def scenario() -> None:
        async def silent(question: Question) -> Answer | None:
            return None

        async with joined(End(), End(silent)) as (one, two):
            with pytest.raises(LineLost):
                await one.ask(ProcessesWanted(), 0.01)
            waiting = asyncio.create_task(one.ask(ProcessesWanted(), 10))
            await asyncio.sleep(0)
            await two.close()
            with pytest.raises(LineLost):
                await waiting
            with pytest.raises(LineLost):
                await one.ask(ProcessesWanted(), 10)

    asyncio.run(scenario())


@pytest.mark.parametrize("sent", [b"\0\0\0\4????", b"\xff\xff\xff\xff", b"\0\0\0\1\x80"])
def test_the_line_is_cut_when_something_else_than_a_letter_comes(sent: bytes, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            end = End()
            channel = await Channel.over(ours, end.news.append, end.asked)
            theirs.sendall(sent)
            await channel.lost.wait()

    asyncio.run(scenario())
    assert "no letter" in caplog.text


def test_an_answer_that_fails_is_logged_and_the_line_holds(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        async def failing(question: Question) -> Answer | None:
            if isinstance(question, MetricsWanted):
                raise RuntimeError("broken")
            return CancelTold(found=True)

        async with joined(End(), End(failing)) as (one, _):
            with pytest.raises(LineLost):
                await one.ask(MetricsWanted(), 0.01)
            assert await one.ask(wanted("x"), 10) == CancelTold(found=True)

    asyncio.run(scenario())
    assert "MetricsWanted" in caplog.text
