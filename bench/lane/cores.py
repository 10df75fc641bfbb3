"""Which processor does what: contenders on one core, load and upstream on another, and how much others took of each."""

import contextlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

_TICKS = os.sysconf("SC_CLK_TCK")


class Cores(NamedTuple):
    """The cores of a run."""

    gateway: tuple[int, ...]
    load: tuple[int, ...]

    def for_processes(self, count: int) -> tuple[int, ...]:
        """Cores for a contender of `count` processes: its own first, and the load's only when there are no more."""
        return (*self.gateway, *self.load)[: max(1, count)]


def choose_cores() -> Cores:
    """The first core that we may use carries the load, the others the contender. With one core both share it."""
    usable = sorted(os.sched_getaffinity(0))
    return Cores(gateway=tuple(usable[1:] or usable), load=tuple(usable[:1]))


@contextlib.contextmanager
def pinned(cores: Iterable[int]) -> Iterator[None]:
    """Within it this thread, and what it starts, runs on these cores alone."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, set(cores))
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def family(pid: int) -> list[int]:
    """A process and all its descendants."""
    children: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text("utf-8", errors="replace").rpartition(")")[2].split()
        except OSError:
            continue
        children.setdefault(int(fields[1]), []).append(int(path.parent.name))
    found = [pid]
    for parent in found:
        found += children.get(parent, [])
    return found


def processor_seconds(pids: Iterable[int]) -> float:
    """Processor time that these processes have used; those that have ended count nothing."""
    ticks = 0
    for pid in pids:
        try:
            fields = Path(f"/proc/{pid}/stat").read_text("utf-8", errors="replace").rpartition(")")[2].split()
        except OSError:
            continue
        ticks += int(fields[11]) + int(fields[12])
    return ticks / _TICKS


class CoreTimes(NamedTuple):
    """Seconds of one core since the machine began."""

    busy: float
    """Anybody's work: user, system, and interrupts; also what the machine underneath took away."""
    total: float


def core_times() -> dict[int, CoreTimes]:
    """The times of each core, from /proc/stat."""
    times = {}
    for line in Path("/proc/stat").read_text("ascii").splitlines():
        name, *fields = line.split()
        if name.startswith("cpu") and name != "cpu":
            # user, nice, system, idle, iowait, irq, softirq, steal; guests stand in user already
            values = [int(field) / _TICKS for field in fields[:8]]
            idle = values[3] + values[4]
            times[int(name[3:])] = CoreTimes(busy=sum(values) - idle, total=sum(values))
    return times


class Shares(NamedTuple):
    """How a span of time was used, as shares of the cores named: 0 to 1."""

    gateway_busy: float
    others_with_gateway: float
    others_with_load: float


class Watch:
    """Tells, for a span, the share of the cores that went to neither the contender nor the load."""

    def __init__(self, gateway: Iterable[int], load: Iterable[int], own: Iterable[int], beside: Iterable[int]) -> None:
        self._gateway, self._load = frozenset(gateway), frozenset(load)
        self._own, self._beside = tuple(own), tuple(beside)
        self._times = core_times()
        self._own_before, self._beside_before = processor_seconds(self._own), self._load_seconds()

    def shares(self) -> Shares:
        """Since the watch began. Children of ours that ended meanwhile count as load."""
        now = core_times()
        gateway = self._since(now, self._gateway)
        load = self._since(now, self._load)
        own = processor_seconds(self._own) - self._own_before
        beside = self._load_seconds() - self._beside_before
        together = bool(self._gateway & self._load)
        with_gateway = gateway.busy - own - (beside if together else 0)
        with_load = with_gateway if together else load.busy - beside
        return Shares(
            gateway_busy=_share(gateway.busy, gateway.total),
            others_with_gateway=_share(with_gateway, gateway.total),
            others_with_load=_share(with_load, gateway.total if together else load.total),
        )

    def _load_seconds(self) -> float:
        own = os.times()
        return processor_seconds(self._beside) + own.user + own.system + own.children_user + own.children_system

    def _since(self, now: dict[int, CoreTimes], cores: frozenset[int]) -> CoreTimes:
        busy = sum(now[core].busy - self._times[core].busy for core in cores)
        total = sum(now[core].total - self._times[core].total for core in cores)
        return CoreTimes(busy, max(total, 1 / _TICKS))


def _share(part: float, whole: float) -> float:
    """Between 0 and 1: the system counts in hundredths of a second, so a short span may seem to hold more."""
    return min(1.0, max(0.0, part / whole))
