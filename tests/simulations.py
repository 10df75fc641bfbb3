"""Random days on the virtual clock, with an auditor at every step of the fair queue.

    python -m tests.simulations                    200 seeds of one virtual day each (`make simulations`)
    python -m tests.simulations 10000              the full form
    python -m tests.simulations --seed 4711        one day again

Each seed is another scenario: tenants, weights, caps, bursts, models, GPUs that die, runs that fail, callers that lose
their patience, estimates that are wrong. A broken invariant is printed with its seed, and the exit code is 1.
"""

import argparse
import os
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from math import ceil, inf
from random import Random
from time import monotonic

from tests.auditor import AuditedQueue, Broken, demand

from sluicegate.scheduling.simulation.scenario import Cost, Faults, Gpus, Scenario, Tenants, Variant
from sluicegate.scheduling.simulation.simulator import Outcome, Simulator
from sluicegate.scheduling.simulation.workload import draw

DAY = 86_400.0
MODELS = ("m0", "m1", "m2", "m3")
TIERS = {"free": 1.0, "basic": 4.0, "pro": 16.0}


@dataclass(frozen=True, slots=True)
class Report:
    """One seed. `broken` is the invariant that does not hold, or empty."""

    seed: int
    jobs: int = 0
    steps: int = 0
    broken: str = ""


def random_scenario(seed: int, horizon: float) -> Scenario:
    """Anything that may meet a pool in a day."""
    random = Random(f"scenario {seed}")
    gpus: tuple[Gpus, ...] = (Gpus(count=random.randint(1, 4)),)
    if random.random() < 0.2:
        gpus += (Gpus(count=1, models=MODELS[:2]),)
    exact = random.random() < 0.4
    groups = random.randint(2, 6)
    load = random.uniform(0.4, 1.4) / groups
    faults = Faults(
        gpu_dies_every=random.choice([0.0, DAY / 4, DAY / 40]),
        repair_seconds=random.uniform(0, 600),
        notice_seconds=random.uniform(0, 30),
        run_fails=0.0 if exact else random.choice([0.0, 0.1]),
        back_off_seconds=random.uniform(0, 60),
    )
    return Scenario(
        horizon=horizon,
        swap_seconds=random.choice([0.0, 10.0, 30.0]),
        models=MODELS,
        tiers=TIERS,
        gpus=gpus,
        tenants=tuple(_random_tenants(random, number, horizon, load, exact=exact) for number in range(groups)),
        faults=faults,
        policies={"ours": _random_variant(random)},
    )


def _random_variant(random: Random) -> Variant:
    return Variant(
        rule="ours",
        swap_penalty=random.choice([0.0, 20.0, 60.0]),
        lane_wait=random.choice([60.0, 120.0, inf]),
        guard=random.choice([60.0, 300.0, inf]),
        guard_every=random.choice([2, 8]),
    )


def _random_tenants(random: Random, number: int, horizon: float, load: float, *, exact: bool) -> Tenants:
    least = random.choice([1.0, 20.0])
    cost = Cost(
        distribution=random.choice(["lognormal", "lognormal", "fixed"]),
        median=random.uniform(40, 200),
        spread=random.uniform(0.1, 1.2),
        least=least,
        most=600.0,
        error=0.0 if exact else random.choice([0.0, 0.3, 1.0]),
    )
    is_bursty = random.random() < 0.3
    return Tenants(
        name=f"t{number}",
        count=1 if is_bursty else random.randint(1, 3),
        tier=random.choice(list(TIERS)),
        load=None if is_bursty else load,
        burst=random.randint(1, 60) if is_bursty else None,
        at=random.uniform(0, horizon / 2),
        every=horizon / random.randint(1, 4) if is_bursty else None,
        likes=random.choice([0, 0, 1, 2]),
        cost=cost,
        max_running=random.choice([None, None, None, 1, 2]),
        patience=None if exact else random.choice([None, None, 400.0, 4_000.0]),
    )


def audit(seed: int, horizon: float = DAY) -> Report:
    """One seed, played under the auditor."""
    scenario = random_scenario(seed, horizon)
    settles = (
        any(tenants.cost.error or tenants.patience for tenants in scenario.tenants) or scenario.faults.run_fails > 0
    )
    queue = AuditedQueue(scenario.policies["ours"].policy, settles=settles)
    arrivals = draw(scenario, seed)
    try:
        outcome = Simulator(scenario, arrivals, queue, seed=seed).play()
        check_end(scenario, queue, outcome)
    except Broken as broken:
        return Report(seed, len(arrivals), queue.steps, str(broken))
    return Report(seed, len(arrivals), queue.steps)


def check_end(scenario: Scenario, queue: AuditedQueue, outcome: Outcome) -> None:
    """Every job has ended, nothing is left behind, and nobody was passed over for longer than the guard allows."""
    demand(all(job.ended_at is not None for job in outcome.jobs), "a job has not ended")
    demand(not queue.unsettled, "payments that nobody settled", jobs=sorted(queue.unsettled))
    left = {name: account for name, account in queue.accounts.items() if account.lanes or account.running}
    demand(not left, "accounts are not empty", left=left)
    if queue.is_whole and not scenario.faults.gpu_dies_every and queue.policy.guard < inf:
        longest = scenario.swap_seconds + max((job.arrival.actual for job in outcome.jobs), default=0.0)
        rounds = ceil(queue.policy.guard_every * queue.most_starving / scenario.gpu_count)
        bound = queue.policy.guard + rounds * longest
        demand(queue.longest_gap <= bound + 1e-6, "tenant gap", gap=queue.longest_gap, bound=bound)


def audit_all(seeds: Iterable[int], processes: int) -> Iterator[Report]:
    """Many seeds on many cores, in order."""
    with ProcessPoolExecutor(processes) as pool:
        yield from pool.map(audit, seeds, chunksize=4)


def main() -> int:
    """Audit the seeds that the arguments name; 1 when an invariant is broken."""
    from rich.console import Console
    from rich.progress import track

    parser = argparse.ArgumentParser(description="Random days on the virtual clock, with an auditor at every step.")
    parser.add_argument("seeds", type=int, nargs="?", default=200, help="how many seeds (default 200)")
    parser.add_argument("--seed", type=int, help="this one only")
    chosen = parser.parse_args()
    seeds = range(chosen.seeds) if chosen.seed is None else [chosen.seed]
    console, begun = Console(), monotonic()
    broken = jobs = steps = 0
    for report in track(audit_all(seeds, os.cpu_count() or 1), "virtual days", total=len(seeds), console=console):
        jobs, steps = jobs + report.jobs, steps + report.steps
        if report.broken:
            broken += 1
            console.print(f"[red]broken[/red] --seed {report.seed}: {report.broken}")
    took = monotonic() - begun
    console.print(f"{len(seeds)} virtual days, {jobs} jobs, {steps} audited steps in {took:.0f} s: {broken} broken")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
