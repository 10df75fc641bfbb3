"""What every engine does around its operations: a claim that nobody waits for any more, and work done in batches."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import msgspec

from sluicegate.domain.job import Claim, Lease, Recovery


class Search(msgspec.Struct, frozen=True):
    """What a claim found, and whether jobs may be left that it did not come to look at."""

    claim: Claim | None
    unfinished: bool = False


async def carry_through(search: Coroutine[Any, Any, Search], hand_back: Callable[[Lease], Awaitable[bool]]) -> Search:
    """Run a claim to its end; when nobody waits for it any more, return the job to the queue."""
    task = asyncio.ensure_future(search)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        with contextlib.suppress(Exception):  # the lease will expire
            found = await task
            if found.claim is not None:
                await hand_back(found.claim.lease)
        raise


async def in_batches(batch: Callable[[], Awaitable[Recovery]], size: int) -> Recovery:
    """The sum of batches of at most `size` jobs of each kind, until one is not full."""
    done = Recovery()
    while True:
        part = await batch()
        done = Recovery(
            **{field: getattr(done, field) + getattr(part, field) for field in msgspec.structs.asdict(part)}
        )
        if part.total < size:
            return done
