"""The access log over a stream that takes nothing any more."""

import asyncio
import io
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.lane_driver import leap, run_leaping

from sluicegate.observability.access_log import FLUSH_SECONDS, AccessLog
from sluicegate.observability.logs import configure_logs
from sluicegate.settings import ObservabilitySettings


@pytest.fixture(autouse=True)
def _restore() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def test_a_closed_file_harms_no_request(tmp_path: Path) -> None:
    async def scenario() -> None:
        with (tmp_path / "log").open("w") as stream:
            configure_logs(ObservabilitySettings(log_format="json"), stream)
        log = AccessLog()
        for _ in range(600):
            log.request("acme", "POST", "/api/chat", 200, 0.01, "req_1")
        log.close()

    asyncio.run(scenario())


def test_lines_are_written_in_time_again_and_again() -> None:
    async def scenario() -> None:
        stream = io.StringIO()
        configure_logs(ObservabilitySettings(log_format="json"), stream)
        log = AccessLog()
        for count in range(1, 4):
            log.request("acme", "POST", "/api/chat", 200, 0.01, "req_1")
            await leap(FLUSH_SECONDS)
            assert stream.getvalue().count("\n") == count
        log.close()

    run_leaping(scenario())
