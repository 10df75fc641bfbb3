"""The shipped test doubles."""

import pytest

from sluicegate.domain.clock import Clock
from sluicegate.testing import ManualClock


def test_a_manual_clock_moves_only_when_told() -> None:
    clock: Clock = ManualClock(100.0)
    assert (clock.now(), clock.monotonic()) == (clock.now(), clock.monotonic()) == (100.0, 0.0)


def test_time_that_passes_moves_both_readings() -> None:
    clock = ManualClock(100.0)
    clock.advance(2.5)
    clock.advance(0.5)
    assert (clock.now(), clock.monotonic()) == (103.0, 3.0)


def test_a_clock_set_back_leaves_durations_alone() -> None:
    clock = ManualClock(100.0)
    clock.advance(1.0)
    clock.set_back(60.0)
    assert (clock.now(), clock.monotonic()) == (41.0, 1.0)


def test_time_does_not_pass_backwards() -> None:
    clock = ManualClock(100.0)
    with pytest.raises(ValueError, match="-1"):
        clock.advance(-1.0)
    assert clock.now() == 100.0
