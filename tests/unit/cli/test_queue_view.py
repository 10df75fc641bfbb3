"""The queue on a screen: bars, the scale of virtual times, waits in colours, reasons."""

import io
from typing import Any

import pytest
from click.testing import CliRunner
from rich.console import Console

from sluicegate.cli import main
from sluicegate.cli.queue_view import bar, queue_view, scale, wait_text

WHY = "the tenant is first in line; all 2 workers are busy, the next is expected to be free in 12 s"


def tenant(name: str, **changes: Any) -> dict[str, Any]:
    return {
        "tenant": name,
        "tier": "free",
        "weight": 1.0,
        "queued": 2,
        "queued_cost": 25.0,
        "delayed": 0,
        "running": 1,
        "cap": None,
        "virtual_time": 10.0,
        "ahead": 0.0,
        "share": {"due": 0.5, "running": 0.25, "last_hour_jobs": 3, "last_hour_cost": 90.0},
        "unserved_since": "2026-01-01T00:00:00.000Z",
        "unserved_seconds": 4.0,
        "longest_wait_seconds": 75.0,
        "lanes": {"m": 2},
        "why": WHY,
        **changes,
    }


def totals(tenants: int, **changes: Any) -> dict[str, Any]:
    return {
        "tenants": tenants,
        "queued": 2 * tenants,
        "queued_cost": 25.0 * tenants,
        "delayed": 0,
        "running": tenants,
        "longest_wait_seconds": 75.0 if tenants else None,
        **changes,
    }


def pool(*tenants: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {
        "pool": "default",
        "virtual_time": 10.0,
        "capacity": {"workers": 2, "busy": 1, "models": {"m": {"workers": 2, "loaded": 1}}},
        "totals": totals(len(tenants)),
        "tenants": list(tenants),
        "rest": None,
        "running_jobs": [],
        **changes,
    }


def report(*pools: dict[str, Any]) -> dict[str, Any]:
    return {"at": "2026-01-01T00:00:04.000Z", "pools": list(pools)}


def screen(value: dict[str, Any], width: int = 140) -> str:
    console = Console(file=io.StringIO(), width=width, record=True)
    console.print(queue_view(value, width))
    return console.export_text()


def test_each_tenant_has_a_row_with_its_share_its_place_and_its_wait() -> None:
    text = screen(report(pool(tenant("anna", cap=4), tenant("bert", ahead=30.0))))
    assert "pool default   2 workers (1 busy)   queued 4 (50 s of work)   running 2   2 tenants   clock 10.0" in text
    assert "workers by model: m 2 (1 loaded)" in text
    (anna,) = [line for line in text.splitlines() if line.startswith("anna")]
    left, right = anna.split("██▌")
    assert left.split() == ["anna", "free", "2", "25", "s", "1/4"]
    assert right.split("██████████")[0].strip() == "25% (due 50%)"
    assert right.split("██████████")[1].split() == [
        "1",
        "min",
        "30",
        "s",
        "●············",
        "+0.0",
        "1",
        "min",
        "15",
        "s",
    ]


def test_tenants_that_wait_for_the_same_reason_share_a_line() -> None:
    text = screen(report(pool(*(tenant(f"t{number}") for number in range(5)), tenant("odd", why="else"))))
    assert f"t0, t1, t2 and 2 more: {WHY}" in text
    assert "odd: else" in text


def test_those_that_are_not_listed_are_one_row() -> None:
    text = screen(report(pool(tenant("anna"), rest=totals(9_999))))
    (row,) = [line for line in text.splitlines() if line.startswith("and 9999 more")]
    assert "19998" in row
    assert "69 h 26 min" in row


def test_an_empty_queue_without_workers_says_so() -> None:
    idle = {"workers": 0, "busy": 0, "models": {}}
    text = screen(report(pool(capacity=idle)))
    assert "0 workers (0 busy)   queued 0   running 0   0 tenants" in text
    assert "no worker, so no model" in text


def test_a_report_without_pools_says_so() -> None:
    assert screen(report()).strip() == "No such pool."


def test_nothing_is_cut_off_on_a_screen_of_eighty_columns() -> None:
    running = {
        "job": "job_01k3abcdefghjkmnpqrstvwxyz",
        "tenant": "anna",
        "tier": "free",
        "model": "m",
        "state": "running",
        "worker": "worker_01k3abcdefghjkmnpqrstvwxyz",
        "progress": 0.5,
        "cost": 20.0,
        "claimed_at": "2026-01-01T00:00:00.000Z",
        "running_seconds": 5.0,
        "expected_remaining_seconds": 5.0,
        "preemptions": 0,
        "preempting": True,
    }
    text = screen(report(pool(tenant("anna", ahead=-1234.5, delayed=12), running_jobs=[running])), width=80)
    assert "…" not in text
    assert "-1234.5" in text
    assert "job_01k3abcdefghjkmnpqrstvwxyz" in text
    assert "gives way" in text


def test_what_tenants_are_called_does_not_steer_the_terminal() -> None:
    assert "\x1b" not in screen(report(pool(tenant("\x1b[31mred"))))


@pytest.mark.parametrize(
    ("value", "drawn"), [(0.0, ""), (1.0, "██████████"), (0.5, "█████"), (0.06, "▋"), (7.0, "█" * 10)]
)
def test_a_bar_is_as_long_as_its_share(value: float, drawn: str) -> None:
    assert bar(value, "").plain.rstrip() == drawn


def test_the_scale_runs_from_the_least_to_the_most_with_the_clock_on_it() -> None:
    assert scale(-6.0, -6.0, 6.0).plain == "●·····│······ -6.0"
    assert scale(6.0, -6.0, 6.0).plain == "······│·····● +6.0"
    assert scale(0.0, 0.0, 0.0).plain == "●············ +0.0"


def test_longer_waits_are_redder() -> None:
    styles = [str(wait_text(seconds).style) for seconds in (1.0, 30.0, 100.0, 1_000.0)]
    assert styles == ["green", "yellow", "dark_orange", "red"]
    assert wait_text(None).plain == ""


def test_watching_the_queue_needs_a_terminal() -> None:
    result = CliRunner().invoke(main, ["jobs", "queue", "--watch"])

    assert result.exit_code == 2
    assert "needs a terminal" in result.stderr
