"""What a process inherits from its supervisor: its settings, its number, and what it is joined to the others by."""

import os
import socket
from collections.abc import Mapping
from typing import Final

import msgspec

from sluicegate.app.ledger import Ledger
from sluicegate.app.listeners import ready_to_listen
from sluicegate.settings import Settings
from sluicegate.wire.counts import SharedCount

VARIABLE: Final = "SLUICEGATE_PLACE"
_STREAMS = "streams"
_CALLS = "calls/"


class Counts(msgspec.Struct, frozen=True, kw_only=True):
    """One gateway's parts of the counts that hold over all of them."""

    streams: SharedCount
    """Chat calls."""
    calls: Mapping[str, SharedCount]
    """Calls at each chat backend, by its name."""


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """One process of a supervisor. All but the settings and numbers are descriptors that it inherits."""

    settings: Settings
    number: int
    """From 1; the plant is 0."""
    gateways: int
    """How many processes serve HTTP."""
    line: int
    """Its end of the socket pair that joins it to the supervisor."""
    log: int
    """Where its log lines go: the supervisor's standard error."""
    lifeline: int
    """A gateway holds the writing end of this pipe for as long as it runs; the plant, which ends last, the other."""
    listener: int = -1
    ledger: int = -1

    @property
    def name(self) -> str:
        """As it is called in the log and in /health."""
        return f"gateway {self.number}" if self.number else "plant"

    def descriptors(self) -> tuple[int, ...]:
        """What the process is to inherit."""
        return tuple(each for each in (self.line, self.log, self.lifeline, self.listener, self.ledger) if each >= 0)

    def environment(self) -> Mapping[str, str]:
        """The environment that hands the place over."""
        return {**os.environ, VARIABLE: msgspec.json.encode(self).decode()}

    def listening(self) -> socket.socket:
        """The socket to accept from."""
        return ready_to_listen(socket.socket(fileno=self.listener))

    def counts(self) -> "Counts":
        """This gateway's part of what is counted together."""
        ledger = Ledger(self.ledger, ledger_columns(self.settings), self.gateways)
        row = self.number - 1
        calls = {column: ledger.count(_CALLS + column, row) for column in _chat_backends(self.settings)}
        return Counts(streams=ledger.count(_STREAMS, row), calls=calls)


def inherited_place() -> Place:
    """The place that this process was started in; its children do not inherit it."""
    place = msgspec.json.decode(os.environ.pop(VARIABLE), type=Place)
    for descriptor in place.descriptors():
        os.set_inheritable(descriptor, False)
    return place


def ledger_columns(settings: Settings) -> tuple[str, ...]:
    """What the ledger counts: chat calls, and the calls at each chat backend."""
    return (_STREAMS, *(_CALLS + name for name in _chat_backends(settings)))


def _chat_backends(settings: Settings) -> tuple[str, ...]:
    return tuple(backend.name for backend in settings.backends if backend.kind != "local-image")
