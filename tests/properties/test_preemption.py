"""Giving way, played through with the fair queue itself: never in vain, bounded, and everything is done in the end."""

from dataclasses import dataclass, field
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from sluicegate.domain.fairness import MOST_PREEMPTIONS, Policy
from sluicegate.domain.ids import JobId, Tenant, WorkerId
from sluicegate.domain.job import Lease
from sluicegate.scheduling.fairness import FairQueue, QueuedJob
from sluicegate.scheduling.preemption import victims
from sluicegate.storage.contracts import LaneStanding, QueueView, RunningJob, TenantStanding, WorkerInfo

MODELS = ("a", "b", "c")
POOL = "default"
LOOK_SECONDS = 5


@dataclass
class Work:
    """A job on its way: `needs` seconds; `done` of them in the present run, `lost` in runs that were in vain."""

    queued: QueuedJob
    needs: float
    preemptible: bool
    claimed_at: float = 0.0
    done: float = 0.0
    lost: float = 0.0
    preemptions: int = 0


@dataclass
class Machine:
    """A worker: the model in its memory, and its job."""

    name: str
    loaded: str | None = None
    work: Work | None = None
    gave_way: str | None = None
    """The tenant whose job has just given way here."""


@dataclass
class World:
    """Some tenants, some workers, one second after the other."""

    random: Random
    policy: Policy
    queue: FairQueue = field(init=False)
    works: dict[str, Work] = field(default_factory=dict)
    machines: list[Machine] = field(default_factory=list)
    now: float = 0.0
    submitted: int = 0
    preempted: int = 0

    def __post_init__(self) -> None:
        self.queue = FairQueue(self.policy)
        self.machines = [Machine(f"worker_{number}") for number in range(self.random.randint(1, 4))]

    def submit(self, tenant: str, weight: float, *, cost: float, preemptible: bool) -> None:
        job = QueuedJob(f"job_{self.submitted:05}", tenant, self.random.choice(MODELS), cost)
        self.submitted += 1
        self.works[job.id] = Work(job, needs=cost, preemptible=preemptible)
        self.queue.submit(job, self.now, weight=weight)

    def tick(self) -> None:
        """One second."""
        for machine in self.machines:
            if machine.work is None:
                self.claim(machine)
        if self.now % LOOK_SECONDS == 0:
            self.preempt()
        self.now += 1.0
        for machine in self.machines:
            if machine.work is not None:
                machine.work.done += 1.0
                if machine.work.done >= machine.work.needs:
                    self.queue.end(machine.work.queued, machine.work.queued.cost, self.now)
                    del self.works[machine.work.queued.id]
                    machine.work = None

    def claim(self, machine: Machine) -> None:
        others = [name for name, account in self.queue.accounts.items() if account.ready and name != machine.gave_way]
        job = self.queue.claim(MODELS, [machine.loaded] if machine.loaded else [], self.now)
        if machine.gave_way is not None and others:
            assert job is not None
            assert job.tenant != machine.gave_way, "it gave way in vain"
        machine.gave_way = None
        if job is not None:
            machine.loaded, machine.work = job.model, self.works[job.id]
            machine.work.claimed_at, machine.work.done = self.now, 0.0

    def preempt(self) -> None:
        told = victims(self.view(), self.crew(), self.policy)
        assert len({job.worker for job in told}) == len(told)
        waiting = [account for account in self.queue.accounts.values() if account.ready and not account.running]
        assert len(told) <= len(waiting)
        for job in told:
            (machine,) = [machine for machine in self.machines if machine.name == job.worker]
            work = machine.work
            assert work is not None
            assert work.done < work.needs / 2
            work.lost += work.done
            work.preemptions += 1
            assert work.preemptions <= MOST_PREEMPTIONS
            assert work.lost < work.needs, "more was done in vain than the job costs"
            self.queue.give_back(work.queued, self.now, preempted=True)
            machine.work, machine.gave_way = None, work.queued.tenant
            self.preempted += 1
            self.claim(machine)

    def view(self) -> QueueView:
        accounts = self.queue.accounts.items()
        return QueueView(
            at=self.now,
            clocks={POOL: self.queue.vtime},
            tenants=tuple(
                TenantStanding(
                    pool=POOL,
                    tenant=Tenant(name),
                    tier="",
                    weight=account.weight,
                    max_running=None,
                    vtime=account.vtime,
                    queued=sum(len(lane.jobs) for lane in account.lanes.values()),
                    queued_cost=sum(job.cost for lane in account.lanes.values() for job in lane.jobs.values()),
                    delayed=0,
                    running=account.running,
                    since=account.since,
                    oldest_at=None,
                )
                for name, account in accounts
            ),
            lanes=tuple(
                LaneStanding(POOL, Tenant(name), model, len(lane.jobs))
                for name, account in accounts
                for model, lane in account.lanes.items()
            ),
            running=tuple(self.running(machine, machine.work) for machine in self.machines if machine.work is not None),
        )

    def running(self, machine: Machine, work: Work) -> RunningJob:
        return RunningJob(
            lease=Lease(JobId(work.queued.id), 1),
            pool=POOL,
            tenant=Tenant(work.queued.tenant),
            tier="",
            model=work.queued.model,
            state="running",
            worker=WorkerId(machine.name),
            cost=work.queued.cost,
            claimed_at=work.claimed_at,
            progress=work.done / work.needs,
            preemptible=work.preemptible,
            preemptions=work.preemptions,
            preempting=False,
        )

    def crew(self) -> list[WorkerInfo]:
        return [
            WorkerInfo(
                id=WorkerId(machine.name),
                host="",
                pid=0,
                started_at=0.0,
                seen_at=self.now,
                models=MODELS,
                loaded=(machine.loaded,) if machine.loaded else (),
            )
            for machine in self.machines
        ]


def play(seed: int) -> int:
    """A whale of long jobs, and tenants that come with short ones while it is at work; how often work gave way."""
    random = Random(seed)
    world = World(random, Policy(swap_penalty=random.choice([0.0, 2.0, 20.0])))
    tenants = {f"tenant_{number}": random.choice([1.0, 4.0, 16.0]) for number in range(random.randint(1, 5))}
    whale = random.choice(["a whale", "whale"])
    for _ in range(random.randint(4, 12)):
        world.submit(whale, 1.0, cost=float(random.randint(60, 300)), preemptible=True)
    arrivals = sorted((random.randint(0, 900), random.choice(sorted(tenants))) for _ in range(random.randint(1, 30)))
    while world.works or arrivals:
        while arrivals and arrivals[0][0] <= world.now:
            tenant = arrivals.pop(0)[1]
            weight = tenants[tenant]
            world.submit(tenant, weight, cost=float(random.randint(1, 40)), preemptible=weight == 1.0)
        world.tick()
        assert world.now < 20_000, "it never ends"
    return world.preempted


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_giving_way_is_never_in_vain_and_everything_ends(seed: int) -> None:
    play(seed)


def test_such_worlds_do_make_work_give_way() -> None:
    assert sum(play(seed) > 0 for seed in range(20)) >= 10
