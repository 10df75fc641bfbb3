"""Row 15: thousands of callers who vanish, stall or read a byte a second, beside fifty who behave.

part 1   listeners alone, beside the crowd, alone, beside the crowd: their delays, the gateway's memory
part 2   with a short `server.client_idle_seconds`: who takes nothing is let go, who takes a little is not
"""

import asyncio
import time
from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

from tests.chaos.crowd_ground import Crowd, Ground, fault_unless, laid_ground
from tests.chaos.listeners import Heard, Listeners
from tests.chaos.outcome import Figure, Outcome, Task, percentile, spread
from tests.chaos.watch import Watch, descriptors, processor_seconds, slope

CANCEL_SECONDS = 1.0
HARM_SECONDS = 0.05
"""How much later than without the crowd a token may come, at the 99th percentile."""
_LISTENERS = 50
_STALLED_KILOBYTES = 64
"""Unsent bytes that a caller who does not read may cost."""
_CALL_KILOBYTES = 32
"""What any call may cost besides: two connections, the call, and what the allocator loses between them."""
_SPARE_KILOBYTES = 8_192
_FLAT_KILOBYTES = 256
"""A second: the allocator's noise is less. What is not given back shows in both rounds; so the lesser growth counts."""
_LEAST_SECONDS = 5.0
"""A shorter span says nothing about growth."""
_SPARE_DESCRIPTORS = 4
"""Connections to the model that wait for the next call or probe."""
_LATE_SECONDS = 3.0
"""Who stalls may be let go so much later than the setting says: a flood must fill the buffers first."""
_ACTIVE = "ai_gateway_active_streams"
_ENDED = 'ai_gateway_streams_total{status="%s"}'
_ENDINGS = ("completed", "cancelled", "error")


class Lasting(NamedTuple):
    """Seconds of the parts of a run."""

    alone: float
    settle: float
    """From the crowd's arrival on; its floods fill all buffers meanwhile, and memory may grow."""
    beside: float
    idle: float
    """`server.client_idle_seconds` in part 2."""


FULL = Lasting(alone=10.0, settle=6.0, beside=15.0, idle=5.0)
SHORT = Lasting(alone=0.5, settle=1.0, beside=1.0, idle=1.5)


class Found:
    """What the parts of a run find."""

    def __init__(self) -> None:
        self.figures: dict[str, Figure] = {}
        self.faults: list[str] = []
        self.missed: list[str] = []


