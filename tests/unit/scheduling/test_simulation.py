"""The simulation: its file, its arrivals, its GPUs, its figures; and hours of random scenarios without a fault."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.simulations import audit, random_scenario

from sluicegate.errors import InvalidSettings
from sluicegate.scheduling.simulation.plot import save_plot
from sluicegate.scheduling.simulation.rules import new_rule
from sluicegate.scheduling.simulation.scenario import (
    Cost,
    Faults,
    Gpus,
    Scenario,
    Tenants,
    Variant,
    default_text,
    load_scenario,
    read_scenario,
)
from sluicegate.scheduling.simulation.simulator import Outcome, Simulator
from sluicegate.scheduling.simulation.summary import SWAPPING, compare
from sluicegate.scheduling.simulation.workload import draw, jobs_expected, mean_cost

FIXED = Cost(distribution="fixed", median=10.0)


def small(*tenants: Tenants, **changes: Any) -> Scenario:
    fields = {"models": ("a", "b"), "tenants": tenants, "horizon": 600.0, "swap_seconds": 5.0, **changes}
    return Scenario(**fields)


def burst(name: str, jobs: int, *models: str, **changes: Any) -> Tenants:
    return Tenants(**{"name": name, "tier": "free", "burst": jobs, "cost": FIXED, "models": models, **changes})


def play(scenario: Scenario, rule: str = "ours") -> Outcome:
    variant = msgspec.convert({"rule": rule}, Variant)
    return Simulator(scenario, draw(scenario, 0), new_rule(variant), seed=0).play()


def test_every_fault_of_a_file_is_told_at_once() -> None:
    text = """
    models = ["a"]
    horizn = 5
    [[gpus]]
    count = 0
    [[tenants]]
    name = "t"
    tier = "free"
    cost = {median = -1}
    [policies.x]
    rule = "fifoo"
    """
    with pytest.raises(InvalidSettings) as caught:
        read_scenario(text, "mine.toml")

    found = {fault.path: fault for fault in caught.value.faults}
    assert found.keys() == {"horizn", "gpus[0].count", "tenants[0].cost.median", "policies.x.rule"}
    assert found["horizn"].suggestion == 'did you mean "horizon"?'
    assert found["policies.x.rule"].suggestion == 'did you mean "fifo"?'


def test_what_contradicts_itself_is_told_at_once_too() -> None:
    text = """
    models = ["a", "b"]
    [[gpus]]
    models = ["a"]
    [[tenants]]
    name = "t"
    tier = "fre"
    load = 0.5
    burst = 3
    [[tenants]]
    name = "t"
    tier = "pro"
    models = ["c"]
    cost = {least = 10, most = 5}
    per_hour = 5
    """
    with pytest.raises(InvalidSettings) as caught:
        read_scenario(text, "mine.toml")

    told = [(fault.path, fault.message) for fault in caught.value.faults]
    assert ("tenants[0]", "load and burst given of load, per_hour and burst") in told
    assert {path for path, _ in told} == {
        "tenants[0].tier",
        "tenants[0]",
        "tenants[0].name",
        "tenants[0].models",
        "tenants[1].name",
        "tenants[1].models",
        "tenants[1].cost.least",
    }


@pytest.mark.parametrize("text", ["models = [", "models = 5", ""])
def test_a_file_that_is_none_is_refused(text: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(text)
    with pytest.raises(InvalidSettings):
        load_scenario(file)
    with pytest.raises(InvalidSettings, match="no such file"):
        load_scenario(tmp_path / "absent.toml")


def test_the_same_seed_draws_the_same_arrivals_and_another_tenant_changes_none_of_them() -> None:
    scenario = load_scenario()
    more = msgspec.structs.replace(scenario, tenants=(*scenario.tenants, burst("new", 5)))

    assert draw(scenario, 3) == draw(scenario, 3) != draw(scenario, 4)
    assert [arrival for arrival in draw(more, 3) if arrival.tenant != "new"] == draw(scenario, 3)


def test_as_much_arrives_as_was_asked_for() -> None:
    tenants = Tenants(name="t", tier="free", count=4, load=0.5, cost=Cost(median=8.0, spread=1.0, least=2.0, most=40.0))
    scenario = small(tenants, horizon=40_000.0, gpus=(Gpus(count=3),))
    arrivals = draw(scenario, 0)

    assert len(arrivals) == pytest.approx(jobs_expected(scenario), rel=0.05)
    assert sum(arrival.actual for arrival in arrivals) / len(arrivals) == pytest.approx(
        mean_cost(tenants.cost), rel=0.05
    )
    assert sum(arrival.actual for arrival in arrivals) / 40_000.0 / 3 == pytest.approx(0.5, rel=0.05)


def test_a_burst_comes_at_its_time_and_again() -> None:
    arrivals = draw(small(burst("t", 2, at=100.0, every=300.0)), 0)

    assert [arrival.at for arrival in arrivals] == [100.0, 100.0, 400.0, 400.0]
    assert jobs_expected(small(burst("t", 2, at=100.0, every=300.0))) == 4


def test_a_change_of_model_takes_its_time() -> None:
    outcome = play(small(burst("t", 3, "a"), burst("u", 1, "b")))

    assert outcome.swaps == 2
    assert outcome.makespan == 4 * 10.0 + 2 * 5.0
    assert [job.wait for job in outcome.jobs] == [0.0, 15.0, 25.0, 35.0]


def test_the_rules_order_the_same_jobs_differently() -> None:
    rich = burst("rich", 2, "b", tier="pro", at=1.0)
    scenario = small(burst("poor", 3, "a"), rich)

    def order(rule: str) -> str:
        return "".join(run.job.arrival.model for run in play(scenario, rule).runs)

    assert {rule: order(rule) for rule in ("fifo", "tiers", "greedy")} == {
        "fifo": "aaabb",
        "tiers": "abbaa",
        "greedy": "aaabb",
    }
    assert order("ours") == "aaabb", "20 virtual seconds of a swap outweigh what is behind"


@pytest.mark.parametrize("rule", ["fifo", "tiers", "greedy", "ours"])
def test_caps_are_kept_and_every_job_ends_whatever_breaks(rule: str) -> None:
    faults = Faults(gpu_dies_every=120.0, repair_seconds=20.0, notice_seconds=5.0, run_fails=0.2)
    crowd = Tenants(name="t", tier="free", count=3, load=0.9, cost=FIXED, max_running=1, patience=200.0)
    outcome = play(small(crowd, gpus=(Gpus(count=4),), faults=faults, horizon=2_000.0), rule)

    assert all(job.ended_at is not None for job in outcome.jobs)
    assert {job.state for job in outcome.jobs} == {"ended", "withdrawn"}
    changes = sorted(
        (time, change, run.job.arrival.tenant)
        for run in outcome.runs
        for time, change in ((run.started_at, 1), (run.ended_at, -1))
    )
    running = dict.fromkeys(("t-0", "t-1", "t-2"), 0)
    for _, change, tenant in changes:
        running[tenant] += change
        assert running[tenant] <= 1


def test_gpus_work_on_what_they_serve_only() -> None:
    scenario = small(burst("t", 20), gpus=(Gpus(models=("a",)), Gpus(models=("b",))))

    assert {(run.gpu, run.job.arrival.model) for run in play(scenario).runs} == {(0, "a"), (1, "b")}


def test_the_whale_hurts_under_the_others_and_not_under_ours() -> None:
    scenario = load_scenario()
    fifo, tiers, greedy, ours = compare(scenario, ["fifo", "strict tiers", "greedy affinity", "ours"], range(2))

    assert ours.swaps < fifo.swaps / 3
    assert ours.makespan < 0.7 * fifo.makespan
    assert ours.groups["pro"].p95 < 200
    assert 1_000 < greedy.groups["pro"].p95 < fifo.groups["pro"].p95
    assert ours.groups["free"].p95 < tiers.groups["free"].p95 / 3
    assert greedy.swaps < ours.swaps
    for summary in (fifo, tiers, greedy, ours):
        assert summary.shares.keys() == {*scenario.groups, SWAPPING}
        assert sum(summary.shares.values()) <= 1 + 1e-9
        assert all(sum(each) <= 1 + 1e-9 for each in zip(*summary.series.values(), strict=True))


def test_a_scenario_in_which_nothing_arrives_has_no_waits() -> None:
    (summary,) = compare(small(burst("t", 1, at=900.0)), ["ours"], [0])

    assert summary.as_dict()["waits"]["free"] == {"jobs": 0, "withdrawn": 0, "p50": None, "p95": None, "longest": None}


@pytest.mark.parametrize(("suffix", "start"), [(".png", b"\x89PNG"), (".svg", b"<?xml")])
def test_the_figure_is_drawn_alike_twice(suffix: str, start: bytes, tmp_path: Path) -> None:
    scenario = small(burst("t", 5), burst("u", 5, tier="pro"))
    summaries = compare(scenario, ["fifo", "ours"], [0])
    for name in ("one", "two"):
        save_plot(scenario, summaries, tmp_path / f"{name}{suffix}")

    one = (tmp_path / f"one{suffix}").read_bytes()
    assert one.startswith(start)
    assert one == (tmp_path / f"two{suffix}").read_bytes()


def test_the_built_in_scenario_explains_itself_and_is_the_default() -> None:
    assert read_scenario(default_text(), "default") == load_scenario()
    assert load_scenario().groups == ("pro", "basic", "free", "whale")


@pytest.mark.parametrize("seed", range(20))
def test_a_random_hour_breaks_no_invariant(seed: int) -> None:
    report = audit(seed, horizon=3_600.0)

    assert report.jobs > 0
    assert not report.broken, f"python -m tests.simulations finds it with --seed {seed}: {report.broken}"


def test_random_scenarios_are_valid_files() -> None:
    for seed in range(20):
        scenario = random_scenario(seed, 3_600.0)
        assert msgspec.convert(msgspec.to_builtins(scenario), Scenario) == scenario
