"""The jobs of one seed: who sends what, and when. The same for every rule that is compared."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

from sluicegate.domain.fairness import LEAST_COST
from sluicegate.scheduling.simulation.scenario import Cost, Scenario, Tenants


@dataclass(frozen=True, slots=True)
class Arrival:
    """One job as its caller sends it. `actual` seconds of work; `estimate` is what it is charged by at first."""

    at: float
    tenant: str
    group: str
    weight: float
    max_running: int | None
    model: str
    actual: float
    estimate: float
    patience: float
    """Seconds until the caller withdraws it; infinite when never."""


def draw(scenario: Scenario, seed: int) -> list[Arrival]:
    """Every arrival of a seed, by time. Each tenant has randomness of its own: adding one leaves the others alone."""
    arrivals = [
        arrival
        for tenants in scenario.tenants
        for number in range(tenants.count)
        for arrival in _of_one(scenario, tenants, number, seed)
    ]
    arrivals.sort(key=lambda arrival: arrival.at)
    return arrivals


def mean_cost(cost: Cost) -> float:
    """Mean seconds of a job: of a lognormal distribution cut to [least, most], in closed form."""
    if cost.distribution == "fixed" or cost.spread == 0:
        return min(max(cost.median, cost.least), cost.most)
    mu, sigma = math.log(cost.median), cost.spread
    low, high = (math.log(cost.least) - mu) / sigma, (math.log(cost.most) - mu) / sigma
    inner = math.exp(mu + sigma**2 / 2) * (_normal(high - sigma) - _normal(low - sigma))
    return cost.least * _normal(low) + inner + cost.most * (1 - _normal(high))


def jobs_expected(scenario: Scenario) -> float:
    """How many jobs a seed has, on average."""
    return sum(tenants.count * _each(scenario, tenants) for tenants in scenario.tenants)


def _normal(x: float) -> float:
    return (1 + math.erf(x / math.sqrt(2))) / 2


def _each(scenario: Scenario, tenants: Tenants) -> float:
    """Jobs of one tenant, on average."""
    if tenants.burst is not None:
        times = 1 + (max(0.0, scenario.horizon - tenants.at) // tenants.every if tenants.every else 0)
        return tenants.burst * times
    return _rate(scenario, tenants) * scenario.horizon


def _rate(scenario: Scenario, tenants: Tenants) -> float:
    """Jobs a second of one tenant."""
    if tenants.per_hour is not None:
        return tenants.per_hour / 3_600
    return (tenants.load or 0.0) * scenario.gpu_count / mean_cost(tenants.cost) / tenants.count


def _of_one(scenario: Scenario, tenants: Tenants, number: int, seed: int) -> list[Arrival]:
    name = f"{tenants.name}-{number}" if tenants.count > 1 else tenants.name
    random = Random(f"{seed}/{name}")
    models = tenants.models or scenario.models
    if tenants.likes:
        models = tuple(random.choice(models) for _ in range(tenants.likes))
    weight = scenario.tiers[tenants.tier]
    arrivals = [
        _arrival(tenants, name, weight=weight, model=random.choice(models), at=at, random=random)
        for at in list(_times(scenario, tenants, random))
    ]
    return sorted(arrivals, key=lambda arrival: (arrival.at, arrival.model)) if tenants.by_model else arrivals


def _arrival(tenants: Tenants, name: str, *, weight: float, model: str, at: float, random: Random) -> Arrival:
    actual = _seconds(tenants.cost, random)
    estimate = actual * random.lognormvariate(0.0, tenants.cost.error) if tenants.cost.error else actual
    return Arrival(
        at=at,
        tenant=name,
        group=tenants.group or tenants.tier,
        weight=weight,
        max_running=tenants.max_running,
        model=model,
        actual=actual,
        estimate=max(estimate, LEAST_COST),
        patience=random.expovariate(1 / tenants.patience) if tenants.patience else math.inf,
    )


def _times(scenario: Scenario, tenants: Tenants, random: Random) -> Iterator[float]:
    if tenants.burst is not None:
        at = tenants.at
        while at <= scenario.horizon:
            yield from [at] * tenants.burst
            if tenants.every is None:
                return
            at += tenants.every
        return
    rate = _rate(scenario, tenants)
    at = tenants.at + random.expovariate(rate)
    while at <= scenario.horizon:
        yield at
        at += random.expovariate(rate)


def _seconds(cost: Cost, random: Random) -> float:
    if cost.distribution == "fixed":
        return min(max(cost.median, cost.least), cost.most)
    return min(max(random.lognormvariate(math.log(cost.median), cost.spread), cost.least), cost.most)
