"""One of several processes that all submit the same keys at the same time: ``python -m tests.chaos.caller_process``.

Reads one JSON line (`Orders`), submits every key, and writes one JSON object: key to the ids that were told for it.
"""

import asyncio
import random
import sys
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import httpx
import msgspec
from tests.chaos.callers import HttpCaller
from tests.chaos.small_pictures import Order

_WINDOW = 40
"""Processes run through the keys in the same order, but for a shuffle of so many neighbours: thus duplicates meet."""


class Orders(msgspec.Struct, frozen=True, kw_only=True):
    """Which keys, how often each, to whom."""

    urls: tuple[str, ...]
    keys: int
    repeats: int
    lines: int
    seed: int
    key_seed: int
    """Bodies are drawn from this one: the same in every process."""


def body(key: str, seed: int) -> dict[str, Any]:
    """The body that belongs to a key."""
    rng = random.Random(f"{seed} {key}")
    words = {"prompt": Order(key).prompt, "seed": rng.randrange(2**32), "previews": 0}
    return {"model": "sprout", "task": "text-to-image", "input": words, "metadata": {"note": rng.randrange(10**6)}}


async def submit_all(orders: Orders) -> dict[str, list[str]]:
    """What was told for each key."""
    told: defaultdict[str, list[str]] = defaultdict(list)
    rng = random.Random(orders.seed)
    numbers = _nearly_in_order(orders, rng)
    async with httpx.AsyncClient(timeout=30.0, trust_env=False) as client:
        caller = HttpCaller(client, orders.urls, rng)

        async def line() -> None:
            for number in numbers:
                key = f"key-{number}"
                told[key].append(await caller.submit(key, body(key, orders.key_seed)))

        await asyncio.gather(*(line() for _ in range(orders.lines)))
    return told


def _nearly_in_order(orders: Orders, rng: random.Random) -> Iterator[int]:
    for start in range(0, orders.keys, _WINDOW):
        window = list(range(start, min(start + _WINDOW, orders.keys))) * orders.repeats
        rng.shuffle(window)
        yield from window


def main() -> None:
    """Entry point."""
    orders = msgspec.json.decode(sys.stdin.readline(), type=Orders)
    sys.stdout.buffer.write(msgspec.json.encode(asyncio.run(submit_all(orders))) + b"\n")


if __name__ == "__main__":
    main()
