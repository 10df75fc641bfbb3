"""Turns among writers."""

import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from sluicegate.storage.sqlite.connection import connect
from sluicegate.storage.sqlite.turnstile import Turnstile


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[sqlite3.Connection, sqlite3.Connection]]:
    path = tmp_path / "store.db"
    one, two = connect(path, busy_timeout=0), connect(path, busy_timeout=0)
    yield one, two
    one.close()
    two.close()


Pair = tuple[sqlite3.Connection, sqlite3.Connection]


def test_a_lock_that_is_not_given_up_is_reported_in_time(tmp_path: Path, pair: Pair) -> None:
    one, two = pair
    turnstile = Turnstile(tmp_path / "store.db", timeout=0.05)
    turnstile.begin(one)
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        turnstile.begin(two)
    one.execute("COMMIT")
    turnstile.begin(two)
    assert two.in_transaction


def test_a_turn_that_is_not_given_on_is_reported_in_time(tmp_path: Path, pair: Pair) -> None:
    turnstile = Turnstile(tmp_path / "store.db", timeout=0.05)
    with turnstile.turn(end=float("inf")), pytest.raises(TimeoutError, match="turn"):
        turnstile.begin(pair[0])
    turnstile.begin(pair[0])
    assert pair[0].in_transaction


def test_whoever_waits_goes_before_one_that_has_just_committed(tmp_path: Path, pair: Pair) -> None:
    greedy, patient = pair
    path = tmp_path / "store.db"
    served = threading.Event()

    def wait_once() -> None:
        Turnstile(path, 60.0).begin(patient)
        served.set()
        patient.execute("COMMIT")

    turnstile = Turnstile(path, 60.0)
    for _ in range(20):
        served.clear()
        turnstile.begin(greedy)
        waiter = threading.Thread(target=wait_once)
        waiter.start()
        _until_the_turn_is_taken(path)
        greedy.execute("COMMIT")
        turnstile.begin(greedy)
        assert served.is_set()
        greedy.execute("COMMIT")
        waiter.join()


def _until_the_turn_is_taken(path: Path) -> None:
    while True:
        try:
            with Turnstile(path, 0.0).turn(end=0.0):
                pass
        except TimeoutError:
            return
