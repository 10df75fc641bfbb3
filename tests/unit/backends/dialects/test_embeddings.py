"""Vectors, both ways."""

import json
import struct
from base64 import b64decode, b64encode
from typing import Any

import ollama
import pytest
from openai.types import CreateEmbeddingResponse

from sluicegate.backends.dialects.answers_to_ollama import answer_to_ollama
from sluicegate.backends.dialects.answers_to_openai import answer_to_openai
from sluicegate.backends.dialects.to_ollama import OllamaCall
from sluicegate.backends.dialects.to_openai import OpenAICall
from sluicegate.errors import BackendFailed
from sluicegate.testing import ManualClock


def to_openai(body: bytes, *, as_base64: bool = False) -> dict[str, Any]:
    call = OllamaCall(kind="embeddings", path="", body=b"", model="asked", as_base64=as_base64)
    made = answer_to_openai(call, answer_id="x", clock=ManualClock())
    told: dict[str, Any] = json.loads(made.feed(body) + made.finish())
    return told


def to_ollama(body: dict[str, Any], kind: Any = "embed") -> dict[str, Any]:
    clock = ManualClock()
    made = answer_to_ollama(OpenAICall(kind=kind, path="", body=b"", model="asked"), clock=clock, started=0)
    clock.advance(1.5)
    made.feed(json.dumps(body).encode())
    told: dict[str, Any] = json.loads(made.finish())
    return told


def test_numbers_are_passed_on_as_they_were_written() -> None:
    body = b'{"model":"m","embeddings":[[0.10, -2e-3],[1,0]],"prompt_eval_count":3}'
    told = to_openai(body)
    CreateEmbeddingResponse.model_validate(told)
    assert [entry["embedding"] for entry in told["data"]] == [[0.1, -0.002], [1, 0]]
    assert [entry["index"] for entry in told["data"]] == [0, 1]
    assert (told["model"], told["usage"]) == ("asked", {"prompt_tokens": 3, "total_tokens": 3})


def test_base64_holds_little_endian_floats() -> None:
    told = to_openai(b'{"embeddings":[[0.5,-2]]}', as_base64=True)
    assert b64decode(told["data"][0]["embedding"]) == struct.pack("<2f", 0.5, -2)


@pytest.mark.parametrize(
    "body", [b"{}", b'{"error":"no"}', b'{"embeddings":["x"]}', b'{"embeddings":[["x"]]}', b'{"embeddings":[[1e300]]}']
)
def test_an_answer_without_vectors_is_a_failure(body: bytes) -> None:
    with pytest.raises(BackendFailed):
        to_openai(body, as_base64=True)


def test_vectors_come_in_the_order_of_their_index_and_may_be_base64() -> None:
    packed = b64encode(struct.pack("<2f", 0.5, -2)).decode()
    data = [{"index": 1, "embedding": packed}, {"index": 0, "embedding": [1, 0]}]
    told = to_ollama({"data": data, "usage": {"prompt_tokens": 4}})
    ollama.EmbedResponse.model_validate(told)
    assert told == {
        "model": "asked",
        "embeddings": [[1, 0], [0.5, -2]],
        "total_duration": 1_500_000_000,
        "load_duration": 0,
        "prompt_eval_count": 4,
    }
    assert to_ollama({"data": [{"embedding": [1]}, {"embedding": [2]}]})["embeddings"] == [[1], [2]]
    assert to_ollama({"data": [{"embedding": [1]}]}, "embeddings") == {"embedding": [1]}


@pytest.mark.parametrize("vector", ["!", "AAA=", {}])
def test_vectors_in_another_form_are_a_failure(vector: Any) -> None:
    with pytest.raises(BackendFailed):
        to_ollama({"data": [{"embedding": vector}]})
    with pytest.raises(BackendFailed):
        to_ollama({"data": []})
