"""What is measured: a gateway that can be installed and launched. `contenders/` has one file for each."""

from pathlib import Path
from typing import NamedTuple, Protocol

import msgspec

KEY = "sk-bench-caller-1"
"""What callers send, and what every contender that checks keys expects."""
UPSTREAM_KEY = "sk-bench-upstream"
CHAT = "/v1/chat/completions"


class NotThere(Exception):
    """The contender cannot be installed or launched here; the message says why."""


class Ground(NamedTuple):
    """What a contender finds when it is launched."""

    upstream_port: int
    port: int
    """The port to listen on, on 127.0.0.1."""
    folder: Path
    """Its own, for configuration, data and logs; kept between launches of one run."""
    processes: int
    """How many cores it has, and so how many processes it may run."""


class Launch(msgspec.Struct, frozen=True, kw_only=True):
    """How a contender is started and how it is called."""

    command: tuple[str, ...] = ()
    """Nothing to start: callers go to the upstream itself."""
    environment: dict[str, str] = {}
    path: str = CHAT
    live_path: str = ""
    """Where it says that it lives, when it has such a place."""
    key: str = KEY
    folder: str = ""
    """Where it runs; empty: in its own folder."""
    headers: dict[str, str] = {}
    """What callers send besides the usual."""


class Contender(Protocol):
    """One gateway, in one configuration."""

    @property
    def name(self) -> str:
        """As the report calls it."""

    @property
    def processes(self) -> int:
        """How many processes share its port."""

    def install(self) -> str:
        """Make sure that it is installed; its version. Raises `NotThere`."""

    def launch(self, ground: Ground) -> Launch:
        """Write its configuration into the folder, and say how it is started."""
