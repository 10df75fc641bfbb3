"""A contender that serves: started on its cores, awaited by its first answer, ended with all its processes."""

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import msgspec
from bench.lane.contender import Contender, Ground, Launch, NotThere
from bench.lane.cores import family, pinned
from bench.lane.scenarios import PLAIN

PATIENCE_SECONDS: Final = 60.0
_STOP_SECONDS: Final = 4.0
_POLL_SECONDS: Final = 0.001


class Running:
    """A contender that answers on `port`."""

    def __init__(
        self,
        name: str,
        port: int,
        launch: Launch,
        *,
        process: "subprocess.Popen[bytes] | None" = None,
        spawned: float = 0.0,
        log: Path | None = None,
    ) -> None:
        self.name = name
        self.port = port
        self.launch = launch
        self.spawned = spawned
        """When it was started, by `time.monotonic`."""
        self._process = process
        self._log = log

    def pids(self) -> list[int]:
        """Its processes; none when callers go to the upstream itself."""
        return family(self._process.pid) if self._process is not None else []

    def has_ended(self) -> bool:
        """Whether its process is gone."""
        return self._process is not None and self._process.poll() is not None

    def last_words(self) -> str:
        """The end of what it wrote."""
        return self._log.read_text("utf-8", errors="replace")[-600:] if self._log is not None else ""

    def request(self, model: str = PLAIN, *, stream: bool = False) -> bytes:
        """A whole chat request as bytes."""
        body = msgspec.json.encode(
            {"model": model, "messages": [{"role": "user", "content": "Say hello"}], "stream": stream}
        )
        headers = {"Authorization": f"Bearer {self.launch.key}", **self.launch.headers}
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        head = f"POST {self.launch.path} HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\n{lines}"
        return f"{head}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


@contextlib.contextmanager
def running(
    contender: Contender, folder: Path, upstream_port: int, cores: Sequence[int], *, until_served: bool = True
) -> Iterator[Running]:
    """Start it, wait for its first answered chat call, and end it with the block. Raises `NotThere` when none comes."""
    folder = folder / contender.name.replace(" ", "-")
    folder.mkdir(parents=True, exist_ok=True)
    ground = Ground(upstream_port, free_port(), folder, len(cores))
    launch = contender.launch(ground)
    if not launch.command:
        yield Running(contender.name, upstream_port, launch)
        return
    log = folder / "output.log"
    with log.open("wb") as output, pinned(cores):
        spawned = time.monotonic()
        process = subprocess.Popen(  # noqa: S603 - a command of our own
            launch.command,
            env={**os.environ, **launch.environment},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            cwd=launch.folder or folder,
        )
    try:
        started = Running(contender.name, ground.port, launch, process=process, spawned=spawned, log=log)
        if until_served:
            first_answer(started)
        yield started
    finally:
        _end(process)


def first_answer(target: Running, *, live: bool = False) -> float:
    """Seconds from its start to its first 200, for a chat call or, with `live`, where it says that it lives.

    Raises `NotThere` when its process ends before, or none came in a minute.
    """
    request = target.request()
    if live:
        request = f"GET {target.launch.live_path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode()
    answer = b"nothing"
    while time.monotonic() < target.spawned + PATIENCE_SECONDS:
        if target.has_ended():
            break
        answer = _ask(target.port, request) or answer
        if answer.startswith((b"HTTP/1.1 200", b"HTTP/1.0 200")):
            return time.monotonic() - target.spawned
        time.sleep(_POLL_SECONDS)
    why = "ended before it served" if target.has_ended() else f"did not serve within {PATIENCE_SECONDS:g} s"
    told = answer[:300].decode("utf-8", errors="replace")
    raise NotThere(f"{target.name} {why}; it answered {told!r} and wrote: {target.last_words()}")


def free_port() -> int:
    """A port of 127.0.0.1 that nobody has now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _ask(port: int, request: bytes) -> bytes:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
            connection.sendall(request)
            return connection.recv(4096)
    except OSError:
        return b""


def _end(process: "subprocess.Popen[bytes]") -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_STOP_SECONDS)
