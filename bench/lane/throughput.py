"""Closed loops: requests a second, latency, processor time of each request, and delay of each token.

Rounds are interleaved: every contender is started anew in every round and goes through all cases, then the next one,
so that a noisy minute hurts all alike.
"""

import statistics
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

import msgspec
from bench.lane.bed import Bed
from bench.lane.contender import Contender, NotThere
from bench.lane.cores import Shares, Watch
from bench.lane.load import ClosedLoop, LoadFailed, Percentiles
from bench.lane.running import Running
from bench.lane.scenarios import Case

QUIET_SHARE: Final = 0.04
"""A measurement during which others took more of either core is made again, as far as the plan allows."""


class Plan(NamedTuple):
    """How much is measured."""

    rounds: int
    seconds: float
    warmup: float
    retries: int


class Turn(msgspec.Struct, frozen=True):
    """One contender, one case, one round."""

    contender: str
    case: str
    round: int
    loop: ClosedLoop
    gateway_busy: float
    """Share of the contender's cores that was used, by anybody, 0 to 1."""
    others_with_gateway: float
    """Share of the contender's cores that something else took."""
    others_with_load: float
    """Share of the load's core that went to neither the load nor the upstream."""

    @property
    def per_second(self) -> float:
        """Good answers a second."""
        loop = self.loop
        return (loop.requests - loop.refused - loop.cut_short) / loop.seconds

    @property
    def cpu_microseconds(self) -> float:
        """The contender's processor time for one request; 0 when none was answered."""
        return self.loop.gateway_cpu_seconds / self.loop.requests * 1e6 if self.loop.requests else 0.0

    @property
    def tokens_per_second(self) -> float:
        """Tokens that arrived."""
        return self.loop.tokens / self.loop.seconds


class Failure(msgspec.Struct, frozen=True):
    """What a contender could not do, and why."""

    contender: str
    what: str
    why: str


class Middle(NamedTuple):
    """Several rounds of one figure."""

    median: float
    least: float
    most: float


def middle(values: Sequence[float]) -> Middle:
    """Median, least and most; zeros when there are none."""
    return Middle(statistics.median(values), min(values), max(values)) if values else Middle(0, 0, 0)


def percentile(turns: Sequence[Turn], kind: str, name: str) -> Middle:
    """Percentile `name` (p50, p99, max) of `kind` (latency, first_token, token_delay, …) over the rounds, in ms."""
    found: list[Percentiles | None] = [getattr(turn.loop, kind) for turn in turns]
    return middle([getattr(it, name) for it in found if it is not None])


def throughput(
    bed: Bed, contenders: Sequence[Contender], cases: Sequence[Case], plan: Plan, *, advance: Callable[[str], None]
) -> tuple[list[Turn], list[Failure]]:
    """Every turn; contenders that failed are told of and left out of later rounds."""
    turns: list[Turn] = []
    failures: list[Failure] = []
    for number in range(1, plan.rounds + 1):
        for contender in contenders:
            if contender.name in {failure.contender for failure in failures if failure.what == "start"}:
                continue
            try:
                with bed.running(contender) as target:
                    for case in cases:
                        advance(f"round {number}: {contender.name}, {case.title}")
                        turns.append(_turn(bed, contender, target, case, number=number, plan=plan))
            except (NotThere, LoadFailed) as failure:
                what = "start" if isinstance(failure, NotThere) else "load"
                failures.append(Failure(contender.name, what, str(failure)))
    return turns, failures


def _turn(bed: Bed, contender: Contender, target: Running, case: Case, *, number: int, plan: Plan) -> Turn:
    """The quietest of some tries: one that others disturbed is made again."""
    best: tuple[ClosedLoop, Shares] | None = None
    for _ in range(1 + plan.retries):
        found = _measure(bed, contender, target, case, plan)
        if best is None or _disturbance(found[1]) < _disturbance(best[1]):
            best = found
        if _disturbance(found[1]) <= QUIET_SHARE:
            break
    assert best is not None
    loop, shares = best
    shown = (round(share, 3) for share in shares)
    return Turn(contender.name, case.name, number, loop, *shown)


def _disturbance(shares: Shares) -> float:
    return max(shares.others_with_gateway, shares.others_with_load)


def _measure(bed: Bed, contender: Contender, target: Running, case: Case, plan: Plan) -> tuple[ClosedLoop, Shares]:
    warmup = plan.warmup + (2.0 if case.part == "tokens" else 0.0)
    cores = bed.cores.for_processes(contender.processes) if contender.processes else bed.cores.gateway
    planned = plan.seconds * (2 if case.part == "tokens" else 1)  # a stream alone lasts a second
    seconds = planned
    while True:
        watch = Watch(cores, bed.cores.load, target.pids(), [bed.upstream.pid])
        loop = bed.load.closed_loop(
            target, case.model, stream=case.stream, connections=case.connections, seconds=seconds, warmup=warmup
        )
        # the load generator has ended and been awaited: its whole time stands among our children's
        shares = watch.shares()
        if not contender.processes:
            shares = Shares(0.0, 0.0, shares.others_with_load)
        enough = loop.requests >= 5 * case.connections or case.part == "tokens"
        if enough or seconds > planned:
            return loop, shares
        seconds = 3 * planned  # too few answers for percentiles: a slow gateway gets more time
