"""The rows of the reliability scoreboard that kill things, at full figures (`make chaos`).

    python -m tests.chaos                        every row, on each of its engines
    python -m tests.chaos 1 9                    these rows
    python -m tests.chaos 1 --jobs 2000 --seed 5 one tenth of row 1, with another order of blows
    python -m tests.chaos 15 --clients 600       row 15 with fewer callers, where few descriptors are allowed
    python -m tests.chaos --report chaos.md      also write what was found; .json for machines

The exit code is 1 when a promise was broken or a figure of the scoreboard was missed. Each run prints the seed that
replays it: the same jobs, and the same blows in the same order at the same progress.
"""

import argparse
import asyncio
import sys
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from tests.chaos.outcome import Outcome, Task, as_json, as_markdown, shown
from tests.chaos.rows import ROWS, Run, make_task

SEED = 20261123


def main() -> int:
    """Run what the arguments name; the exit code."""
    parser = _parser()
    arguments = parser.parse_args()
    unknown = [name for name in arguments.rows if name not in ROWS]
    if unknown:
        parser.error(f"there is no row {unknown[0]}; rows: {', '.join(ROWS)}")
    console = Console(stderr=True)
    outcomes: list[Outcome] = []
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[words]}"),
        console=console,
    ) as progress:
        for name in arguments.rows or ROWS:
            row = ROWS[name]
            for engine in row.engines:
                if arguments.engine not in (None, engine):
                    continue
                jobs = arguments.jobs or max(1, round(row.jobs * arguments.scale))
                bar = progress.add_task(f"row {name} {engine}", total=jobs, words="starting")

                def show(done: int, total: int, words: str, bar: TaskID = bar) -> None:
                    progress.update(bar, completed=done, total=total, words=words)

                outcome = _run(console, row.run, make_task(name, engine, show, jobs=jobs, seed=arguments.seed))
                progress.update(bar, completed=jobs, words="done")
                _tell(console, outcome)
                outcomes.append(outcome)
                if arguments.report is not None:
                    _write(arguments.report, outcomes)
    return 1 if not all(outcome.held for outcome in outcomes) else 0


def _run(console: Console, run: Run, task: Task) -> Outcome:
    try:
        return asyncio.run(run(task))
    except Exception as error:  # a row that breaks off must not end those after it
        console.print_exception(max_frames=6)
        return task.came_to({}, [f"the run broke off: {error!r}"])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description="Kill things and count what is lost.")
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"of {', '.join(ROWS)}; none: all")
    parser.add_argument(
        "--jobs", "--clients", type=int, help="jobs, keys, callers or cases of each row; the blows keep their share"
    )
    parser.add_argument("--scale", type=float, default=1.0, help="share of each row's full figures, such as 0.1")
    parser.add_argument("--seed", type=int, default=SEED, help=f"default: {SEED}")
    parser.add_argument("--engine", choices=("sqlite", "postgres"), help="only this engine")
    parser.add_argument("--report", type=Path, help="write a .md or .json file")
    return parser


def _tell(console: Console, outcome: Outcome) -> None:
    held = "[green]held[/]" if outcome.held else "[red]was NOT held[/]"
    console.print(
        f"row {outcome.row} on {outcome.engine} {held}, {outcome.seconds:.0f} s, seed {outcome.seed}: {outcome.title}",
        highlight=False,
    )
    for name, value in outcome.figures.items():
        console.print(f"    {name}: {shown(value)}", markup=False, highlight=False)
    for sentence in [*outcome.faults, *outcome.missed]:
        console.print(f"    {sentence}", style="red", markup=False, highlight=False)
    if not outcome.held:
        again = f"python -m tests.chaos {outcome.row} --engine {outcome.engine} --jobs {outcome.jobs}"
        console.print(f"    again: {again} --seed {outcome.seed}", markup=False)


def _write(path: Path, outcomes: list[Outcome]) -> None:
    path.write_bytes(as_json(outcomes) if path.suffix == ".json" else as_markdown(outcomes).encode())


if __name__ == "__main__":
    sys.exit(main())
