"""GPUs, callers and faults on a virtual clock: one seed of one rule.

Discrete events: the clock jumps from one to the next, and after each moment every free GPU asks the rule for a job, the
one that is free the longest first. Nothing here is random but the faults, and these are drawn from the seed.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from heapq import heappop, heappush
from itertools import count
from random import Random
from typing import Protocol

from sluicegate.scheduling.fairness import QueuedJob
from sluicegate.scheduling.simulation.rules import Rule
from sluicegate.scheduling.simulation.scenario import Scenario
from sluicegate.scheduling.simulation.workload import Arrival

MOST_ATTEMPTS = 3


class Happening(Protocol):
    """What an event does when its time has come."""

    def __call__(self) -> None:
        """Do it."""
        ...


@dataclass(slots=True)
class SimulatedJob:
    """A job and what became of it. Times are seconds of the virtual clock."""

    arrival: Arrival
    queued: QueuedJob
    state: str = "queued"
    started_at: float | None = None
    """When a GPU first took it."""
    ended_at: float | None = None
    runs: int = 0
    failures: int = 0

    @property
    def wait(self) -> float | None:
        """Seconds until a GPU first took it."""
        return None if self.started_at is None else self.started_at - self.arrival.at


@dataclass(slots=True)
class Run:
    """One time that a GPU was busy with a job: changing its model until `works_at`, then working until `ended_at`."""

    job: SimulatedJob
    gpu: int
    started_at: float
    works_at: float
    ended_at: float = math.inf

    @property
    def work(self) -> float:
        """Seconds of work."""
        return max(0.0, self.ended_at - self.works_at)


@dataclass(slots=True)
class Gpu:
    """One GPU with the worker in front of it."""

    number: int
    models: frozenset[str]
    loaded: str | None = None
    run: Run | None = None
    is_up: bool = True


@dataclass(slots=True)
class Outcome:
    """What one simulation came to."""

    jobs: list[SimulatedJob] = field(default_factory=list)
    runs: list[Run] = field(default_factory=list)
    swaps: int = 0
    makespan: float = 0.0
    """When the last job ended."""


class Simulator:
    """Plays `arrivals` under a rule. `play` may be called once."""

    def __init__(self, scenario: Scenario, arrivals: Sequence[Arrival], rule: Rule, *, seed: int) -> None:
        self._scenario = scenario
        self._rule = rule
        self._random = Random(f"{seed}/faults")
        self._gpus = self._new_gpus()
        self._free = list(self._gpus)
        self._events: list[tuple[float, int, Happening]] = []
        self._numbers = count()
        self._open = 0
        self.now = 0.0
        self.outcome = Outcome()
        for number, arrival in enumerate(arrivals):
            queued = QueuedJob(f"{number:08}", arrival.tenant, arrival.model, arrival.estimate)
            self.outcome.jobs.append(SimulatedJob(arrival, queued))

    def play(self) -> Outcome:
        """Run until every job has ended."""
        for job in self.outcome.jobs:
            self._at(job.arrival.at, partial(self._arrive, job))
        self._open = len(self.outcome.jobs)
        if self._scenario.faults.gpu_dies_every:
            for gpu in self._gpus:
                self._plan_death(gpu)
        while self._open:
            self.now = self._events[0][0]
            while self._events and self._events[0][0] <= self.now:
                heappop(self._events)[2]()
            self._dispatch()
        return self.outcome

    def _new_gpus(self) -> list[Gpu]:
        served = [gpus.models or self._scenario.models for gpus in self._scenario.gpus for _ in range(gpus.count)]
        return [Gpu(number, frozenset(models)) for number, models in enumerate(served)]

    def _at(self, time: float, happening: Happening) -> None:
        heappush(self._events, (time, next(self._numbers), happening))

    def _dispatch(self) -> None:
        """Every free GPU asks for a job."""
        waiting: list[Gpu] = []
        for gpu in self._free:
            queued = self._rule.claim(gpu.models, () if gpu.loaded is None else (gpu.loaded,), self.now)
            if queued is None:
                waiting.append(gpu)
            else:
                self._start(gpu, self.outcome.jobs[int(queued.id)])
        self._free = waiting

    def _start(self, gpu: Gpu, job: SimulatedJob) -> None:
        swap = 0.0
        if gpu.loaded != job.queued.model:
            swap = self._scenario.swap_seconds
            gpu.loaded = job.queued.model
            self.outcome.swaps += 1
        job.state = "running"
        job.runs += 1
        if job.started_at is None:
            job.started_at = self.now
        run = gpu.run = Run(job, gpu.number, self.now, self.now + swap)
        self.outcome.runs.append(run)
        self._at(run.works_at + job.arrival.actual, partial(self._finish, gpu, run))

    def _arrive(self, job: SimulatedJob) -> None:
        arrival = job.arrival
        self._rule.submit(job.queued, self.now, weight=arrival.weight, max_running=arrival.max_running)
        if arrival.patience < math.inf:
            self._at(self.now + arrival.patience, partial(self._withdraw, job))

    def _finish(self, gpu: Gpu, run: Run) -> None:
        """The work's time is over, unless something ended it before."""
        if gpu.run is not run:
            return
        job = run.job
        self._release(gpu)
        if self._random.random() >= self._scenario.faults.run_fails:
            self._end(job, run.work)
            return
        job.failures += 1
        if job.failures >= MOST_ATTEMPTS:
            self._end(job, 0.0)
            return
        job.state = "later"
        self._rule.give_back(job.queued, self.now, later=True)
        self._at(self.now + self._scenario.faults.back_off_seconds, partial(self._promote, job))

    def _release(self, gpu: Gpu) -> None:
        assert gpu.run is not None
        gpu.run.ended_at = self.now
        gpu.run = None
        self._free.append(gpu)

    def _end(self, job: SimulatedJob, cost: float) -> None:
        """A job that is held ends."""
        self._rule.end(job.queued, cost, self.now)
        self._close(job, "ended")

    def _close(self, job: SimulatedJob, state: str) -> None:
        job.state, job.ended_at = state, self.now
        self.outcome.makespan = self.now
        self._open -= 1

    def _promote(self, job: SimulatedJob) -> None:
        if job.state == "later":
            job.state = "queued"
            self._rule.promote(job.queued, self.now)

    def _withdraw(self, job: SimulatedJob) -> None:
        """The caller's patience is over."""
        if job.state in ("queued", "later"):
            self._rule.drop(job.queued)
            self._close(job, "withdrawn")
        elif job.state == "running":
            gpu = next(gpu for gpu in self._gpus if gpu.run is not None and gpu.run.job is job)
            run = gpu.run
            assert run is not None
            self._release(gpu)
            self._end(job, run.work)
        elif job.state == "lost":
            self._end(job, 0.0)

    def _plan_death(self, gpu: Gpu) -> None:
        life = self._random.expovariate(1 / self._scenario.faults.gpu_dies_every)
        self._at(self.now + life, partial(self._die, gpu))

    def _die(self, gpu: Gpu) -> None:
        """The worker is gone, and its job with it, which is noticed later."""
        faults = self._scenario.faults
        gpu.is_up, gpu.loaded = False, None
        if gpu.run is None:
            self._free.remove(gpu)
        else:
            run, gpu.run = gpu.run, None
            run.ended_at = self.now
            run.job.state = "lost"
            self._at(self.now + faults.notice_seconds, partial(self._notice, run.job, run.job.runs))
        self._at(self.now + faults.repair_seconds, partial(self._repair, gpu))

    def _notice(self, job: SimulatedJob, run: int) -> None:
        if job.state == "lost" and job.runs == run:
            job.state = "queued"
            self._rule.give_back(job.queued, self.now)

    def _repair(self, gpu: Gpu) -> None:
        gpu.is_up = True
        self._free.append(gpu)
        self._plan_death(gpu)
