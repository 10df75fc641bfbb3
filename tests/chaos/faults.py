"""When what is hurt, drawn from the seed: the same seed gives the same order of blows at the same progress."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from tests.chaos.patience import until

Hand = Callable[[], Awaitable[bool]]
"""Deals one blow; False when there was nothing to hurt just now."""


class Blow(NamedTuple):
    """Hurt when `progress` jobs are done."""

    progress: int
    delay: float
    """Seconds between the progress and the blow, so that it falls at any point of the work."""


def plan(rng: random.Random, jobs: int, count: int) -> list[Blow]:
    """`count` blows, spread over the middle of a run of `jobs` jobs."""
    return sorted(Blow(round(rng.uniform(0.01, 0.97) * jobs), rng.uniform(0.0, 0.03)) for _ in range(count))


async def strike(blows: list[Blow], progress: Callable[[], int], hand: Hand) -> None:
    """Deal each blow when its time has come; one that found nothing to hurt is dealt again."""
    for blow in blows:
        await until(lambda wanted=blow.progress: progress() >= wanted)  # type: ignore[misc]
        await asyncio.sleep(blow.delay)
        dealt = await hand()
        while not dealt:
            await asyncio.sleep(0.01)
            dealt = await hand()
