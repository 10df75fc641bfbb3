"""A scripted OpenAI-compatible server, run as a second process: the real far end of a real connection.

    with scripted_upstream() as upstream:
        backend = OpenAIBackend(BackendSettings(name="up", kind="openai", url=upstream.url))

With ``tls=(certificate, key)``, two PEM files, it speaks TLS. A request's ``model`` picks a behaviour from `MODELS` in
tests/upstream_server.py; a ``script`` object in the body, with the fields of `Script`, changes it. Models that are not
in the list behave as "steady". What the server saw is told by `Upstream.seen`, and `Upstream.wait_until` waits for it.
"""

import asyncio
import contextlib
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
from tests.upstream_server import MODELS

_SERVER = str(Path(__file__).with_name("upstream_server.py"))


class Upstream:
    """The running server, as tests see it."""

    def __init__(self, models: tuple[str, ...], key: str, tls: tuple[str, str] | None, host: str) -> None:
        self.port = _free_port(host)
        shown = f"[{host}]" if ":" in host else host
        self.root = f"{'https' if tls else 'http'}://{shown}:{self.port}"
        self.url = f"{self.root}/v1"
        self._host = host
        self._models = models
        self._key = key
        self._tls = tls or ("", "")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start, or start again on the same port, and wait until it listens. What was seen before is forgotten."""
        command = [sys.executable, _SERVER, self._host, str(self.port), self._key, *self._tls, *self._models]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"listening\n"

    def kill(self) -> None:
        """SIGKILL: the port refuses from now on."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            for pipe in (self._process.stdin, self._process.stdout):
                assert pipe is not None
                pipe.close()
            self._process = None

    def freeze(self) -> None:
        """SIGSTOP: connections are still taken by the kernel, but nobody answers."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Undo `freeze`."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def seen(self) -> dict[str, Any]:
        """connections, requests, open, completed, cancelled, probes (counts), sent (bytes of streams) and last (headers
        and body)."""
        answer: dict[str, Any] = httpx.get(f"{self.root}/seen", trust_env=False, verify=False).json()
        return answer

    def forget(self) -> None:
        """Set all counts to nothing."""
        httpx.post(f"{self.root}/forget", trust_env=False, verify=False).raise_for_status()

    def tell(self, path: str, status: int, text: str = "") -> None:
        """Answer GETs of a path, such as ``/health``, in this way from now on."""
        body = {"path": path, "status": status, "text": text}
        httpx.post(f"{self.root}/tell", json=body, trust_env=False, verify=False).raise_for_status()

    async def wait_until(self, field: str, at_least: int, timeout: float = 10.0) -> dict[str, Any]:
        """What was seen, as soon as a count has come so far; fails after `timeout` seconds."""
        address = f"{self.root}/seen?field={field}&at_least={at_least}&timeout={timeout}"
        async with httpx.AsyncClient(trust_env=False, verify=False, timeout=timeout + 5) as client:
            answer: dict[str, Any] = (await client.get(address)).json()
        assert answer[field] >= at_least, answer
        return answer


@contextlib.contextmanager
def scripted_upstream(
    *models: str, key: str = "", tls: tuple[str, str] | None = None, host: str = "127.0.0.1"
) -> Iterator[Upstream]:
    """A running server that lists `models` (all of `MODELS` when none are named) and wants `key`, if any."""
    upstream = Upstream(models or tuple(MODELS), key, tls, host)
    try:
        upstream.start()
        yield upstream
    finally:
        upstream.kill()


async def eventually(condition: Callable[[], bool], timeout: float = 20.0) -> None:
    """Return once the condition holds, looked at often; for state that has no event to wait for."""
    deadline = time.monotonic() + timeout
    while True:
        if condition():
            return
        assert time.monotonic() < deadline, f"not so within {timeout:g} s"
        await asyncio.sleep(0.005)


def _free_port(host: str) -> int:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
        return port
