"""No gateway at all: what the load generator and the upstream can do without one."""

from dataclasses import dataclass

from bench.lane.contender import Ground, Launch


@dataclass(frozen=True, slots=True)
class Direct:
    """Callers go to the upstream itself."""

    name: str = "direct"
    processes: int = 0

    def install(self) -> str:
        """Nothing to install."""
        return "no gateway"

    def launch(self, ground: Ground) -> Launch:
        """Nothing to start."""
        return Launch()
