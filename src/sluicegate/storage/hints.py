"""The waiters of one process, and the counters that tell them whether they missed a hint."""

import asyncio
import threading
from collections.abc import Collection, Sequence
from typing import get_args

from sluicegate.storage.contracts import Topic

TOPICS: Sequence[Topic] = get_args(Topic)


class Hints:
    """Counters and waiters by topic. Counters may be raised from any thread; waiters belong to one event loop."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._versions: dict[Topic, int] = dict.fromkeys(TOPICS, 0)
        self._waiters: dict[Topic, set[asyncio.Future[None]]] = {topic: set() for topic in TOPICS}

    def version(self, topic: Topic) -> int:
        """A counter that rises with each hint."""
        return self._versions[topic]

    def bump(self, topics: Collection[Topic]) -> None:
        """Raise the counters."""
        with self._lock:
            for topic in topics:
                self._versions[topic] += 1

    def wake(self, topics: Collection[Topic]) -> None:
        """End the waits for the topics. In the event loop only."""
        for topic in topics:
            for waiter in self._waiters[topic]:
                if not waiter.done():
                    waiter.set_result(None)

    async def wait(self, topic: Topic, seen: int, timeout: float) -> None:
        """Return when the counter differs from `seen`, or after `timeout` seconds."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters[topic].add(waiter)
        try:
            if self._versions[topic] == seen:
                async with asyncio.timeout(timeout):
                    await waiter
        except TimeoutError:
            return
        finally:
            self._waiters[topic].discard(waiter)
