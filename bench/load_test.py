"""How fast is your own gateway: a short load test of any running server that speaks OpenAI's chat dialect.

    python -m bench.load_test --url http://127.0.0.1:8000 --key K --model M --connections 100 --seconds 10 [--stream]

It calls real models, so it costs what they cost. The load comes from the C program of bench/c where there is a C
compiler and the server is on this machine without TLS; else from Python, which is slower and says so.
"""

import argparse
import asyncio
import os
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

import msgspec
from bench.lane.cores import family, processor_seconds
from bench.lane.load import ClosedLoop, Percentiles
from bench.lane.programs import NoCompiler, build
from rich.console import Console
from rich.table import Table

_CHAT = "/v1/chat/completions"
_FEW = 5


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured. Times in milliseconds; memory and processor of the gateway, when it is on this machine."""

    requests: int
    failed: int
    seconds: float
    latency: Percentiles | None
    first_token: Percentiles | None
    memory_mb: float | None
    cpu_share: float | None
    """Of one core, 0 to 1, and more with several processes."""


class Callers:
    """The load from Python: so many connections, each asking again when it is answered."""

    def __init__(self, url: SplitResult, key: str, body: bytes, *, stream: bool) -> None:
        self._host = url.hostname or "127.0.0.1"
        self._port = url.port or (443 if url.scheme == "https" else 80)
        self._tls = ssl.create_default_context() if url.scheme == "https" else None
        head = f"POST {url.path.rstrip('/')}{_CHAT} HTTP/1.1\r\nHost: {url.netloc.rpartition('@')[2]}\r\n"
        head += f"Authorization: Bearer {key}\r\n" if key else ""
        self._request = f"{head}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
        self._stream = stream
        self.latencies: list[float] = []
        self.firsts: list[float] = []
        self.failed = 0

    async def run(self, connections: int, seconds: float) -> None:
        """Call for `seconds`; calls that are not answered by then do not count."""
        tasks = [asyncio.create_task(self._caller()) for _ in range(connections)]
        await asyncio.sleep(seconds)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _caller(self) -> None:
        while True:
            try:
                reader, writer = await asyncio.open_connection(self._host, self._port, ssl=self._tls)
            except OSError:
                self.failed += 1
                await asyncio.sleep(0.2)
                continue
            try:
                while await self._call(reader, writer):
                    pass
            except (OSError, EOFError, ValueError):
                self.failed += 1
                await asyncio.sleep(0.2)
            finally:
                writer.close()

    async def _call(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """One call; whether the connection may be used again."""
        begin = time.perf_counter()
        writer.write(self._request)
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        first = await self._body(head, reader)
        if " 200 " not in head.partition("\r\n")[0]:
            self.failed += 1
            await asyncio.sleep(0.05)
        else:
            self.latencies.append((time.perf_counter() - begin) * 1000)
            if self._stream:
                self.firsts.append((first - begin) * 1000)
        return "connection: close" not in head

    @staticmethod
    async def _body(head: str, reader: asyncio.StreamReader) -> float:
        """Read it to its end; when its first byte came."""
        fields = dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if ": " in line)
        if fields.get("transfer-encoding") != "chunked":
            await reader.readexactly(int(fields.get("content-length", "0")))
            return time.perf_counter()
        first = 0.0
        while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
            await reader.readexactly(size + 2)
            first = first or time.perf_counter()
        await reader.readuntil(b"\r\n")
        return first


def serving_pid(port: int) -> int | None:
    """The process that listens on a TCP port of this machine, or None when it cannot be told."""
    inodes = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        if not Path(table).exists():
            continue
        for line in Path(table).read_text("ascii").splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and int(fields[1].rpartition(":")[2], 16) == port:
                inodes.add(f"socket:[{fields[9]}]")
    found = set()
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            if str(link.readlink()) in inodes:
                found.add(int(link.parts[2]))
        except OSError:
            continue
    return min(found, default=None)  # a parent comes before the children that inherit its socket


def measure(url: SplitResult, arguments: argparse.Namespace) -> tuple[Outcome, str]:
    """The outcome, and which load it was."""
    port = url.port or (443 if url.scheme == "https" else 80)
    pid = serving_pid(port) if _is_local(url) else None
    pids = family(pid) if pid is not None else []
    if _is_local(url) and url.scheme == "http" and not url.path.rstrip("/"):
        try:
            return _compiled(port, pids, arguments), "load: the C program of bench/c"
        except NoCompiler as missing:
            return _python(url, pids, arguments), f"load: Python, which is slower ({missing})"
    return _python(
        url, pids, arguments
    ), "load: Python, which is slower (the server is elsewhere, or behind TLS or a path)"


def _compiled(port: int, pids: Sequence[int], arguments: argparse.Namespace) -> Outcome:
    command = [str(build().loadgen), "--port", str(port), "--model", arguments.model, "--key", arguments.key or "none"]
    command += ["--connections", str(arguments.connections), "--seconds", str(arguments.seconds)]
    command += ["--pids", ",".join(map(str, pids)), *(["--stream"] if arguments.stream else [])]
    command += ["--max-tokens", str(arguments.max_tokens)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)  # noqa: S603 - a command of our own
    loop = msgspec.json.decode(done.stdout, type=ClosedLoop)
    return Outcome(
        requests=loop.requests - loop.refused,
        failed=loop.failed + loop.refused,
        seconds=loop.seconds,
        latency=loop.latency if loop.requests > loop.refused else None,
        first_token=loop.first_piece if arguments.stream else None,
        memory_mb=loop.rss_kb / 1024 if pids else None,
        cpu_share=loop.gateway_cpu_seconds / loop.seconds if pids else None,
    )


def _python(url: SplitResult, pids: Sequence[int], arguments: argparse.Namespace) -> Outcome:
    message = {"role": "user", "content": "Tell me a story about a gateway."}
    body = {
        "model": arguments.model,
        "messages": [message],
        "max_tokens": arguments.max_tokens,
        "stream": bool(arguments.stream),
    }
    callers = Callers(url, arguments.key, msgspec.json.encode(body), stream=bool(arguments.stream))
    worked = processor_seconds(pids)
    asyncio.run(callers.run(arguments.connections, arguments.seconds))
    return Outcome(
        requests=len(callers.latencies),
        failed=callers.failed,
        seconds=arguments.seconds,
        latency=percentiles(callers.latencies),
        first_token=percentiles(callers.firsts),
        memory_mb=resident_mb(pids) if pids else None,
        cpu_share=(processor_seconds(pids) - worked) / arguments.seconds if pids else None,
    )


def percentiles(milliseconds: Sequence[float]) -> Percentiles | None:
    """Of all samples; None when there are none."""
    if not milliseconds:
        return None
    ordered = sorted(milliseconds)
    at = [ordered[min(int(share * len(ordered)), len(ordered) - 1)] for share in (0.5, 0.9, 0.99, 1.0)]
    return Percentiles(p50=at[0], p90=at[1], p99=at[2], max=at[3], samples=len(ordered))


def resident_mb(pids: Sequence[int]) -> float:
    """RSS of these processes together."""
    page = os.sysconf("SC_PAGE_SIZE")
    pages = 0
    for pid in pids:
        try:
            pages += int(Path(f"/proc/{pid}/statm").read_text("ascii").split()[1])
        except OSError:
            continue
    return pages * page / 2**20


def show(outcome: Outcome, console: Console) -> None:
    """The table."""
    table = Table(show_header=False)
    rows = [("requests a second", f"{outcome.requests / outcome.seconds:,.1f}")]
    for name, spread in (("latency", outcome.latency), ("first token", outcome.first_token)):
        if spread is not None:
            rows += [(f"{name} p50", f"{spread.p50:,.1f} ms"), (f"{name} p99", f"{spread.p99:,.1f} ms")]
    rows.append(("memory", f"{outcome.memory_mb:,.0f} MB" if outcome.memory_mb is not None else "not on this machine"))
    rows.append(
        ("CPU", f"{outcome.cpu_share:.0%} of a core" if outcome.cpu_share is not None else "not on this machine")
    )
    rows.append(("answered, failed", f"{outcome.requests:,}, {outcome.failed:,}"))
    for row in rows:
        table.add_row(*row)
    console.print(table)


def main() -> None:
    """Measure and print."""
    arguments = _arguments()
    url = urlsplit(arguments.url)
    if url.scheme not in {"http", "https"} or not url.hostname:
        sys.exit(f'--url "{arguments.url}" is no address; write it as http://127.0.0.1:8000')
    console = Console()
    outcome, words = measure(url, arguments)
    console.print(f"{words}; {arguments.connections} connections for {outcome.seconds:g} s on {arguments.model}")
    show(outcome, console)
    if outcome.requests < _FEW:
        sys.exit(f"only {outcome.requests} answers: check --url, --key and --model, or give it more --seconds")


def _is_local(url: SplitResult) -> bool:
    try:
        return all(
            str(entry[4][0]).startswith("127.") or entry[4][0] == "::1"
            for entry in socket.getaddrinfo(url.hostname, None)
        )
    except OSError:
        return False


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.load_test", description="Load a running gateway with chat.")
    parser.add_argument("--url", default="http://127.0.0.1:8000", help="default: http://127.0.0.1:8000")
    parser.add_argument("--key", default=os.environ.get("SLUICEGATE_API_KEY", ""), help="default: SLUICEGATE_API_KEY")
    parser.add_argument("--model", default="smollm2-135m", help="default: smollm2-135m, the built-in one")
    parser.add_argument("--connections", type=int, default=100, help="callers at once; default: 100")
    parser.add_argument("--seconds", type=float, default=10.0, help="default: 10")
    parser.add_argument("--max-tokens", type=int, default=32, help="length of an answer at most; default: 32")
    parser.add_argument("--stream", action="store_true", help="ask for streamed answers")
    return parser.parse_args()


if __name__ == "__main__":
    main()
