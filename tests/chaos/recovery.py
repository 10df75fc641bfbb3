"""Row 4: how long until others take over from a worker that was killed, and until a killed gateway serves again;
and that an orderly stop runs nothing twice."""

import asyncio
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass

import httpx
from tests.chaos.audit import audit
from tests.chaos.callers import Crowd, HttpCaller
from tests.chaos.outcome import Figure, Outcome, Task, percentile, spread
from tests.chaos.patience import PATIENCE, until
from tests.chaos.plant import Plant
from tests.chaos.small_pictures import Order
from tests.chaos.storm import all_ended, taken_again
from tests.gateway import picture

TAKEN_AGAIN_SECONDS = 20.0
SERVING_AGAIN_SECONDS = 3.0
_HELD_SECONDS = 600.0
"""How long held work would take if its worker lived."""
_JOBS_A_STOP = 20


@dataclass(frozen=True)
class Plan:
    """Kill `task.jobs` workers in the middle of their work, `at_once` together, with nobody to report their death;
    kill the gateway `gateway_kills` times; stop processes in order `drains` times under load."""

    gateway_kills: int
    drains: int
    at_once: int = 20
    lease: float = 15.0
    beat: float = 5.0


async def recover(task: Task, plan: Plan) -> Outcome:
    """Carry the plan out."""
    at_once = min(plan.at_once, task.jobs)
    async with Plant(
        task.database, seed=task.seed, workers=at_once, lease=plan.lease, beat=plan.beat, reported=0.0
    ) as plant:
        run = _Run(task, plan, plant)
        while len(run.told) < task.jobs:
            await run.kill_workers(min(at_once, task.jobs - len(run.told)))
        taken = [seconds for worker in plant.workers for _, seconds in taken_again(worker, plant.work.notes)]
        serving = [await run.kill_gateway(number) for number in range(plan.gateway_kills)]
        await all_ended(plant, len(run.told), lambda: len(plant.work.finished))
        again = await run.stop_in_order()
        await plant.stop()
        verdict = await audit(task.database, run.told, pictures=plant.settings.assets_path, uploads=1)
        if again:
            verdict.wrong.append(f"orderly stops made {again} jobs run again")
        figures: dict[str, Figure] = {
            "workers killed": len(taken),
            "job taken again: p50 / p99 / most, s": spread(taken),
            "gateway kills": len(serving),
            "gateway takes a job again: p50 / p99 / most, s": spread(serving),
            "orderly stops under load": plan.drains,
            "jobs that they made run again": again,
            **verdict.counts,
        }
        return task.came_to(figures, plant.explained(verdict.faults), _missed(taken, serving))


class _Run:
    def __init__(self, task: Task, plan: Plan, plant: Plant) -> None:
        self.told: dict[tuple[str, str], str] = {}
        self._task = task
        self._plan = plan
        self._plant = plant
        self._rng = random.Random(f"{task.seed} recovery")
        self._caller = HttpCaller(plant.client, [plant.gateways[0].url], self._rng)
        self._steps = task.jobs + plan.gateway_kills + plan.drains

    async def kill_workers(self, count: int) -> None:
        """Give each of `count` workers work, kill each at its own moment of a heartbeat's length, and wait until
        every job is done by the workers that were started in place of the dead."""
        plant = self._plant
        orders = [Order(f"held-{len(self.told) + number}", _HELD_SECONDS, once=True) for number in range(count)]
        for order in orders:
            self.told["local", order.key] = await self._caller.submit(order.key, _body(order))
        holders = [(await plant.work.heard("began", order.key, PATIENCE)).pid for order in orders]
        workers = {worker.process.pid: worker for worker in plant.workers}

        async def kill(pid: int) -> None:
            await asyncio.sleep(self._rng.uniform(0.0, self._plan.beat))
            workers[pid].kill()

        await asyncio.gather(*(kill(pid) for pid in holders))
        for order in orders:
            await plant.work.heard("ended", order.key, PATIENCE)
        self._task.show(len(self.told), self._steps, "workers killed, their jobs done by others")

    async def kill_gateway(self, number: int) -> float:
        """Seconds from the kill until the gateway accepts a job."""
        gateway, order = self._plant.gateways[0], Order(f"after-{number}")
        await gateway.up()
        await asyncio.sleep(self._rng.uniform(0.0, 0.2))
        killed_at = time.monotonic()
        gateway.kill()
        while True:
            try:
                answer = await self._plant.client.post(
                    f"{gateway.url}/v1/jobs", json=_body(order), headers={"idempotency-key": order.key}
                )
            except httpx.TransportError:
                await asyncio.sleep(0.01)
                continue
            if answer.status_code == 202:
                self.told["local", order.key] = str(answer.json()["id"])
                self._task.show(self._task.jobs + number + 1, self._steps, "gateway killed, serving again")
                return time.monotonic() - killed_at

    async def stop_in_order(self) -> int:
        """Stop processes by SIGTERM, one after another, while a crowd submits; how many jobs ran once more for it."""
        plant, jobs = self._plant, self._plan.drains * _JOBS_A_STOP
        before, notes = len(plant.work.finished), len(plant.work.notes)
        done = lambda: len(plant.work.finished) - before  # noqa: E731
        crowd = Crowd(jobs, seed=self._task.seed, backlog=60, finished=done, prefix="drained")

        async def stop_now_and_then() -> None:
            for number in range(self._plan.drains):
                await until(lambda wanted=number * _JOBS_A_STOP: done() >= wanted)  # type: ignore[misc, no-untyped-call]
                machine = plant.gateways[0] if number % 5 == 4 else self._rng.choice(plant.workers)
                await machine.up()
                machine.ask_to_stop()

        async with asyncio.TaskGroup() as group:
            group.create_task(crowd.run(self._caller, plant.direct, picture(64, 64), lines=6))
            group.create_task(stop_now_and_then())
            await all_ended(plant, len(self.told) + jobs, done)
        self.told.update(crowd.told)
        self._task.show(self._steps, self._steps, "processes stopped in order")
        return sum(note.kind == "taken" for note in plant.work.notes[notes:]) - jobs


def _body(order: Order) -> Mapping[str, object]:
    words = {"prompt": order.prompt, "seed": 1, "previews": 0}
    return {"model": "sprout", "task": "text-to-image", "input": words}


def _missed(taken: list[float], serving: list[float]) -> list[str]:
    missed = []
    if percentile(taken, 0.99) > TAKEN_AGAIN_SECONDS:
        missed.append(f"p99 until a killed worker's job was taken again: {percentile(taken, 0.99):.1f} s")
    if max(serving) > SERVING_AGAIN_SECONDS:
        missed.append(f"a killed gateway served again after {max(serving):.1f} s")
    return missed
