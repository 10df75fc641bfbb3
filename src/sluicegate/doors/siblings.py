"""The other processes that serve the same port, as doors see them: what one is asked may have to be told of all."""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from sluicegate.domain.ids import RequestId, Tenant
from sluicegate.observability.health import ProcessHealth
from sluicegate.observability.tallies import MetricsDump

_ACTIVE = "ai_gateway_active_streams"
_ENDED = "ai_gateway_streams_total"


class Siblings(Protocol):
    """Asks all processes at once; what does not answer in time is told as it was last known."""

    async def metrics(self) -> MetricsDump:
        """The metrics of all processes together, this one included."""
        ...

    async def cancel(self, tenant: Tenant, request_id: RequestId) -> bool:
        """Stop a chat call of the tenant that runs in another process; whether there was one."""
        ...

    async def processes(self) -> Sequence[ProcessHealth]:
        """How every process is."""
        ...


class NoSiblings:
    """Of a process that serves alone; `own` makes its metrics."""

    def __init__(self, own: Callable[[], MetricsDump]) -> None:
        self._own = own

    async def metrics(self) -> MetricsDump:
        """This process's."""
        return self._own()

    async def cancel(self, tenant: Tenant, request_id: RequestId) -> bool:
        """There is no other process."""
        return False

    async def processes(self) -> Sequence[ProcessHealth]:
        """None that is worth telling: this one answers."""
        return ()


def stream_counts(dump: MetricsDump) -> Mapping[str, int]:
    """Calls running now and ended so far, by how they ended, as the metrics have them."""
    numbers = {
        (family.name, *series.labels): series.values[0]
        for family in dump.families
        if family.name in (_ACTIVE, _ENDED)
        for series in family.series
    }
    ended = {ending: numbers.get((_ENDED, ending), 0) for ending in ("completed", "cancelled", "error")}
    return {"active": numbers.get((_ACTIVE,), 0), "total": sum(ended.values()), **ended}
