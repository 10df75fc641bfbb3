"""Is this gateway alive, and can it serve?"""

from collections.abc import Callable, Sequence
from typing import Literal

import msgspec

from sluicegate.domain.clock import Clock


class ServerLoad(msgspec.Struct, frozen=True, kw_only=True):
    """How busy a server was when it was last asked."""

    running: int
    """Requests at work, over all its engines."""
    waiting: int
    """Requests that wait in its queue."""
    cache_use: float | None = None
    """Share of the key-value cache in use, 0 to 1, of the fullest engine; None when it was not told."""


class BackendHealth(msgspec.Struct, frozen=True, kw_only=True):
    """One backend. `reason` says why it is not up."""

    name: str
    kind: str
    state: Literal["starting", "up", "down"]
    models: tuple[str, ...] = ()
    reason: str = ""
    load: ServerLoad | None = None
    """Where the server tells it."""


class StoreHealth(msgspec.Struct, frozen=True, kw_only=True):
    """Whether the store answers, and how fast."""

    state: Literal["up", "down"]
    latency_ms: float | None = None
    reason: str = ""


class ProcessHealth(msgspec.Struct, frozen=True, kw_only=True):
    """One of the processes that serve together. `restarts`: how often it was started again."""

    name: str
    state: Literal["stopped", "starting", "up", "down"]
    pid: int | None = None
    restarts: int = 0
    reason: str = ""


class HealthReport(msgspec.Struct, frozen=True, kw_only=True):
    """The whole picture. ok: everything is up. degraded: it serves, but something is down. down: it cannot serve."""

    status: Literal["ok", "degraded", "down"]
    ready: bool
    version: str
    uptime_seconds: float
    memory_bytes: int
    store: StoreHealth
    backends: tuple[BackendHealth, ...]
    workers: int
    processes: tuple[ProcessHealth, ...] = ()
    """Those of a gateway of several processes."""
    reasons: tuple[str, ...] = ()


def judge(store: StoreHealth, backends: Sequence[BackendHealth], *, draining: bool) -> tuple[bool, tuple[str, ...]]:
    """Whether the gateway is ready, and what stands against it.

    Ready: the store answers, at least one backend is up, and the process is not stopping.
    """
    reasons: list[str] = []
    if draining:
        reasons.append("this gateway is stopping")
    if store.state != "up":
        reasons.append(f"the store does not answer: {store.reason}")
    if not any(backend.state == "up" for backend in backends):
        reasons.append("no backend is up")
    return not reasons, tuple(reasons)


def resident_bytes(read: Callable[[], str] | None = None) -> int:
    """Resident memory of this process, in bytes; the peak where the system does not tell the current."""
    import resource

    try:
        pages = (read or _statm)().split()[1]
        return int(pages) * resource.getpagesize()
    except (OSError, IndexError, ValueError):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _statm() -> str:
    with open("/proc/self/statm") as file:  # noqa: PTH123 - pathlib costs more than the read
        return file.read()


class Uptime:
    """Seconds since the process began to serve."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._started = clock.monotonic()

    def seconds(self) -> float:
        """How long it has run."""
        return self._clock.monotonic() - self._started
