"""Errors: OpenAI says ``{"error": {"message", "type", "param", "code"}}``, Ollama ``{"error": "words"}``.

In the middle of a stream OpenAI's dialect sends the object as an event, and Ollama's as a line; both then end the body
without what marks a complete answer (``[DONE]``, ``"done": true``).
"""

from typing import Any

import msgspec

from sluicegate.backends.dialects.translation import WholeTranslation
from sluicegate.errors import BackendFailed

_MOST_WORDS = 2_000
_MOST_REFUSAL_BYTES = 2**20


def openai_failure(message: str, status: int, *, param: str | None = None, code: str | None = None) -> dict[str, Any]:
    """OpenAI's error object for an HTTP status."""
    kind = "invalid_request_error" if status < 500 else "server_error"
    if status == 429:
        kind = "rate_limit_error"
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def ollama_failure(message: str) -> dict[str, str]:
    """Ollama's error object, the same for every status."""
    return {"error": message}


def ollama_broken_stream(message: str) -> bytes:
    """The line that tells an error in the middle of an Ollama stream."""
    return msgspec.json.encode(ollama_failure(message)) + b"\n"


def refusal_to_openai(status: int) -> WholeTranslation:
    """Translates the body of an answer whose status is not 200, whatever its form, into OpenAI's."""
    return WholeTranslation(
        lambda body: msgspec.json.encode(openai_failure(failure_words(body, status), status, code=_code(status))),
        most_bytes=_MOST_REFUSAL_BYTES,
    )


def failure_words(body: bytes, status: int) -> str:
    """The words of an error body: OpenAI's or Ollama's form, ``detail`` or ``message`` alone, or plain text."""
    try:
        told = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        told = body.decode("utf-8", "replace").strip()
    words = _words(told)
    return words[:_MOST_WORDS] if words else f"the backend answered {status} without a word"


def raise_told(error: Any) -> None:
    """Raise `BackendFailed` when an answer's ``error`` field holds something."""
    if error is not None and error is not False and error != "":
        raise BackendFailed(f"the backend reported an error: {_words(error)[:_MOST_WORDS]}")


def _words(told: Any) -> str:
    if isinstance(told, str):
        return told
    if isinstance(told, dict):
        for name in ("error", "message", "detail"):
            if told.get(name):
                return _words(told[name])
    return msgspec.json.encode(told).decode() if told else ""


def _code(status: int) -> str | None:
    return {404: "model_not_found", 429: "rate_limit_exceeded"}.get(status)
