"""What is to be run, and what it came to, for people and for machines."""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import msgspec
from tests.chaos.databases import Database

Figure = float | int | str


class Show(Protocol):
    """Where a run tells how far it is."""

    def __call__(self, done: int, total: int, words: str) -> None:
        """So much of so much is done."""
        ...


def silent(done: int, total: int, words: str) -> None:
    """Tell nobody."""


class Outcome(msgspec.Struct, kw_only=True):
    """One run of one row."""

    row: str
    engine: str
    title: str
    seed: int
    jobs: int
    seconds: float
    figures: dict[str, Figure]
    faults: list[str] = []
    """Promises that were broken: a job lost, something done twice, a counter that is wrong."""
    missed: list[str] = []
    """Figures of the scoreboard that were not held. Slow machines miss some; they break no promise."""

    @property
    def held(self) -> bool:
        """Whether every promise and figure was kept."""
        return not self.faults and not self.missed


@dataclass
class Task:
    """One run to make: of which row, on which database, with how many jobs, from which seed."""

    row: str
    title: str
    database: Database
    jobs: int
    seed: int
    show: Show = silent
    _began: float = field(default_factory=time.monotonic)

    def came_to(self, figures: Mapping[str, Figure], faults: Sequence[str] = (), missed: Sequence[str] = ()) -> Outcome:
        """The outcome, with the seconds since the task was made."""
        return Outcome(
            row=self.row,
            engine=self.database.name,
            title=self.title,
            seed=self.seed,
            jobs=self.jobs,
            seconds=time.monotonic() - self._began,
            figures=dict(figures),
            faults=list(faults),
            missed=list(missed),
        )


def percentile(values: Sequence[float], share: float) -> float:
    """The least value that so large a share (0–1) of the values does not exceed; NaN without any."""
    if not values:
        return math.nan
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def spread(values: Sequence[float]) -> str:
    """p50, p99 and the most of some seconds."""
    return " / ".join(f"{percentile(values, share):.3g}" for share in (0.5, 0.99, 1.0))


def as_json(outcomes: Sequence[Outcome]) -> bytes:
    """The runs as an indented JSON list."""
    return msgspec.json.format(msgspec.json.encode(outcomes), indent=2) + b"\n"


def as_markdown(outcomes: Sequence[Outcome]) -> str:
    """The runs as one table each."""
    parts = ["# Chaos\n"]
    for outcome in outcomes:
        held = "held" if outcome.held else "NOT HELD"
        parts.append(f"\n## Row {outcome.row}, {outcome.engine}: {held}\n\n{outcome.title} (seed {outcome.seed}).\n\n")
        parts.append("| figure | value |\n|---|---|\n")
        parts += [f"| {name} | {shown(value)} |\n" for name, value in outcome.figures.items()]
        parts.append(f"| seconds | {outcome.seconds:.0f} |\n")
        parts += [f"\nBroken: {fault}\n" for fault in outcome.faults]
        parts += [f"\nMissed: {miss}\n" for miss in outcome.missed]
    return "".join(parts)


def shown(value: Figure) -> str:
    """A figure in few digits."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)
