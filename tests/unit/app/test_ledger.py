"""Counts in shared memory: each process writes its own, all read the sum."""

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from sluicegate.app.ledger import Ledger, allot

COLUMNS = ("streams", "calls/a")
OTHER = """
import sys
from sluicegate.app.ledger import Ledger
count = Ledger(int(sys.argv[1]), ("streams", "calls/a"), 3).count("calls/a", 2)
print(count.others(), flush=True)
count.set(40)
"""


@pytest.fixture
def descriptor() -> Iterator[int]:
    descriptor = allot(COLUMNS, 3)
    yield descriptor
    os.close(descriptor)


def test_each_sees_what_the_others_count_and_not_its_own(descriptor: int) -> None:
    table = Ledger(descriptor, COLUMNS, 3)
    one, two, three = (table.count("streams", row) for row in range(3))
    assert [part.others() for part in (one, two, three)] == [0, 0, 0]
    one.set(5)
    two.set(7)
    assert [part.others() for part in (one, two, three)] == [7, 5, 12]
    one.set(0)
    assert three.others() == 7
    assert table.count("calls/a", 0).others() == 0


def test_another_process_that_inherits_the_memory_reads_and_writes_it(descriptor: int) -> None:
    mine = Ledger(descriptor, COLUMNS, 3).count("calls/a", 0)
    mine.set(3)
    command = [sys.executable, "-c", OTHER, str(descriptor)]
    done = subprocess.run(command, pass_fds=(descriptor,), capture_output=True, text=True, check=True)
    assert done.stdout == "3\n"
    assert mine.others() == 40


def test_nothing_is_left_of_a_process_that_has_ended(descriptor: int) -> None:
    table = Ledger(descriptor, COLUMNS, 3)
    for column in COLUMNS:
        table.count(column, 1).set(9)
        table.count(column, 2).set(1)
    table.clear(1)
    assert [table.count(column, 0).others() for column in COLUMNS] == [1, 1]


def test_a_count_that_is_not_kept_is_no_count(descriptor: int) -> None:
    with pytest.raises(KeyError):
        Ledger(descriptor, COLUMNS, 3).count("calls/b", 0)
