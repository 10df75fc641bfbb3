"""What the process takes, compared with what prometheus_client reads."""

from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

from sluicegate.observability.process import ProcessFigures
from sluicegate.observability.tallies import FamilyDump


def of_prometheus_client() -> dict[str, Metric]:
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    return {f"{it.name}_total" if it.type == "counter" else it.name: it for it in registry.collect()}


def value(family: FamilyDump) -> float:
    (series,) = family.series
    return series.values[0] / family.parts


def test_the_figures_are_those_that_every_dashboard_knows() -> None:
    theirs, ours = of_prometheus_client(), {family.name: family for family in ProcessFigures().families()}
    assert {name: (it.type, it.documentation) for name, it in theirs.items()} == {
        name: (it.kind, it.help) for name, it in ours.items()
    }
    for name in ("process_start_time_seconds", "process_max_fds", "process_open_fds"):
        assert value(ours[name]) == theirs[name].samples[0].value
    for name in ("process_resident_memory_bytes", "process_virtual_memory_bytes", "process_cpu_seconds_total"):
        assert value(ours[name]) == pytest.approx(theirs[name].samples[0].value, rel=0.2)
    python = ours["python_info"]
    assert dict(zip(python.labels, python.series[0].labels, strict=True)) == theirs["python_info"].samples[0].labels


def test_without_proc_only_the_python_is_told(tmp_path: Path) -> None:
    assert [family.name for family in ProcessFigures(tmp_path).families()] == ["python_info"]
    (tmp_path / "self").mkdir()
    (tmp_path / "self" / "stat").write_text("1 (odd) nonsense")
    assert [family.name for family in ProcessFigures(tmp_path).families()] == ["python_info"]
