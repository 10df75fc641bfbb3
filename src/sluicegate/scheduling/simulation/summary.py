"""What simulations came to: waits, swaps and shares of each rule, over all seeds."""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

from sluicegate.scheduling.simulation.rules import new_rule
from sluicegate.scheduling.simulation.scenario import Scenario
from sluicegate.scheduling.simulation.simulator import Outcome, Run, Simulator
from sluicegate.scheduling.simulation.workload import draw

BUCKETS = 96
"""Points of time in a plot of shares."""
SWAPPING = "changing models"


@dataclass(frozen=True, slots=True)
class Waits:
    """Seconds until a GPU first took a job, for one group; NaN where no job was taken. `withdrawn` jobs never ran."""

    jobs: int
    withdrawn: int
    p50: float
    p95: float
    longest: float


@dataclass(frozen=True, slots=True)
class Summary:
    """One rule over all seeds. Times in seconds; swaps, makespan and shares are means over the seeds."""

    policy: str
    swaps: float
    useful: float
    """Share of the GPUs' time, until the last job ended, in which they worked on jobs."""
    makespan: float
    longest: float
    """Longest wait of all."""
    groups: Mapping[str, Waits]
    shares: Mapping[str, float]
    """Of the GPUs' time while jobs arrive: each group's, and that of changing models."""
    series: Mapping[str, Sequence[float]]
    """The same for each of `BUCKETS` equal stretches of `span`."""
    span: float

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``; seconds rounded to 1 ms."""
        return {
            "policy": self.policy,
            "swaps": round(self.swaps, 1),
            "useful": round(self.useful, 4),
            "makespan": round(self.makespan, 3),
            "longest_wait": _number(self.longest),
            "waits": {
                group: {
                    "jobs": waits.jobs,
                    "withdrawn": waits.withdrawn,
                    "p50": _number(waits.p50),
                    "p95": _number(waits.p95),
                    "longest": _number(waits.longest),
                }
                for group, waits in self.groups.items()
            },
            "shares": {group: round(share, 4) for group, share in self.shares.items()},
        }


def compare(
    scenario: Scenario, policies: Iterable[str], seeds: Iterable[int], *, advance: Callable[[], None] = lambda: None
) -> list[Summary]:
    """Simulate every seed under each of the scenario's named policies; `advance` is called after each simulation."""
    names = list(policies)
    tallies = {name: _Tally(scenario) for name in names}
    for seed in seeds:
        arrivals = draw(scenario, seed)
        for name in names:
            rule = new_rule(scenario.policies[name])
            tallies[name].add(Simulator(scenario, arrivals, rule, seed=seed).play())
            advance()
    span = max(1.0, *(makespan for tally in tallies.values() for makespan in tally.makespans))
    return [tally.summary(name, span) for name, tally in tallies.items()]


def percentile(ordered: Sequence[float], share: float) -> float:
    """The value below which `share` of the ordered values lie; NaN of nothing."""
    return ordered[int(share * (len(ordered) - 1))] if ordered else math.nan


@dataclass(slots=True)
class _Tally:
    """What is kept of each simulation."""

    scenario: Scenario
    swaps: list[int] = field(default_factory=list)
    useful: list[float] = field(default_factory=list)
    makespans: list[float] = field(default_factory=list)
    jobs: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))
    waits: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    stretches: list[tuple[str, float, float]] = field(default_factory=list)
    """Who had a GPU, from when to when."""

    def add(self, outcome: Outcome) -> None:
        """One more simulation."""
        gpus = self.scenario.gpu_count
        self.swaps.append(outcome.swaps)
        self.makespans.append(outcome.makespan)
        self.useful.append(sum(run.work for run in outcome.runs) / (outcome.makespan * gpus) if outcome.runs else 0.0)
        for job in outcome.jobs:
            self.jobs[job.arrival.group] += 1
            if job.wait is not None:
                self.waits[job.arrival.group].append(job.wait)
        for run in outcome.runs:
            self.stretches += _stretches(run)

    def summary(self, policy: str, span: float) -> Summary:
        """The means and percentiles."""
        groups = {group: self._waits(group) for group in self.scenario.groups}
        horizon = self.scenario.horizon
        return Summary(
            policy=policy,
            swaps=fmean(self.swaps),
            useful=fmean(self.useful),
            makespan=fmean(self.makespans),
            longest=max(
                (waits.longest for waits in groups.values() if not math.isnan(waits.longest)), default=math.nan
            ),
            groups=groups,
            shares={who: values[0] for who, values in self._shares(horizon, 1).items()},
            series=self._shares(span, BUCKETS),
            span=span,
        )

    def _waits(self, group: str) -> Waits:
        ordered = sorted(self.waits[group])
        jobs = self.jobs[group]
        return Waits(
            jobs=jobs,
            withdrawn=jobs - len(ordered),
            p50=percentile(ordered, 0.5),
            p95=percentile(ordered, 0.95),
            longest=ordered[-1] if ordered else math.nan,
        )

    def _shares(self, span: float, buckets: int) -> dict[str, list[float]]:
        """Each group's share of the GPUs' time, in each of the equal stretches of [0, span]."""
        shares = {who: [0.0] * buckets for who in (*self.scenario.groups, SWAPPING)}
        width = span / buckets
        whole = width * self.scenario.gpu_count * len(self.swaps)
        for who, start, end in self.stretches:
            for bucket in range(int(start / width), min(buckets, int(end / width) + 1)):
                part = min(end, (bucket + 1) * width) - max(start, bucket * width)
                shares[who][bucket] += max(0.0, part) / whole
        return shares


def _stretches(run: Run) -> list[tuple[str, float, float]]:
    works_at = min(run.works_at, run.ended_at)
    return [(SWAPPING, run.started_at, works_at), (run.job.arrival.group, works_at, run.ended_at)]


def _number(seconds: float) -> float | None:
    return None if math.isnan(seconds) else round(seconds, 3)
