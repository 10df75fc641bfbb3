"""Counting, and adding up over processes."""

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluicegate.observability.tallies import Counter, Gauge, Histogram, MetricsDump, numbers

BOUNDS = (0.1, 1, 10)
MODELS = st.sampled_from(["m", "n", "ö"])
CALLS = st.lists(st.tuples(MODELS, st.integers(0, 2**40), st.floats(0, 100_000)))
PROCESSES = st.lists(CALLS, min_size=1, max_size=4)


def process(calls: Sequence[tuple[str, int, float]], started: float = 5.0) -> MetricsDump:
    """What a process dumps that has counted these calls: model, tokens, seconds."""
    tokens = Counter("tokens_total", "Tokens.", ("model",))
    active = Gauge("active", "Calls.", ())
    seconds = Histogram("seconds", "Durations.", ("model",), BOUNDS)
    active.labels().value += len(calls)
    for model, number, duration in calls:
        tokens.labels(model).add(number)
        seconds.labels(model).observe(duration)
    start = numbers("start", "Its start.", (), [((), started)], merge="least")
    return MetricsDump.of([tokens.dump(), active.dump(), seconds.dump(), start])


def values(dump: MetricsDump, name: str) -> dict[tuple[str, ...], tuple[int, ...]]:
    """The series of a family by their labels."""
    (family,) = (family for family in dump.families if family.name == name)
    return {series.labels: series.values for series in family.series}


def test_a_series_is_bound_once_and_counts_by_plain_attributes() -> None:
    counter = Counter("c_total", "C.", ("a", "b"))
    series = counter.labels("x", "y")
    series.value += 1
    series.add(3)
    assert counter.labels("x", "y") is series
    assert values(MetricsDump.of([counter.dump()]), "c_total") == {("x", "y"): (4,)}


def test_a_value_on_a_bound_falls_in_its_bucket_and_the_last_one_takes_the_rest() -> None:
    histogram = Histogram("h", "H.", (), BOUNDS)
    for value in (0.0, 0.1, 0.1000001, 10, 11, 1e9):
        histogram.labels().observe(value)
    assert histogram.labels().counts == [2, 1, 1, 2]


@pytest.mark.parametrize("given_values", [(), ("x",), ("x", "y", "z")])
def test_a_value_is_wanted_for_each_label(given_values: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match='"c_total" are a, b; give a value for each'):
        Counter("c_total", "C.", ("a", "b")).labels(*given_values)


@given(CALLS, CALLS, CALLS)
def test_merging_is_associative_and_commutative_to_the_last_bit(one: Any, two: Any, three: Any) -> None:
    a, b, c = (process(calls, started=len(calls)) for calls in (one, two, three))
    assert a.merged(b).merged(c) == a.merged(b.merged(c))
    assert a.merged(b) == b.merged(a)
    assert a.merged(b.as_past()) == b.as_past().merged(a)
    assert a.merged(MetricsDump()) == a == MetricsDump().merged(a)


@given(PROCESSES)
def test_processes_add_up_to_one_that_had_counted_everything(processes: list[list[tuple[str, int, float]]]) -> None:
    merged = MetricsDump()
    for calls in processes:
        merged = merged.merged(process(calls))
    whole = process([call for calls in processes for call in calls])
    assert values(merged, "tokens_total") == values(whole, "tokens_total")
    assert values(merged, "active") == values(whole, "active")
    spread, expected = values(merged, "seconds"), values(whole, "seconds")
    assert {at: each[:-1] for at, each in spread.items()} == {at: each[:-1] for at, each in expected.items()}
    for at, each in spread.items():
        assert each[-1] == pytest.approx(expected[at][-1], abs=len(processes), rel=1e-12)


@given(CALLS, CALLS)
def test_of_the_past_the_counts_stay_and_the_standings_go(one: Any, two: Any) -> None:
    past = process(one).as_past()
    assert {family.name for family in past.families} == {"tokens_total", "seconds"}
    assert values(past, "tokens_total") == values(process(one), "tokens_total")
    assert past.as_past() == past
    assert process(one).merged(process(two)).as_past() == past.merged(process(two).as_past())


@given(CALLS)
def test_a_dump_survives_json_and_message_pack(calls: Any) -> None:
    dump = process(calls)
    assert msgspec.json.decode(msgspec.json.encode(dump), type=MetricsDump) == dump
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(dump), type=MetricsDump) == dump


def test_of_what_does_not_add_up_the_smallest_stands() -> None:
    merged = process([], started=7.5).merged(process([], started=2.5)).merged(process([], started=9.0))
    assert values(merged, "start") == {(): (2_500_000,)}


@pytest.mark.parametrize(
    "other",
    [
        Counter("m_total", "M.", ("other",)),
        Gauge("m_total", "M.", ("model",)),
        Histogram("m_total", "M.", ("model",), BOUNDS),
    ],
    ids=["labels", "kind", "bounds"],
)
def test_metrics_that_only_share_a_name_are_refused(other: Counter | Gauge | Histogram) -> None:
    mine = MetricsDump.of([Counter("m_total", "M.", ("model",)).dump()])
    with pytest.raises(ValueError, match=r'"m_total" is defined in two ways.*same version in every process'):
        mine.merged(MetricsDump.of([other.dump()]))
