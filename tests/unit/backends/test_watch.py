"""Looking after a server goes on, whatever a look brings."""

import asyncio

import pytest
from tests.upstream import eventually

from sluicegate.backends.backend import Health
from sluicegate.backends.watch import Watch


def test_a_probe_that_fails_by_a_fault_of_ours_counts_as_down_and_is_made_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    looks: list[Health | Exception] = [Health(state="up"), KeyError("a fault of ours"), Health(state="up")]
    seen: list[str] = []

    async def scenario() -> None:
        async def probe() -> Health:
            seen.append(watch.health.state)
            look = looks.pop(0) if looks else Health(state="up")
            if isinstance(look, Exception):
                raise look
            return look

        watch = Watch("up", probe, up_seconds=0.001, down_seconds=0.001)
        watch.start()
        await eventually(lambda: len(seen) >= 4)
        await watch.stop()

    asyncio.run(scenario())
    assert seen[:4] == ["starting", "up", "down", "up"]
    assert "a fault of ours" in caplog.text
