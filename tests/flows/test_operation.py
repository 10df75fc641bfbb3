"""Health, metrics, documentation: what operators and tools ask."""

import json
from pathlib import Path

import httpx
import pytest
from tests.gateway import RunningGateway, running_gateway
from tests.upstream import scripted_upstream


def test_health_tells_store_backends_and_memory(gateway: RunningGateway) -> None:
    report = gateway.wait_ready()
    assert report["status"] == "ok"
    assert report["store"]["state"] == "up"
    assert {backend["name"]: backend["state"] for backend in report["backends"]} == {
        "local-llm": "up",
        "local-image": "up",
    }
    assert report["memory_bytes"] > 0
    assert report["uptime_seconds"] > 0
    assert report["workers"] == 1


def test_live_and_ready_are_green(gateway: RunningGateway) -> None:
    assert gateway.get("/health/live").status_code == 200
    assert gateway.get("/health/ready").status_code == 200


def test_ready_is_red_while_no_backend_is_up_and_live_stays_green(tmp_path: Path) -> None:
    config = '[[backends]]\nname = "nobody"\nkind = "openai"\nurl = "http://127.0.0.1:9/v1"\nmodels = ["m"]\n'
    with running_gateway(tmp_path, config) as gateway:
        ready = gateway.get("/health/ready")
        assert ready.status_code == 503
        assert ready.json()["reasons"] == ["no backend is up"]
        assert ready.headers["retry-after"]
        assert gateway.get("/health/live").status_code == 200
        answer = gateway.post(
            "/v1/chat/completions", json={"model": "m", "messages": [{"role": "user", "content": "x"}]}
        )
        assert answer.status_code == 503
        assert "nobody" in answer.json()["error"]["message"]


def test_health_tells_how_busy_a_vllm_server_says_it_is(tmp_path: Path) -> None:
    with scripted_upstream("steady") as upstream:
        upstream.tell("/health", 200)
        upstream.tell("/metrics", 200, "vllm:num_requests_running 3\nvllm:num_requests_waiting 4\n")
        config = f'[[backends]]\nname = "v"\nkind = "vllm"\nurl = "{upstream.url}"\n'
        with running_gateway(tmp_path, config) as gateway:
            (backend,) = gateway.wait_ready()["backends"]
            assert (backend["state"], backend["load"]) == ("up", {"running": 3, "waiting": 4, "cache_use": None})


def test_metrics_have_their_public_names_and_route_templates(gateway: RunningGateway, asset: str) -> None:
    job = gateway.submit({"task": "stylize", "input": {"image": asset}}, prefer="wait=60")
    gateway.get(f"/v1/jobs/{job['id']}")
    gateway.post("/api/chat", json={"messages": [{"role": "user", "content": "hi"}], "maxTokens": 3})
    text = gateway.get("/metrics").text
    for name in (
        "http_requests_total",
        "http_request_duration_seconds_bucket",
        "ai_gateway_active_streams",
        "ai_gateway_streams_total",
        "ai_tokens_processed_total",
        "ai_model_inference_duration_seconds_bucket",
        "sluicegate_time_to_first_token_seconds_bucket",
        "sluicegate_queue_jobs",
        "sluicegate_queue_cost_seconds",
        "sluicegate_queue_longest_wait_seconds",
        "sluicegate_pool_workers",
        "sluicegate_backend_inflight",
        "sluicegate_backend_limit",
    ):
        assert f"\n{name}{{" in text or f"\n{name} " in text, name
    assert 'path="/v1/jobs/{job}"' in text
    assert job["id"] not in text
    assert asset not in text


def test_what_callers_invent_never_becomes_a_label(gateway: RunningGateway) -> None:
    body = {"model": "invented-by-a-caller", "messages": [{"role": "user", "content": "x"}]}
    assert gateway.post("/v1/chat/completions", json=body).status_code == 404
    gateway.get("/invented/by/a/caller")
    assert "invented" not in gateway.get("/metrics").text


def test_the_openapi_document_names_every_route(gateway: RunningGateway) -> None:
    document = gateway.get("/openapi.json").json()
    assert document["openapi"].startswith("3.1")
    routes = {f"{method.upper()} {path}" for path, item in document["paths"].items() for method in item}
    assert {
        "POST /v1/chat/completions",
        "GET /v1/models",
        "POST /v1/jobs",
        "GET /v1/jobs/{job}/events",
        "DELETE /v1/jobs/{job}",
        "POST /v1/assets",
        "POST /api/chat",
        "DELETE /api/chat/{requestId}",
        "GET /health/ready",
        "GET /metrics",
        "GET /admin/queue",
    } <= routes
    references = {word for word in json.dumps(document).split('"') if word.startswith("#/components/schemas/")}
    schemas = {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}
    assert references <= schemas


def test_the_documentation_page_is_served_without_any_other_host(gateway: RunningGateway) -> None:
    page = gateway.get("/docs")
    assert page.headers["content-type"].startswith("text/html")
    assert "default-src 'self'" in page.headers["content-security-policy"]
    for path in ("/docs/swagger-ui.css", "/docs/swagger-ui-bundle.js", "/docs/start.js"):
        assert path in page.text
        assert gateway.get(path).status_code == 200
    assert gateway.get("/docs/secrets.txt").status_code == 404


def test_every_answer_carries_a_request_id_and_keeps_a_sane_one(gateway: RunningGateway) -> None:
    assert gateway.get("/health/live").headers["x-request-id"].startswith("req_")
    assert gateway.get("/nowhere", headers={"x-request-id": "mine-1"}).headers["x-request-id"] == "mine-1"
    assert gateway.get("/nowhere", headers={"x-request-id": "not sane"}).headers["x-request-id"].startswith("req_")


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"host": "evil.example:8000"},
        {"host": "evil.example", "origin": "http://evil.example"},
    ],
)
def test_web_pages_of_other_sites_are_kept_out(gateway: RunningGateway, headers: dict[str, str]) -> None:
    assert gateway.get("/v1/jobs", headers=headers).status_code == 403


def test_an_allowed_origin_may_call_and_gets_cors_headers(tmp_path: Path) -> None:
    origin = "https://app.example"
    environment = {"SLUICEGATE__SERVER__CORS_ORIGINS": origin}
    config = '[[backends]]\nname = "local-image"\nkind = "local-image"\n'
    with running_gateway(tmp_path, config, environment) as gateway:
        answer = gateway.get("/v1/jobs", headers={"origin": origin})
        assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (200, origin)
        told = gateway.get("/v1/jobs/nobody", headers={"origin": origin})
        assert (told.status_code, told.headers["access-control-allow-origin"]) == (404, origin)
        preflight = httpx.options(
            f"{gateway.url}/v1/jobs",
            headers={"origin": origin, "access-control-request-method": "POST"},
            trust_env=False,
        )
        assert preflight.status_code == 200
        assert "POST" in preflight.headers["access-control-allow-methods"]
