"""The queue for people: who has how much of each pool, who waits how long, and why."""

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from sluicegate.cli.client import Json
from sluicegate.cli.terminal import printable, seconds_text

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table
    from rich.text import Text

_EIGHTHS = " ▏▎▍▌▋▊▉█"
_BAR_WIDTH = 10
_SCALE_WIDTH = 13
_NAMES = 3
"""So many tenants that wait for the same reason are named."""
_WAITS = ((10.0, "green"), (60.0, "yellow"), (300.0, "dark_orange"))
_LONG_WAIT = "red"
WIDE_SCREEN = 120
"""Columns from which everything is shown; narrower screens leave out what matters less."""


def queue_view(report: Json, width: int) -> "RenderableType":
    """The whole report of ``/admin/queue``, for a screen of so many columns."""
    from rich.console import Group
    from rich.text import Text

    parts: list[RenderableType] = []
    for pool in report["pools"]:
        if parts:
            parts.append(Text())
        parts.extend(_pool(pool, wide=width >= WIDE_SCREEN))
    return Group(*parts) if parts else Text("No such pool.")


def _pool(pool: Json, *, wide: bool) -> "Iterator[RenderableType]":
    from rich.padding import Padding
    from rich.text import Text

    yield _head(pool)
    yield Padding(_models(pool["capacity"]), (0, 0, 0, 2))
    tenants = pool["tenants"]
    if tenants:
        yield Text()
        yield tenants_table(tenants, pool["rest"], wide=wide)
        for line in reasons(tenants):
            yield Padding(line, (0, 0, 0, 2))
    if pool["running_jobs"]:
        yield Text()
        yield _running_table(pool["running_jobs"], wide=wide)


def _head(pool: Json) -> "Text":
    from rich.text import Text

    capacity, totals = pool["capacity"], pool["totals"]
    line = Text.assemble("pool ", (printable(pool["pool"]), "bold"), "   ")
    line.append(f"{_count(capacity['workers'], 'worker')} ({capacity['busy']} busy)", _alarm(not capacity["workers"]))
    work = f" ({seconds_text(totals['queued_cost'])} of work)" if totals["queued"] else ""
    line.append(f"   queued {totals['queued']}{work}   running {totals['running']}")
    if totals["delayed"]:
        line.append(f"   waiting for a retry {totals['delayed']}")
    line.append(f"   {_count(totals['tenants'], 'tenant')}   clock {pool['virtual_time']:.1f}")
    return line


def _models(capacity: Json) -> "Text":
    from rich.text import Text

    models = [
        f"{printable(model)} {able['workers']}" + (f" ({able['loaded']} loaded)" if able["loaded"] else "")
        for model, able in capacity["models"].items()
    ]
    return Text("workers by model: " + ", ".join(models) if models else "no worker, so no model", "dim")


def tenants_table(tenants: Sequence[Json], rest: Json | None, *, wide: bool) -> "Table":
    """A row for each tenant, and one for all the others together."""
    from rich.table import Table

    grid = Table(box=None, pad_edge=False, header_style="bold")
    grid.add_column("tenant", overflow="ellipsis", no_wrap=True, max_width=_name_width(wide))
    numbers = ("tier", "queued", "work", "runs") if wide else ("queued", "runs")
    for name in (*numbers, "running share" if wide else "share", *["last hour"] * wide, "virtual time", "waits"):
        grid.add_column(name, no_wrap=True, justify="right" if name in ("queued", "work", "runs", "waits") else "left")
    low = min((it["ahead"] for it in tenants), default=0.0)
    high = max((it["ahead"] for it in tenants), default=0.0)
    most = max((it["share"]["last_hour_cost"] for it in tenants), default=0.0)
    for it in tenants:
        grid.add_row(
            printable(it["tenant"]),
            *_numbers(it, printable(it["tier"]), wide=wide),
            _share(it["share"], wide=wide),
            *[_recent(it["share"], most)] * wide,
            scale(it["ahead"], low, high),
            wait_text(it["longest_wait_seconds"]),
        )
    if rest is not None:
        who, blanks = f"and {rest['tenants']} more", [""] * (2 + wide)
        waits = wait_text(rest["longest_wait_seconds"])
        grid.add_row(who, *_numbers(rest, "", wide=wide), *blanks, waits, style="dim")
    return grid


