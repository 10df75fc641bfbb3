"""What every part of a run shares: the programs, the cores, the upstream, and a folder for what contenders write."""

import contextlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.lane.contender import Contender
from bench.lane.cores import Cores, choose_cores
from bench.lane.load import Load
from bench.lane.programs import build
from bench.lane.running import Running, running
from bench.lane.upstream import Upstream, running_upstream


@dataclass(frozen=True, slots=True)
class Bed:
    """One run's surroundings."""

    cores: Cores
    upstream: Upstream
    load: Load
    folder: Path

    @contextlib.contextmanager
    def running(self, contender: Contender, *, until_served: bool = True) -> Iterator[Running]:
        """The contender on its cores. Raises `NotThere` when it does not come to serve."""
        cores = self.cores.for_processes(contender.processes)
        with running(contender, self.folder, self.upstream.port, cores, until_served=until_served) as target:
            yield target


@contextlib.contextmanager
def prepared_bed() -> Iterator[Bed]:
    """Build the programs and start the upstream."""
    programs, cores = build(), choose_cores()
    with (
        tempfile.TemporaryDirectory(prefix="sluicegate-lane-") as folder,
        running_upstream(programs.upstream, cores.load) as upstream,
    ):
        yield Bed(cores, upstream, Load(programs.loadgen, cores.load), Path(folder))
