"""``sluicegate jobs``: list, show, watch, cancel, and the whole queue."""

import asyncio
import sys
from collections.abc import Iterable, Mapping
from contextlib import aclosing
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from sluicegate.cli.client import Json, describe_output
from sluicegate.cli.connection import Target, connect
from sluicegate.cli.follow import Follower
from sluicegate.cli.generate import why_not
from sluicegate.cli.options import json_option, url_options
from sluicegate.cli.progress import describe, display, share
from sluicegate.cli.queue_view import queue_view
from sluicegate.cli.terminal import Failure, console, is_terminal, print_json, printable, run, seconds_text

if TYPE_CHECKING:
    from rich.table import Table

STATUSES = ("queued", "running", "canceling", "succeeded", "failed", "canceled", "expired")
REFRESH_SECONDS = 1.0
PAGE = 100
"""Most jobs that the gateway lists at once."""
MOST_TENANTS = 500
"""Most tenants of a pool that it lists at once."""
_COLOURS = {"succeeded": "green", "failed": "red", "running": "cyan", "expired": "yellow", "canceled": "yellow"}


@click.group()
def jobs() -> None:
    """Look at picture jobs, follow them, withdraw them."""


@jobs.command(
    "list",
    epilog="""\b
Examples:
  sluicegate jobs list --status running
  sluicegate jobs list --limit 500 --json""",
)
@click.option("--status", type=click.Choice(STATUSES), help="Only jobs in this state. Default: all.")
@click.option("-m", "--model", help="Only jobs of this model. Default: all.")
@click.option("--limit", type=click.IntRange(1, 100_000), default=20, show_default=True, help="How many jobs at most.")
@json_option
@url_options
def list_jobs(
    *, status: str | None, model: str | None, limit: int, as_json: bool, url: str | None, api_key: str | None
) -> None:
    """List jobs, newest first."""
    rows = run(_list(Target(url=url, api_key=api_key), status, model, limit))
    if as_json:
        print_json(rows)
    elif not rows:
        click.echo("No jobs.", err=True)
    else:
        console().print(table(rows, now=datetime.now(UTC)))


async def _list(target: Target, status: str | None, model: str | None, limit: int) -> list[Json]:
    wanted = {"status": status, "model": model}
    fixed = {name: value for name, value in wanted.items() if value is not None}
    rows: list[Json] = []
    cursor: str | None = None
    async with connect(target) as client:
        while len(rows) < limit:
            page = {"limit": min(PAGE, limit - len(rows))} | ({"cursor": cursor} if cursor else {})
            more, cursor = await client.jobs({**fixed, **page})
            rows += more
            if cursor is None:
                break
    return rows


@jobs.command(
    epilog="""\b
Example:
  sluicegate jobs show job_01k3abcdefghjkmnpqrstvwxyz"""
)
@click.argument("job_id", metavar="ID")
@json_option
@url_options
def show(job_id: str, as_json: bool, url: str | None, api_key: str | None) -> None:
    """Show one job: its state, times, outputs, and why it failed."""

    async def fetch() -> Json:
        async with connect(Target(url=url, api_key=api_key)) as client:
            return await client.job(job_id)

    job = run(fetch())
    if as_json:
        print_json(job)
        return
    for name, value in facts(job):
        click.echo(f"{name:<10}{printable(value)}")


@jobs.command(
    epilog="""\b
Examples:
  sluicegate jobs watch job_01k3abcdefghjkmnpqrstvwxyz
  sluicegate jobs watch"""
)
@click.argument("job_id", metavar="[ID]", required=False)
@click.option("--limit", type=click.IntRange(1, PAGE), default=15, show_default=True, help="Rows of the live table.")
@json_option
@url_options
def watch(job_id: str | None, limit: int, as_json: bool, url: str | None, api_key: str | None) -> None:
    """Follow a job until it ends; without an ID, show a live table of the newest jobs.

    With --json each change is one line on stdout. Ctrl-C ends the watching, not the job. Exit code 1 when the job
    ends without a result.
    """
    target = Target(url=url, api_key=api_key)
    if job_id is None:
        if as_json or not is_terminal(sys.stdout):
            raise click.UsageError("name a job's ID; the live table needs a terminal (jobs list --json does not)")
        run(_watch_all(target, limit))
        return
    job = run(_watch_one(target, job_id, as_json=as_json))
    if job["status"] != "succeeded":
        raise Failure(why_not(job))
    if not as_json:
        click.echo(f"{job_id} succeeded")
        for output in job["outputs"]:
            click.echo(describe_output(output))


async def _watch_one(target: Target, job_id: str, *, as_json: bool) -> Json:
    async with connect(target) as client:
        job = await client.job(job_id)
        with display(quiet=as_json) as shown:
            async with aclosing(Follower(client, job).snapshots()) as snapshots:
                async for current in snapshots:
                    shown.show(current)
                    if as_json and (current is job or current != job):
                        print_json(current, lines=True)
                    job = current
        return job


async def _watch_all(target: Target, limit: int) -> None:
    from rich.live import Live

    async with connect(target) as client:
        rows, _ = await client.jobs({"limit": limit})
        with Live(table(rows, now=datetime.now(UTC)), console=console(), auto_refresh=False) as live:
            while True:
                await asyncio.sleep(REFRESH_SECONDS)
                rows, _ = await client.jobs({"limit": limit})
                live.update(table(rows, now=datetime.now(UTC)), refresh=True)


