"""Memory with so many streams open that have had their first token and are quiet."""

from collections.abc import Callable, Sequence

import msgspec
from bench.lane.bed import Bed
from bench.lane.contender import Contender, NotThere
from bench.lane.load import Level, LoadFailed
from bench.lane.scenarios import QUIET
from bench.lane.throughput import Failure

_OPENED_A_SECOND = 1_000


class Footprint(msgspec.Struct, frozen=True):
    """One contender, freshly started, level by level; it ends with the first level that was not reached."""

    contender: str
    levels: list[Level]


def memory(
    bed: Bed, contenders: Sequence[Contender], levels: Sequence[int], *, advance: Callable[[str], None]
) -> tuple[list[Footprint], list[Failure]]:
    """Every contender's memory at each of the levels."""
    found: list[Footprint] = []
    failures: list[Failure] = []
    for contender in contenders:
        advance(f"memory: {contender.name}")
        if contender.processes == 0:
            continue
        try:
            with bed.running(contender) as target:
                found.append(Footprint(contender.name, bed.load.hold(target, QUIET, levels, rate=_OPENED_A_SECOND)))
        except (NotThere, LoadFailed) as failure:
            failures.append(Failure(contender.name, "memory", str(failure)))
    return found, failures
