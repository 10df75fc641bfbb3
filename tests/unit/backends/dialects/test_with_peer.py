"""Calls of OpenAI's dialect, made to the scripted Ollama server and back."""

import base64
import json
import struct
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from openai.types import CreateEmbeddingResponse
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from tests.ollama_peer import OllamaPeer, ollama_peer

from sluicegate.backends.dialects.answers_to_openai import answer_to_openai
from sluicegate.backends.dialects.failures import refusal_to_openai
from sluicegate.backends.dialects.models import listed_models, model_card, shown_model
from sluicegate.backends.dialects.to_ollama import (
    OllamaCall,
    chat_to_ollama,
    completion_to_ollama,
    embeddings_to_ollama,
)
from sluicegate.domain.clock import SystemClock
from sluicegate.errors import BackendFailed

HELLO = [{"role": "user", "content": "hello"}]
ADD = {"type": "function", "function": {"name": "add", "parameters": {"type": "object", "properties": {}}}}
PICTURE = "data:image/png;base64," + base64.b64encode(b"\x89PNG\r\n\x1a\n picture").decode()


@pytest.fixture(scope="module")
def peer() -> Iterator[OllamaPeer]:
    with ollama_peer() as running:
        yield running


def ask(peer: OllamaPeer, call: OllamaCall) -> tuple[int, bytes]:
    """The status and the translated body."""
    with httpx.stream("POST", f"{peer.url}/{call.path}", content=call.body, trust_env=False) as answer:
        status = answer.status_code
        made = (
            answer_to_openai(call, answer_id="id", clock=SystemClock()) if status == 200 else refusal_to_openai(status)
        )
        body = b"".join([made.feed(piece) for piece in answer.iter_raw(7)])
        return status, body + made.finish()


def chat(peer: OllamaPeer, **more: Any) -> bytes:
    status, body = ask(peer, chat_to_ollama(json.dumps({"messages": HELLO, **more}).encode()))
    assert status == 200
    return body


def chunks(body: bytes) -> list[ChatCompletionChunk]:
    *told, done, rest = body.split(b"\n\n")
    assert (done, rest) == (b"data: [DONE]", b"")
    return [ChatCompletionChunk.model_validate_json(event[6:]) for event in told]


def test_a_streamed_chat_is_read_by_the_official_types(peer: OllamaPeer) -> None:
    told = chunks(chat(peer, model="wide", stream=True, max_tokens=3, stream_options={"include_usage": True}))
    text = "".join(choice.delta.content or "" for chunk in told for choice in chunk.choices)
    assert text == "Zoë 🐑 0 Zoë 🐑 1 Zoë 🐑 2 "
    assert told[-2].choices[0].finish_reason == "length"
    assert told[-1].usage is not None
    assert (told[-1].usage.prompt_tokens, told[-1].usage.completion_tokens) == (7, 3)


def test_a_whole_chat_with_a_picture_and_tools_is_read_by_the_official_types(peer: OllamaPeer) -> None:
    parts = [{"type": "text", "text": "see"}, {"type": "image_url", "image_url": {"url": PICTURE}}]
    told = ChatCompletion.model_validate_json(
        chat(peer, model="tools", messages=[{"role": "user", "content": parts}], tools=[ADD], stop="END")
    )
    assert told.choices[0].finish_reason == "tool_calls"
    calls = told.choices[0].message.tool_calls or []
    assert [call.id for call in calls] == ["call_00000000", "call_00000001"]
    seen = peer.seen()["last"]["body"]
    assert seen["messages"][0]["images"] == [PICTURE.partition(",")[2]]
    turns = [{"role": "assistant", "tool_calls": [call.model_dump() for call in calls]}]
    turns += [{"role": "tool", "tool_call_id": call.id, "content": "3"} for call in calls]
    ChatCompletion.model_validate_json(chat(peer, model="tools", messages=turns))
    seen = peer.seen()["last"]["body"]
    assert [turn.get("tool_name") for turn in seen["messages"]] == [None, "add", "add"]


def test_a_huge_chat_comes_through(peer: OllamaPeer) -> None:
    told = chunks(chat(peer, model="huge", stream=True))
    assert sum(len(choice.delta.content or "") for chunk in told for choice in chunk.choices) > 6_000_000


def test_a_generation_is_a_completion(peer: OllamaPeer) -> None:
    status, body = ask(peer, completion_to_ollama(b'{"model":"steady","prompt":"a","max_tokens":1}'))
    assert (status, json.loads(body)["choices"][0]["text"]) == (200, "word0 ")


@pytest.mark.parametrize("encoding", ["float", "base64"])
def test_embeddings_are_read_by_the_official_types(peer: OllamaPeer, encoding: str) -> None:
    body = {"model": "embedder", "input": ["a", "b"], "encoding_format": encoding}
    status, told = ask(peer, embeddings_to_ollama(json.dumps(body).encode()))
    assert status == 200
    answer = json.loads(told)
    if encoding == "base64":
        for entry in answer["data"]:
            entry["embedding"] = struct.unpack("<8f", base64.b64decode(entry["embedding"]))
    vectors = [entry.embedding for entry in CreateEmbeddingResponse.model_validate(answer).data]
    assert [round(sum(number * number for number in vector), 6) for vector in vectors] == [1, 1]


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({"model": "nobody"}, 404, "model 'nobody' not found"),
        ({"model": "plain", "tools": [ADD]}, 400, "does not support tools"),
        ({"model": "plain", "reasoning_effort": "low"}, 400, "does not support thinking"),
        ({"model": "error-503"}, 503, "scripted 503"),
    ],
)
def test_refusals_keep_their_status_and_words(peer: OllamaPeer, body: dict[str, Any], status: int, words: str) -> None:
    told_status, told = ask(peer, chat_to_ollama(json.dumps({"messages": HELLO, **body}).encode()))
    assert told_status == status
    assert words in json.loads(told)["error"]["message"]


@pytest.mark.parametrize(("model", "words"), [("fails", "while running the model"), ("cut", "before it was complete")])
def test_an_answer_that_breaks_is_a_failure(peer: OllamaPeer, model: str, words: str) -> None:
    with pytest.raises(BackendFailed, match=words):
        chat(peer, model=model, stream=True)


def test_its_models_become_cards(peer: OllamaPeer) -> None:
    listed = listed_models(httpx.get(f"{peer.url}/api/tags", trust_env=False).content)
    embedder = next(model for model in listed if model.id == "embedder:latest")
    shown = httpx.post(f"{peer.url}/api/show", json={"model": embedder.id}, trust_env=False).content
    assert model_card(shown_model(embedder, shown), "b").tasks == ()
    assert len(listed) > 10
