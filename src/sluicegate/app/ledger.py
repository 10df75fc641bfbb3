"""Counts that the gateway processes of one supervisor keep together in shared memory: streams, calls at each backend.

A table of 8-byte integers, a column for each count and in it a slot for each process. Only its owner writes a slot;
everyone reads all. So there are no locks and no waiting, at a price: between a process's look at the sum and its own
entry others may enter too. With N processes a bound may be passed by at most N - 1.
"""

import mmap
import os
import tempfile
from collections.abc import Sequence

_SLOT_BYTES = 8


class Ledger:
    """The table. Its descriptor may be inherited; the memory lives for as long as one process has it."""

    def __init__(self, descriptor: int, columns: Sequence[str], rows: int) -> None:
        """Open the table behind `descriptor`, which stays the caller's. Raises `ValueError` when it is too small."""
        self._map = mmap.mmap(descriptor, len(columns) * rows * _SLOT_BYTES)
        self._table = memoryview(self._map).cast("q")
        self._starts = {column: index * rows for index, column in enumerate(columns)}
        self._rows = rows

    def count(self, column: str, row: int) -> "LedgerCount":
        """The part that process `row` has in a count. Raises `KeyError` for a count that is not kept."""
        start = self._starts[column]
        return LedgerCount(self._table[start : start + self._rows], row)

    def clear(self, row: int) -> None:
        """A process has ended: nothing of what it counted is left."""
        for start in self._starts.values():
            self._table[start + row] = 0


class LedgerCount:
    """One process's slot in a column; fulfils `SharedCount`."""

    __slots__ = ("_column", "_row")

    def __init__(self, column: memoryview, row: int) -> None:
        self._column = column
        self._row = row

    def set(self, value: int) -> None:
        """See `SharedCount.set`."""
        self._column[self._row] = value

    def others(self) -> int:
        """See `SharedCount.others`."""
        return sum(self._column) - int(self._column[self._row])


def allot(columns: Sequence[str], rows: int) -> int:
    """The descriptor of fresh memory for a table, all zeros; it has no name, and ends with its last holder."""
    size = len(columns) * rows * _SLOT_BYTES
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("sluicegate-ledger")
    else:
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    os.ftruncate(descriptor, size)
    return descriptor
