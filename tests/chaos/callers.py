"""Callers as they should be: each job has a key, and is sent again with it until an answer comes."""

import asyncio
import random
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import httpx
from tests.chaos.patience import until
from tests.chaos.small_pictures import Order

from sluicegate.domain.fairness import Tier
from sluicegate.domain.ids import Tenant, new_job_id
from sluicegate.domain.job import Idempotency, NewJob
from sluicegate.errors import QueueFull, StoreUnavailable
from sluicegate.storage.contracts import JobStore, Signals

_LONGEST_SILENCE = 180.0
_LONGEST_PAUSE = 2.0
"""A Retry-After is kept to up to so many seconds, so that a run is bounded."""
TENANTS: Sequence[tuple[Tenant, Tier]] = (
    (Tenant("ada"), Tier(name="free", weight=1.0, concurrent_jobs=2)),
    (Tenant("ben"), Tier(name="basic", weight=4.0)),
    (Tenant("cyd"), Tier(name="pro", weight=16.0, preemptible=True)),
)


class Refused(Exception):
    """An answer after which no sane caller repeats, or none for minutes."""


class HttpCaller:
    """Calls one of the gateways, and another one after a failure."""

    def __init__(self, client: httpx.AsyncClient, urls: Sequence[str], rng: random.Random) -> None:
        self.repeats = 0
        self._client = client
        self._urls = urls
        self._rng = rng

    async def submit(self, key: str, body: Mapping[str, Any]) -> str:
        """The id of the key's job, once a gateway has told it. Raises `Refused`."""
        answer = await self._until_told("/v1/jobs", {"idempotency-key": key}, body)
        return str(answer.json()["id"])

    async def cancel(self, job: str) -> str:
        """Withdraw a job; the status that the answer tells."""
        return str((await self._until_told(f"/v1/jobs/{job}/cancel", {}, None)).json()["status"])

    async def upload(self, picture: bytes) -> str:
        """Store a picture; its asset id. Not repeated: nothing has been killed yet."""
        headers = {"content-type": "image/png"}
        answer = await self._client.post(f"{self._urls[0]}/v1/assets", content=picture, headers=headers)
        answer.raise_for_status()
        return str(answer.json()["id"])

    async def _until_told(
        self, path: str, headers: Mapping[str, str], body: Mapping[str, Any] | None
    ) -> httpx.Response:
        end = time.monotonic() + _LONGEST_SILENCE
        while time.monotonic() < end:
            url = self._rng.choice(self._urls)
            pause = self._rng.uniform(0.02, 0.06)
            try:
                answer = await self._client.post(f"{url}{path}", json=body, headers=headers)
                if answer.is_success:
                    return answer
                if answer.status_code not in (429, 503):
                    raise Refused(f"{path} was answered {answer.status_code}: {answer.text[:300]}")
                pause += min(float(answer.headers.get("retry-after", 1)), _LONGEST_PAUSE)
            except httpx.TransportError:
                pass
            self.repeats += 1
            await asyncio.sleep(pause)
        raise Refused(f"{path} was not answered within {_LONGEST_SILENCE:g} s")


class DirectCaller:
    """Puts jobs into the store as a gateway does, for tenants of other tiers: a gateway without keys knows only one."""

    def __init__(self, store: JobStore, signals: Signals) -> None:
        self._store = store
        self._signals = signals

    async def submit(self, rng: random.Random, order: Order) -> tuple[Tenant, str]:
        """A tenant, drawn, and the id of its job, once the store has told it."""
        tenant, tier = rng.choice(TENANTS)
        priority, cost = rng.choice((-1, 0, 0, 0, 2)), rng.uniform(0.1, 3.0)
        while True:
            new = NewJob(
                id=new_job_id(),
                tenant=tenant,
                tier=tier,
                cost=cost,
                model="sprout",
                task="text-to-image",
                input={"prompt": order.prompt, "seed": 1},
                priority=priority,
                max_attempts=50,
            )
            try:
                submission = await self._store.submit(new, Idempotency(order.key, order.prompt))
            except (StoreUnavailable, QueueFull):
                await asyncio.sleep(0.1)
                continue
            self._signals.notify("jobs", "events")
            return tenant, submission.job.id


class Crowd:
    """Sends `jobs` jobs, some at a time, by several ways; `told` holds what was acknowledged.

    Seven of ten come over HTTP (a fifth of these with a picture), the others directly for tenants of three tiers.
    """

    def __init__(self, jobs: int, *, seed: int, backlog: int, finished: Callable[[], int], prefix: str = "key") -> None:
        self.told: dict[tuple[str, str], str] = {}
        """(tenant, key) to job id."""
        self.uploads = 0
        self.repeats = 0
        self._prefix = prefix
        self._seed = seed
        self._backlog = backlog
        self._finished = finished
        self._next = iter(range(jobs))

    async def run(self, caller: HttpCaller, direct: DirectCaller, picture: bytes, *, lines: int) -> None:
        """Submit all, by `lines` at a time, never more than `backlog` ahead of the work."""
        asset = await caller.upload(picture)
        self.uploads += 1
        async with asyncio.TaskGroup() as group:
            for _ in range(lines):
                group.create_task(self._line(caller, direct, asset))
        self.repeats = caller.repeats

    async def _line(self, caller: HttpCaller, direct: DirectCaller, asset: str) -> None:
        for number in self._next:
            rng = random.Random(f"{self._seed} job {number}")
            order = Order(f"{self._prefix}-{number}", rng.choice((0.0, 0.0, 0.0, 0.01)))
            await until(lambda: len(self.told) - self._finished() <= self._backlog)
            if rng.random() < 0.7:
                self.told["local", order.key] = await caller.submit(order.key, _body(rng, order, asset))
            else:
                tenant, job = await direct.submit(rng, order)
                self.told[tenant, order.key] = job


def _body(rng: random.Random, order: Order, asset: str) -> Mapping[str, Any]:
    if rng.random() < 0.2:
        return {
            "model": "style-transfer",
            "task": "image-to-image",
            "input": {"prompt": order.prompt, "image": asset},
            "priority": rng.choice((0, 0, 1)),
        }
    seed = rng.randrange(2**32)
    return {"model": "sprout", "task": "text-to-image", "input": {"prompt": order.prompt, "seed": seed, "previews": 0}}
