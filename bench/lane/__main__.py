"""``python -m bench.lane``: measure Sluicegate's chat path beside its peers, and write the report."""

import argparse
import contextlib
import shlex
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import msgspec
from bench.lane.bed import Bed, prepared_bed
from bench.lane.contender import Contender, NotThere
from bench.lane.contenders.all import DIRECT, LIMIT, OURS, PEERS
from bench.lane.contenders.command import Command
from bench.lane.contenders.ours import Sluicegate
from bench.lane.hardship import Measure, hardships
from bench.lane.memory import memory
from bench.lane.programs import NoCompiler
from bench.lane.report import LaneReport, render
from bench.lane.scenarios import CASES
from bench.lane.start import starts
from bench.lane.throughput import Failure, Plan, throughput
from bench.machine import machine
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

PARTS: Final = (*(case.name for case in CASES), "memory", "start", "hardship")
FULL: Final = Plan(rounds=5, seconds=4, warmup=1.5, retries=2)
QUICK: Final = Plan(rounds=2, seconds=2, warmup=0.5, retries=1)
LEVELS: Final = (0, 100, 1_000, 2_000, 5_000)
_HARDSHIP: Final = Measure(vanishing=10, stalled=100, stall_seconds=10, crowd=2_000, crowd_seconds=20)
_QUICK_HARDSHIP: Final = Measure(vanishing=3, stalled=20, stall_seconds=4, crowd=600, crowd_seconds=6)
_HELP: Final = f"""\
The gateway that is measured runs alone on one core, the load generator and a mock model server (both in C, compiled
on first use) on another. Every round starts every contender anew. Parts, for --only: {", ".join(PARTS)}.

examples:
  python -m bench.lane                                       everything: about an hour
  python -m bench.lane --quick --peers nginx                 a first look: a few minutes, nothing written
  python -m bench.lane --only plain,burst --peers nginx,fastify --rounds 3
  python -m bench.lane --peers none --ours before=../old     this checkout beside another one
  python -m bench.lane --also 'mine=python gateway.py {{port}} {{upstream}}'
  python -m bench.lane --install                             only install the peers
"""


class Chosen(NamedTuple):
    """Who takes part in what."""

    parts: Sequence[str]
    contenders: Sequence[Contender]
    plan: Plan
    quick: bool


def measure(bed: Bed, chosen: Chosen, report: LaneReport, advance: Callable[[str], None]) -> LaneReport:
    """Every figure of the parts that were asked for, added to the report."""
    parts, contenders, plan, quick = chosen
    failures = list(report.failures)
    cases = [case for case in CASES if case.name in parts]
    if cases:
        turns, failed = throughput(bed, contenders, cases, plan, advance=advance)
        report, failures = msgspec.structs.replace(report, turns=turns), failures + failed
    if "memory" in parts:
        found, failed = memory(bed, contenders, LEVELS[:-1] if quick else LEVELS, advance=advance)
        report, failures = msgspec.structs.replace(report, footprints=found), failures + failed
    if "start" in parts:
        started, failed = starts(bed, contenders, 2 if quick else 7, advance=advance)
        report, failures = msgspec.structs.replace(report, starts=started), failures + failed
    if "hardship" in parts:
        endured, failed = hardships(bed, contenders, _QUICK_HARDSHIP if quick else _HARDSHIP, advance=advance)
        report, failures = msgspec.structs.replace(report, hardships=endured), failures + failed
    return msgspec.structs.replace(report, failures=failures)


def steps(chosen: Chosen) -> int:
    """How many steps `measure` will tell of."""
    cases = sum(case.name in chosen.parts for case in CASES)
    each = chosen.plan.rounds * cases
    each += ("memory" in chosen.parts) + (3 if "hardship" in chosen.parts else 0)
    each += (3 if chosen.quick else 8) if "start" in chosen.parts else 0
    return each * len(chosen.contenders)


def install(contenders: Sequence[Contender], console: Console) -> tuple[dict[str, str], list[Failure]]:
    """Versions of those that are there, and why others are not."""
    versions: dict[str, str] = {}
    failures: list[Failure] = []
    for contender in contenders:
        with console.status(f"installing {contender.name}"):
            try:
                versions[contender.name] = contender.install()
            except NotThere as missing:
                failures.append(Failure(contender.name, "install", str(missing)))
                console.print(f"left out: {contender.name}: {missing}", markup=False)
    return versions, failures


def main() -> None:
    """Measure, print and write."""
    # So that a run that is told to end takes with it what it started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    arguments = _arguments()
    console = Console(stderr=True)
    contenders = _contenders(arguments)
    versions, failures = install(contenders, console)
    if arguments.install:
        for name, version in versions.items():
            console.print(f"{name}: {version}", markup=False, highlight=False)
        return
    quick = bool(arguments.quick)
    plan = QUICK if quick else FULL
    plan = plan._replace(
        rounds=arguments.rounds or plan.rounds,
        seconds=arguments.seconds or plan.seconds,
        retries=plan.retries if arguments.retries is None else arguments.retries,
    )
    parts = arguments.only or PARTS
    chosen = Chosen(parts, [it for it in contenders if it.name in versions], plan, quick)
    try:
        with prepared_bed() as bed, _progress(console, steps(chosen)) as advance:
            report = measure(bed, chosen, _blank(bed, chosen, versions, failures), advance)
    except NoCompiler as missing:
        sys.exit(str(missing))
    out = arguments.out or (None if quick or arguments.only else Path(__file__).parents[1])
    sys.stdout.write(write(report, out))


