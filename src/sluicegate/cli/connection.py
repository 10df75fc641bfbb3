"""Which gateway a command talks to: the one named, the usual one, or a private one for the command's own duration."""

import asyncio
import os
import sys
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from sluicegate.cli.client import Client, Refused, Unreachable
from sluicegate.cli.terminal import Failure, Misuse, console, is_terminal

if TYPE_CHECKING:
    import httpx

    from sluicegate.supervision import Change

DEFAULT_URL = "http://127.0.0.1:8000"
START_SECONDS = 60.0
"""How long a private gateway and its models may take to start."""
DRAIN_SECONDS = "3"
"""A private gateway serves nobody else: work that its command leaves behind needs no long time to end."""
STOP_SECONDS = 10.0
READ_SECONDS = 180.0
"""Longest silence of the gateway in one answer; its own limits on backends are shorter."""
_POLL_SECONDS = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What the caller said about where the gateway is. `config` and `data_dir` are for a private gateway."""

    url: str | None = None
    api_key: str | None = None
    config: Path | None = None
    data_dir: Path | None = None


@asynccontextmanager
async def connect(target: Target) -> AsyncGenerator[Client, None]:
    """A client of the gateway named by `target`, or of the default address. Nothing is started."""
    named = target.url is not None
    mend = "check --url or SLUICEGATE_URL" if named else "start one with: sluicegate serve"
    async with _open(target.url or DEFAULT_URL, target.api_key, mend) as client:
        yield client


@asynccontextmanager
async def connect_or_start(target: Target) -> AsyncGenerator[Client, None]:
    """As `connect`; when no address was named and nothing answers at the usual one, start a gateway for the duration.

    It ends with the block, also when the block is interrupted, and with this process, however that ends.
    """
    if target.url is not None or await is_gateway(DEFAULT_URL):
        async with connect(target) as client:
            yield client
        return
    async with _private_gateway(target) as url, _open(url, target.api_key, "it was started for this command") as client:
        yield client


async def is_gateway(url: str) -> bool:
    """Whether a Sluicegate gateway answers at the address, at once."""
    async with _open(url, None, "") as client:
        try:
            answer = await client.http.get("/health/live", timeout=2.0)
        except OSError:
            return False
        except _httpx_errors():
            return False
    return answer.is_success and "x-request-id" in answer.headers


def _httpx_errors() -> "type[httpx.HTTPError]":
    import httpx

    return httpx.HTTPError


@asynccontextmanager
async def _open(url: str, api_key: str | None, mend: str) -> AsyncGenerator[Client, None]:
    import httpx

    from sluicegate.admission.gate import is_loopback

    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise Misuse(f'"{url}" is no address of a gateway; write for example {DEFAULT_URL}')
    if api_key and not (api_key.isascii() and api_key.isprintable()):
        raise Misuse("SLUICEGATE_API_KEY holds characters that no key has; copy it again")
    base = url.rstrip("/")
    async with httpx.AsyncClient(
        base_url=base,
        headers={"authorization": f"Bearer {api_key}"} if api_key else {},
        timeout=httpx.Timeout(10.0, read=READ_SECONDS, write=READ_SECONDS),
        trust_env=not is_loopback(parts.hostname),
        verify=parts.scheme == "https",
    ) as http:
        yield Client(http, base, mend)


@asynccontextmanager
async def _private_gateway(target: Target) -> AsyncGenerator[str, None]:
    """Run ``sluicegate serve`` on a free port; its address once its models can be used."""
    from sluicegate.supervision import SupervisedProcess

    argv = [sys.executable, "-m", "sluicegate", "serve", "--host", "127.0.0.1", "--port", "0", "--ready-json"]
    argv += ["--config", str(target.config)] if target.config else []
    argv += ["--data-dir", str(target.data_dir)] if target.data_dir else []
    quiet = {"SLUICEGATE__OBSERVABILITY__LOG_LEVEL": "error"}
    environment = {**quiet, **os.environ, "SLUICEGATE__SERVER__DRAIN_SECONDS": DRAIN_SECONDS}
    said: deque[str] = deque(maxlen=12)
    child = SupervisedProcess(
        argv,
        name="private gateway",
        environment=lambda: environment,
        ready_timeout=START_SECONDS,
        on_line=lambda _, line: said.append(line),
    )
    changes: asyncio.Queue[Change] = asyncio.Queue()
    child.listen(changes.put_nowait)
    try:
        with _spinner("starting the models…"):
            await child.start()
            url = await _address(changes, said)
            await _until_ready(url)
        yield url
    finally:
        await child.stop(STOP_SECONDS)


async def _address(changes: "asyncio.Queue[Change]", said: deque[str]) -> str:
    """The address in the child's ready line. A child that dies first has said why."""
    while True:
        change = await changes.get()
        if change.state == "up":
            return str(change.ready["url"])
        if change.state == "down":
            words = "\n  ".join(line for line in said if line.strip()) or change.reason
            raise Failure(f"a gateway for this command could not start:\n  {words}\n  sluicegate doctor says more")


async def _until_ready(url: str) -> None:
    """Wait until the models can be used. After `START_SECONDS` go on: the request itself will tell what is wrong."""
    async with _open(url, None, "") as client:
        try:
            async with asyncio.timeout(START_SECONDS):
                while not await _is_ready(client):  # noqa: ASYNC110 - another process offers no event to wait for
                    await asyncio.sleep(_POLL_SECONDS)
        except TimeoutError:
            return


async def _is_ready(client: Client) -> bool:
    """Whether some backend is up and none is still on its way."""
    try:
        health = await client.ask("GET", "/health")
    except (Refused, Unreachable):
        return False
    states = [backend.get("state") for backend in health.get("backends") or [] if isinstance(backend, dict)]
    return bool(health.get("ready")) and "starting" not in states


def _spinner(text: str) -> AbstractContextManager[object]:
    """A turning sign on stderr while something takes its time; on a plain stream, nothing."""
    return console(stderr=True).status(text) if is_terminal(sys.stderr) else nullcontext()
