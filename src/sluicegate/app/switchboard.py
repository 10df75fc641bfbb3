"""The supervisor's ends of the lines: who is there, what each told last, what those who ended left behind.

A gateway's answer to `/metrics`, `/api/chat/streams` or a cancel speaks for all of them, so it asks here, and every
other gateway is asked. Totals never go down: what was once shown of a process was told by it, and stays when it ends.
"""

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable, Mapping

from sluicegate.app.channel import Channel, LineLost
from sluicegate.app.messages import (
    Answer,
    CancelTold,
    CancelWanted,
    MetricsTold,
    MetricsWanted,
    News,
    PlantTold,
    ProcessesTold,
    ProcessesWanted,
    Question,
)
from sluicegate.observability.health import ProcessHealth
from sluicegate.observability.tallies import MetricsDump

ASK_SECONDS = 0.5
"""How long a process may take to answer; then what it told last stands."""
_LAST_WORDS_SECONDS = 1.0

_log = logging.getLogger(__name__)


class Switchboard:
    """Joins the processes. `own` makes the supervisor's metrics, `processes` tells how its children are."""

    def __init__(self, own: Callable[[], MetricsDump], processes: Callable[[], tuple[ProcessHealth, ...]]) -> None:
        self._own = own
        self._processes = processes
        self._members: dict[str, _Member] = {}
        self._past = MetricsDump()
        self._plant = PlantTold()

    async def join(self, name: str, end: socket.socket) -> None:
        """A process is being started, and holds the other end."""
        member = self._members[name] = _Member(name)
        member.channel = await Channel.over(
            end, lambda news: self._heard(member, news), lambda question: self._asked(member, question)
        )
        member.channel.tell(self._plant)

    async def leave(self, name: str) -> None:
        """A process has ended: what it counted is kept. What it sent before its end is heard first."""
        member = self._members.get(name)
        if member is None:
            return
        if member.channel is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LAST_WORDS_SECONDS):
                    await member.channel.lost.wait()
            await member.channel.close()
        if self._members.get(name) is member:
            del self._members[name]
            self._past = _added(self._past, {name: member.told.as_past()})

    async def close(self) -> None:
        """Hang up on everyone."""
        for name in list(self._members):
            member = self._members.pop(name)
            if member.channel is not None:
                await member.channel.close()

    def tell_all(self, news: PlantTold) -> None:
        """Tell every process how the models stand, also those that come later."""
        self._plant = news
        for member in self._members.values():
            if member.channel is not None:
                member.channel.tell(news)

    @property
    def plant(self) -> PlantTold:
        """How the models stand."""
        return self._plant

    @property
    def known(self) -> Mapping[str, MetricsDump]:
        """What each process has told last."""
        return {member.name: member.told for member in self._members.values()}

    async def metrics(self) -> MetricsDump:
        """The metrics of all processes, those that have ended included."""
        await asyncio.gather(*(self._refresh(member) for member in self._members.values()))
        return _added(self._past, {**self.known, "supervisor": self._own()})

    async def _refresh(self, member: "_Member") -> None:
        answer = await member.ask(MetricsWanted())
        if isinstance(answer, MetricsTold):
            member.take(answer)

    async def _cancel(self, wanted: CancelWanted, asker: "_Member") -> bool:
        others = [member for member in self._members.values() if member is not asker]
        answers = await asyncio.gather(*(member.ask(wanted) for member in others))
        return any(isinstance(answer, CancelTold) and answer.found for answer in answers)

    def _heard(self, member: "_Member", news: News) -> None:
        match news:
            case MetricsTold():
                member.take(news)
            case PlantTold():
                self.tell_all(news)

    async def _asked(self, member: "_Member", question: Question) -> Answer:
        match question:
            case MetricsWanted():
                return MetricsTold(await self.metrics())
            case CancelWanted():
                return CancelTold(await self._cancel(question, member))
            case ProcessesWanted():
                return ProcessesTold(self._processes())


class _Member:
    """One run of a process."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.told = MetricsDump()
        self._serial = 0
        self.channel: Channel | None = None

    def take(self, told: MetricsTold) -> None:
        """Its metrics have come."""
        if told.serial > self._serial:
            self._serial, self.told = told.serial, told.dump

    async def ask(self, question: Question) -> Answer | None:
        """Its answer, or None when none comes in time."""
        if self.channel is None:
            return None
        try:
            return await self.channel.ask(question, ASK_SECONDS)
        except LineLost:
            return None


def _added(total: MetricsDump, dumps: Mapping[str, MetricsDump]) -> MetricsDump:
    for name, dump in dumps.items():
        try:
            total = total.merged(dump)
        except ValueError as error:  # another version was installed meanwhile
            _log.error("the metrics of %s are left out: %s", name, error)
    return total