def write(report: LaneReport, folder: Path | None) -> str:
    """The report's text; with a folder, report.md, report.json and report.png are written there."""
    report = without_places(report)
    text = render(report, ours=OURS.name, limit=LIMIT.name)
    if folder is not None:
        from bench.lane.plot import draw

        folder.mkdir(parents=True, exist_ok=True)
        (folder / "report.md").write_text(text, "utf-8")
        (folder / "report.json").write_bytes(msgspec.json.format(msgspec.json.encode(report)) + b"\n")
        draw(report, folder / "report.png", ours=OURS.name)
    return text


def without_places(report: LaneReport) -> LaneReport:
    """The report without the folders of this machine."""

    def shorten(words: str) -> str:
        for folder, short in ((Path.cwd(), "."), (Path(__file__).parents[2], "."), (Path.home(), "~")):
            words = words.replace(f"{folder}/", f"{short}/")
        return words.replace(f"{tempfile.gettempdir()}/", "…/")

    return msgspec.structs.replace(
        report,
        command=shorten(report.command),
        versions={name: shorten(version) for name, version in report.versions.items()},
        failures=[msgspec.structs.replace(it, why=shorten(it.why)) for it in report.failures],
    )


def _blank(bed: Bed, chosen: Chosen, versions: dict[str, str], failures: list[Failure]) -> LaneReport:
    with tempfile.TemporaryDirectory(prefix="sluicegate-bench-") as folder:
        facts = machine(Path(folder))
    return LaneReport(
        machine=facts,
        command=shlex.join(["python", "-m", "bench.lane", *sys.argv[1:]]),
        quick=chosen.quick,
        cores={"gateway": list(bed.cores.gateway), "load": list(bed.cores.load)},
        versions=versions,
        rounds=chosen.plan.rounds,
        seconds=chosen.plan.seconds,
        failures=failures,
    )


@contextlib.contextmanager
def _progress(console: Console, total: int) -> Iterator[Callable[[str], None]]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("starting", total=total)

        def advance(step: str) -> None:
            progress.update(task, description=step, advance=1)
            if not console.is_terminal:
                console.print(step, markup=False, highlight=False)

        yield advance


def _contenders(arguments: argparse.Namespace) -> list[Contender]:
    """Without a gateway, ours, ours in other ways, peers, and others, in this order."""
    ours: list[Contender] = [OURS]
    for name, checkout in arguments.ours:
        ours.append(Sluicegate(name=name, checkout=checkout))
    if arguments.processes:
        ours.append(Sluicegate(name=f"{OURS.name} x{arguments.processes}", processes=arguments.processes))
    peers = [peer for peer in PEERS if arguments.peers is None or peer.name in arguments.peers]
    also = [Command(name=name, line=line) for name, line in arguments.also]
    return [DIRECT, *ours, *peers, *also]


def _named(text: str) -> tuple[str, str]:
    name, mark, value = text.partition("=")
    if not (name and mark and value):
        raise argparse.ArgumentTypeError(f'"{text}" is not NAME=VALUE')
    return name, value


def _listed(known: Sequence[str]) -> Callable[[str], list[str]]:
    def read(text: str) -> list[str]:
        words = [word for word in text.split(",") if word]
        for word in words:
            if word not in known:
                raise argparse.ArgumentTypeError(f'there is no "{word}"; there are: {", ".join(known)}')
        return words

    return read


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.lane",
        description="Measure Sluicegate's chat path beside its peers.",
        epilog=_HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    peers = [peer.name for peer in PEERS]
    parser.add_argument("--quick", action="store_true", help="rough figures in minutes; writes only with --out")
    parser.add_argument("--only", type=_listed(PARTS), metavar="PARTS", help="these parts; writes only with --out")
    parser.add_argument("--peers", type=_listed([*peers, "none"]), help=f"some of {', '.join(peers)}, or none")
    parser.add_argument("--rounds", type=int, help=f"default {FULL.rounds}, with --quick {QUICK.rounds}")
    parser.add_argument(
        "--retries",
        type=int,
        help="of a measurement that others disturbed; default 2",
    )
    parser.add_argument("--seconds", type=float, help=f"of each measurement, default {FULL.seconds:g}")
    parser.add_argument(
        "--ours",
        type=_named,
        action="append",
        default=[],
        metavar="NAME=CHECKOUT",
        help="another checkout of Sluicegate; may be repeated",
    )
    parser.add_argument("--processes", type=int, help="also measure `serve --processes N`, on as many cores")
    parser.add_argument(
        "--also",
        type=_named,
        action="append",
        default=[],
        metavar="NAME=COMMAND",
        help="another gateway; {port}, {upstream} (a port) and {folder} are filled in",
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="where report.md, .json and .png go; default bench/")
    parser.add_argument("--install", action="store_true", help="install the peers and stop")
    return parser.parse_args()


if __name__ == "__main__":
    main()
