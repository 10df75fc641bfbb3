"""What `doctor` looks at on this machine: Python, packages, memory, the data folder and the port. Values, no output."""

import errno
import importlib.metadata
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from sluicegate.cli.address import try_to_listen
from sluicegate.cli.connection import is_gateway
from sluicegate.cli.terminal import size_text

if TYPE_CHECKING:
    from sluicegate.errors import Fault
    from sluicegate.settings import Settings

Verdict = Literal["ok", "warning", "problem"]

OLDEST_PYTHON = (3, 11)
LITTLE_DISK_BYTES = 1_000_000_000
NO_DISK_BYTES = 50_000_000
LITTLE_MEMORY_BYTES = 1_000_000_000
"""The built-in chat model takes about 0.3 GB and a picture job up to about 1 GB."""
_REQUIREMENT = re.compile(r"^([A-Za-z0-9._-]+)(?:.*?>=\s*([0-9.]+))?")


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at: how it is, and the mend when it is not well."""

    check: str
    verdict: Verdict
    message: str
    mend: str = ""

    def as_dict(self) -> dict[str, str]:
        """For ``--json``."""
        return asdict(self)


def check_python(version: tuple[int, ...] = sys.version_info[:3]) -> Finding:
    """The interpreter's version."""
    text = ".".join(map(str, version))
    if version < OLDEST_PYTHON:
        return Finding("python", "problem", f"Python {text} is too old", "install Python 3.11 or newer")
    return Finding("python", "ok", f"Python {text}")


def check_packages(requirements: Iterable[str] | None = None) -> list[Finding]:
    """Every package that we declare is there, and not older than declared."""
    if requirements is None:
        requirements = importlib.metadata.requires("sluicegate") or []
    missing = [fault for line in requirements if (fault := _missing(line))]
    if missing:
        mend = "run make install, or install sluicegate again in this environment"
        return [Finding("packages", "problem", fault, mend) for fault in missing]
    return [Finding("packages", "ok", "all there")]


def _missing(requirement: str) -> str | None:
    declared, _, marker = requirement.partition(";")
    found = _REQUIREMENT.match(declared.strip())
    if found is None or "extra ==" in marker or ("win32" in marker and sys.platform == "win32"):
        return None
    name, least = found.groups()
    try:
        version = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return f"{name} is not installed"
    if least and _numbers(version) < _numbers(least):
        return f"{name} {version} is older than {least}"
    return None


def _numbers(version: str) -> tuple[int, ...]:
    numbers = [int(part) for part in re.findall(r"\d+", version.partition("+")[0])]
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)


def check_machine(*, cores: int | None = None, memory: Mapping[str, int] | None = None) -> Iterator[Finding]:
    """Cores that this process may use, and memory that is free."""
    cores = cores or _cores()
    plural = "core" if cores == 1 else "cores"
    yield Finding("processor", "ok", f"{cores} {plural}, load {os.getloadavg()[0]:.1f}")
    memory = _memory() if memory is None else memory
    free, total = memory.get("MemAvailable"), memory.get("MemTotal")
    if free is None or total is None:
        yield Finding("memory", "warning", "this system does not tell how much there is", "see that 1 GB is free")
        return
    words = f"{size_text(free)} free of {size_text(total)}"
    if free < LITTLE_MEMORY_BYTES:
        yield Finding("memory", "warning", words, "the built-in models need about 1 GB: end other programs")
    else:
        yield Finding("memory", "ok", words)


def _cores() -> int:
    """Cores that this process may use, where the system tells that; else those that there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _memory() -> dict[str, int]:
    """Bytes by name from Linux's /proc/meminfo, at most what a container grants (cgroup v2); empty elsewhere."""
    try:
        lines = Path("/proc/meminfo").read_text("ascii").splitlines()
    except OSError:
        return {}
    pairs = (line.split()[:2] for line in lines)
    found = {name.rstrip(":"): int(kilobytes) * 1_024 for name, kilobytes in pairs}
    try:
        granted = int(Path("/sys/fs/cgroup/memory.max").read_text("ascii"))
    except (OSError, ValueError):
        return found
    return {name: min(size, granted) for name, size in found.items()}


def check_faults(faults: Iterable["Fault"]) -> list[Finding]:
    """The faults of the settings, one by one."""
    return [
        Finding("settings", "problem", f"{fault.path}: {fault.message}".removeprefix(": "), fault.suggestion or "")
        for fault in faults
    ]


def check_folders(settings: "Settings") -> Iterator[Finding]:
    """The folders of the database and of the pictures: there or to be made, writable, with room on the disk."""
    places = {"data folder": Path(settings.data_dir).absolute()}
    if settings.storage.engine == "sqlite":
        places["database folder"] = settings.database_path.parent
    places["pictures folder"] = settings.assets_path
    seen: set[Path] = set()
    for name, folder in places.items():
        if folder not in seen and not any(folder.is_relative_to(other) for other in seen):
            yield check_folder(name, folder)
        seen.add(folder)


def check_folder(name: str, folder: Path) -> Finding:
    """One folder."""
    existing = next(place for place in (folder, *folder.parents) if place.exists())
    if not existing.is_dir():
        return Finding(name, "problem", f"{existing} is a file", "move it away, or choose another --data-dir")
    try:
        with tempfile.NamedTemporaryFile(dir=existing, prefix=".sluicegate-doctor-"):
            pass
    except OSError as error:
        mend = "give this user the right to write there, or choose another --data-dir"
        return Finding(name, "problem", f"{existing} cannot be written to: {error.strerror}", mend)
    free = shutil.disk_usage(existing).free
    words = f"{folder}, {size_text(free)} free" + ("" if existing == folder else " (made at the first start)")
    if free < NO_DISK_BYTES:
        return Finding(name, "problem", words, "make room on the disk, or choose another --data-dir")
    if free < LITTLE_DISK_BYTES:
        return Finding(name, "warning", words, "make room on the disk before pictures fill it")
    return Finding(name, "ok", words)


async def check_port(host: str, port: int) -> Finding:
    """The address to listen on is free, or this gateway has it already."""
    if port == 0:
        return Finding("port", "ok", f"{host}: a free port is taken at the start")
    try:
        try_to_listen(host, port)
    except OSError as error:
        return await _taken_port(host, port, error)
    return Finding("port", "ok", f"{port} of {host} is free")


async def _taken_port(host: str, port: int, error: OSError) -> Finding:
    reachable = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)  # noqa: S104
    if error.errno == errno.EADDRINUSE and await is_gateway(f"http://{reachable}:{port}"):
        return Finding("port", "ok", f"a gateway runs on port {port} of {host}")
    message = f"port {port} of {host} cannot be had: {error.strerror}"
    return Finding("port", "problem", message, "end the program that has it, or set server.port (or --port) to another")
