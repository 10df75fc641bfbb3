"""A real gateway in a process of its own, as users run it.

with running_gateway(tmp_path) as gateway:
    httpx.get(f"{gateway.url}/health")
"""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any, TypeVar

import httpx
import numpy as np
from PIL import Image

T = TypeVar("T")

PATIENCE = 60.0
"""Seconds after which an awaited event counts as lost."""


class RunningGateway:
    """The process, its address, its data and its log."""

    def __init__(self, folder: Path, config: str, environment: Mapping[str, str]) -> None:
        self.data_dir = folder / "data"
        self.log_path = folder / "gateway.log"
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._config = folder / "sluicegate.toml"
        self._config.write_text(config)
        self._environment = {**os.environ, "SLUICEGATE__OBSERVABILITY__LOG_FORMAT": "json", **environment}
        self.process: subprocess.Popen[bytes] | None = None

    def command(self) -> list[str]:
        """How it is started."""
        command = [sys.executable, "-m", "sluicegate", "serve", "--port", str(self.port), "--ready-json"]
        return [*command, "--config", str(self._config), "--data-dir", str(self.data_dir)]

    def start(self) -> None:
        """Start, or start again on the same port and data, and wait until connections are accepted."""
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                self.command(), env=self._environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log
            )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, self.log()
        assert json.loads(line)["url"] == self.url

    def wait_ready(self, *, every_backend: bool = True) -> dict[str, Any]:
        """The health report, once the gateway is ready and, unless told otherwise, all its backends are up."""
        wanted = {"ok"} if every_backend else {"ok", "degraded"}
        report: dict[str, Any] = eventually(lambda: self.get("/health").json(), lambda it: it["status"] in wanted)
        return report

    def get(self, path: str, **more: Any) -> httpx.Response:
        """GET on the gateway."""
        return httpx.get(f"{self.url}{path}", timeout=PATIENCE, trust_env=False, **more)

    def post(self, path: str, **more: Any) -> httpx.Response:
        """POST on the gateway."""
        return httpx.post(f"{self.url}{path}", timeout=PATIENCE, trust_env=False, **more)

    def delete(self, path: str, **more: Any) -> httpx.Response:
        """DELETE on the gateway."""
        return httpx.delete(f"{self.url}{path}", timeout=PATIENCE, trust_env=False, **more)

    def upload(self, picture: bytes) -> str:
        """Store a picture; its asset id."""
        answer = self.post("/v1/assets", content=picture, headers={"content-type": "image/png"})
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    def submit(self, body: Mapping[str, Any], **headers: str) -> dict[str, Any]:
        """Submit a job; the job."""
        answer = self.post("/v1/jobs", json=body, headers={k.replace("_", "-"): v for k, v in headers.items()})
        assert answer.status_code in (200, 202), answer.text
        job: dict[str, Any] = answer.json()
        return job

    def finished(self, job: str) -> dict[str, Any]:
        """The job, once it has ended."""
        ended = {"succeeded", "failed", "canceled", "expired"}
        found: dict[str, Any] = eventually(lambda: self.get(f"/v1/jobs/{job}").json(), lambda it: it["status"] in ended)
        return found

    def log(self) -> str:
        """Everything logged so far."""
        return self.log_path.read_text("utf-8", "replace")

    def worker_pids(self) -> list[int]:
        """Process ids of the gateway's workers."""
        return self._children("sluicegate.app.worker")

    def llm_pids(self) -> list[int]:
        """Process ids of the gateway's language model."""
        return self._children("local_llm_child")

    def _children(self, word: str) -> list[int]:
        assert self.process is not None
        found = []
        for stat in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                parent = int(stat.read_text().rpartition(")")[2].split()[1])
                command = (stat.parent / "cmdline").read_bytes().decode("utf-8", "replace")
                if parent == self.process.pid and word in command:
                    found.append(int(stat.parent.name))
        return found

    def kill(self) -> None:
        """SIGKILL."""
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self._reap()

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Ask it to stop, wait until it has; its exit code."""
        if self.process is None:
            return 0
        self.process.send_signal(number)
        return self._reap()

    def _reap(self) -> int:
        assert self.process is not None
        code = self.process.wait(PATIENCE)
        assert self.process.stdout is not None
        self.process.stdout.close()
        self.process = None
        return code


@contextlib.contextmanager
def running_gateway(
    folder: Path, config: str = "", environment: Mapping[str, str] | None = None
) -> Iterator[RunningGateway]:
    """A started gateway with its data in `folder`; stopped at the end, killed if it does not stop."""
    gateway = RunningGateway(folder, config, environment or {})
    gateway.start()
    try:
        yield gateway
    finally:
        if gateway.process is not None:
            try:
                gateway.stop()
            except subprocess.TimeoutExpired:
                gateway.kill()
                raise


def eventually(look: Callable[[], T], is_it: Callable[[T], bool], patience: float = PATIENCE) -> T:
    """What `look` sees, as soon as it is what is awaited."""
    deadline = time.monotonic() + patience
    pause = threading.Event()
    while True:
        seen = look()
        if is_it(seen):
            return seen
        assert time.monotonic() < deadline, f"still {seen!r}"
        pause.wait(0.02)


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def picture(width: int = 64, height: int = 48, *, seed: int = 0, form: str = "PNG", alpha: bool = False) -> bytes:
    """An encoded picture: a colour gradient with some noise, different for each seed."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[0:height, 0:width]
    bands = [columns * 255 // max(1, width - 1), rows * 255 // max(1, height - 1), (rows + columns + seed * 37) % 256]
    if alpha:
        bands.append((columns * 4) % 256)
    pixels = np.stack(bands, -1).astype(np.int16) + rng.integers(-8, 8, (height, width, len(bands)))
    out = BytesIO()
    Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(out, form)
    return out.getvalue()


def open_picture(data: bytes) -> Image.Image:
    """Decode fully; raises when the bytes are not a whole picture."""
    image = Image.open(BytesIO(data))
    image.load()
    return image
