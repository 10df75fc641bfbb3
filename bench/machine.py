"""What the figures were measured on: processor, memory, disk, versions; how long one flush to the disk takes."""

import importlib.metadata
import os
import platform
import sqlite3
import time
from pathlib import Path

import msgspec
from bench.stopwatch import Spread, spread

FLUSHES = 200
_BLOCK = b"\0" * 4096


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """Facts that a reader needs to judge the figures."""

    at: str
    """When, in UTC."""
    system: str
    processor: str
    cores: int
    memory_gib: float
    load: float
    """Processes that wanted to run, averaged over the last minute, before the measurements began."""
    flush_ms: Spread
    """One append of 4 KiB and its fdatasync, on the disk that holds the stores."""
    versions: dict[str, str]


def machine(folder: Path) -> Machine:
    """The facts, with the disk of `folder`."""
    return Machine(
        at=time.strftime("%Y-%m-%d %H:%M", time.gmtime()),
        system=f"{platform.system()} {platform.release()}",
        processor=_processor(),
        cores=len(os.sched_getaffinity(0)),
        memory_gib=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30,
        load=os.getloadavg()[0],
        flush_ms=_flushes(folder),
        versions={"python": platform.python_version(), "sqlite": sqlite3.sqlite_version, **_packages()},
    )


def _processor() -> str:
    names = [line for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines() if line.startswith("model name")]
    return names[0].split(":", 1)[1].strip() if names else platform.machine()


def _packages() -> dict[str, str]:
    versions = {}
    for package in ("sluicegate", "asyncpg", "procrastinate", "pgqueuer", "psycopg"):
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def _flushes(folder: Path) -> Spread:
    taken = []
    file = folder / "flush"
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        for _ in range(FLUSHES):
            begin = time.perf_counter()
            os.write(descriptor, _BLOCK)
            os.fdatasync(descriptor)
            taken.append((time.perf_counter() - begin) * 1000)
    finally:
        os.close(descriptor)
        file.unlink()
    return spread(taken)