@jobs.command(
    epilog="""\b
Examples:
  sluicegate jobs queue
  sluicegate jobs queue --watch
  sluicegate jobs queue --tenant acme --json"""
)
@click.option("--watch", "live", is_flag=True, help="Look again every second until Ctrl-C.")
@click.option("--tenant", help="Only this tenant. Default: all, the longest waits first.")
@click.option("--pool", help="Only this pool. Default: all.")
@click.option(
    "--limit",
    type=click.IntRange(1, MOST_TENANTS),
    default=15,
    show_default=True,
    help="Tenants and running jobs to list in each pool; the others are summed.",
)
@json_option
@url_options
def queue(
    *,
    live: bool,
    tenant: str | None,
    pool: str | None,
    limit: int,
    as_json: bool,
    url: str | None,
    api_key: str | None,
) -> None:
    """Show the queue: each tenant's share and virtual time, its longest wait, and why its next job waits.

    `virtual time` is drawn on a line from the tenant that has had the least to the one that has had the most, for
    its weight; the bar on it is the pool's clock. With --watch --json each look is one line on stdout.
    """
    if live and not as_json and not is_terminal(sys.stdout):
        raise click.UsageError("--watch needs a terminal (or --json)")
    asked = {"tenant": tenant, "pool": pool, "limit": limit}
    params = {name: value for name, value in asked.items() if value is not None}
    target = Target(url=url, api_key=api_key)
    if live:
        run(_watch_queue(target, params, as_json=as_json))
        return
    report = run(_look_at_queue(target, params))
    if as_json:
        print_json(report)
    else:
        screen = console()
        screen.print(queue_view(report, screen.width))


async def _look_at_queue(target: Target, params: Mapping[str, str | int]) -> Json:
    async with connect(target) as client:
        return await client.ask("GET", "/admin/queue", params=params)


async def _watch_queue(target: Target, params: Mapping[str, str | int], *, as_json: bool) -> None:
    from rich.live import Live

    async with connect(target) as client:
        if as_json:
            while True:
                print_json(await client.ask("GET", "/admin/queue", params=params), lines=True)
                await asyncio.sleep(REFRESH_SECONDS)
        screen = console()
        with Live(console=screen, auto_refresh=False) as live:
            while True:
                report = await client.ask("GET", "/admin/queue", params=params)
                live.update(queue_view(report, screen.width), refresh=True)
                await asyncio.sleep(REFRESH_SECONDS)


@jobs.command(
    epilog="""\b
Example:
  sluicegate jobs cancel job_01k3abcdefghjkmnpqrstvwxyz"""
)
@click.argument("job_ids", metavar="ID...", nargs=-1, required=True)
@json_option
@url_options
def cancel(job_ids: tuple[str, ...], as_json: bool, url: str | None, api_key: str | None) -> None:
    """Withdraw jobs: a waiting one at once, a running one within a second; one that has ended stays as it is."""
    canceled, failures = run(_cancel(Target(url=url, api_key=api_key), job_ids))
    if as_json:
        print_json(canceled)
    else:
        for job in canceled:
            click.echo(f"{job['id']} {job['status']}")
    for failure in failures:
        failure.show()
    if failures:
        raise click.exceptions.Exit(1)


async def _cancel(target: Target, job_ids: Iterable[str]) -> tuple[list[Json], list[Failure]]:
    canceled: list[Json] = []
    failures: list[Failure] = []
    async with connect(target) as client:
        for job_id in job_ids:
            try:
                canceled.append(await client.cancel(job_id))
            except Failure as failure:
                failures.append(failure)
    return canceled, failures


def table(rows: Iterable[Json], *, now: datetime) -> "Table":
    """Jobs as a table: one line each, with how far they are and how old."""
    from rich.table import Table
    from rich.text import Text

    grid = Table(box=None, pad_edge=False, header_style="bold")
    rows = list(rows)
    placed = any(job.get("queue_position") is not None for job in rows)
    timed = any(job.get("eta_seconds") is not None for job in rows)
    names = ["job", "state", *["place"] * placed, *["eta"] * timed, "model", "task", "done", "age", "took"]
    for name in names:
        grid.add_column(name, no_wrap=name not in ("state", "model", "task"))
    for job in rows:
        took, eta = (job.get("metrics") or {}).get("execution_ms"), job.get("eta_seconds")
        grid.add_row(
            job["id"],
            Text(describe({**job, "queue_position": None}), _COLOURS.get(job["status"], "")),
            *[str(job.get("queue_position") or "")] * placed,
            *[seconds_text(eta) if eta is not None else ""] * timed,
            Text(printable(job["model"])),
            job["task"],
            f"{share(job):.0%}" if share(job) else "",
            seconds_text((now - datetime.fromisoformat(job["created_at"])).total_seconds()),
            seconds_text(took / 1_000) if took is not None else "",
        )
    return grid


def facts(job: Json) -> list[tuple[str, str]]:
    """What there is to say of a job, as name and value."""
    metrics = job.get("metrics") or {}
    error = job.get("error") or {}
    pairs = [
        ("job", job["id"]),
        ("state", describe(job)),
        ("why", job.get("waiting_for")),
        ("eta", seconds_text(job["eta_seconds"]) if job.get("eta_seconds") is not None else None),
        ("model", job["model"]),
        ("task", job["task"]),
        ("created", job["created_at"]),
        ("started", job.get("started_at")),
        ("ended", job.get("completed_at")),
        ("waited", _milliseconds(metrics.get("queue_ms"))),
        ("took", _milliseconds(metrics.get("execution_ms"))),
        ("attempts", metrics.get("attempts")),
        ("backend", metrics.get("backend")),
        ("error", f"{error.get('message')} ({error.get('code')})" if error else None),
        *(("output", describe_output(output)) for output in job.get("outputs") or []),
        *(("note", note) for note in job.get("degraded") or []),
    ]
    return [(name, str(value)) for name, value in pairs if value is not None]


def _milliseconds(value: int | None) -> str | None:
    return None if value is None else seconds_text(value / 1_000)
