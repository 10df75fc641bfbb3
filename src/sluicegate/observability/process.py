"""What this process takes of the machine, under Prometheus' usual names (`process_*`, `python_info`)."""

import os
import platform
import resource
import sys
from pathlib import Path

from sluicegate.observability.tallies import FamilyDump, numbers

_CPU_USER, _CPU_SYSTEM, _STARTED, _VIRTUAL, _RESIDENT = 11, 12, 19, 20, 21
"""Places in ``/proc/PID/stat`` after the name in brackets. Source: proc(5)."""


class ProcessFigures:
    """Reads the figures of the process it is made in. Where there is no ``/proc``, `python_info` is all it tells.

    Over several processes they add up, but for the start: that of the oldest one stands.
    """

    def __init__(self, proc: Path = Path("/proc")) -> None:
        self._proc = proc
        self._booted: float | None = None

    def families(self) -> tuple[FamilyDump, ...]:
        """The figures now."""
        try:
            return (*self._of_the_process(), _python())
        except (OSError, IndexError, ValueError):
            return (_python(),)

    def _of_the_process(self) -> tuple[FamilyDump, ...]:
        fields = (self._proc / "self/stat").read_text().rpartition(")")[2].split()
        tick = os.sysconf("SC_CLK_TCK")
        cpu_seconds = (int(fields[_CPU_USER]) + int(fields[_CPU_SYSTEM])) / tick
        started = self._boot_time() + int(fields[_STARTED]) / tick
        resident = int(fields[_RESIDENT]) * resource.getpagesize()
        open_fds = len(os.listdir(self._proc / "self/fd"))  # noqa: PTH208 - Path.iterdir makes an object for each
        max_fds = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        cpu_text = "Total user and system CPU time spent in seconds."
        started_text = "Start time of the process since unix epoch in seconds."
        return (
            numbers("process_cpu_seconds_total", cpu_text, (), [((), cpu_seconds)], kind="counter"),
            numbers("process_start_time_seconds", started_text, (), [((), started)], merge="least"),
            _whole("process_resident_memory_bytes", "Resident memory size in bytes.", resident),
            _whole("process_virtual_memory_bytes", "Virtual memory size in bytes.", int(fields[_VIRTUAL])),
            _whole("process_open_fds", "Number of open file descriptors.", open_fds),
            # negative: there is no limit
            *([_whole("process_max_fds", "Maximum number of open file descriptors.", max_fds)] if max_fds >= 0 else ()),
        )

    def _boot_time(self) -> float:
        if self._booted is None:
            lines = (self._proc / "stat").read_text().splitlines()
            self._booted = float(next((line for line in lines if line.startswith("btime ")), "").split()[1])
        return self._booted


def _whole(name: str, text: str, value: int) -> FamilyDump:
    return numbers(name, text, (), [((), value)], parts=1)


def _python() -> FamilyDump:
    info = {
        "version": platform.python_version(),
        "implementation": platform.python_implementation(),
        "major": str(sys.version_info.major),
        "minor": str(sys.version_info.minor),
        "patchlevel": str(sys.version_info.micro),
    }
    return numbers(
        "python_info", "Python platform information", tuple(info), [(tuple(info.values()), 1)], parts=1, merge="least"
    )
