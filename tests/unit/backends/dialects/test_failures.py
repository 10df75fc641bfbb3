"""Errors from one dialect to the other."""

import json
from typing import Any

import pytest

from sluicegate.backends.dialects.failures import (
    failure_words,
    ollama_broken_stream,
    refusal_to_openai,
)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b'{"error":"model \'x\' not found"}', "model 'x' not found"),
        (b'{"error":{"message":"no such model","type":"t"}}', "no such model"),
        (b'{"object":"error","message":"too long"}', "too long"),
        (b'{"detail":"Not Found"}', "Not Found"),
        (b'{"detail":[{"loc":["body"]}]}', '[{"loc":["body"]}]'),
        (b"Bad Gateway \xff", "Bad Gateway \ufffd"),
        (b"", "the backend answered 502 without a word"),
        (b"{}", "the backend answered 502 without a word"),
        (b"[" * 5_000, "[" * 2_000),
    ],
)
def test_words_are_found_in_any_form(body: bytes, words: str) -> None:
    assert failure_words(body, 502) == words


@pytest.mark.parametrize(
    ("status", "kind", "code"),
    [
        (400, "invalid_request_error", None),
        (404, "invalid_request_error", "model_not_found"),
        (429, "rate_limit_error", "rate_limit_exceeded"),
        (500, "server_error", None),
    ],
)
def test_ollamas_refusal_becomes_openais(status: int, kind: str, code: str | None) -> None:
    made = refusal_to_openai(status)
    told: dict[str, Any] = json.loads(made.feed(b'{"err') + made.feed(b'or":"no"}') + made.finish())
    assert told == {"error": {"message": "no", "type": kind, "param": None, "code": code}}


def test_a_broken_stream_of_ollamas_is_told_in_a_line() -> None:
    assert ollama_broken_stream("é\n") == '{"error":"é\\n"}\n'.encode()
