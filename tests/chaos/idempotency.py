"""Row 9: many keys, each submitted several times at once from several processes, make one job for each key."""

import asyncio
import random
import sys

import msgspec
from tests.chaos.audit import audit
from tests.chaos.caller_process import Orders
from tests.chaos.faults import plan, strike
from tests.chaos.outcome import Outcome, Task
from tests.chaos.patience import PATIENCE, until
from tests.chaos.plant import Plant
from tests.chaos.storm import kill_one

_LINES = 6
_LONGEST_LINE = 1 << 26


async def race(task: Task, *, processes: int, repeats: int = 1, kills: int) -> Outcome:
    """So many processes submit every key, each `repeats` times, to two gateways, which are killed `kills` times."""
    rng = random.Random(f"{task.seed} race")
    async with Plant(task.database, seed=task.seed, gateways=2, workers=0) as plant:
        counter = _Counter(plant, task)
        async with asyncio.TaskGroup() as group:
            counting = group.create_task(counter.run())
            blows = plan(rng, task.jobs, kills)
            group.create_task(strike(blows, lambda: counter.jobs, lambda: kill_one(rng, plant.gateways)))
            asked = [_orders(plant, task, rng, repeats) for _ in range(processes)]
            answers = await asyncio.gather(*(_call(orders) for orders in asked))
            await until(lambda: counter.jobs >= task.jobs, PATIENCE)
            counting.cancel()
        await plant.stop()
        told = {("local", key): ids[0] for answer in answers for key, ids in answer.items()}
        verdict = await audit(task.database, told, pictures=plant.settings.assets_path, ended=False)
        apart = [key for answer in answers for key, ids in answer.items() if set(ids) != {told["local", key]}]
        if apart:
            verdict.duplicate.append(f"different jobs were told for one key: {len(apart)} times, such as {apart[0]}")
        figures = {
            "keys": len(told),
            "submissions that were answered": sum(len(ids) for answer in answers for ids in answer.values()),
            "processes": processes,
            "gateway kills": sum(gateway.kills for gateway in plant.gateways),
            "jobs": verdict.jobs,
            **verdict.counts,
        }
        return task.came_to(figures, plant.explained(verdict.faults))


class _Counter:
    def __init__(self, plant: Plant, task: Task) -> None:
        self.jobs = 0
        self._plant = plant
        self._task = task

    async def run(self) -> None:
        while True:
            self.jobs = await self._plant.count("job")
            kills = sum(gateway.kills for gateway in self._plant.gateways)
            self._task.show(self.jobs, self._task.jobs, f"keys are jobs, {kills} gateways killed")
            await asyncio.sleep(0.1)


def _orders(plant: Plant, task: Task, rng: random.Random, repeats: int) -> Orders:
    urls = tuple(gateway.url for gateway in plant.gateways)
    seed = rng.randrange(2**32)
    return Orders(urls=urls, keys=task.jobs, repeats=repeats, lines=_LINES, seed=seed, key_seed=task.seed)


async def _call(orders: Orders) -> dict[str, list[str]]:
    """Run one process of callers to its end; what it was told."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.chaos.caller_process",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=_LONGEST_LINE,
    )
    try:
        answer, _ = await process.communicate(msgspec.json.encode(orders) + b"\n")
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        raise RuntimeError(f"the process of callers ended with code {process.returncode}")
    return msgspec.json.decode(answer, type=dict[str, list[str]])
