"""The load generator: what it is told, and what it tells. The program is bench/c/loadgen.c."""

import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
from bench.lane.cores import pinned
from bench.lane.running import Running


class Percentiles(msgspec.Struct, frozen=True):
    """Milliseconds."""

    p50: float
    p90: float
    p99: float
    max: float
    samples: int


class Memory(msgspec.Struct, frozen=True):
    """Of all processes of a contender. PSS counts a page that n processes share as 1/n in each."""

    rss_kb: int
    pss_kb: int


class MemoryAt(Memory, frozen=True):
    """Memory so many seconds after the beginning."""

    at: float


class Counts(msgspec.Struct, frozen=True):
    """What happened to the requests."""

    seconds: float
    requests: int
    failed: int
    """Connections that were refused, broke, or answered nonsense."""
    refused: int
    """Answers with another status than 200."""
    cut_short: int
    """Answers with 200 that lack tokens."""
    tokens: int
    bytes: int
    left: int
    closed_by_peer: int


class ClosedLoop(Counts, frozen=True):
    """Callers that ask again as soon as they are answered."""

    gateway_cpu_seconds: float
    own_cpu_seconds: float
    rss_kb: int
    pss_kb: int
    latency: Percentiles | None
    first_piece: Percentiles | None
    """From the request to the first bytes of the answer's body, whatever they say."""
    first_token: Percentiles | None
    """From the request to its first token."""
    first_token_delay: Percentiles | None
    """From the moment at which the upstream made the first token to its arrival."""
    token_delay: Percentiles | None


class Level(Memory, frozen=True):
    """Memory with so many streams open."""

    streams: int
    with_first_token: int
    failed: int


class _Hold(msgspec.Struct):
    levels: list[Level]


class Endured(msgspec.Struct, frozen=True):
    """Callers that stall, drip or vanish, and the contender's memory meanwhile."""

    memory: list[MemoryAt]
    counts: Counts


class LoadFailed(Exception):
    """The load generator ended with an error, or took far longer than it should."""


class Load(NamedTuple):
    """Starts the program on the cores of the load."""

    program: Path
    cores: Sequence[int]

    def closed_loop(
        self, target: Running, model: str, *, stream: bool, connections: int, seconds: float, warmup: float
    ) -> ClosedLoop:
        """Measure `seconds` after `warmup`."""
        more = ["--connections", str(connections), "--seconds", str(seconds), "--warmup", str(warmup)]
        output = self._run(target, model, stream, more, limit=seconds + warmup + 60)
        return msgspec.json.decode(output, type=ClosedLoop)

    def hold(
        self, target: Running, model: str, levels: Iterable[int], *, rate: int, settle: float = 1.5
    ) -> list[Level]:
        """Open streams level by level, `rate` a second; memory is read `settle` seconds after the last first token."""
        more = ["--mode", "hold", "--levels", ",".join(map(str, levels))]
        more += ["--rate", str(rate), "--settle", str(settle)]
        output = self._run(target, model, True, more, limit=240)
        return msgspec.json.decode(output, type=_Hold).levels

    def endure(
        self, target: Running, mode: str, model: str, *, connections: int, seconds: float, linger: int = 500
    ) -> "subprocess.Popen[bytes]":
        """Callers of mode stall, drip or vanish, in the background; `endured` awaits their end."""
        more = ["--mode", mode, "--connections", str(connections), "--seconds", str(seconds), "--linger", str(linger)]
        with pinned(self.cores):
            return subprocess.Popen(self._command(target, model, True, more), stdout=subprocess.PIPE)  # noqa: S603 - a command of our own

    def _command(self, target: Running, model: str, stream: bool, more: Sequence[str]) -> list[str]:
        command = [str(self.program), "--port", str(target.port), "--path", target.launch.path, "--model", model]
        command += ["--key", target.launch.key, "--pids", ",".join(map(str, target.pids())), *more]
        for name, value in target.launch.headers.items():
            command += ["--header", f"{name}: {value}"]
        return [*command, "--stream"] if stream else command

    def _run(self, target: Running, model: str, stream: bool, more: Sequence[str], *, limit: float) -> bytes:
        command = self._command(target, model, stream, more)
        try:
            with pinned(self.cores):
                done = subprocess.run(command, capture_output=True, timeout=limit, check=False)  # noqa: S603 - a command of our own
        except subprocess.TimeoutExpired:
            raise LoadFailed(f"the load on {target.name} did not end within {limit:g} s") from None
        if done.returncode != 0:
            raise LoadFailed(f"the load generator ended with {done.returncode}: {done.stderr.decode()[-500:]}")
        return done.stdout


def endured(callers: "subprocess.Popen[bytes]", *, limit: float = 120) -> Endured:
    """What the callers in the background tell at their end."""
    output, _ = callers.communicate(timeout=limit)
    return msgspec.json.decode(output, type=Endured)