async def crowd(task: Task, lasting: Lasting = FULL) -> Outcome:
    """Both parts, with as many bad callers as the task has jobs."""
    found = Found()
    async with laid_ground(callers=task.jobs + _LISTENERS, idle_seconds=600.0) as ground:
        await _beside(ground, task, lasting, found)
    task.show(task.jobs * 2 // 3, task.jobs, "who takes nothing is let go")
    async with laid_ground(callers=task.jobs, idle_seconds=lasting.idle) as ground:
        await _let_go(ground, task, lasting, found)
    return task.came_to(found.figures, found.faults, found.missed)


# --- part 1 ---


async def _beside(ground: Ground, task: Task, lasting: Lasting, found: Found) -> None:
    third = max(1, task.jobs // 3)
    before = descriptors(ground.pid)
    alone, restless, beside = Heard(), Heard(), Heard()
    left: dict[str, float] = {}
    points: Counter[str] = Counter()
    spans: list[tuple[float, float]] = []
    worked = 0.0
    async with Watch(ground.pid) as watch, Listeners(ground.port, _LISTENERS) as listeners:
        for number in (1, 2):
            task.show(task.jobs * (number - 1) // 3, task.jobs, f"round {number} of 2")
            listeners.heard = alone
            await asyncio.sleep(lasting.alone)
            listeners.heard = restless
            bad = Crowd(ground, task.seed, f"round{number}", {"vanish": third, "stall": third, "drip": third})
            async with bad:
                await asyncio.sleep(lasting.settle)
                listeners.heard, began, idle = beside, time.monotonic(), processor_seconds(ground.pid)
                await asyncio.sleep(lasting.beside)
                spans.append((began, time.monotonic()))
                worked += processor_seconds(ground.pid) - idle
                listeners.heard = restless
            found.faults += [f"round {number}: {count} x {error}" for error, count in bad.told.errors.items()]
            left |= bad.told.left
            points.update(bad.told.points)
            await asyncio.sleep(CANCEL_SECONDS)
    found.faults += [f"a good stream broke: {words}" for words in listeners.broken[:3]]
    found.figures |= {f"left {point}": count for point, count in sorted(points.items())}
    found.figures["gateway's share of a core beside the crowd"] = worked / sum(end - began for began, end in spans)
    _judge_delays(alone, restless, beside, found)
    _judge_memory(watch, spans, task.jobs, lasting, found)
    await _judge_cancels(ground, left, found)
    await _judge_end(ground, before, listeners.whole, found)


def _judge_delays(alone: Heard, restless: Heard, beside: Heard, found: Found) -> None:
    found.figures |= {
        "good streams' tokens heard": len(alone.delays) + len(beside.delays),
        "a token's delay alone: p50 / p99 / most, s": spread(alone.delays),
        "a token's delay beside the crowd: p50 / p99 / most, s": spread(beside.delays),
        "a token's delay while the crowd comes or leaves: p50 / p99 / most, s": spread(restless.delays),
        "the first token alone: p50 / p99 / most, s": spread(alone.first),
        "the first token beside the crowd: p50 / p99 / most, s": spread(beside.first),
    }
    for what, one, two in (("a token", alone.delays, beside.delays), ("the first token", alone.first, beside.first)):
        harm = percentile(two, 0.99) - percentile(one, 0.99)
        if not harm <= HARM_SECONDS:
            found.missed.append(f"{what} of a good stream came {harm:.3f} s later beside the crowd (p99)")


def _judge_memory(watch: Watch, spans: list[tuple[float, float]], jobs: int, lasting: Lasting, found: Found) -> None:
    idle = [sample.kilobytes for sample in watch.between(0.0, spans[0][0] - lasting.settle - lasting.alone / 2)]
    grown = max(sample.kilobytes for sample in watch.samples) - max(idle)
    allowed = jobs // 3 * _STALLED_KILOBYTES + jobs * _CALL_KILOBYTES + _SPARE_KILOBYTES
    slopes = [slope(watch.between(began, end)) for began, end in spans]
    found.figures |= {
        "memory before the crowd, MB": max(idle) / 1024,
        "memory's growth at most, MB": grown / 1024,
        "memory's growth a second once all are here, KB": " / ".join(f"{it:.1f}" for it in slopes),
        "most descriptors": max(sample.descriptors for sample in watch.samples),
    }
    if grown > allowed:
        found.faults.append(f"memory grew by {grown} KB for {jobs} callers; at most {allowed} were due")
    if lasting.beside >= _LEAST_SECONDS and min(slopes) > _FLAT_KILOBYTES:
        found.faults.append(f"memory is not flat: it grows by {min(slopes):.0f} KB a second")


async def _judge_cancels(ground: Ground, left: Mapping[str, float], found: Found, when: str = "") -> None:
    """Every call that its caller left was left by the gateway, too, and soon."""
    found.faults += await fault_unless(
        "calls run on that nobody waits for", ground.open_calls, lambda count: count == 0
    )
    notes = await ground.notes()
    delays = [
        max(0.0, notes.left[call] - max(at, notes.began[call])) for call, at in left.items() if call in notes.left
    ]
    asked = sum(call in notes.began for call in left)
    found.figures |= {
        f"calls that were left{when}": len(left),
        f"of these the model had been asked{when}": asked,
        f"from leaving to the model's notice{when}: p50 / p99 / most, s": spread(delays),
    }
    if len(delays) < asked:
        found.faults.append(f"{asked - len(delays)} calls were not cancelled at the model")
    if max(delays, default=0.0) > CANCEL_SECONDS:
        found.missed.append(f"a call was cancelled at the model {max(delays):.2f} s after its caller had left")


async def _judge_end(ground: Ground, before: int, whole: int, found: Found) -> None:
    """Nothing is left of it: no call, no descriptor, no error in the log."""

    async def seen() -> int:
        return descriptors(ground.pid)

    found.faults += await fault_unless("descriptors", seen, lambda count: count <= before + _SPARE_DESCRIPTORS)
    notes = await ground.notes()
    counts = {name: await ground.metric(name) for name in (_ACTIVE, *(_ENDED % it for it in _ENDINGS))}
    completed, cancelled, errors = (counts[_ENDED % ending] for ending in _ENDINGS)
    if counts[_ACTIVE] or errors or completed != whole or cancelled < len(notes.left):
        found.faults.append(f"{whole} streams were heard whole, {len(notes.left)} left; /metrics says {counts}")
    found.faults += [f"in the log: {line[:500]}" for line in ground.errors_in_log()[:3]]


# --- part 2 ---


async def _let_go(ground: Ground, task: Task, lasting: Lasting, found: Found) -> None:
    """Who takes nothing is let go once `idle` is over; who reads a byte a second of a slow stream, or sips from a
    flood, is not, though three times as long passes."""
    third = max(1, task.jobs // 3)
    before = descriptors(ground.pid)
    counts = {"stall": third, "drip": third, "sip": max(1, third // 4)}
    async with Crowd(ground, task.seed, "idle", counts) as bad:
        began = time.monotonic()
        found.faults += await fault_unless(
            "callers who take nothing are let go", ground.stalled_calls, lambda count: count == 0, patience=60.0
        )
        await asyncio.sleep(max(0.0, began + 3 * lasting.idle - time.monotonic()))
        notes = await ground.notes()
    waited = [notes.left[call] - at for call, at in notes.began.items() if call in notes.left and "stall" in call]
    cut = sorted(call for call in notes.left if "stall" not in call)
    found.figures |= {
        "callers let go who took nothing": len(waited),
        f"after (the setting is {lasting.idle:g} s): p50 / p99 / most, s": spread(waited),
        "callers kept who took a little": counts["drip"] + counts["sip"] - len(cut),
    }
    if cut:
        found.faults.append(f"{len(cut)} callers were cut off though they read, such as {cut[0]}: {bad.told.errors}")
    if min(waited, default=lasting.idle) < lasting.idle:
        found.faults.append(f"a caller was let go after {min(waited):.2f} s, before its time")
    if max(waited, default=0.0) > lasting.idle + _LATE_SECONDS:
        found.missed.append(f"a caller who took nothing was let go after {max(waited):.2f} s only")
    await _judge_cancels(
        ground, {call: at for call, at in bad.told.left.items() if call not in notes.left}, found, " at the end"
    )
    await _judge_end(ground, before, 0, found)
