"""``sluicegate simulate``: what a rule would do to the waits of tenants, on a virtual clock."""

import math
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sluicegate.cli.options import json_option
from sluicegate.cli.terminal import Misuse, console, is_terminal, print_json, printable, say

if TYPE_CHECKING:
    from rich.table import Table

    from sluicegate.scheduling.simulation.scenario import Scenario
    from sluicegate.scheduling.simulation.summary import Summary

PLOTS = (".png", ".svg", ".pdf")


@click.command(
    short_help="Try the fair queue on a virtual clock: waits, swaps, shares.",
    epilog="""\b
Examples:
  sluicegate simulate                                  one whale, three tiers, four GPUs
  sluicegate simulate --plot waits.png                 the same, drawn
  sluicegate simulate --example > mine.toml            a file to start from, with every line explained
  sluicegate simulate mine.toml --seeds 20
  sluicegate simulate mine.toml --policy ours --policy fifo --json
\b
In the file, [policies.NAME] names a rule (fifo, tiers, greedy, ours); for ours swap_penalty, lane_wait, guard and
guard_every may be set, so that two settings can be compared side by side.""",
)
@click.argument("file", metavar="[FILE.toml]", required=False, type=click.Path(dir_okay=False, path_type=Path))
@click.option(
    "--policy",
    "policies",
    multiple=True,
    metavar="NAME",
    help="Only this policy of the file; may be repeated. Default: all of them.",
)
@click.option(
    "--seeds", type=click.IntRange(1, 100_000), help="Repetitions, each with other arrivals. Default: the file's."
)
@click.option(
    "--plot",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Draw waits, swaps and shares into this file (.png, .svg or .pdf).",
)
@click.option("--example", is_flag=True, help="Print the built-in scenario as TOML, and simulate nothing.")
@json_option
def simulate(
    *, file: Path | None, policies: tuple[str, ...], seeds: int | None, plot: Path | None, example: bool, as_json: bool
) -> None:
    """Compare orders of the queue on the same arrivals: fifo, strict tiers, greedy affinity, and ours.

    FILE describes tenants, arrivals, models and GPUs; without one, a free tenant's 400 jobs meet 35 others
    on 4 GPUs. Hours pass in seconds: the clock is virtual, and ours is the very code of the queue. The same file and
    seeds give the same figures anywhere.
    """
    from sluicegate.scheduling.simulation import scenario as reading

    if example:
        click.echo(reading.default_text(), nl=False)
        return
    if plot is not None and plot.suffix not in PLOTS:
        raise Misuse(f"--plot {plot}: cannot draw {plot.suffix or 'a file without a suffix'}; use {', '.join(PLOTS)}")
    scenario = _read(file)
    chosen = _chosen(scenario, policies)
    summaries = _simulate(scenario, chosen, seeds or scenario.seeds, quiet=as_json)
    if plot is not None:
        _draw(scenario, summaries, plot)
    if as_json:
        print_json(
            {"title": scenario.title, "seeds": seeds or scenario.seeds, "policies": [s.as_dict() for s in summaries]}
        )
        return
    if scenario.title:
        click.echo(f"{printable(scenario.title)}, {_seeds_text(seeds or scenario.seeds)}\n")
    screen = console()
    screen.print(waits_table(scenario, summaries))
    screen.print()
    screen.print(shares_table(scenario, summaries))


def _read(file: Path | None) -> "Scenario":
    from sluicegate.errors import InvalidSettings
    from sluicegate.scheduling.simulation.scenario import MOST_JOBS, load_scenario
    from sluicegate.scheduling.simulation.workload import jobs_expected

    try:
        scenario = load_scenario(file)
    except InvalidSettings as error:
        raise Misuse(error.message) from None
    if (jobs := jobs_expected(scenario)) > MOST_JOBS:
        raise Misuse(f"about {jobs:,.0f} jobs a seed, more than {MOST_JOBS:,}; lower the load or the horizon")
    return scenario


def _chosen(scenario: "Scenario", policies: Sequence[str]) -> list[str]:
    from sluicegate.domain.validation import did_you_mean

    for name in policies:
        if name not in scenario.policies:
            raise Misuse(f"--policy {name}: no such policy; {did_you_mean(name, scenario.policies)}")
    return [name for name in scenario.policies if not policies or name in policies]


def _simulate(scenario: "Scenario", policies: Sequence[str], seeds: int, *, quiet: bool) -> "list[Summary]":
    from sluicegate.scheduling.simulation.summary import compare

    with _progress(len(policies) * seeds, quiet=quiet) as advance:
        return compare(scenario, policies, range(seeds), advance=advance)


@contextmanager
def _progress(total: int, *, quiet: bool) -> Iterator[Callable[[], None]]:
    """A bar on stderr, when that is a terminal."""
    if quiet or not is_terminal(sys.stderr):
        yield lambda: None
        return
    from rich.progress import Progress

    with Progress(console=console(stderr=True), transient=True) as progress:
        task = progress.add_task("simulations", total=total)
        yield lambda: progress.advance(task)


def _draw(scenario: "Scenario", summaries: "Sequence[Summary]", file: Path) -> None:
    from sluicegate.cli.terminal import Failure
    from sluicegate.scheduling.simulation.plot import save_plot

    try:
        save_plot(scenario, summaries, file)
    except OSError as error:
        raise Failure(f"{file} cannot be written: {error.strerror or error}; choose another --plot") from None
    say(f"drawn: {file}")


def waits_table(scenario: "Scenario", summaries: "Sequence[Summary]") -> "Table":
    """One line for each policy: swaps, useful time, makespan, longest wait, and each group's median and p95."""
    grid = _new_table("policy", "swaps", "useful", "makespan", "longest", *scenario.groups)
    for summary in summaries:
        grid.add_row(
            summary.policy,
            f"{summary.swaps:.0f}",
            f"{summary.useful:.0%}",
            f"{summary.makespan:.0f}",
            _seconds(summary.longest),
            *(f"{_seconds(w.p50)} / {_seconds(w.p95)}" for w in (summary.groups[g] for g in scenario.groups)),
        )
    grid.caption = "seconds; for each group: wait until the start, p50 / p95"
    return grid


def shares_table(scenario: "Scenario", summaries: "Sequence[Summary]") -> "Table":
    """Whose the GPUs' time was while jobs arrived."""
    from sluicegate.scheduling.simulation.summary import SWAPPING

    whose = (*scenario.groups, SWAPPING)
    grid = _new_table("share of GPU time", *whose, "idle")
    for summary in summaries:
        shares = [summary.shares[who] for who in whose]
        grid.add_row(summary.policy, *(f"{share:.0%}" for share in (*shares, max(0.0, 1 - sum(shares)))))
    return grid


def _new_table(first: str, *others: str) -> "Table":
    from rich.table import Table
    from rich.text import Text

    grid = Table(box=None, pad_edge=False, header_style="bold", caption_justify="left", caption_style="dim")
    grid.add_column(Text(first), no_wrap=True)
    for name in others:
        grid.add_column(Text(printable(name)), justify="right", no_wrap=True)
    return grid


def _seconds(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.0f}"


def _seeds_text(seeds: int) -> str:
    return "1 seed" if seeds == 1 else f"{seeds} seeds"
