"""The speed of the queue: submissions and claims a second, claims from a deep queue, and the start of work.

    make bench                                         everything (about twenty minutes)
    python -m bench.queue --quick                      a minute or two, rough
    python -m bench.queue --engine sqlite              without PostgreSQL and the peers
    python -m bench.queue --part depth                 one part alone; may be repeated

It writes queue.md, queue.json and queue.png to `--out` (bench/, or with --quick nowhere unless asked). Run it on an
otherwise idle machine. How each part measures is told in the guide "Benchmarks".
"""

import argparse
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Literal

import uvloop
from bench.depth import KINDS, Timing, depth_on
from bench.engines import Server, server
from bench.filling import Depth
from bench.latency import Overhead, latency
from bench.machine import machine
from bench.peers import PeersMissing, need_peers
from bench.report import Report, write
from bench.throughput import Cell, Entry, Plan, cells_of, entries_for, throughput
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

Part = Literal["throughput", "depth", "latency"]
PARTS: tuple[Part, ...] = ("throughput", "depth", "latency")
ENGINES = ("sqlite", "postgresql")
FULL = Plan(callers=(1, 4, 16, 100), rounds=3, seconds=2.0)
QUICK = Plan(callers=(1, 16), rounds=1, seconds=0.5)
DEPTHS = (Depth(jobs=1_000), Depth(jobs=100_000), Depth(jobs=100_000, lanes=20), Depth(jobs=1_000_000))
QUICK_DEPTHS = (Depth(jobs=1_000), Depth(jobs=20_000))


async def measure(
    parts: Sequence[Part],
    engines: Sequence[str],
    running: Server | None,
    entries: Sequence[Entry],
    *,
    quick: bool,
    advance: Callable[[str], None],
) -> Report:
    """Every figure of the parts that were asked for."""
    with tempfile.TemporaryDirectory(prefix="sluicegate-bench-") as folder:
        facts = machine(Path(folder))
    cells: Sequence[Cell] = ()
    if "throughput" in parts:
        cells = await throughput(entries, QUICK if quick else FULL, advance=advance)
    timings: list[Timing] = []
    if "depth" in parts:
        for engine in engines:
            on = running if engine == "postgresql" else None
            depths, samples = (QUICK_DEPTHS, 100) if quick else (DEPTHS, 500)
            timings += await depth_on(on, depths, samples, advance=advance)
    overheads: Sequence[Overhead] = ()
    if "latency" in parts:
        overheads = await latency(running, engines, 30 if quick else 500, advance=advance)
    return Report(
        machine=facts,
        server=await running.settings() if running is not None else {},
        quick=quick,
        cells=tuple(cells),
        timings=tuple(timings),
        overheads=tuple(overheads),
    )


def steps(parts: Sequence[Part], engines: Sequence[str], entries: Sequence[Entry], *, quick: bool) -> int:
    """How many steps `measure` will tell of."""
    plan, depths = (QUICK, QUICK_DEPTHS) if quick else (FULL, DEPTHS)
    count = {
        "throughput": cells_of(entries, plan),
        "depth": len(engines) * (len(depths) + len(KINDS) + 2),
        "latency": 2 * len(engines),
    }
    return sum(count[part] for part in parts)


def main() -> None:
    """Measure, and write the report."""
    arguments = _arguments()
    engines = ENGINES if arguments.engine == "both" else (str(arguments.engine),)
    parts = tuple(arguments.part or PARTS)
    quick = bool(arguments.quick)
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    try:
        if "postgresql" in engines and "throughput" in parts:
            need_peers()
        with (
            server() if "postgresql" in engines else nullcontext() as running,
            Progress(*columns, console=console) as progress,
        ):
            entries = entries_for(running, engines)
            task = progress.add_task("starting", total=steps(parts, engines, entries, quick=quick))

            def advance(step: str) -> None:
                progress.update(task, description=step, advance=1)
                if not console.is_terminal:
                    console.print(step)

            report = uvloop.run(measure(parts, engines, running, entries, quick=quick, advance=advance))
    except PeersMissing as missing:
        sys.exit(str(missing))
    sys.stdout.write(write(report, arguments.out or (None if quick else Path(__file__).parent)))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.queue", description="Measure the queue's speed.")
    parser.add_argument("--quick", action="store_true", help="rough figures in a minute or two")
    parser.add_argument("--engine", choices=("both", *ENGINES), default="both", help="default: both, and the peers")
    parser.add_argument("--part", choices=PARTS, action="append", help="default: all")
    parser.add_argument("--out", type=Path, help="folder for queue.md, queue.json and queue.png")
    return parser.parse_args()


if __name__ == "__main__":
    main()
