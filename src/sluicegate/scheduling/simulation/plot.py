"""The figure of a comparison: waits, swaps and useful time, and who had the GPUs when."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sluicegate.scheduling.simulation.scenario import Scenario
from sluicegate.scheduling.simulation.summary import BUCKETS, SWAPPING, Summary

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, FAINT, GRID = "#1f2933", "#66727f", "#e4e7eb"
PALETTE = ("#0b6e99", "#49a078", "#e0a030", "#c8553d", "#7a5195", "#5f6c7b", "#a05195", "#2f4b7c")
"""Of the groups, in their order."""
SWAP_COLOUR = "#c9ced6"


def save_plot(scenario: Scenario, summaries: Sequence[Summary], file: Path) -> None:
    """Draw the comparison and write it to `file`, as its suffix says (.png, .svg, .pdf). Raises `ValueError` for a
    suffix that cannot be drawn, and `OSError`."""
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    style: dict[Any, Any] = {
        "font.size": 9,
        "text.color": INK,
        "axes.labelcolor": INK,
        "axes.edgecolor": GRID,
        "xtick.color": FAINT,
        "ytick.color": INK,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "svg.hashsalt": "sluicegate",
    }
    with mpl.rc_context(style):
        figure = Figure(figsize=(11, 3.9 + 1.25 * len(summaries)), layout="constrained")
        FigureCanvasAgg(figure)
        _compose(figure, scenario, summaries)
        metadata = {"Date": None} if file.suffix in (".svg", ".pdf") else None
        figure.savefig(file, dpi=150, metadata=metadata)


def _compose(figure: "Figure", scenario: Scenario, summaries: Sequence[Summary]) -> None:
    rows = len(summaries)
    top, bottom = figure.subfigures(2, 1, squeeze=False, height_ratios=(3.4, 0.5 + 1.25 * rows), hspace=0.04)[:, 0]
    waits, swaps, useful = top.subplots(1, 3, width_ratios=(3.2, 1, 1))
    colours = dict(zip(scenario.groups, PALETTE * len(scenario.groups), strict=False))
    _draw_waits(waits, scenario, summaries, colours)
    _draw_bars(swaps, summaries, [summary.swaps for summary in summaries], "changes of model", "{:.0f}")
    _draw_bars(useful, summaries, [100 * summary.useful for summary in summaries], "useful GPU time", "{:.0f} %")
    useful.set_xlim(0, 118)
    panels = bottom.subplots(rows, 1, sharex=True, squeeze=False)[:, 0]
    bottom.suptitle("Who has the GPUs", x=0.008, ha="left", fontsize=10, fontweight="bold")
    for panel, summary in zip(panels, summaries, strict=True):
        _draw_shares(panel, scenario, summary, colours, is_first=summary is summaries[0])
    panels[-1].set_xlabel("minutes", color=FAINT)
    if scenario.title:
        figure.suptitle(scenario.title, x=0.008, ha="left", fontsize=13, fontweight="bold")


def _draw_waits(axes: "Axes", scenario: Scenario, summaries: Sequence[Summary], colours: dict[str, str]) -> None:
    """A bar from the median wait to the 95th percentile for each rule and group, on a logarithmic scale."""
    groups = scenario.groups
    step = 0.8 / len(groups)
    for row, summary in enumerate(summaries):
        for place, group in enumerate(groups):
            waits = summary.groups[group]
            if waits.jobs == waits.withdrawn:
                continue
            y = row - 0.4 + (place + 0.5) * step
            low, high = max(waits.p50, 1.0), max(waits.p95, 1.0)
            axes.plot([low, high], [y, y], color=colours[group], linewidth=5, solid_capstyle="round", alpha=0.45)
            axes.plot([low], [y], "o", color=colours[group], markersize=6)
            axes.plot([high], [y], "|", color=colours[group], markersize=8, markeredgewidth=2)
            axes.annotate(
                f"{waits.p95:,.0f}".replace(",", " "),
                (high, y),
                (7, 0),
                textcoords="offset points",
                va="center",
                fontsize=7,
                color=FAINT,
            )
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_xlim(left=1)
    axes.set_yticks(range(len(summaries)), [summary.policy for summary in summaries])
    axes.set_ylim(len(summaries) - 0.5, -0.5)
    axes.set_title("Seconds until a job starts: median to 95th percentile", loc="left", fontsize=10, fontweight="bold")
    axes.grid(axis="x", color=GRID)
    axes.set_axisbelow(True)
    axes.tick_params(length=0)
    for group in groups:
        axes.plot([], [], "o", color=colours[group], label=group)
    axes.legend(loc="upper left", ncols=len(groups), frameon=False, bbox_to_anchor=(0, -0.08), handletextpad=0.2)


def _draw_bars(axes: "Axes", summaries: Sequence[Summary], values: Sequence[float], title: str, form: str) -> None:
    bars = axes.barh(range(len(summaries)), values, height=0.5, color=PALETTE[0], alpha=0.85)
    axes.bar_label(bars, [form.format(value) for value in values], padding=3, fontsize=8)
    axes.set_ylim(len(summaries) - 0.5, -0.5)
    axes.set_xlim(0, 1.25 * max((*values, 1e-9)))
    axes.set_yticks([])
    axes.set_xticks([])
    axes.spines["bottom"].set_visible(False)
    axes.set_title(title, loc="left", fontsize=10, fontweight="bold")


def _draw_shares(
    axes: "Axes", scenario: Scenario, summary: Summary, colours: dict[str, str], *, is_first: bool
) -> None:
    """Each group's share of the GPUs over time, stacked; the rest is idle."""
    minutes = [summary.span / 60 * (bucket + 0.5) / BUCKETS for bucket in range(BUCKETS)]
    whose = (*scenario.groups, SWAPPING)
    axes.stackplot(
        minutes,
        [[100 * share for share in summary.series[who]] for who in whose],
        labels=whose,
        colors=[*(colours[group] for group in scenario.groups), SWAP_COLOUR],
        linewidth=0,
    )
    axes.axvline(scenario.horizon / 60, color=INK, linewidth=0.8, linestyle=(0, (2, 3)))
    if is_first:
        axes.annotate("last arrival", (scenario.horizon / 60, 100), (0, 3), textcoords="offset points", fontsize=7)
    axes.set_xlim(0, summary.span / 60)
    axes.set_ylim(0, 100)
    axes.set_yticks([0, 50, 100], ["", "50 %", ""])
    axes.tick_params(length=0, labelsize=7)
    axes.set_ylabel(summary.policy, rotation=0, ha="right", va="center")
    if is_first:
        axes.legend(
            loc="lower right",
            bbox_to_anchor=(1, 1.0),
            ncols=len(whose),
            frameon=False,
            fontsize=8,
            handlelength=0.9,
            handletextpad=0.4,
            columnspacing=1.2,
        )
