"""Cold start: from the spawn of the process to its first answered call.

The files are in the system's cache and compiled modules beside their sources, since every contender starts once before.
"""

from collections.abc import Callable, Sequence

import msgspec
from bench.lane.bed import Bed
from bench.lane.contender import Contender, NotThere
from bench.lane.running import first_answer
from bench.lane.throughput import Failure


class Start(msgspec.Struct, frozen=True):
    """Milliseconds of each start."""

    contender: str
    chat_ms: list[float]
    """To the first 200 of a chat call."""
    live_ms: list[float]
    """To the first 200 of its health route; empty when it has none."""


def starts(
    bed: Bed, contenders: Sequence[Contender], count: int, *, advance: Callable[[str], None]
) -> tuple[list[Start], list[Failure]]:
    """Start each contender `count` times for each of the two, interleaved with the others."""
    found = {contender.name: Start(contender.name, [], []) for contender in contenders if contender.processes}
    failures: dict[str, Failure] = {}
    for number in range(count + 1):
        for contender in contenders:
            advance(f"start {number}: {contender.name}")
            if contender.processes == 0 or contender.name in failures:
                continue
            try:
                chat, live = _start(bed, contender, live=False), _start(bed, contender, live=True)
            except NotThere as failure:
                failures[contender.name] = Failure(contender.name, "start", str(failure))
                continue
            if number > 0:
                found[contender.name].chat_ms.extend(chat)
                found[contender.name].live_ms.extend(live)
    return [it for it in found.values() if it.chat_ms], list(failures.values())


def _start(bed: Bed, contender: Contender, *, live: bool) -> list[float]:
    with bed.running(contender, until_served=False) as target:
        if live and not target.launch.live_path:
            return []
        return [round(first_answer(target, live=live) * 1000, 1)]
