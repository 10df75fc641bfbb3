"""The connections to one upstream: those that wait for a call, those at work, and those that are being made."""

import asyncio
import ssl
from collections.abc import Callable

from sluicegate.backends.upstream.address import Address
from sluicegate.backends.upstream.call import Call
from sluicegate.backends.upstream.connection import UpstreamConnection
from sluicegate.backends.upstream.failures import Failures
from sluicegate.errors import BackendError, BackendUnavailable
from sluicegate.wire.outbox import shared_outbox
from sluicegate.wire.rests import shared_rests
from sluicegate.wire.wheel import Wheel

_READ_AT_ONCE = 32_768
"""Bytes."""


class Pool:
    """At most `most` connections; the one that came back last serves next, so that spare ones grow old and go.

    With ``most=None`` there is no bound and nothing is kept: each connection serves one call. Fulfils `Home`.
    """

    def __init__(
        self,
        address: Address,
        *,
        most: int | None,
        wheel: Wheel,
        failures: Failures,
        context: ssl.SSLContext | None,
        on_unavailable: Callable[[BackendUnavailable], None] | None = None,
    ) -> None:
        self.wheel = wheel
        self.failures = failures
        self.inbox = memoryview(bytearray(_READ_AT_ONCE))
        self.outbox = shared_outbox()
        # Over TLS uvloop reads on while it is paused, and drops what it holds when the server then closes.
        self.rests = shared_rests() if context is None else None
        self._address = address
        self._context = context
        self._on_unavailable = on_unavailable
        self.keeps = most is not None
        self._most = most
        self._idle: dict[UpstreamConnection, None] = {}
        self._counted = 0
        self._open: set[UpstreamConnection] = set()
        self._dials: set[Dial] = set()
        self._types: dict[bytes, str] = {}
        self._closed = False
        self._emptied: asyncio.Future[None] | None = None

    @property
    def idle(self) -> int:
        """Connections that wait for a call."""
        return len(self._idle)

    def carry(self, call: Call) -> None:
        """Take an idle connection, or begin to make one. Raises `BackendUnavailable` when all are in use."""
        idle = self._idle
        while idle:
            connection, _ = idle.popitem()
            if connection.is_fit(call.started):
                connection.ask(call, call.started)
                return
            connection.close()
        for dial in self._dials:
            if dial.adopt(call):
                return
        self.dial(call)

    def dial(self, call: Call) -> None:
        """Make a connection for the call. Raises `BackendUnavailable` when the bound is reached, or after `close`."""
        if self._closed:
            raise self.failures.stopped(begun=False)
        if self._most is not None and self._counted >= self._most:
            raise self.failures.all_in_use(self._most)
        self._counted += 1
        self._dials.add(Dial(self, call))

    async def connect(self, connection: UpstreamConnection) -> None:
        """Connect it to the server. Raises what asyncio raises."""
        is_secure = self._context is not None
        await asyncio.get_running_loop().create_connection(
            lambda: connection,
            self._address.host,
            self._address.port,
            ssl=self._context,
            server_hostname=self._address.host if is_secure else None,
        )

    def new_connection(self) -> UpstreamConnection:
        """A connection that is not made yet."""
        return UpstreamConnection(self, self.wheel, self.failures, self._types)

    def dialled(self, dial: "Dial", *, is_made: bool) -> None:
        """A dial has ended. A connection that was made is counted until it is dropped."""
        self._dials.discard(dial)
        if not is_made:
            self._counted -= 1
        self._look_whether_empty()

    def made(self, connection: UpstreamConnection) -> None:
        """See `Home`."""
        self._open.add(connection)

    def keep(self, connection: UpstreamConnection) -> None:
        """See `Home`."""
        if self._closed or not self.keeps:
            connection.close()
        else:
            self._idle[connection] = None

    def drop(self, connection: UpstreamConnection) -> None:
        """See `Home`. The bound counts the connection no more, although its socket closes only a moment later."""
        self._counted -= 1
        self._idle.pop(connection, None)

    def gone(self, connection: UpstreamConnection) -> None:
        """See `Home`."""
        self._open.discard(connection)
        self._look_whether_empty()

    def again(self, call: Call) -> None:
        """See `Home`. Idle connections are passed over: the server may have given up all of them."""
        try:
            self.dial(call)
        except BackendUnavailable as error:
            call.fail(error)

    def refuse(self, call: Call, error: BackendUnavailable) -> None:
        """See `Home`."""
        if self._on_unavailable is not None:
            self._on_unavailable(error)
        call.fail(error)

    async def close(self) -> None:
        """Close every connection and wait until the sockets are; calls under way fail."""
        self._closed = True
        for dial in list(self._dials):
            dial.stop()
        for connection in list(self._open):
            connection.stop()
        if self._open or self._dials:
            if self._emptied is None:
                self._emptied = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._emptied)

    def _look_whether_empty(self) -> None:
        if self._emptied is not None and not self._emptied.done() and not self._open and not self._dials:
            self._emptied.set_result(None)


