"""Errors in each dialect."""

import msgspec
import pytest

from sluicegate import errors
from sluicegate.doors.problems import Dialect, dialect_of, render_error, render_problem
from sluicegate.errors import (
    BackendRefused,
    Fault,
    InvalidInput,
    Overloaded,
    QueueFull,
    SluicegateError,
    TooLate,
    UnknownJob,
)


def tree(kind: type[SluicegateError] = SluicegateError) -> list[type[SluicegateError]]:
    return [kind, *(below for child in kind.__subclasses__() for below in tree(child))]


def make(kind: type[SluicegateError]) -> SluicegateError:
    if kind is errors.InvalidSettings:
        return errors.InvalidSettings([Fault("a", "b")], source="c")
    return kind("words")


@pytest.mark.parametrize("dialect", ["openai", "chat", "ollama", "native"])
def test_every_error_has_an_answer_in_every_dialect(dialect: Dialect) -> None:
    for kind in tree():
        answer = render_problem(make(kind), dialect, "req_1")
        assert 400 <= answer.status_code < 600
        told = msgspec.json.decode(answer.body)
        match dialect:
            case "openai":
                assert set(told["error"]) == {"message", "type", "param", "code"}
            case "chat":
                assert set(told) == {"error", "message", "details"}
            case "ollama":
                assert told == {"error": make(kind).message}
            case "native":
                assert {"type", "title", "status", "detail", "code", "request_id"} <= set(told)
                assert told["status"] == answer.status_code


def test_codes_are_unique_so_that_programs_can_tell_errors_apart() -> None:
    codes = [kind.code for kind in tree()]
    assert len(set(codes)) == len(codes)


def test_wrong_fields_are_422_natively_and_400_elsewhere() -> None:
    error = InvalidInput.of(Fault("input.scale", "is 3", "send 2"), Fault("model", "absent"))
    native = render_problem(error, "native", "req_1")
    assert native.status_code == 422
    assert msgspec.json.decode(native.body)["errors"] == [
        {"field": "input.scale", "message": "is 3", "suggestion": "send 2"},
        {"field": "model", "message": "absent"},
    ]
    openai = render_problem(error, "openai", "req_1")
    assert openai.status_code == 400
    assert msgspec.json.decode(openai.body)["error"]["param"] == "input.scale"
    chat = render_problem(error, "chat", "req_1")
    assert chat.status_code == 400
    assert msgspec.json.decode(chat.body)["error"] == "INVALID_REQUEST"


@pytest.mark.parametrize("dialect", ["openai", "chat", "ollama", "native"])
def test_the_answer_is_the_same_for_the_lane_and_for_an_application(dialect: Dialect) -> None:
    for kind in tree():
        error = make(kind)
        status, headers, body = render_error(error, dialect, "req_1")
        answer = render_problem(error, dialect, "req_1")
        assert (answer.status_code, answer.body) == (status, body)
        assert headers.items() <= dict(answer.headers).items()
        assert all(name.islower() for name in headers)
        assert headers.get("connection") == ("close" if status in (408, 413) else None)


def test_unavailable_says_when_to_come_back_in_whole_seconds() -> None:
    assert render_problem(Overloaded("full", retry_after=1.2), "native", "r").headers["retry-after"] == "2"
    assert render_problem(Overloaded("full", retry_after=0.01), "native", "r").headers["retry-after"] == "1"
    assert "retry-after" not in render_problem(UnknownJob("no"), "native", "r").headers


def test_a_refusal_of_a_backend_keeps_its_status() -> None:
    answer = render_problem(BackendRefused("too many", status=429, retry_after=1), "openai", "r")
    assert answer.status_code == 429
    assert msgspec.json.decode(answer.body)["error"]["type"] == "rate_limit_error"


@pytest.mark.parametrize(
    ("dialect", "word"),
    [
        ("openai", "rate_limit_exceeded"),
        ("chat", "QUEUE_FULL"),
        ("ollama", "1000 jobs wait"),
        ("native", "queue_full"),
    ],
)
def test_a_full_queue_is_429_in_the_words_of_each_dialect_and_says_when_to_come_back(
    dialect: Dialect, word: str
) -> None:
    answer = render_problem(QueueFull("1000 jobs wait", retry_after=41.3), dialect, "r")
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "42")
    told = msgspec.json.decode(answer.body)
    match dialect:
        case "openai":
            assert (told["error"]["type"], told["error"]["code"]) == ("rate_limit_error", word)
        case "chat" | "ollama":
            assert told["error"] == word
        case "native":
            assert told["code"] == word


def test_a_deadline_out_of_reach_is_503_with_what_was_expected() -> None:
    answer = render_problem(TooLate("no", retry_after=7, details={"expected_start_seconds": 9.5}), "native", "r")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "7")
    told = msgspec.json.decode(answer.body)
    assert (told["code"], told["expected_start_seconds"]) == ("deadline_unreachable", 9.5)


def test_unknown_paths_are_answered_in_the_dialect_of_their_neighbours() -> None:
    assert dialect_of("/v1/chat/nothing") == "openai"
    assert dialect_of("/v1/embeddings") == "openai"
    assert dialect_of("/api/nothing") == "chat"
    assert dialect_of("/api/tags") == "ollama"
    assert dialect_of("/v1/jobs/x/y") == "native"
    assert dialect_of("/") == "native"
