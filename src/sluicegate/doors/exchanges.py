"""The chat calls that are running: counted, bounded, listed, cancelled by id, ended when the process stops."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Literal

from sluicegate.domain.ids import RequestId, Tenant
from sluicegate.errors import Conflict, Draining, Overloaded, SluicegateError, UnknownStream
from sluicegate.observability.metrics import Metrics

Ending = Literal["completed", "cancelled", "error"]
_LAST_WORDS_SECONDS = 0.5


class ExchangeCanceled(SluicegateError):
    """The call was cancelled by its id while it ran."""

    status = 409
    code = "canceled"


class Exchange:
    """One running chat call. `ending` says how it ended; until told otherwise, that the caller left."""

    def __init__(self, request_id: RequestId, tenant: Tenant, model: str, task: "asyncio.Task[None]") -> None:
        self.request_id = request_id
        self.tenant = tenant
        self.model = model
        self.ending: Ending = "cancelled"
        self.reason: SluicegateError | None = None
        self._task = task

    def stop(self, reason: SluicegateError) -> None:
        """Interrupt the call; its own code then tells the caller the reason."""
        if self.reason is None:
            self.reason = reason
            self._task.cancel()


class Exchanges:
    """Every running chat call of this process."""

    def __init__(self, metrics: Metrics, *, limit: int) -> None:
        self._metrics = metrics
        self._limit = limit
        self._running: dict[tuple[Tenant, RequestId], Exchange] = {}
        self._totals: Counter[str] = Counter()
        self._draining = False
        self._idle = asyncio.Event()
        self._idle.set()

    @contextmanager
    def enter(self, request_id: RequestId, tenant: Tenant, model: str) -> Iterator[Exchange]:
        """Register the current task as a call for as long as the block runs.

        Raises `Overloaded` past the limit, `Draining` when the process stops, `Conflict` when a call of the same
        id is running.
        """
        if self._draining:
            raise Draining("this gateway is stopping; send the request again", retry_after=2)
        if len(self._running) >= self._limit:
            raise Overloaded(f"{self._limit} chat calls are running (setting server.max_streams)", retry_after=1)
        key = (tenant, request_id)
        if key in self._running:
            raise Conflict(f'a call with the request id "{request_id}" is running; send another X-Request-Id')
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("an exchange runs inside a task")
        exchange = self._running[key] = Exchange(request_id, tenant, model, task)
        self._metrics.active_streams.inc()
        self._idle.clear()
        try:
            yield exchange
        finally:
            del self._running[key]
            self._metrics.active_streams.dec()
            self._metrics.streams.labels(exchange.ending).inc()
            self._totals[exchange.ending] += 1
            if not self._running:
                self._idle.set()

    def cancel(self, tenant: Tenant, request_id: RequestId) -> None:
        """Stop a call of the tenant. Raises `UnknownStream` when there is none."""
        exchange = self._running.get((tenant, request_id))
        if exchange is None:
            raise UnknownStream(f'no running stream "{request_id}"; it is unknown or over')
        exchange.stop(ExchangeCanceled("the call was cancelled"))

    def count(self) -> dict[str, int]:
        """Calls running now and ended so far, by how they ended."""
        totals = {ending: self._totals[ending] for ending in ("completed", "cancelled", "error")}
        return {"active": len(self._running), "total": sum(totals.values()), **totals}

    def close(self) -> None:
        """Take no more calls."""
        self._draining = True

    async def drain(self, seconds: float) -> None:
        """Let running calls end for `seconds`, then stop the rest and wait until they have told their callers."""
        self.close()
        try:
            await asyncio.wait_for(self._idle.wait(), seconds)
        except TimeoutError:
            for exchange in list(self._running.values()):
                exchange.stop(Draining("this gateway is stopping; the answer is incomplete", retry_after=2))
            with suppress(TimeoutError):
                await asyncio.wait_for(self._idle.wait(), _LAST_WORDS_SECONDS)
