"""The `websockets` client library, unchanged, and its two ways of working."""

import asyncio
import json
from typing import Any

import pytest
from tests.gateway import RunningGateway
from websockets.asyncio.client import connect as connect_async
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

MESSAGES = [{"role": "user", "content": "Say hello in one short sentence."}]
PATIENCE = 60.0


def socket_url(gateway: RunningGateway) -> str:
    return gateway.url.replace("http", "ws") + "/api/chat/ws"


def ask(**more: Any) -> str:
    return json.dumps({"messages": MESSAGES, "maxTokens": 8, **more})


def test_the_blocking_client_streams_an_answer_and_then_a_whole_one(gateway: RunningGateway) -> None:
    with connect(socket_url(gateway), proxy=None) as client:
        client.send(ask(requestId="streamed"))
        told: list[dict[str, Any]] = []
        while not told or told[-1]["event"] == "chat.completion.chunk":
            told.append(json.loads(client.recv(PATIENCE)))
        assert told[-1]["event"] == "chat.completion.done"
        assert "".join(event["data"]["content"] for event in told[:-1])
        client.send(ask(requestId="whole", stream=False))
        whole = json.loads(client.recv(PATIENCE))
        assert whole["event"] == "chat.completion"
        assert whole["data"]["content"]
        assert whole["data"]["usage"]["completionTokens"] <= 8


def test_an_offer_to_compress_is_declined(gateway: RunningGateway) -> None:
    with connect(socket_url(gateway), proxy=None, compression="deflate") as client:
        assert client.response is not None
        assert "Sec-WebSocket-Extensions" not in client.response.headers
        client.send(ask(stream=False))
        assert json.loads(client.recv(PATIENCE))["event"] == "chat.completion"


def test_many_async_callers_talk_at_once(gateway: RunningGateway) -> None:
    async def one(number: int) -> str:
        async with connect_async(socket_url(gateway), proxy=None) as client:
            await client.send(ask(requestId=f"caller-{number}", stream=False))
            told = json.loads(await client.recv())
            assert told["requestId"] == f"caller-{number}"
            return str(told["event"])

    async def scenario() -> None:
        async with asyncio.timeout(PATIENCE):
            assert set(await asyncio.gather(*(one(number) for number in range(4)))) == {"chat.completion"}

    asyncio.run(scenario())


def test_the_client_s_own_keepalive_is_answered(gateway: RunningGateway) -> None:
    with connect(socket_url(gateway), proxy=None) as client:
        assert client.ping().wait(PATIENCE)


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/api/chat/ws", {"Origin": "https://evil.example"}, 403),
        ("/api/chat/wss", {}, 404),
        ("/v1/models", {}, 404),
    ],
)
def test_a_refusal_is_an_answer_in_words(
    gateway: RunningGateway, path: str, headers: dict[str, str], status: int
) -> None:
    with pytest.raises(InvalidStatus) as caught:
        connect(gateway.url.replace("http", "ws") + path, proxy=None, additional_headers=headers)
    response = caught.value.response
    assert response.status_code == status
    assert response.body
    assert json.loads(response.body)
    assert response.headers["X-Request-Id"].startswith("req_")


def test_the_documents_name_the_socket(gateway: RunningGateway) -> None:
    assert set(gateway.get("/openapi.json").json()["paths"]["/api/chat/ws"]["get"]["responses"]) >= {"101", "426"}
    assert gateway.get("/api/chat/ws").status_code == 426
