"""Lists and facts of jobs."""

import asyncio
import io
from datetime import UTC, datetime
from typing import Any

from click.testing import CliRunner
from rich.console import Console
from tests.unit.cli.scripted_gateway import job_value, json_answer, scripted_gateway

from sluicegate.cli import main
from sluicegate.cli.connection import Target, connect
from sluicegate.cli.jobs import facts, table
from sluicegate.cli.terminal import WIDE


def test_the_facts_of_a_job_leave_out_what_is_not_known() -> None:
    names = [name for name, _ in facts(job_value("queued", queue_position=2))]

    assert names == ["job", "state", "model", "task", "created", "attempts", "backend"]


def test_the_facts_of_a_failed_job_say_why() -> None:
    job = job_value("failed", error={"code": "attempts_exhausted", "message": "3 attempts failed"})

    assert ("error", "3 attempts failed (attempts_exhausted)") in facts(job)


def test_pages_are_followed_until_the_limit() -> None:
    async def scenario() -> None:
        async with scripted_gateway() as gateway:
            page: dict[str, Any] = {"data": [job_value("queued")], "next_cursor": "job_1"}
            last: dict[str, Any] = {"data": [job_value("failed")], "next_cursor": None}
            gateway.script("GET", "/v1/jobs", json_answer(page), json_answer(last))
            async with connect(Target(url=gateway.url)) as client:
                first, cursor = await client.jobs({"limit": 1})
                second, end = await client.jobs({"limit": 1, "cursor": cursor or ""})

            assert [job["status"] for job in (*first, *second)] == ["queued", "failed"]
            assert (cursor, end) == ("job_1", None)

    asyncio.run(scenario())


def test_the_table_shortens_nothing_where_there_is_no_terminal() -> None:
    job = job_value("succeeded", model="a-model-with-a-rather-long-name/" * 3)
    screen = Console(file=io.StringIO(), width=WIDE, record=True)
    screen.print(table([job], now=datetime(2026, 1, 1, 0, 1, tzinfo=UTC)))
    text = screen.export_text()

    assert job["model"] in text
    assert "1 min 00 s" in text


def test_places_and_expected_ends_have_columns_where_there_are_any() -> None:
    now = datetime(2026, 1, 1, 0, 1, tzinfo=UTC)
    waiting = job_value("queued", queue_position=7, eta_seconds=42.0)

    assert [column.header for column in table([job_value("queued")], now=now).columns][:3] == ["job", "state", "model"]
    shown = table([waiting, job_value("succeeded")], now=now)
    assert [column.header for column in shown.columns][:4] == ["job", "state", "place", "eta"]
    assert list(shown.columns[2].cells) == ["7", ""]
    assert list(shown.columns[3].cells) == ["42 s", ""]


def test_the_facts_of_a_waiting_job_say_why_it_waits_and_how_long() -> None:
    told = facts(job_value("queued", waiting_for="1 worker is free and will take it soon", eta_seconds=1.5))

    assert ("why", "1 worker is free and will take it soon") in told
    assert ("eta", "1.5 s") in told


def test_watching_everything_needs_a_terminal() -> None:
    result = CliRunner().invoke(main, ["jobs", "watch"])

    assert result.exit_code == 2
    assert "needs a terminal" in result.stderr


def test_without_a_gateway_the_mend_is_to_start_one() -> None:
    async def scenario() -> str:
        async with connect(Target()) as client:
            return client.mend

    assert "sluicegate serve" in asyncio.run(scenario())
