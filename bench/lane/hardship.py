"""Callers that gateways fear: some vanish, some stall, some read a byte a second. Others must not notice."""

import socket
import time
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

import msgspec
from bench.lane.bed import Bed
from bench.lane.contender import Contender, NotThere
from bench.lane.load import ClosedLoop, Counts, LoadFailed, MemoryAt, endured
from bench.lane.running import Running
from bench.lane.scenarios import FIFTY_TOKENS, FLOOD, QUIET, SILENT, STEADY
from bench.lane.throughput import Failure

LONGEST_CANCEL_SECONDS: Final = 5.0
_ARRIVAL_SECONDS: Final = 5.0
_HEALTHY: Final = 100
_WARMUP_SECONDS: Final = 1.5
_FILLING_SECONDS: Final = 0.006
"""For each caller of the crowd, 4 MB of buffers."""


class Phase(NamedTuple):
    """A moment at which a caller vanishes."""

    title: str
    model: str
    stream: bool
    reads: bool
    """Whether it has read something before."""


PHASES: Final = (
    Phase("before a whole answer", SILENT, stream=False, reads=False),
    Phase("before the first token", SILENT, stream=True, reads=False),
    Phase("between tokens", STEADY, stream=True, reads=True),
    Phase("while stalled", FLOOD, stream=True, reads=False),
)


class Vanishing(msgspec.Struct, frozen=True):
    """How long the upstream went on after its caller had left."""

    contender: str
    phase: str
    cancelled_ms: list[float]
    never: int
    """Calls that were not cancelled within five seconds."""


class Stall(msgspec.Struct, frozen=True):
    """Memory while callers ask for endless streams and read nothing."""

    contender: str
    callers: int
    memory: list[MemoryAt]
    upstream_bytes: int
    """What the upstream could send meanwhile: all of it lies in somebody's buffers."""

    @property
    def grown_mb(self) -> float:
        """From the first sample to the largest."""
        return (max(it.rss_kb for it in self.memory) - self.memory[0].rss_kb) / 1024


class Crowd(msgspec.Struct, frozen=True):
    """A hundred healthy streams, alone and beside a crowd of bad callers."""

    contender: str
    callers: int
    alone: ClosedLoop
    beside: ClosedLoop
    memory: list[MemoryAt]
    counts: list[Counts]
    left_at_upstream: int
    """Calls of the crowd that the upstream still served three seconds after the last had gone."""


class Hardships(msgspec.Struct, frozen=True):
    """All of it."""

    vanishings: list[Vanishing]
    stalls: list[Stall]
    crowds: list[Crowd]


class Measure(NamedTuple):
    """How much is measured."""

    vanishing: int
    stalled: int
    stall_seconds: float
    crowd: int
    crowd_seconds: float


def hardships(
    bed: Bed, contenders: Sequence[Contender], measure: Measure, *, advance: Callable[[str], None]
) -> tuple[Hardships, list[Failure]]:
    """Every contender through all three."""
    found = Hardships([], [], [])
    failures: list[Failure] = []
    for contender in contenders:
        for what, work in (("vanishing", _vanish), ("stalled", _stall), ("crowd", _crowd)):
            advance(f"{what} callers: {contender.name}")
            if contender.processes == 0:
                continue
            try:
                with bed.running(contender) as target:
                    work(bed, target, measure, found)
            except (NotThere, LoadFailed, OSError) as failure:
                failures.append(Failure(contender.name, what, str(failure)))
            _wait_for_active(bed, 0, seconds=10)
    return found, failures


def _vanish(bed: Bed, target: Running, measure: Measure, found: Hardships) -> None:
    for phase in PHASES:
        delays: list[float] = []
        for _ in range(measure.vanishing):
            delay = _vanish_once(bed, target, phase)
            if delay is not None:
                delays.append(round(delay, 2))
        never = measure.vanishing - len(delays)
        found.vanishings.append(Vanishing(target.name, phase.title, delays, never))


def _vanish_once(bed: Bed, target: Running, phase: Phase) -> float | None:
    """Milliseconds from the close to the upstream's notice of it; None when it went on."""
    before = bed.upstream.stats()
    caller = socket.create_connection(("127.0.0.1", target.port), timeout=_ARRIVAL_SECONDS)
    try:
        caller.sendall(target.request(phase.model, stream=phase.stream))
        if phase.reads:
            caller.recv(1024)
        if not _wait_for_active(bed, before.active + 1, seconds=_ARRIVAL_SECONDS):
            raise LoadFailed(f"{target.name} did not pass the call on ({phase.title})")
        time.sleep(0.15)  # so that buffers fill and the gateway comes to rest in the phase
        closed = time.monotonic_ns()
    finally:
        caller.close()
    end = time.monotonic() + LONGEST_CANCEL_SECONDS
    while time.monotonic() < end:
        stats = bed.upstream.stats()
        if stats.cancelled > before.cancelled:
            return max(0.0, (stats.last_cancel_ns - closed) / 1e6)
        time.sleep(0.005)
    return None


def _stall(bed: Bed, target: Running, measure: Measure, found: Hardships) -> None:
    before = bed.upstream.stats()
    callers = bed.load.endure(target, "stall", FLOOD, connections=measure.stalled, seconds=measure.stall_seconds)
    memory = endured(callers).memory
    sent = bed.upstream.stats().bytes - before.bytes
    found.stalls.append(Stall(target.name, measure.stalled, memory, sent))


def _crowd(bed: Bed, target: Running, measure: Measure, found: Hardships) -> None:
    def healthy(seconds: float, warmup: float) -> ClosedLoop:
        return bed.load.closed_loop(
            target, FIFTY_TOKENS, stream=True, connections=_HEALTHY, seconds=seconds, warmup=warmup
        )

    alone = healthy(measure.crowd_seconds / 2, _WARMUP_SECONDS)
    third = measure.crowd // 3
    # What stalled callers do not read lies in the system's buffers; filling those takes all of the upstream's core.
    warmup = _WARMUP_SECONDS + measure.crowd * _FILLING_SECONDS
    seconds = warmup + measure.crowd_seconds + 2.5
    crowd = [
        bed.load.endure(target, mode, model, connections=third, seconds=seconds, linger=3_000)
        for mode, model in (("vanish", QUIET), ("stall", FLOOD), ("drip", FLOOD))
    ]
    beside = healthy(measure.crowd_seconds, warmup)
    told = [endured(callers) for callers in crowd]
    _wait_for_active(bed, 0, seconds=3)
    left = bed.upstream.stats().active
    found.crowds.append(Crowd(target.name, 3 * third, alone, beside, told[0].memory, [it.counts for it in told], left))


def _wait_for_active(bed: Bed, count: int, *, seconds: float) -> bool:
    end = time.monotonic() + seconds
    while bed.upstream.stats().active != count:
        if time.monotonic() > end:
            return False
        time.sleep(0.005)
    return True
