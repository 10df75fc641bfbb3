"""Any other gateway, given as a command on the command line of the bench."""

import shlex
from dataclasses import dataclass
from pathlib import Path

from bench.lane.contender import Ground, Launch


@dataclass(frozen=True, slots=True)
class Command:
    """`line` may hold {port}, {upstream} (a port of 127.0.0.1) and {folder}. It must take the key `contender.KEY`."""

    name: str
    line: str
    processes: int = 1

    def install(self) -> str:
        """It is there, or it will fail to start."""
        return self.line

    def launch(self, ground: Ground) -> Launch:
        """Fill the places in."""
        filled = self.line.format(port=ground.port, upstream=ground.upstream_port, folder=ground.folder)
        return Launch(command=tuple(shlex.split(filled)), folder=str(Path.cwd()))
