"""The model server behind every contender, and what it counts. The program is bench/c/upstream.c."""

import contextlib
import subprocess
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
from bench.lane.cores import pinned
from bench.lane.scenarios import MODELS


class UpstreamStats(msgspec.Struct, frozen=True):
    """Its counters."""

    requests: int
    plain_done: int
    streams_done: int
    cancelled: int
    active: int
    connections: int
    open: int
    bytes: int
    last_cancel_ns: int
    """When the last caller was seen to have left, as `time.monotonic_ns` would tell."""
    now_ns: int


class _Ready(msgspec.Struct):
    port: int


class Upstream:
    """The running program."""

    def __init__(self, process: "subprocess.Popen[bytes]", port: int) -> None:
        self.port = port
        self.pid = process.pid

    def stats(self) -> UpstreamStats:
        """Ask for the counters."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/stats", timeout=10) as answer:
            return msgspec.json.decode(answer.read(), type=UpstreamStats)


@contextlib.contextmanager
def running_upstream(program: Path, cores: Sequence[int]) -> Iterator[Upstream]:
    """Start it on these cores and a free port; it ends with the block."""
    with pinned(cores):
        started = subprocess.Popen([str(program), "0", *MODELS], stdout=subprocess.PIPE)  # noqa: S603 - a command of our own
    with started as process:
        try:
            assert process.stdout is not None
            yield Upstream(process, msgspec.json.decode(process.stdout.readline(), type=_Ready).port)
        finally:
            process.kill()
