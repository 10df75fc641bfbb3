"""A gateway's end of its line to the supervisor: its siblings as doors see them, and where the models are."""

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable, Sequence

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
from sluicegate.domain.ids import RequestId, Tenant
from sluicegate.errors import UnknownStream
from sluicegate.observability.health import ProcessHealth
from sluicegate.observability.tallies import MetricsDump

TELL_SECONDS = 1.0
"""How often metrics are told unasked: so much of a process's counts is lost when it is killed."""
ANSWER_SECONDS = 1.0
"""How long the supervisor may take to ask everyone."""

_log = logging.getLogger(__name__)


class Line:
    """Fulfils `Siblings`. `own` makes this process's metrics, `stop_call` stops a call of its own or raises
    `UnknownStream`, `on_plant` hears where the models are."""

    def __init__(
        self,
        descriptor: int,
        *,
        own: Callable[[], MetricsDump],
        stop_call: Callable[[Tenant, RequestId], None] | None = None,
        on_plant: Callable[[PlantTold], None] | None = None,
    ) -> None:
        self._descriptor = descriptor
        self._own = own
        self._stop_call = stop_call
        self._on_plant = on_plant
        self._channel: Channel | None = None
        self._telling: asyncio.Task[None] | None = None
        self._tellings = 0

    async def start(self) -> None:
        """Join the supervisor, and tell it this process's metrics from now on."""
        self._channel = await Channel.over(socket.socket(fileno=self._descriptor), self._heard, self._asked)
        self._telling = asyncio.create_task(self._tell_metrics(), name="tell metrics to the supervisor")

    async def stop(self) -> None:
        """Tell the last metrics and hang up."""
        if self._telling is not None:
            self._telling.cancel()
            await asyncio.wait({self._telling})
        if self._channel is not None:
            self._channel.tell(self._told())
            await self._channel.close()

    def tell(self, news: News) -> None:
        """Tell the supervisor something new."""
        if self._channel is not None:
            self._channel.tell(news)

    async def metrics(self) -> MetricsDump:
        """See `Siblings`; without a supervisor, those of this process."""
        answer = await self._ask(MetricsWanted())
        return answer.dump if isinstance(answer, MetricsTold) else self._own()

    async def cancel(self, tenant: Tenant, request_id: RequestId) -> bool:
        """See `Siblings`."""
        answer = await self._ask(CancelWanted(tenant, request_id))
        return isinstance(answer, CancelTold) and answer.found

    async def processes(self) -> Sequence[ProcessHealth]:
        """See `Siblings`."""
        answer = await self._ask(ProcessesWanted())
        if isinstance(answer, ProcessesTold):
            return answer.processes
        return (ProcessHealth(name="supervisor", state="down", reason="it does not answer"),)

    async def _ask(self, question: Question) -> Answer | None:
        if self._channel is not None:
            with contextlib.suppress(LineLost):
                return await self._channel.ask(question, ANSWER_SECONDS)
        return None

    def _told(self) -> MetricsTold:
        self._tellings += 1
        return MetricsTold(self._own(), self._tellings)

    def _heard(self, news: News) -> None:
        if isinstance(news, PlantTold) and self._on_plant is not None:
            self._on_plant(news)

    async def _asked(self, question: Question) -> Answer | None:
        match question:
            case MetricsWanted():
                return self._told()
            case CancelWanted():
                return CancelTold(found=self._stops(question))
            case ProcessesWanted():
                return None

    def _stops(self, wanted: CancelWanted) -> bool:
        if self._stop_call is None:
            return False
        try:
            self._stop_call(wanted.tenant, wanted.request_id)
        except UnknownStream:
            return False
        return True

    async def _tell_metrics(self) -> None:
        while True:
            try:
                self.tell(self._told())
            except Exception:
                _log.exception("this process's metrics could not be told")
            await asyncio.sleep(TELL_SECONDS)
