# mypy: ignore-errors
# FastAPI is installed in the peer's own environment only.
"""A gateway on FastAPI and httpx, written as most are. Environment: UPSTREAM, KEY, UPSTREAM_KEY."""

import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any, Literal

import httpx
from fastapi import Depends, FastAPI, Header, HTTPException
from fastapi.responses import PlainTextResponse, Response, StreamingResponse
from prometheus_client import Counter, Gauge, Histogram, generate_latest
from pydantic import BaseModel, ConfigDict, Field

UPSTREAM = os.environ["UPSTREAM"]
TENANTS = {os.environ["KEY"]: "bench"}
UPSTREAM_HEADERS = {"Authorization": f"Bearer {os.environ['UPSTREAM_KEY']}"}
CHAT = "/v1/chat/completions"

REQUESTS = Counter("http_requests_total", "Answers", ["path", "status"])
SECONDS = Histogram("http_request_duration_seconds", "Duration", ["path"])
ACTIVE = Gauge("active_streams", "Streams open now")


class Message(BaseModel):
    """One turn."""

    model_config = ConfigDict(extra="allow")
    role: Literal["system", "user", "assistant", "tool", "developer"]
    content: str | list[dict[str, Any]] | None = None


class ChatRequest(BaseModel):
    """What is checked; the rest is passed on."""

    model_config = ConfigDict(extra="allow")
    model: str = Field(min_length=1, max_length=200)
    messages: list[Message] = Field(min_length=1, max_length=2000)
    temperature: float | None = Field(None, ge=0, le=2)
    max_tokens: int | None = Field(None, ge=1)
    stream: bool = False


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """One client for all calls."""
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=10_000)
    async with httpx.AsyncClient(base_url=UPSTREAM, limits=limits, timeout=600) as client:
        app.state.client = client
        yield


app = FastAPI(lifespan=lifespan)


async def tenant(authorization: Annotated[str, Header()] = "") -> str:
    """Who calls."""
    known = TENANTS.get(authorization.removeprefix("Bearer "))
    if known is None:
        raise HTTPException(401, "invalid API key")
    return known


@app.post(CHAT)
async def chat(body: ChatRequest, _: Annotated[str, Depends(tenant)]) -> Response:
    """Relay one call."""
    started = time.monotonic()
    payload = body.model_dump(exclude_none=True)
    request = app.state.client.build_request("POST", CHAT, json=payload, headers=UPSTREAM_HEADERS)
    answer = await app.state.client.send(request, stream=body.stream)

    def observe() -> None:
        REQUESTS.labels(CHAT, answer.status_code).inc()
        SECONDS.labels(CHAT).observe(time.monotonic() - started)

    if not body.stream:
        observe()
        return Response(answer.content, answer.status_code, media_type="application/json")

    async def relay() -> AsyncIterator[bytes]:
        ACTIVE.inc()
        try:
            async for piece in answer.aiter_bytes():
                yield piece
        finally:
            await answer.aclose()
            ACTIVE.dec()
            observe()

    return StreamingResponse(relay(), answer.status_code, media_type="text/event-stream")


@app.get("/metrics")
async def metrics() -> PlainTextResponse:
    """For Prometheus."""
    return PlainTextResponse(generate_latest())
