"""Row 10: jobs are withdrawn at every point of their lives, while they wait, load, run and finish."""

import asyncio
import random
import time
from collections import Counter
from typing import Literal, NamedTuple

from tests.chaos.audit import audit
from tests.chaos.callers import HttpCaller
from tests.chaos.databases import Database
from tests.chaos.outcome import Figure, Outcome, Task, spread
from tests.chaos.patience import PATIENCE
from tests.chaos.plant import Plant
from tests.chaos.small_pictures import Order
from tests.chaos.storm import all_ended
from tests.chaos.work_log import Note

AT_BACKEND_SECONDS = 1.0
_WORK_SECONDS = (0.1, 0.5)
Point = Literal["waiting", "claimed", "running", "finishing"]
_POINTS: tuple[Point, ...] = ("waiting", "claimed", "running", "finishing")


class Withdrawal(NamedTuple):
    """One job that was withdrawn: when the call was sent, and the status that it told."""

    key: str
    job: str
    sent_at: float
    status: str


class Caprice:
    """Callers who change their minds."""

    def __init__(self, plant: Plant, task: Task) -> None:
        self.made: list[Withdrawal] = []
        self._plant = plant
        self._task = task
        self._next = iter(range(task.jobs))
        self._call_seconds = 0.01
        """How long a call takes of late: what is meant for the end of the work must be sent before it."""
        self._caller = HttpCaller(plant.client, [gateway.url for gateway in plant.gateways], random.Random(task.seed))

    async def run(self, lines: int) -> None:
        """Submit and withdraw every job, `lines` at a time."""
        async with asyncio.TaskGroup() as group:
            for _ in range(lines):
                group.create_task(self._line())

    async def _line(self) -> None:
        for number in self._next:
            rng = random.Random(f"{self._task.seed} cancel {number}")
            order = Order(f"key-{number}", round(rng.uniform(*_WORK_SECONDS), 3))
            words = {"prompt": order.prompt, "seed": 1, "previews": 0}
            body = {"model": "sprout", "task": "text-to-image", "input": words}
            job = await self._caller.submit(order.key, body)
            await self._wait_for(rng.choice(_POINTS), order, rng)
            sent_at = time.time()
            status = await self._caller.cancel(job)
            self._call_seconds += 0.1 * (time.time() - sent_at - self._call_seconds)
            self.made.append(Withdrawal(order.key, job, sent_at, status))
            if status == "canceling":
                await self._ended(order.key)
            self._task.show(len(self.made), self._task.jobs, "jobs withdrawn")

    async def _wait_for(self, point: Point, order: Order, rng: random.Random) -> None:
        if point == "waiting":
            await asyncio.sleep(rng.uniform(0.0, 0.003))
            return
        await self._plant.work.heard("taken", order.key, PATIENCE)
        if point == "claimed":
            return
        await self._plant.work.heard("began", order.key, PATIENCE)
        if point == "running":
            await asyncio.sleep(rng.uniform(0.0, 0.9) * order.seconds)
        else:
            aim = order.seconds - self._call_seconds * rng.uniform(0.4, 1.0)
            await asyncio.sleep(max(0.0, aim + rng.uniform(-0.02, 0.005)))

    async def _ended(self, key: str) -> None:
        """Return when the model has let go of the key, or has not got it within the time that a call may take."""
        either = [asyncio.ensure_future(self._plant.work.heard(kind, key, 2.0)) for kind in ("stopped", "ended")]
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        for waiter in either:
            waiter.cancel()
        await asyncio.gather(*either, return_exceptions=True)


async def withdraw(task: Task, *, workers: int = 8) -> Outcome:
    """Withdraw every job at a point drawn from the seed, and see what the backend, the ledger and the record say."""
    async with Plant(task.database, seed=task.seed, workers=workers) as plant:
        caprice = Caprice(plant, task)
        await caprice.run(2 * workers)
        await all_ended(plant, task.jobs, lambda: len(caprice.made))
        await plant.stop()
        told = {("local", made.key): made.job for made in caprice.made}
        verdict = await audit(task.database, told, pictures=plant.settings.assets_path)
        delays = _delays(caprice.made, plant.work.notes)
        verdict.wrong += await _zombies(task.database, told, plant.work.notes)
        points = await _points(task.database, told, plant.work.notes)
        overcharge = await _overcharge(task.database, told, plant.work.notes)
        late = f"a withdrawal took {max(delays, default=0.0):.2f} s to the backend"
        figures: dict[str, Figure] = {
            "jobs withdrawn": verdict.jobs,
            "ended": verdict.ended,
            **{f"withdrawn when {point}": points[point] for point in sorted(points)},
            "from the call to the backend: p50 / p99 / most, s": spread(delays),
            "charged beyond the model's own seconds: p50 / p99 / most, s": spread(overcharge),
            **verdict.counts,
        }
        missed = [late] if max(delays, default=0.0) > AT_BACKEND_SECONDS else []
        return task.came_to(figures, plant.explained(verdict.faults), missed)


def _delays(made: list[Withdrawal], notes: list[Note]) -> list[float]:
    """Seconds from the call to the end of the work that it stopped."""
    stopped = {note.key: note.at for note in notes if note.kind == "stopped"}
    return [stopped[it.key] - it.sent_at for it in made if it.key in stopped]


async def _zombies(database: Database, told: dict[tuple[str, str], str], notes: list[Note]) -> list[str]:
    """Work that went on after the job's end was recorded, or that never ended."""
    ended_at = {str(job): float(at) for job, at in await database.rows("SELECT id, completed_at FROM job")}
    last = {note.key: note for note in notes}
    late = [it.key for it in last.values() if it.at > ended_at[told["local", it.key]] + 0.001]
    open_ = [it.key for it in last.values() if it.kind in ("taken", "began")]
    faults = [f"work went on after the end of its job: {len(late)} times, such as {late[0]}"] if late else []
    return [*faults, *([f"work never ended: {len(open_)} times, such as {open_[0]}"] if open_ else [])]


async def _points(database: Database, told: dict[tuple[str, str], str], notes: list[Note]) -> Counter[str]:
    """At which point each job really was when it was withdrawn, from what came of it."""
    states = {str(job): str(state) for job, state in await database.rows("SELECT id, state FROM job")}
    tried = {str(job) for (job,) in await database.rows("SELECT DISTINCT job FROM attempt")}
    asked = {str(job) for (job,) in await database.rows("SELECT job FROM job_event WHERE kind = 'job.canceling'")}
    began = {told["local", note.key] for note in notes if note.kind == "began"}

    def point(job: str) -> str:
        if job not in tried:
            return "waiting"
        if states[job] == "succeeded":
            return "finishing" if job in asked else "ended"
        return "running" if job in began else "claimed"

    return Counter(point(job) for job in told.values())


async def _overcharge(database: Database, told: dict[tuple[str, str], str], notes: list[Note]) -> list[float]:
    """Seconds that each job was charged beyond those that the model had it in hand."""
    taken = {told["local", note.key]: note.at for note in notes if note.kind == "taken"}
    let_go = {told["local", note.key]: note.at for note in notes if note.kind in ("ended", "stopped")}
    charges = await database.rows("SELECT job, cost FROM ledger")
    return [float(cost) - (let_go.get(job, 0.0) - taken.get(job, 0.0)) for job, cost in charges]
