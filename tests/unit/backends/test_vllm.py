"""Kind "vllm" against the scripted server, which answers /health and /metrics as it is told."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest
from tests.upstream import Upstream, eventually, scripted_upstream

from sluicegate.backends.answer import ask
from sluicegate.backends.backend import ChatCall
from sluicegate.backends.vllm import VLLMBackend, read_load
from sluicegate.observability.health import ServerLoad
from sluicegate.settings import BackendSettings

METRICS = """\
# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="a} 9"} 2.0
vllm:num_requests_running{engine="1",model_name="a} 9"} 3.0
vllm:num_requests_waiting{engine="0",model_name="a} 9"} 7.0
vllm:num_requests_waiting_by_reason{engine="0",model_name="a",reason="capacity"} 7.0
vllm:kv_cache_usage_perc{engine="0",model_name="a"} 0.25
vllm:kv_cache_usage_perc{engine="1",model_name="a"} 0.5
"""


def play(scene: Callable[[VLLMBackend, Upstream], Any]) -> None:
    async def run(upstream: Upstream) -> None:
        settings = BackendSettings(name="v", kind="vllm", url=upstream.url)
        backend = VLLMBackend(settings, environment={}, probe_seconds=0.05, down_probe_seconds=0.05)
        await backend.start()
        try:
            await scene(backend, upstream)
        finally:
            await backend.stop()

    with scripted_upstream("steady") as upstream:
        upstream.tell("/health", 200)
        upstream.tell("/metrics", 200, METRICS)
        asyncio.run(run(upstream))


def test_it_is_up_with_its_models_and_tells_its_load() -> None:
    async def scene(backend: VLLMBackend, upstream: Upstream) -> None:
        await eventually(lambda: backend.health().state == "up")
        assert [card.id for card in backend.cards()] == ["steady"]
        assert backend.health().load == ServerLoad(running=5, waiting=7, cache_use=0.5)

    play(scene)


def test_a_dead_engine_is_down_although_its_server_lists_models() -> None:
    async def scene(backend: VLLMBackend, upstream: Upstream) -> None:
        await eventually(lambda: backend.health().state == "up")
        await asyncio.to_thread(upstream.tell, "/health", 503)
        await eventually(lambda: backend.health().state == "down")
        assert "engine is dead" in backend.health().reason
        assert backend.health().load is None
        await asyncio.to_thread(upstream.tell, "/health", 200)
        await eventually(lambda: backend.health().state == "up")

    play(scene)


def test_without_metrics_it_is_up_and_tells_no_load() -> None:
    async def scene(backend: VLLMBackend, upstream: Upstream) -> None:
        await asyncio.to_thread(upstream.tell, "/metrics", 404)
        await eventually(lambda: backend.health().state == "up")
        await eventually(lambda: backend.health().load is None)

    play(scene)


@pytest.mark.parametrize("path", ["chat/completions", "completions", "embeddings"])
def test_its_own_fields_go_through_untouched(path: str) -> None:
    async def scene(backend: VLLMBackend, upstream: Upstream) -> None:
        body = b'{"model":"steady", "guided_json":{"type":"object"},\n "top_k":7,"chat_template_kwargs":{"a":1.50}}'
        answer = await ask(backend.send, ChatCall(path, body, "req_1"))
        assert answer.status == 200
        await answer.read()
        last = upstream.seen()["last"]
        assert last["path"] == f"/v1/{path}"
        assert last["body"] == json.loads(body)
        assert last["headers"]["content-length"] == str(len(body))

    play(scene)


@pytest.mark.parametrize(
    ("text", "load"),
    [
        (b"", None),
        (b"<html>vllm:num_requests_running 3</html>", None),
        (b"vllm:num_requests_running 3\n", ServerLoad(running=3, waiting=0)),
        (
            b'vllm:num_requests_running{m="x"} 1 1700000000\r\nvllm:num_requests_waiting 2\r\n'
            b"vllm:gpu_cache_usage_perc 1.0",
            ServerLoad(running=1, waiting=2, cache_use=1.0),
        ),
        (b"vllm:num_requests_running 1e999\nvllm:num_requests_waiting NaN\n", None),
        (b"vllm:num_requests_running --\nvllm:num_requests_running -1\n", None),
    ],
)
def test_the_load_is_read_from_any_page(text: bytes, load: ServerLoad | None) -> None:
    assert read_load(text) == load