class Dial:
    """Makes a connection for a call; fulfils `Carrier` for it until then.

    When the call is cancelled meanwhile, the connection is made all the same and waits for the next one.
    """

    __slots__ = ("_call", "_connection", "_is_given_up", "_pool", "_since", "_task")

    def __init__(self, pool: Pool, call: Call) -> None:
        loop = asyncio.get_running_loop()
        call.carrier = self
        self._call: Call | None = call
        self._pool = pool
        self._is_given_up = False
        self._since = loop.time()
        self._connection = pool.new_connection()
        self._task = loop.create_task(pool.connect(self._connection), name="connect to an upstream")
        self._task.add_done_callback(self._ended)
        pool.wheel.add(self)

    def pause(self) -> None:
        """See `Carrier`: the connection will ask the call."""

    def resume(self) -> None:
        """See `Carrier`."""

    def adopt(self, call: Call) -> bool:
        """Make the connection for this call, if the one that it was begun for is gone."""
        if self._is_given_up or self._call is not None or self._task.done():
            return False
        self._call = call
        call.carrier = self
        return True

    def abandon(self) -> None:
        """See `Carrier`."""
        self._call = None
        if not self._pool.keeps:
            self._is_given_up = True
            self._task.cancel()

    def stop(self) -> None:
        """Give up; the call fails."""
        self._give_up(self._pool.failures.stopped(begun=False))

    def tick(self, now: float) -> None:
        """See `Timed`."""
        call = self._call
        limits = self._pool.failures.limits if call is None else call.limits
        if now - self._since >= limits.connect:
            self._give_up(self._pool.failures.unreachable_in_time())
        elif call is not None and now - call.started >= limits.total:
            self._give_up(self._pool.failures.too_late("total"))

    def _give_up(self, error: BackendError) -> None:
        self._is_given_up = True
        self._task.cancel()
        self._pool.wheel.discard(self)
        call, self._call = self._call, None
        if call is None:
            return
        if isinstance(error, BackendUnavailable):
            self._pool.refuse(call, error)
        else:
            call.fail(error)

    def _ended(self, task: asyncio.Task[None]) -> None:
        """The connection is made, or it never will be."""
        pool, connection = self._pool, self._connection
        pool.wheel.discard(self)
        fault = asyncio.CancelledError() if task.cancelled() else task.exception()
        if fault is not None:
            connection.close()
        pool.dialled(self, is_made=connection.is_made)
        call, self._call = self._call, None
        now = asyncio.get_running_loop().time()
        if isinstance(fault, Exception):
            if call is not None:
                pool.refuse(call, pool.failures.unreachable(fault))
        elif not connection.is_fit(now):
            connection.close()
            if call is not None:
                pool.refuse(call, pool.failures.unanswered(None))
        elif call is None:
            pool.keep(connection)
        else:
            connection.ask(call, now)
