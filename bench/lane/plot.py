"""The plots of a report."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bench.lane.memory import Footprint
from bench.lane.report import LaneReport
from bench.lane.throughput import Turn, middle, percentile

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_RATES = (("plain", "not streamed, answers a second"), ("burst", "short streams, a second"))


def draw(report: LaneReport, file: Path, *, ours: str) -> None:
    """Write the plot as PNG: rates, latency, memory, of what was measured. Nothing measured, nothing written."""
    from matplotlib.figure import Figure

    turns = [turn for turn in report.turns if turn.contender != "direct" and turn.loop.requests]
    cases = [(case, title) for case, title in _RATES if any(turn.case == case for turn in turns)]
    panels = 2 * len(cases) + bool(report.footprints)
    if panels == 0:
        return
    figure = Figure(figsize=(4.6 * panels, 4.2), layout="constrained")
    axes: list[Axes] = list(figure.subplots(1, panels, squeeze=False)[0])
    for (case, title), at in zip(cases, range(0, 2 * len(cases), 2), strict=True):
        own = [turn for turn in turns if turn.case == case]
        _rates(axes[at], own, title, ours)
        _latencies(axes[at + 1], own, f"{case}: p50 and p99, ms")
    if report.footprints:
        _memory(axes[-1], report.footprints, ours)
    figure.savefig(file, dpi=110)


def _names(turns: Sequence[Turn]) -> list[str]:
    names = list(dict.fromkeys(turn.contender for turn in turns))
    return sorted(names, key=lambda name: middle([it.per_second for it in turns if it.contender == name]).median)


def _rates(panel: "Axes", turns: Sequence[Turn], title: str, ours: str) -> None:
    names = _names(turns)
    spread = [middle([it.per_second for it in turns if it.contender == name]) for name in names]
    colours = ["tab:orange" if name.startswith(ours) else "tab:blue" for name in names]
    errors = [[it.median - it.least for it in spread], [it.most - it.median for it in spread]]
    bars = panel.barh(names, [it.median for it in spread], color=colours, xerr=errors, error_kw={"linewidth": 1})
    panel.bar_label(bars, labels=[f"{it.median:,.0f}" for it in spread], padding=4, fontsize=8)
    panel.set(title=title, xscale="log")
    panel.margins(x=0.25)
    panel.grid(axis="x", alpha=0.3)


def _latencies(panel: "Axes", turns: Sequence[Turn], title: str) -> None:
    names = _names(turns)
    for name in names:
        own = [turn for turn in turns if turn.contender == name]
        middles = [percentile(own, "latency", it).median for it in ("p50", "p99")]
        panel.plot(middles, [name, name], color="tab:grey", linewidth=1)
        panel.plot(middles[:1], [name], marker="o", color="tab:blue")
        panel.plot(middles[1:], [name], marker="|", markersize=12, color="tab:red")
    panel.set(title=title, xscale="log")
    panel.grid(axis="x", alpha=0.3)


def _memory(panel: "Axes", footprints: Sequence[Footprint], ours: str) -> None:
    for footprint in footprints:
        points = [(it.streams, it.rss_kb / 1024) for it in footprint.levels if it.with_first_token >= it.streams]
        if points:
            width = 2.4 if footprint.contender.startswith(ours) else 1.2
            panel.plot(*zip(*points, strict=True), marker="o", markersize=3, linewidth=width, label=footprint.contender)
    panel.set(title="RSS in MB by open streams", yscale="log")
    panel.legend(fontsize=7)
    panel.grid(alpha=0.3)
