"""Judging health."""

import pytest

from sluicegate.observability.health import BackendHealth, StoreHealth, judge, resident_bytes

UP, DOWN = StoreHealth(state="up", latency_ms=1), StoreHealth(state="down", reason="locked")


def backend(state: str) -> BackendHealth:
    return BackendHealth(name="b", kind="k", state=state)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("store", "states", "draining", "ready"),
    [
        (UP, ["up", "down"], False, True),
        (UP, ["starting", "down"], False, False),
        (UP, [], False, False),
        (DOWN, ["up"], False, False),
        (UP, ["up"], True, False),
    ],
)
def test_ready_needs_the_store_a_backend_and_no_stop(
    store: StoreHealth, states: list[str], draining: bool, ready: bool
) -> None:
    is_ready, reasons = judge(store, [backend(state) for state in states], draining=draining)
    assert is_ready is ready
    assert bool(reasons) is not ready


def test_memory_is_read_and_has_a_fallback() -> None:
    assert resident_bytes() > 1_000_000
    assert resident_bytes(lambda: "nonsense") > 1_000_000
