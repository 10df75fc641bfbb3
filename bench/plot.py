"""The plot of a report: rates by callers, and claims by depth."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bench.depth import Timing
from bench.throughput import Cell

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_PHASES = (("submit", "submitted"), ("claim", "claimed"), ("cycle", "claimed and ended"))


def draw(cells: Sequence[Cell], timings: Sequence[Timing], file: Path) -> None:
    """Write the plot as PNG."""
    from matplotlib.figure import Figure

    width = (len(_PHASES) if cells else 0) + (1 if timings else 0)
    figure = Figure(figsize=(4.4 * width, 4.6), layout="constrained")
    axes: list[Axes] = list(figure.subplots(1, width, squeeze=False)[0])
    if cells:
        for (phase, title), panel in zip(_PHASES, axes, strict=False):
            _rates(panel, cells, phase, f"{title}, jobs a second")
        handles, names = axes[0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside lower left", ncols=4, fontsize=8, frameon=False)
    if timings:
        _depths(axes[-1], timings)
    figure.savefig(file, dpi=110)


def _rates(panel: "Axes", cells: Sequence[Cell], phase: str, title: str) -> None:
    for name in dict.fromkeys(cell.name for cell in cells):
        points = sorted((cell.callers, getattr(cell, phase).per_second) for cell in cells if cell.name == name)
        style = {"linewidth": 2.2} if name.startswith("sluicegate") else {"linewidth": 1.2, "linestyle": "--"}
        panel.plot(*zip(*points, strict=True), marker="o", markersize=4, label=name, **style)
    panel.set(xscale="log", yscale="log", xlabel="callers", title=title)
    panel.minorticks_off()
    panel.set_xticks(
        sorted({cell.callers for cell in cells}), [str(it) for it in sorted({cell.callers for cell in cells})]
    )
    panel.grid(alpha=0.3)


def _depths(panel: "Axes", timings: Sequence[Timing]) -> None:
    claims = [it for it in timings if it.operation.startswith("claim") and it.depth.lanes == timings[0].depth.lanes]
    for engine, colour in zip(dict.fromkeys(it.engine for it in claims), ("tab:blue", "tab:orange"), strict=False):
        for operation in dict.fromkeys(it.operation for it in claims):
            points = [(it.depth.jobs, it.took) for it in claims if (it.engine, it.operation) == (engine, operation)]
            jobs = [depth for depth, _ in points]
            first = operation == claims[0].operation
            panel.plot(
                jobs,
                [took.p50 for _, took in points],
                color=colour,
                marker="o",
                markersize=4,
                label=f"{engine}, p50 of each kind" if first else None,
            )
            panel.plot(
                jobs,
                [took.p99 for _, took in points],
                color=colour,
                linestyle=":",
                linewidth=1,
                label=f"{engine}, p99" if first else None,
            )
    panel.set(xscale="log", yscale="log", xlabel="queued jobs", title="one claim, milliseconds")
    panel.grid(alpha=0.3)
    panel.legend(fontsize=7)
