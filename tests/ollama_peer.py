"""A scripted Ollama server, run as a second process and written from Ollama's API reference.

    with ollama_peer() as peer:
        ollama.Client(host=peer.url).chat("steady", [...])

The name of a model (with or without ``:latest``) picks a behaviour from `MODELS` in tests/ollama_models.py; any other
is not found. An object ``script`` in a request's ``options``, with the fields of `Script`, changes it. What the server
saw is told by `OllamaPeer.seen`, and `OllamaPeer.wait_until` waits for it.
"""

import contextlib
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx

_ROOT = Path(__file__).parents[1]


class OllamaPeer:
    """The running server, as tests see it."""

    def __init__(self) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start, or start again on the same port, and wait until it listens. What was seen before is forgotten."""
        command = [sys.executable, "-m", "tests.ollama_server", str(self.port)]
        self._process = subprocess.Popen(command, cwd=_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
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
        """connections, requests, open, completed, cancelled, probes (counts) and last (path, headers and body)."""
        answer: dict[str, Any] = httpx.get(f"{self.url}/seen", trust_env=False).json()
        return answer

    async def wait_until(self, field: str, at_least: int, timeout: float = 10.0) -> dict[str, Any]:
        """What was seen, as soon as a count has come so far; fails after `timeout` seconds."""
        address = f"{self.url}/seen?field={field}&at_least={at_least}&timeout={timeout}"
        async with httpx.AsyncClient(trust_env=False, timeout=timeout + 5) as client:
            answer: dict[str, Any] = (await client.get(address)).json()
        assert answer[field] >= at_least, answer
        return answer


@contextlib.contextmanager
def ollama_peer() -> Iterator[OllamaPeer]:
    """A running server."""
    peer = OllamaPeer()
    try:
        peer.start()
        yield peer
    finally:
        peer.kill()
