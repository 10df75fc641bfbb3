"""The report: every figure as JSON, the same as tables in Markdown, and a plot."""

from collections.abc import Sequence
from pathlib import Path

import msgspec
from bench.depth import Timing
from bench.filling import Depth
from bench.latency import Overhead
from bench.machine import Machine
from bench.throughput import Cell

OURS = "sluicegate, PostgreSQL"
PHASES = ("submit", "claim", "cycle")


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """All that was measured in one run."""

    machine: Machine
    server: dict[str, str]
    """Settings of the PostgreSQL server."""
    quick: bool
    cells: tuple[Cell, ...]
    timings: tuple[Timing, ...]
    overheads: tuple[Overhead, ...]


def write(report: Report, folder: Path | None) -> str:
    """The report's text; with a folder, queue.md, queue.json and queue.png are written there."""
    text = render(report)
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "queue.md").write_text(text, "utf-8")
        (folder / "queue.json").write_bytes(msgspec.json.format(msgspec.json.encode(report)) + b"\n")
        if report.cells or report.timings:
            from bench.plot import draw

            draw(report.cells, report.timings, folder / "queue.png")
    return text


def render(report: Report) -> str:
    """The report as Markdown."""
    parts = ["# The queue, measured\n", _facts(report)]
    if report.cells:
        parts.append(_throughput(report.cells))
    if report.timings:
        parts += [_depth(report.timings, engine) for engine in dict.fromkeys(it.engine for it in report.timings)]
    if report.overheads:
        parts.append(_overhead(report.overheads))
    return "\n".join(parts)


def _facts(report: Report) -> str:
    it = report.machine
    versions = ", ".join(f"{name} {version}" for name, version in it.versions.items())
    lines = [
        f"- {it.at} UTC{', a quick run: rough' if report.quick else ''}. Written by `python -m bench.queue`.",
        f"- {it.processor}, {it.cores} cores, {it.memory_gib:.0f} GiB, {it.system}; load before the run {it.load:.1f}.",
        f"- One append of 4 KiB with its flush to this disk: {it.flush_ms.p50:.2f} ms (p99 {it.flush_ms.p99:.2f} ms).",
        f"- {versions}.",
    ]
    if report.server:
        told = ", ".join(f"{name} {value}" for name, value in report.server.items())
        lines.append(f"- PostgreSQL, the same server for all: {told}.")
    return "\n".join(lines) + "\n"


def _throughput(cells: Sequence[Cell]) -> str:
    base = {cell.callers: cell for cell in cells if cell.name == OURS}
    rates, costs = [], []
    for cell in sorted(cells, key=lambda cell: cell.callers):
        own = base.get(cell.callers)
        rate, cost = [str(cell.callers), cell.name], [str(cell.callers), cell.name]
        for phase in PHASES:
            ours = getattr(own, phase) if own is not None and own is not cell else None
            rate.append(_compared(getattr(cell, phase).per_second, ours.per_second if ours else 0))
            cost.append(_compared(getattr(cell, phase).cpu_microseconds, ours.cpu_microseconds if ours else 0))
        rates.append(rate)
        costs.append(cost)
    head = ["callers", "queue", "submitted", "claimed", "claimed and ended"]
    words = f"Jobs a second, the median of {len(cells[0].rounds)} interleaved rounds."
    compared = f" In brackets: against `{OURS}` at as many callers." if base else ""
    cpu = "Processor time of the same, client and server together, in microseconds for each job:"
    return f"## Durable jobs a second\n\n{words}{compared}\n\n{_table(head, rates)}\n{cpu}\n\n{_table(head, costs)}"


def _compared(figure: float, reference: float) -> str:
    return f"{figure:,.0f}" + (f" ({figure / reference:.2f} ×)" if reference else "")


def _depth(timings: Sequence[Timing], engine: str) -> str:
    own = [timing for timing in timings if timing.engine == engine]
    depths = list(dict.fromkeys(timing.depth for timing in own))
    rows = []
    for operation in dict.fromkeys(timing.operation for timing in own):
        took = {timing.depth: timing.took for timing in own if timing.operation == operation}
        cells = [f"{took[depth].p50:.2f} / {took[depth].p99:.2f}" for depth in depths]
        plain = [depth for depth in depths if depth.lanes == depths[0].lanes]
        least, most = (took[min(plain, key=_jobs)].p50, took[max(plain, key=_jobs)].p50)
        rows.append([operation, *cells, f"{most / least:.2f} ×"])
    head = ["operation", *(_name(depth) for depth in depths), "p50, deepest to shallowest"]
    samples = own[0].took.samples
    words = f"Milliseconds, p50 / p99 of {samples}, flushes to the disk included; 10 000 tenants, 20 models."
    return f"## One operation on a deep queue: {engine}\n\n{words}\n\n{_table(head, rows)}"


def _overhead(overheads: Sequence[Overhead]) -> str:
    rows = [[it.where, f"{it.took.p50:.2f}", f"{it.took.p99:.2f}", str(it.took.samples)] for it in overheads]
    head = ["where", "p50 ms", "p99 ms", "samples"]
    return f"## From a submission to the first line of model code, idle system\n\n{_table(head, rows)}"


def _jobs(depth: Depth) -> int:
    return depth.jobs


def _name(depth: Depth) -> str:
    return f"{depth.jobs:,} jobs, {depth.lanes} lanes a tenant"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