def _numbers(it: Json, tier: str, *, wide: bool) -> list[str]:
    """What a tenant (or the rest) has waiting and running."""
    cap = it.get("cap")
    runs = f"{it['running']}/{cap}" if cap is not None else f"{it['running']}"
    queued = f"{it['queued']}" + (f" +{it['delayed']} later" if it["delayed"] else "")
    work = seconds_text(it["queued_cost"]) if it["queued"] else ""
    return [tier, queued, work, runs] if wide else [queued, runs]


def reasons(tenants: Iterable[Json]) -> "Iterator[Text]":
    """Why tenants' next jobs wait: one line for each reason."""
    from rich.text import Text

    waiting: dict[str, list[str]] = {}
    for it in tenants:
        if it["why"]:
            waiting.setdefault(printable(it["why"]), []).append(printable(it["tenant"]))
    for why, names in waiting.items():
        who = ", ".join(names[:_NAMES]) + (f" and {len(names) - _NAMES} more" if len(names) > _NAMES else "")
        yield Text.assemble((f"{who}: ", "bold"), why)


def scale(ahead: float, low: float, high: float) -> "Text":
    """A tenant's virtual time on a line from the least to the most of all, with the pool's clock as a bar on it."""
    from rich.text import Text

    low, high = min(low, 0.0), max(high, 0.0)
    span = (high - low) or 1.0
    here, clock = (round((value - low) / span * (_SCALE_WIDTH - 1)) for value in (ahead, 0.0))
    line = Text("·" * _SCALE_WIDTH, "dim")
    marks = {clock: ("│", "bold"), here: ("●", "green" if ahead <= 0 else "yellow")}
    text = Text()
    for place in range(_SCALE_WIDTH):
        mark = marks.get(place)
        text.append_text(Text(*mark) if mark else line[place])
    return text.append(f" {ahead:+.1f}")


def bar(value: float, style: str) -> "Text":
    """A share between 0 and 1 as a bar."""
    from rich.text import Text

    eighths = round(min(max(value, 0.0), 1.0) * _BAR_WIDTH * 8)
    filled = "█" * (eighths // 8) + (_EIGHTHS[eighths % 8] if eighths % 8 else "")
    return Text(filled.ljust(_BAR_WIDTH), style)


def wait_text(seconds: float | None) -> "Text":
    """A wait, the redder the longer."""
    from rich.text import Text

    if seconds is None:
        return Text()
    style = next((colour for limit, colour in _WAITS if seconds < limit), _LONG_WAIT)
    return Text(seconds_text(seconds), style)


def _share(share: Json, *, wide: bool) -> "Text":
    running = share["running"] or 0.0
    due = f" (due {_percent(share['due'])})" if wide else ""
    return bar(running, "cyan").append(f" {running:4.0%}{due}", "")


def _recent(share: Json, most: float) -> "Text":
    cost = share["last_hour_cost"]
    return bar(cost / most if most else 0.0, "blue").append(f" {seconds_text(cost)}" if share["last_hour_jobs"] else "")


def _running_table(running: Sequence[Json], *, wide: bool) -> "Table":
    from rich.table import Table

    grid = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("running job", "tenant", *("model", "worker", "for") * wide, "done", "ends in"):
        grid.add_column(name, no_wrap=True, max_width=_name_width(wide) if name == "tenant" else None)
    for job in running:
        state = {"canceling": " (stops)"}.get(job["state"], " (gives way)" if job["preempting"] else "")
        grid.add_row(
            job["job"],
            printable(job["tenant"]),
            *(printable(job["model"]), job["worker"], seconds_text(job["running_seconds"])) * wide,
            bar(job["progress"], "green").append(f" {job['progress']:4.0%}{state}"),
            seconds_text(job["expected_remaining_seconds"]),
        )
    return grid


def _name_width(wide: bool) -> int:
    return 24 if wide else 10


def _percent(value: float) -> str:
    return "<1%" if 0.0 < value < 0.01 else f"{value:.0%}"


def _count(number: int, word: str) -> str:
    return f"{number} {word}" + ("" if number == 1 else "s")


def _alarm(alarming: bool) -> str:
    return "bold red" if alarming else ""
