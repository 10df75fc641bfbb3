"""One scripted server for all tests of the client, and both event loops to run them on."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
import uvloop
from tests.upstream import Upstream, scripted_upstream

Play = Callable[[Callable[[], Awaitable[None]]], None]


@pytest.fixture(scope="session")
def _shared_upstream() -> Iterator[Upstream]:
    with scripted_upstream() as upstream:
        yield upstream


@pytest.fixture
def upstream(_shared_upstream: Upstream) -> Upstream:
    """The server, with all counts at nothing."""
    _shared_upstream.forget()
    return _shared_upstream


@pytest.fixture(params=["asyncio", "uvloop"])
def play(request: pytest.FixtureRequest) -> Play:
    """Runs a scene on an event loop of its own."""

    def run(scene: Callable[[], Awaitable[None]]) -> None:
        factory: Any = uvloop.new_event_loop if request.param == "uvloop" else None
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(_as_coroutine(scene))

    return run


async def _as_coroutine(scene: Callable[[], Awaitable[None]]) -> None:
    await scene()
