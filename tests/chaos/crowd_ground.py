"""What row 15 stands on: a real gateway in front of a model that talks as it is told, and the crowd's process."""

import asyncio
import contextlib
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx
import msgspec
from tests.gateway import RunningGateway

PATIENCE_SECONDS = 60.0
_PAUSE_SECONDS = 0.05
_CONFIG = """
[server]
max_streams = 100000
client_idle_seconds = {idle}
[[backends]]
name = "talks"
kind = "openai"
url = "http://127.0.0.1:{port}/v1"
models = ["talks"]
max_concurrency = 100000
"""
_BESIDES = 400
"""Descriptors that a process has besides its callers'."""


class TooFewDescriptors(Exception):
    """The system allows a process fewer descriptors than the row needs; the message says how many and what to do."""


class Notes(msgspec.Struct):
    """What the model has seen; see `tests/chaos/talking_model_process.py`."""

    began: dict[str, float]
    left: dict[str, float]
    ended: int
    open: int


class CrowdTold(msgspec.Struct):
    """What the crowd tells at its end; see `tests/chaos/crowd_process.py`."""

    left: dict[str, float]
    points: dict[str, int]
    errors: dict[str, int]


class Ground:
    """The running gateway and model of one run."""

    def __init__(self, gateway: RunningGateway, model_port: int) -> None:
        assert gateway.process is not None
        self.gateway = gateway
        self.pid = gateway.process.pid
        self.port = gateway.port
        self._model = f"http://127.0.0.1:{model_port}"

    async def notes(self) -> Notes:
        """What the model has noted."""
        async with httpx.AsyncClient(trust_env=False, timeout=PATIENCE_SECONDS) as client:
            return msgspec.json.decode((await client.get(f"{self._model}/notes")).content, type=Notes)

    async def open_calls(self) -> int:
        """Calls that the model still answers."""
        return (await self.notes()).open

    async def stalled_calls(self) -> int:
        """Those of callers who read nothing."""
        notes = await self.notes()
        return sum(call.startswith("stall") for call in notes.began.keys() - notes.left.keys())

    async def metric(self, name: str) -> int:
        """One number of /metrics; 0 when it is not there."""
        text = (await asyncio.to_thread(self.gateway.get, "/metrics")).text
        line = next((it for it in text.splitlines() if it.startswith(name)), f"{name} 0")
        return int(float(line.rpartition(" ")[2]))

    def errors_in_log(self) -> list[str]:
        """Lines of the gateway's log at level error or above, and what is no line of it, such as a traceback."""
        found = []
        for line in self.gateway.log().splitlines():
            level = json.loads(line)["level"] if line.startswith("{") else "none"
            if level not in ("debug", "info", "warning"):
                found.append(line)
        return found


class Crowd:
    """The process of the bad callers, here while its block lasts; `told` is there behind the block."""

    def __init__(self, ground: Ground, seed: int, tag: str, counts: dict[str, int]) -> None:
        self._arguments = [str(ground.port), str(seed), tag, *(f"{kind}={count}" for kind, count in counts.items())]
        self.told = CrowdTold({}, {}, {})

    async def __aenter__(self) -> "Crowd":
        script = str(Path(__file__).with_name("crowd_process.py"))
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, script, *self._arguments, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
        )
        assert self._process.stdout is not None
        line = await asyncio.wait_for(self._process.stdout.readline(), PATIENCE_SECONDS)
        assert line == b"here\n", line
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self._process.kill()
        output, _ = await asyncio.wait_for(self._process.communicate(b""), PATIENCE_SECONDS)
        if error is None:
            self.told = msgspec.json.decode(output, type=CrowdTold)


@contextlib.asynccontextmanager
async def laid_ground(*, callers: int, idle_seconds: float) -> AsyncIterator[Ground]:
    """A gateway that so many callers may call at once. Raises `TooFewDescriptors`."""
    with tempfile.TemporaryDirectory() as folder, descriptors_for(callers), _model() as model:
        assert model.stdout is not None
        port = int(model.stdout.readline())
        gateway = RunningGateway(Path(folder), _CONFIG.format(idle=idle_seconds, port=port), {})
        try:
            await asyncio.to_thread(gateway.start)
            await asyncio.to_thread(gateway.wait_ready)
            yield Ground(gateway, port)
        finally:
            await asyncio.to_thread(gateway.stop)
            model.kill()


def _model() -> "subprocess.Popen[bytes]":
    script = str(Path(__file__).with_name("talking_model_process.py"))
    return subprocess.Popen([sys.executable, script], stdin=subprocess.PIPE, stdout=subprocess.PIPE)


@contextlib.contextmanager
def descriptors_for(callers: int) -> Iterator[None]:
    """Let this process and those that it starts have a descriptor for each caller and for each upstream's end."""
    wanted = 2 * callers + _BESIDES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < wanted:
        raise TooFewDescriptors(
            f"{callers} callers need {wanted} descriptors a process, and the hard limit is {hard}: raise it "
            f"(ulimit -Hn {wanted}, as root), or take fewer (--clients {max(1, (hard - _BESIDES) // 2)})"
        )
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def fault_unless(
    what: str, look: Callable[[], Awaitable[Any]], is_it: Callable[[Any], bool], patience: float = 15.0
) -> list[str]:
    """Wait until what is looked at is as it should be; a fault with what was seen last when it does not get there."""
    end = time.monotonic() + patience
    while not is_it(seen := await look()):
        if time.monotonic() > end:
            return [f"{what}: not within {patience:g} s, but {seen}"]
        await asyncio.sleep(_PAUSE_SECONDS)
    return []
