"""The official OpenAI client, unchanged, before a server that answers as it is told to."""

import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from openai import OpenAI
from openai.types.chat import ChatCompletionMessageParam
from tests.gateway import RunningGateway, running_gateway
from tests.upstream import Upstream, scripted_upstream

MESSAGES: list[ChatCompletionMessageParam] = [{"role": "user", "content": "hi"}]
VECTORS = {
    "object": "list",
    "model": "steady",
    "data": [{"object": "embedding", "index": number, "embedding": [0.5, -1.25, number]} for number in range(2)],
    "usage": {"prompt_tokens": 4, "total_tokens": 4},
}


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    with scripted_upstream() as running:
        yield running


@pytest.fixture(scope="module")
def before_it(upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    """A gateway before the scripted server."""
    config = f'''
[[backends]]
name = "up"
kind = "openai"
url = "{upstream.url}"
timeout_seconds = {{ first_byte = 1, idle = 1, total = 20 }}
'''
    with running_gateway(tmp_path_factory.mktemp("before"), config) as gateway:
        gateway.wait_ready()
        yield gateway


@pytest.fixture
def client(before_it: RunningGateway) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{before_it.url}/v1", api_key="anything", max_retries=0) as made:
        yield made


def said(value: object) -> dict[str, Any]:
    """Let the server say this, whatever it is asked."""
    body = json.dumps(value)
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return {"script": {"raw": head + body, "keeps": True}}


def test_it_gets_vectors(client: OpenAI, upstream: Upstream) -> None:
    answer = client.embeddings.create(
        model="steady", input=["a", "b"], encoding_format="float", extra_body=said(VECTORS)
    )
    assert [vector.embedding for vector in answer.data] == [[0.5, -1.25, 0.0], [0.5, -1.25, 1.0]]
    assert answer.usage.total_tokens == 4
    last = upstream.seen()["last"]
    assert last["path"] == "/v1/embeddings"
    assert last["body"]["input"] == ["a", "b"]


def test_a_text_is_asked_for_on_its_own_path(client: OpenAI, upstream: Upstream) -> None:
    text = {"id": "c", "object": "text_completion", "created": 1, "model": "steady"}
    answer = client.completions.create(
        model="steady",
        prompt=["a", "b"],
        extra_body=said({**text, "choices": [{"index": 0, "text": "and", "finish_reason": "stop", "logprobs": None}]}),
    )
    assert answer.choices[0].text == "and"
    last = upstream.seen()["last"]
    assert (last["path"], last["body"]["prompt"]) == ("/v1/completions", ["a", "b"])


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("model", "kind", "told"),
    [
        ("error-400", openai.BadRequestError, (400, "backend_refused")),
        ("error-401", openai.InternalServerError, (502, "backend_failed")),
        ("error-429", openai.RateLimitError, (429, "backend_refused")),
        ("error-500", openai.InternalServerError, (502, "backend_failed")),
        ("error-503", openai.InternalServerError, (503, "backend_unavailable")),
        ("slow-head", openai.InternalServerError, (504, "backend_timeout")),
        ("drops", openai.InternalServerError, (503, "backend_unavailable")),
        ("nobody", openai.NotFoundError, (404, "model_not_found")),
    ],
)
def test_an_error_has_the_clients_own_type(
    client: OpenAI, model: str, kind: type[openai.APIStatusError], told: tuple[int, str], stream: bool
) -> None:
    with pytest.raises(kind) as caught:
        client.chat.completions.create(model=model, messages=MESSAGES, stream=stream)
    assert (caught.value.status_code, caught.value.code) == told
    assert caught.value.request_id
    if model == "error-429":
        assert caught.value.response.headers["retry-after"] == "7"


@pytest.mark.parametrize("model", ["breaks", "idle-gap"])
def test_a_stream_that_breaks_off_raises_and_is_not_taken_for_whole(client: OpenAI, model: str) -> None:
    stream = client.chat.completions.create(model=model, messages=MESSAGES, stream=True)
    got: list[str] = []
    with pytest.raises(openai.APIError) as caught:
        got.extend(chunk.choices[0].delta.content or "" for chunk in stream)
    assert caught.value.message
    assert caught.value.code in ("backend_failed", "backend_timeout")


def test_a_client_that_tries_again_is_heard_again(before_it: RunningGateway, upstream: Upstream) -> None:
    upstream.forget()
    with (
        OpenAI(base_url=f"{before_it.url}/v1", api_key="anything", max_retries=1) as patient,
        pytest.raises(openai.InternalServerError),
    ):
        patient.chat.completions.create(model="error-500", messages=MESSAGES)
    assert upstream.seen()["requests"] == 2
