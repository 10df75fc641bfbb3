"""The text that Prometheus reads, compared with what prometheus_client writes."""

import itertools
import math
from collections.abc import Iterable
from typing import Any

import prometheus_client
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from sluicegate.observability.exposition import number, render
from sluicegate.observability.tallies import Counter, FamilyDump, Gauge, Histogram, MetricsDump

BOUNDS = (0.005, 0.25, 1, 2.5, 60, 7_200)
LABELS = st.text(st.characters(exclude_categories=["Cs"]), max_size=5) | st.text('\\"\n\r,={} ', max_size=5)
SECONDS = st.sampled_from([0, 0.005, 0.3, 1, 59.9, 8e3])
CALLS = st.lists(st.tuples(LABELS, LABELS, st.integers(0, 1_000_000), SECONDS))
HOSTILE = ('say "no"', "C:\\new\nline\\", 3_000_000, 8e3)


def of_prometheus_client(calls: list[tuple[str, str, int, float]]) -> bytes:
    registry = prometheus_client.CollectorRegistry()
    counter = prometheus_client.Counter("c_total", 'Help "of" \\ it.\nMore.', ("b", "a"), registry=registry)
    gauge = prometheus_client.Gauge("g", "G.", registry=registry)
    histogram = prometheus_client.Histogram("h", "H.", ("a",), buckets=BOUNDS, registry=registry)
    for one, two, count, seconds in calls:
        counter.labels(one, two).inc(count)
        gauge.inc()
        histogram.labels(one).observe(seconds)
    return prometheus_client.generate_latest(registry)


def counted(calls: list[tuple[str, str, int, float]]) -> MetricsDump:
    counter = Counter("c_total", 'Help "of" \\ it.\nMore.', ("b", "a"))
    gauge = Gauge("g", "G.", ())
    histogram = Histogram("h", "H.", ("a",), BOUNDS)
    active = gauge.labels()
    for one, two, count, seconds in calls:
        counter.labels(one, two).add(count)
        active.value += 1
        histogram.labels(one).observe(seconds)
    return MetricsDump.of([counter.dump(), gauge.dump(), histogram.dump()])


class Families(Collector):
    """A dump as prometheus_client takes it."""

    def __init__(self, dump: MetricsDump) -> None:
        self._dump = dump

    def collect(self) -> Iterable[Metric]:
        return map(as_metric, self._dump.families)


def as_metric(family: FamilyDump) -> Metric:
    if family.kind != "histogram":
        form = CounterMetricFamily if family.kind == "counter" else GaugeMetricFamily
        shown = form(family.name, family.help, labels=family.labels)
        for series in family.series:
            shown.add_metric(series.labels, series.values[0] / family.parts)
        return shown
    spread = HistogramMetricFamily(family.name, family.help, labels=family.labels)
    bounds = [go_string(bound) for bound in (*family.bounds, math.inf)]
    for series in family.series:
        *counts, total = series.values
        buckets = zip(bounds, map(float, itertools.accumulate(counts)), strict=True)
        spread.add_metric(series.labels, list(buckets), total / family.parts)
    return spread


def go_string(value: float) -> str:
    return str(floatToGoString(value))  # type: ignore[no-untyped-call]


def comments(text: bytes) -> set[str]:
    return {line for line in text.decode().split("\n") if line.startswith("#") and "_created" not in line}


def samples(text: bytes) -> dict[Any, float]:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


@given(CALLS)
@example([HOSTILE])
def test_the_text_says_what_prometheus_client_would_have_counted(calls: list[tuple[str, str, int, float]]) -> None:
    ours, theirs = render(counted(calls)), of_prometheus_client(calls)
    assert comments(ours) == comments(theirs)
    assert samples(ours) == pytest.approx(samples(theirs), abs=1e-6)


@given(CALLS)
@example([HOSTILE])
def test_the_text_is_byte_for_byte_what_prometheus_client_would_write(calls: list[tuple[str, str, int, float]]) -> None:
    dump = counted(calls)
    assert render(dump) == prometheus_client.generate_latest(Families(dump))


def test_labels_stand_around_the_bound_in_the_order_of_their_names() -> None:
    histogram = Histogram("h", "H.", ("z", "a", "le_", "le0"), (1,))
    histogram.labels("last", "first", "third", "second").observe(0.5)
    dump = MetricsDump.of([histogram.dump()])
    assert b'h_bucket{a="first",le="1.0",le0="second",le_="third",z="last"} 1.0\n' in render(dump)
    assert render(dump) == prometheus_client.generate_latest(Families(dump))


@given(LABELS, LABELS)
@example("\\n", "\\\n")
@example('"', '\\"')
def test_any_label_is_read_back_as_it_was(one: str, two: str) -> None:
    gauge = Gauge("g", "G.", ("one", "two"))
    gauge.labels(one, two).value = 7
    text = render(MetricsDump.of([gauge.dump()]))
    assert samples(text) == {("g", frozenset({("one", one), ("two", two)})): 7.0}
    assert text.count(b"\n") == 3


@given(st.floats() | st.integers(-(10**18), 10**18) | st.integers(0, 10**7).map(lambda thousandths: thousandths / 1000))
@example(999_999)
@example(1_000_000)
@example(999_999.999999)
@example(1_200_034.5)
@example(1e16)
@example(math.inf)
@example(-math.inf)
@example(math.nan)
def test_numbers_are_written_as_prometheus_client_does(value: float) -> None:
    assert number(value) == go_string(value)


def test_an_empty_dump_is_an_empty_text() -> None:
    assert render(MetricsDump()) == b""


def test_buckets_are_cumulative_and_end_in_infinity() -> None:
    lines = render(counted([("x", "", 1, 0.3), ("x", "", 1, 8e3)])).decode().splitlines()
    assert 'h_bucket{a="x",le="0.25"} 0.0' in lines
    assert 'h_bucket{a="x",le="1.0"} 1.0' in lines
    assert 'h_bucket{a="x",le="+Inf"} 2.0' in lines
    assert 'h_sum{a="x"} 8000.3' in lines
    assert 'h_count{a="x"} 2.0' in lines
