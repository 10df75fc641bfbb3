"""`Signals` between processes on any machine, by LISTEN and NOTIFY.

One connection of its own listens and sends: a NOTIFY takes a lock of the whole server while it commits, so it never
stands in a transaction of the queue. The hints of one turn of the event loop, and those that come while one is under
way or within a few milliseconds of it, are one NOTIFY. It does not wait for the disk: a hint may be lost.
"""

import asyncio
import contextlib
import logging
from collections.abc import Collection, Iterator

import asyncpg

from sluicegate.storage.contracts import Topic
from sluicegate.storage.hints import TOPICS, Hints
from sluicegate.storage.postgres.connection import Database, Link

CHANNEL = "sluicegate"
PING_SECONDS = 15.0
"""How often the listening connection is tried: one that died in silence would wait for ever."""
FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 1.0
SPACING_SECONDS = 0.005
"""Between two NOTIFYs: a lone hint goes at once, those of a burst together. Each wakes every process there is."""
CLOSE_SECONDS = 1.0
"""How long the last hints may take when the process ends."""

_log = logging.getLogger(__name__)


def pauses() -> Iterator[float]:
    """Seconds between attempts at a new connection: twice as long each time, up to a second, so that soon after the
    server answers again hints are back."""
    pause = FIRST_PAUSE_SECONDS
    while True:
        yield pause
        pause = min(2 * pause, LONGEST_PAUSE_SECONDS)


class PostgresSignals:
    """Hints for every process that opens `PostgresSignals` on the same database.

    While the server cannot be reached, hints stay within this process and others find the change by polling. When
    it listens again, everyone who waits is woken once, because hints may have been missed. `ping_seconds`: how often
    the connection is tried.
    """

    def __init__(self, url: str, *, ping_seconds: float = PING_SECONDS) -> None:
        self._database = Database(url)
        self._link = Link(self._database, {"synchronous_commit": "off", "application_name": "sluicegate signals"})
        self._ping_seconds = ping_seconds
        self._hints = Hints()
        self._unsent: set[Topic] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._work: asyncio.Task[None] | None = None
        self._closing = False
        self._is_away = False
        self._lost = asyncio.Event()
        self._busy = asyncio.Event()
        self._listening = asyncio.Event()

    async def open(self) -> None:
        """Begin to listen; when the server cannot be reached now, as soon as it can."""
        self._closing = False
        self._loop = asyncio.get_running_loop()
        self._work = asyncio.ensure_future(self._serve())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1.0):
                await self._listening.wait()

    async def close(self) -> None:
        """Stop listening; wake whoever still waits."""
        await asyncio.sleep(0)  # hints of this turn are on their way
        self._loop = None
        work, self._work = self._work, None
        if work is not None:
            self._closing = True
            self._busy.set()
            await asyncio.wait([work], timeout=CLOSE_SECONDS)
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)
        await self._link.close()
        self._tell(TOPICS)

    def notify(self, *topics: Topic) -> None:
        """Wake every process that waits on the topics, this one included. May be called from any thread."""
        self._hints.bump(topics)
        loop = self._loop
        if loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop was closed by another thread
                loop.call_soon_threadsafe(self._pass_on, topics)

    def version(self, topic: Topic) -> int:
        """A counter that rises with each hint; read it before looking at the store."""
        return self._hints.version(topic)

    async def wait(self, topic: Topic, seen: int, timeout: float) -> None:
        """Return when the counter differs from `seen`, or after `timeout` seconds."""
        await self._hints.wait(topic, seen, timeout)

    def _pass_on(self, topics: tuple[Topic, ...]) -> None:
        self._hints.wake(topics)
        self._unsent.update(topics)
        self._busy.set()

    def _tell(self, topics: Collection[Topic]) -> None:
        self._hints.bump(topics)
        self._hints.wake(topics)

    async def _serve(self) -> None:
        """Keep a listening connection and send hints over it; after a break, of whatever kind, listen again."""
        waits = pauses()
        while not self._closing:
            try:
                connection = await self._listen()
                waits = pauses()
                await self._send(connection)
                if self._closing:
                    return
                self._say_lost("the connection was closed")
            except Exception as error:
                self._say_lost(str(error) or type(error).__name__)
            self._listening.clear()
            self._link.drop()
            await asyncio.sleep(next(waits))

    def _say_lost(self, reason: str) -> None:
        """Once for each outage."""
        if not self._is_away:
            _log.warning("no wake-ups from %s for now: %s; work is found by polling", self._database.shown, reason)
        self._is_away = True

    async def _listen(self) -> "asyncpg.Connection[asyncpg.Record]":
        connection = await self._link.get()
        self._lost.clear()
        connection.add_termination_listener(self._on_loss)
        async with asyncio.timeout(self._database.answer_seconds):
            await connection.add_listener(CHANNEL, self._receive)
        if self._is_away:
            _log.info("wake-ups from %s are back", self._database.shown)
        self._is_away = False
        # hints may have been missed while nobody listened
        self._tell(TOPICS)
        self._listening.set()
        return connection

    async def _send(self, connection: "asyncpg.Connection[asyncpg.Record]") -> None:
        """Send hints as they come, or a ping when there are none, until the connection is lost or the end has come."""
        while not self._lost.is_set():
            if self._closing and not self._unsent:
                return
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._ping_seconds):
                    await self._busy.wait()
            self._busy.clear()
            topics, self._unsent = self._unsent, set()
            async with asyncio.timeout(self._database.answer_seconds):
                if topics:
                    await connection.execute("SELECT pg_notify($1, $2)", CHANNEL, ",".join(sorted(topics)))
                else:
                    await connection.execute("SELECT 1")
            await asyncio.sleep(SPACING_SECONDS)

    def _on_loss(self, _: object) -> None:
        self._lost.set()
        self._busy.set()

    def _receive(self, connection: object, sender: int, channel: str, payload: object) -> None:
        if self._link.pid != sender:
            named = str(payload).split(",")
            self._tell([topic for topic in TOPICS if topic in named])
