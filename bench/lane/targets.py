"""What the lane must reach, and aims at, as ratios and figures of one run."""

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from bench.lane.memory import Footprint
from bench.lane.start import Start
from bench.lane.throughput import Turn, middle, percentile


class Results(NamedTuple):
    """What targets are judged by."""

    turns: Sequence[Turn]
    footprints: Sequence[Footprint]
    starts: Sequence[Start]


class Target(NamedTuple):
    """One line of the table. `value` is None when the run did not measure it."""

    title: str
    must: float
    aim: float
    at_most: bool
    unit: str
    value: float | None

    @property
    def verdict(self) -> str:
        """In a word."""
        if self.value is None:
            return "not measured"
        if self._holds(self.aim):
            return "aim reached"
        return "met" if self._holds(self.must) else "missed"

    def _holds(self, bound: float) -> bool:
        assert self.value is not None
        return self.value <= bound if self.at_most else self.value >= bound


_RATIOS: Final = (
    ("plain", "nginx", 0.55, 1.0),
    ("burst", "nginx", 1.0, 1.5),
    ("plain", "fastify", 3.0, 5.0),
    ("burst", "fastify", 5.0, 10.0),
    ("plain", "litellm", 50.0, 100.0),
    ("plain", "portkey", 50.0, 100.0),
)
_WORDS: Final = {"plain": "not streamed", "burst": "short streams"}


def targets(results: Results, ours: str) -> list[Target]:
    """All of them, for the contender named `ours`."""
    found = [
        Target(f"{_WORDS[case]}, ÷ {peer}", must, aim, False, "×", _ratio(results, case, ours, peer))
        for case, peer, must, aim in _RATIOS
    ]
    first = "added time to the first token at 1 000 streams"
    found += [
        Target(f"{first}, p50", 5, 1, True, "ms", added(results.turns, ours, "p50")),
        Target(f"{first}, p99", 50, 10, True, "ms", added(results.turns, ours, "p99")),
        Target("RSS at 2 000 open streams", 80, 45, True, "MB", _resident(results.footprints, ours, 2_000)),
        Target("cold start, to the first chat answer", 250, 130, True, "ms", _start(results.starts, ours)),
    ]
    return found


def added(turns: Sequence[Turn], contender: str, name: str) -> float | None:
    """Percentile of the time to the first token through the contender, less that without a gateway, in ms."""
    through = _turns(turns, "streams", contender)
    direct = _turns(turns, "streams", "direct")
    if not through or not direct:
        return None
    return percentile(through, "first_token", name).median - percentile(direct, "first_token", name).median


def rate(turns: Sequence[Turn], case: str, contender: str) -> float | None:
    """Median of good answers a second."""
    return _median(_turns(turns, case, contender), lambda turn: turn.per_second)


def _ratio(results: Results, case: str, ours: str, peer: str) -> float | None:
    own, other = rate(results.turns, case, ours), rate(results.turns, case, peer)
    return own / other if own is not None and other else None


def _turns(turns: Sequence[Turn], case: str, contender: str) -> list[Turn]:
    return [turn for turn in turns if (turn.case, turn.contender) == (case, contender)]


def _median(turns: Sequence[Turn], figure: Callable[[Turn], float]) -> float | None:
    return middle([figure(turn) for turn in turns]).median if turns else None


def _resident(footprints: Sequence[Footprint], ours: str, streams: int) -> float | None:
    for footprint in footprints:
        for level in footprint.levels:
            if (footprint.contender, level.streams) == (ours, streams) and level.with_first_token >= streams:
                return level.rss_kb / 1024
    return None


def _start(starts: Sequence[Start], ours: str) -> float | None:
    return next((middle(start.chat_ms).median for start in starts if start.contender == ours), None)
