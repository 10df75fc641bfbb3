"""Counters, gauges and histograms as plain numbers, and dumps of them that add up over processes.

A family is one metric; a series is one combination of its labels' values. Bind a series once, where it is known
(``family.labels("GET", "/health")``); from then on counting is one attribute update: ``series.value += 1``,
``series.add(n)``, ``series.observe(seconds)``. Only the thread of the event loop counts, so nothing here locks.

    series ──counts──▶ family ──dump──▶ FamilyDump ──merged──▶ MetricsDump of all processes ──▶ exposition.py

Dumps hold whole numbers only. Sums of floats depend on the order of their terms, and a counter that is smaller by one
last bit at the next scrape reads as a restart of the process.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Generic, Literal, TypeVar

import msgspec

from sluicegate.observability.series import Spread, Tally

Kind = Literal["counter", "gauge", "histogram"]
Merge = Literal["sum", "least"]
MILLIONTHS = 1_000_000


_Series = TypeVar("_Series", Tally, Spread)


class SeriesDump(msgspec.Struct, frozen=True, array_like=True):
    """One series. `values`: the number alone, or a histogram's counts by bucket and then the sum."""

    labels: tuple[str, ...]
    values: tuple[int, ...]


class FamilyDump(msgspec.Struct, frozen=True, array_like=True):
    """One metric at one moment, its series ordered by their labels."""

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...]
    series: tuple[SeriesDump, ...]
    bounds: tuple[float, ...] = ()
    """A histogram's upper bounds, without the infinite one."""
    parts: int = 1
    """How many parts of the unit a value counts; in a histogram that holds for the sums."""
    merge: Merge = "sum"
    """What becomes of a series that two processes have: its sum, or the smaller one."""

    def merged(self, other: "FamilyDump") -> "FamilyDump":
        """Both as one. Raises `ValueError` when they are not the same metric."""
        if msgspec.structs.replace(other, series=self.series) != self:
            raise ValueError(
                f'the metric "{self.name}" is defined in two ways ({_described(self)}; {_described(other)}): '
                "run the same version in every process"
            )
        series = {each.labels: each for each in self.series}
        for each in other.series:
            mine = series.get(each.labels)
            series[each.labels] = each if mine is None else SeriesDump(each.labels, self._joined(mine, each))
        return msgspec.structs.replace(self, series=_ordered(series.values()))

    def _joined(self, one: SeriesDump, two: SeriesDump) -> tuple[int, ...]:
        pairs = zip(one.values, two.values, strict=True)
        return tuple(a + b for a, b in pairs) if self.merge == "sum" else tuple(min(pair) for pair in pairs)


class MetricsDump(msgspec.Struct, frozen=True, array_like=True):
    """The metrics of one process or of several, ordered by name; JSON and MessagePack carry it."""

    families: tuple[FamilyDump, ...] = ()

    @classmethod
    def of(cls, families: Iterable[FamilyDump]) -> "MetricsDump":
        """A dump of these families, each given once."""
        return cls(tuple(sorted(families, key=lambda family: family.name)))

    def merged(self, other: "MetricsDump") -> "MetricsDump":
        """Both added up; in which order many are merged changes nothing. Raises `ValueError` as `FamilyDump.merged`."""
        families = {family.name: family for family in self.families}
        for family in other.families:
            mine = families.get(family.name)
            families[family.name] = family if mine is None else mine.merged(family)
        return MetricsDump.of(families.values())

    def as_past(self) -> "MetricsDump":
        """What stays of a process that has ended: what it counted, not how it stood."""
        return MetricsDump(tuple(family for family in self.families if family.kind != "gauge"))


class _Family(Generic[_Series]):
    """The series of one metric, made as they are first asked for."""

    def __init__(self, name: str, text: str, labels: tuple[str, ...], new: Callable[[], _Series]) -> None:
        self.name = name
        self._text = text
        self._labels = labels
        self._new: Callable[[], _Series] = new
        self._series: dict[tuple[str, ...], _Series] = {}

    def labels(self, *values: str) -> _Series:
        """The series of these label values, in the order of the labels: the same object each time.

        Raises `ValueError` when there are more or fewer values than labels.
        """
        series = self._series.get(values)
        if series is None:
            if len(values) != len(self._labels):
                wanted = ", ".join(self._labels) or "none"
                raise ValueError(
                    f'the labels of the metric "{self.name}" are {wanted}; give a value for each, not {values}'
                )
            series = self._series[values] = self._new()
        return series


class Counter(_Family[Tally]):
    """A metric that only grows; its name ends in ``_total``."""

    def __init__(self, name: str, text: str, labels: tuple[str, ...]) -> None:
        super().__init__(name, text, labels, Tally)

    def dump(self) -> FamilyDump:
        """The family as it stands now."""
        values = ((labels, tally.value) for labels, tally in self._series.items())
        return numbers(self.name, self._text, self._labels, values, kind="counter", parts=1)


class Gauge(_Family[Tally]):
    """A metric that goes up and down, and whose sum over processes means something."""

    def __init__(self, name: str, text: str, labels: tuple[str, ...]) -> None:
        super().__init__(name, text, labels, Tally)

    def dump(self) -> FamilyDump:
        """The family as it stands now."""
        values = ((labels, tally.value) for labels, tally in self._series.items())
        return numbers(self.name, self._text, self._labels, values, parts=1)


class Histogram(_Family[Spread]):
    """A metric of how values are spread over buckets. `bounds`: each bucket's upper end, ascending."""

    def __init__(self, name: str, text: str, labels: tuple[str, ...], bounds: Sequence[float]) -> None:
        self._bounds = tuple(map(float, bounds))
        super().__init__(name, text, labels, partial(Spread, self._bounds))

    def dump(self) -> FamilyDump:
        """The family as it stands now; sums in millionths."""
        series = _ordered(
            SeriesDump(labels, (*spread.counts, round(spread.total * MILLIONTHS)))
            for labels, spread in self._series.items()
        )
        return FamilyDump(self.name, "histogram", self._text, self._labels, series, self._bounds, MILLIONTHS)


def numbers(
    name: str,
    text: str,
    labels: tuple[str, ...],
    values: Iterable[tuple[tuple[str, ...], float]],
    *,
    kind: Kind = "gauge",
    parts: int = MILLIONTHS,
    merge: Merge = "sum",
) -> FamilyDump:
    """A family of plain numbers by their label values; see `FamilyDump` for the rest."""
    series = _ordered(SeriesDump(at, (round(value * parts),)) for at, value in values)
    return FamilyDump(name, kind, text, labels, series, parts=parts, merge=merge)


def _ordered(series: Iterable[SeriesDump]) -> tuple[SeriesDump, ...]:
    """The series by their labels."""
    return tuple(sorted(series, key=lambda each: each.labels))


def _described(family: FamilyDump) -> str:
    return f"{family.kind} of {len(family.bounds)} bounds and the labels {', '.join(family.labels) or 'none'}"
