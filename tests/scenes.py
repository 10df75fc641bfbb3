"""Scenes before one server and its lane, with callers and backends in memory: see tests/lane_driver.py.

async def scene(plant: Plant, backend: WiredBackend) -> None:
    ...

play(scene)
"""

import json
from collections.abc import Awaitable, Callable
from typing import Any

from tests.lane_driver import Plant, WiredBackend, echo_app, run_leaping, served

HEARTBEAT = b": heartbeat\n\n"


def play(scene: Callable[[Plant, WiredBackend], Awaitable[None]], **more: Any) -> None:
    """Play a scene with one backend; what is not on the lane is echoed."""

    async def scenario() -> None:
        backend = WiredBackend()
        async with served(backend, **{"app": echo_app(), **more}) as plant:
            await scene(plant, backend)

    run_leaping(scenario())


def play_pair(scene: Callable[[Plant, WiredBackend, WiredBackend], Awaitable[None]], **more: Any) -> None:
    """Play a scene with two backends, of which the first is asked first; what is not on the lane is our application."""

    async def scenario() -> None:
        first, second = WiredBackend("first"), WiredBackend("second")
        async with served(first, second, **more) as plant:
            await scene(plant, first, second)

    run_leaping(scenario())


def last_data(body: bytes) -> dict[str, Any]:
    """The data of the last event."""
    lines = [line for line in body.split(b"\n") if line.startswith(b"data: ")]
    told: dict[str, Any] = json.loads(lines[-1].removeprefix(b"data: "))
    return told
