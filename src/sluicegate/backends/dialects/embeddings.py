"""Vectors, both ways. Numbers are passed on as they were written, unless base64 is asked for."""

import struct
from binascii import a2b_base64, b2a_base64
from typing import Any

import msgspec

from sluicegate.backends.dialects import ollama, openai
from sluicegate.backends.dialects.bodies import read_answer
from sluicegate.backends.dialects.failures import raise_told
from sluicegate.errors import BackendFailed

_FLOAT_BYTES = 4


def embeddings_from_ollama(body: bytes, *, model: str, as_base64: bool) -> bytes:
    """An answer of ``/api/embed`` as one of ``/v1/embeddings``; `as_base64`: little-endian floats of 32 bits.

    Raises `BackendFailed` when it is something else.
    """
    answer = read_answer(body, ollama.Embeddings, "Ollama")
    raise_told(answer.error)
    if answer.embeddings is None:
        raise BackendFailed("the backend answered without embeddings")
    vectors = [_base64(vector) if as_base64 else _array(vector) for vector in answer.embeddings]
    asked = answer.prompt_eval_count or 0
    data = [{"object": "embedding", "index": index, "embedding": vector} for index, vector in enumerate(vectors)]
    usage = {"prompt_tokens": asked, "total_tokens": asked}
    return msgspec.json.encode({"object": "list", "data": data, "model": model, "usage": usage})


def embeddings_from_openai(body: bytes, *, model: str, nanoseconds: int, is_old: bool) -> bytes:
    """An answer of ``/v1/embeddings`` as one of ``/api/embed``, or of the older ``/api/embeddings``.

    `nanoseconds` is how long the call took. Raises `BackendFailed` when it is something else.
    """
    answer = read_answer(body, openai.Embeddings, "OpenAI")
    raise_told(answer.error)
    if not answer.data:
        raise BackendFailed("the backend answered without embeddings")
    ordered = sorted(enumerate(answer.data), key=lambda entry: entry[0] if entry[1].index is None else entry[1].index)
    vectors = [_numbers(entry.embedding) for _, entry in ordered]
    if is_old:
        return msgspec.json.encode({"embedding": vectors[0]})
    made: dict[str, Any] = {
        "model": model,
        "embeddings": vectors,
        "total_duration": nanoseconds,
        "load_duration": 0,
    }
    if answer.usage is not None and answer.usage.prompt_tokens is not None:
        made["prompt_eval_count"] = answer.usage.prompt_tokens
    return msgspec.json.encode(made)


def _array(vector: msgspec.Raw) -> msgspec.Raw:
    if not bytes(vector).startswith(b"["):
        raise BackendFailed("the backend sent an embedding that is no array of numbers")
    return vector


def _base64(vector: msgspec.Raw) -> str:
    try:
        numbers = msgspec.json.decode(vector, type=list[float])
        packed = struct.pack(f"<{len(numbers)}f", *numbers)
    except (msgspec.DecodeError, OverflowError) as error:
        raise BackendFailed(f"the backend sent an embedding that is no array of numbers: {error}") from None
    return b2a_base64(packed, newline=False).decode()


def _numbers(vector: msgspec.Raw) -> msgspec.Raw | list[float]:
    """An array as it is, or the numbers inside base64, which some servers send whatever was asked for."""
    if not bytes(vector).startswith(b'"'):
        return _array(vector)
    try:
        packed = a2b_base64(msgspec.json.decode(vector, type=str), strict_mode=True)
        return list(struct.unpack(f"<{len(packed) // _FLOAT_BYTES}f", packed))
    except (ValueError, struct.error) as error:
        raise BackendFailed(f"the backend sent an embedding in broken base64: {error}") from None
