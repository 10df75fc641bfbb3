"""What is simulated, read from a small TOML: tenants and their arrivals, models, GPUs, faults, and rules to compare."""

import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping
from importlib import resources
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from sluicegate.domain.fairness import Policy
from sluicegate.domain.validation import did_you_mean, find_faults
from sluicegate.errors import Fault, InvalidSettings

Positive = Annotated[float, Meta(gt=0)]
NotNegative = Annotated[float, Meta(ge=0)]
Share = Annotated[float, Meta(ge=0, le=1)]
Name = Annotated[str, Meta(min_length=1, max_length=40)]

MOST_JOBS = 2_000_000
"""Expected jobs of one seed; more would take hours."""


class _Table(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of the file; unknown fields are faults."""


class Cost(_Table, frozen=True, kw_only=True):
    """How long jobs run, in seconds: lognormal about `median`, cut to [`least`, `most`]; or always `median`."""

    distribution: Literal["lognormal", "fixed"] = "lognormal"
    median: Positive = 10.0
    spread: Annotated[float, Meta(ge=0, le=4)] = 0.8
    """Standard deviation of the logarithm."""
    least: Positive = 1.0
    most: Positive = 600.0
    error: Annotated[float, Meta(ge=0, le=4)] = 0.0
    """How far the estimate, by which a job is charged at first, is off: standard deviation of the logarithm."""


class Tenants(_Table, frozen=True, kw_only=True):
    """One tenant, or `count` alike. Exactly one of `load`, `per_hour` and `burst` says how jobs arrive."""

    name: Name
    count: Annotated[int, Meta(ge=1, le=10_000)] = 1
    tier: str
    group: str = ""
    """Under which name the results are summed up; empty: the tier."""
    load: Annotated[float, Meta(gt=0, le=100)] | None = None
    """Share of all GPUs' time that they ask for together, at random times (Poisson)."""
    per_hour: Positive | None = None
    """Jobs of each tenant, at random times (Poisson)."""
    burst: Annotated[int, Meta(ge=1, le=1_000_000)] | None = None
    """Jobs of each tenant that come at once, at second `at` and `every` so many seconds after."""
    at: NotNegative = 0.0
    every: Positive | None = None
    by_model: bool = False
    """Whether a burst's jobs come model by model, or mixed."""
    models: tuple[str, ...] = ()
    """What they use; empty: every model."""
    likes: Annotated[int, Meta(ge=0)] = 0
    """How many of the models each tenant draws for itself (with repetition), and uses; 0: all."""
    cost: Cost = Cost()
    max_running: Annotated[int, Meta(ge=1)] | None = None
    """Most jobs of one tenant that run at once."""
    patience: Positive | None = None
    """Mean seconds after which a caller withdraws a job that is not done."""


class Gpus(_Table, frozen=True, kw_only=True):
    """`count` GPUs that serve `models` (empty: all), one job and one model in memory at a time."""

    count: Annotated[int, Meta(ge=1, le=1_000)] = 1
    models: tuple[str, ...] = ()


class Faults(_Table, frozen=True, kw_only=True):
    """What goes wrong, in seconds. Zero: never."""

    gpu_dies_every: NotNegative = 0.0
    """Mean life of one GPU's worker."""
    notice_seconds: NotNegative = 15.0
    """How long until a dead worker's job waits again."""
    repair_seconds: NotNegative = 60.0
    """How long until the GPU is back, with no model in memory."""
    run_fails: Share = 0.0
    """Share of runs that fail at their end; the job comes again after `back_off_seconds`, three times at most."""
    back_off_seconds: NotNegative = 5.0


class Variant(_Table, frozen=True, kw_only=True):
    """A rule under a name, and for ours the constants that differ from the defaults of `Policy`."""

    rule: Literal["fifo", "tiers", "greedy", "ours"]
    swap_penalty: NotNegative | None = None
    lane_wait: NotNegative | None = None
    guard: NotNegative | None = None
    guard_every: Annotated[int, Meta(ge=1)] | None = None

    @property
    def policy(self) -> Policy:
        """The constants."""
        given = {name: value for name, value in msgspec.structs.asdict(self).items() if name != "rule"}
        return msgspec.structs.replace(Policy(), **{name: value for name, value in given.items() if value is not None})


def _variants() -> dict[str, Variant]:
    return {
        "fifo": Variant(rule="fifo"),
        "strict tiers": Variant(rule="tiers"),
        "greedy affinity": Variant(rule="greedy"),
        "ours": Variant(rule="ours"),
    }


class Scenario(_Table, frozen=True, kw_only=True):
    """The whole file. Times in seconds."""

    title: str = ""
    horizon: Positive = 3_600.0
    """How long jobs arrive; what waits then is worked off."""
    swap_seconds: NotNegative = 20.0
    """To change the model that a GPU has in memory."""
    models: Annotated[tuple[Name, ...], Meta(min_length=1, max_length=1_000)]
    seeds: Annotated[int, Meta(ge=1, le=100_000)] = 5
    """Repetitions, each with other arrivals: seeds 0, 1, 2 and so on."""
    tiers: dict[str, Positive] = msgspec.field(default_factory=lambda: {"free": 1.0, "basic": 4.0, "pro": 16.0})
    """Each tier's weight."""
    gpus: Annotated[tuple[Gpus, ...], Meta(min_length=1)] = (Gpus(),)
    tenants: Annotated[tuple[Tenants, ...], Meta(min_length=1)]
    faults: Faults = Faults()
    policies: Annotated[dict[str, Variant], Meta(min_length=1)] = msgspec.field(default_factory=_variants)

    @property
    def gpu_count(self) -> int:
        """GPUs in all."""
        return sum(gpus.count for gpus in self.gpus)

    @property
    def groups(self) -> tuple[str, ...]:
        """The names under which results are summed up: dearest tier first, own groups last."""
        tiers = sorted({t.tier for t in self.tenants if not t.group}, key=lambda tier: (-self.tiers[tier], tier))
        return (*tiers, *dict.fromkeys(t.group for t in self.tenants if t.group and t.group not in tiers))


def load_scenario(file: Path | None = None) -> Scenario:
    """The scenario of a file, or the built-in one. Raises `InvalidSettings` with every fault at once."""
    if file is None:
        return read_scenario(default_text(), "the built-in scenario")
    try:
        text = file.read_text("utf-8")
    except FileNotFoundError:
        raise InvalidSettings([Fault("", "no such file", "check its name")], source=str(file)) from None
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidSettings([Fault("", f"cannot be read: {error}")], source=str(file)) from error
    return read_scenario(text, str(file))


def default_text() -> str:
    """The built-in scenario as TOML."""
    return resources.files(__package__).joinpath("default.toml").read_text("utf-8")


def read_scenario(text: str, source: str) -> Scenario:
    """The scenario that a TOML text describes; `source` names it in messages. Raises `InvalidSettings`."""
    try:
        tree = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InvalidSettings([Fault("", f"not valid TOML: {error}")], source=source) from None
    faults = find_faults(tree, Scenario)
    if not faults:
        scenario = msgspec.convert(tree, Scenario)
        faults = list(_contradictions(scenario))
        if not faults:
            return scenario
    raise InvalidSettings(faults, source=source)


def _contradictions(scenario: Scenario) -> Iterator[Fault]:
    """Rules over more than one field."""
    yield from _unknown("gpus", {i: gpus.models for i, gpus in enumerate(scenario.gpus)}, scenario.models)
    yield from _unknown("tenants", {i: tenants.models for i, tenants in enumerate(scenario.tenants)}, scenario.models)
    served = {model for gpus in scenario.gpus for model in gpus.models or scenario.models}
    names = Counter(tenants.name for tenants in scenario.tenants)
    for index, tenants in enumerate(scenario.tenants):
        path = f"tenants[{index}]"
        if tenants.tier not in scenario.tiers:
            yield Fault(f"{path}.tier", f'no tier "{tenants.tier}"', did_you_mean(tenants.tier, scenario.tiers))
        ways = [name for name in ("load", "per_hour", "burst") if getattr(tenants, name) is not None]
        if len(ways) != 1:
            given = " and ".join(ways) or "none"
            yield Fault(path, f"{given} given of load, per_hour and burst", "give exactly one")
        if tenants.cost.least > tenants.cost.most:
            yield Fault(
                f"{path}.cost.least", f"{tenants.cost.least} is more than most, {tenants.cost.most}", "lower it"
            )
        if names[tenants.name] > 1:
            yield Fault(f"{path}.name", f'"{tenants.name}" is there twice', "give each its own name; count makes many")
        idle = sorted(set(tenants.models or scenario.models) - served)
        if idle:
            yield Fault(f"{path}.models", f"no GPU serves {', '.join(idle)}", "add it to a GPU's models")


def _unknown(table: str, used: Mapping[int, tuple[str, ...]], models: tuple[str, ...]) -> Iterator[Fault]:
    for index, names in used.items():
        for name in names:
            if name not in models:
                yield Fault(f"{table}[{index}].models", f'no model "{name}"', did_you_mean(name, models))
