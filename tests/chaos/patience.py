"""Waiting for what cannot be heard of: files, tables and processes are looked at again and again."""

import asyncio
import time
from collections.abc import Callable

PATIENCE = 120.0
"""Seconds after which an awaited event counts as lost."""
_PAUSE_SECONDS = 0.01


async def until(is_so: Callable[[], bool], patience: float | None = None) -> None:
    """Return when it is so; after `patience` seconds raise `TimeoutError`."""
    end = None if patience is None else time.monotonic() + patience
    while True:
        if is_so():
            return
        if end is not None and time.monotonic() > end:
            raise TimeoutError(f"not so within {patience:g} s")
        await asyncio.sleep(_PAUSE_SECONDS)
