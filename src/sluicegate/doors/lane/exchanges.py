"""The chat calls that are running: counted, bounded, cancelled by id, ended when the process stops."""

import asyncio
from contextlib import suppress
from typing import Literal, Protocol

from sluicegate.domain.ids import RequestId, Tenant
from sluicegate.errors import Conflict, Draining, ExchangeCanceled, Overloaded, SluicegateError, UnknownStream
from sluicegate.observability.metrics import Metrics
from sluicegate.wire.counts import SharedCount

Ending = Literal["completed", "cancelled", "error"]
_LAST_WORDS_SECONDS = 0.5


class Exchange(Protocol):
    """One running call."""

    def stop(self, reason: SluicegateError) -> None:
        """End the call at its backend, and tell its caller the reason."""
        ...


class Exchanges:
    """Every running chat call of this process. Those in `shared` count towards the limit, too."""

    def __init__(self, metrics: Metrics, *, limit: int, shared: SharedCount | None = None) -> None:
        self._active = metrics.active_streams
        self._ended = {ending: metrics.streams.labels(ending) for ending in ("completed", "cancelled", "error")}
        self._limit = limit
        self._shared = shared
        self._running: dict[tuple[Tenant, RequestId], Exchange] = {}
        self._is_draining = False
        self._idle = asyncio.Event()
        self._idle.set()

    def enter(self, tenant: Tenant, request_id: RequestId, exchange: Exchange) -> None:
        """Count a call as running until it leaves.

        Raises `Overloaded` past the limit, `Draining` when the process stops, `Conflict` when a call of the same id
        is running.
        """
        running = self._running
        if self._is_draining:
            raise Draining("this gateway is stopping; send the request again", retry_after=2)
        count = len(running) if self._shared is None else len(running) + self._shared.others()
        if count >= self._limit:
            raise Overloaded(f"{self._limit} chat calls are running (setting server.max_streams)", retry_after=1)
        key = (tenant, request_id)
        if key in running:
            raise Conflict(f'a call with the request id "{request_id}" is running; send another X-Request-Id')
        running[key] = exchange
        self._active.value += 1
        if self._shared is not None:
            self._shared.set(len(running))

    def leave(self, tenant: Tenant, request_id: RequestId, ending: Ending) -> None:
        """The call that entered under this id has ended."""
        running = self._running
        del running[tenant, request_id]
        self._active.value -= 1
        if self._shared is not None:
            self._shared.set(len(running))
        self._ended[ending].value += 1
        if self._is_draining and not running:
            self._idle.set()

    def cancel(self, tenant: Tenant, request_id: RequestId) -> None:
        """Stop a call of the tenant. Raises `UnknownStream` when there is none."""
        exchange = self._running.get((tenant, request_id))
        if exchange is None:
            raise UnknownStream(f'no running stream "{request_id}"; it is unknown or over')
        exchange.stop(ExchangeCanceled("the call was cancelled"))

    def close(self) -> None:
        """Take no more calls."""
        self._is_draining = True
        if self._running:
            self._idle.clear()

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
