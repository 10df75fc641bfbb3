"""A count that several processes keep together, each its own part, so that one bound holds over all of them."""

from typing import Protocol


class SharedCount(Protocol):
    """One process's part of a count."""

    def set(self, value: int) -> None:
        """This process's part is now `value`."""
        ...

    def others(self) -> int:
        """The parts of all other processes together, a moment ago."""
        ...
