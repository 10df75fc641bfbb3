"""Errors in the dialect of the door that was knocked at.

openai   {"error": {"message", "type", "param", "code"}}              invalid fields are 400
chat     {"error": "INVALID_REQUEST", "message", "details": […]}      invalid fields are 400
ollama   {"error": "message"}                                         invalid fields are 400
native   RFC 9457 problem document with a stable `code` and `errors`  invalid fields are 422
"""

import math
from typing import TYPE_CHECKING, Any, Literal, assert_never

import msgspec

from sluicegate.errors import InvalidInput, InvalidRequest, LimitReached, SluicegateError

if TYPE_CHECKING:
    from starlette.responses import Response

Dialect = Literal["openai", "chat", "ollama", "native"]
_OLLAMA_PATHS = ("/api/generate", "/api/embed", "/api/embeddings", "/api/tags", "/api/show", "/api/ps", "/api/version")


def dialect_of(path: str) -> Dialect:
    """The dialect in which an unknown path or method is answered."""
    if path in _OLLAMA_PATHS:
        return "ollama"
    if path.startswith("/api/"):
        return "chat"
    openai = ("/v1/chat", "/v1/completions", "/v1/embeddings", "/v1/images", "/v1/models")
    return "openai" if path.startswith(openai) else "native"


def unforeseen() -> SluicegateError:
    """What a caller is told of a fault of ours, which the log has."""
    return SluicegateError("something went wrong here; the log has it under this request id")


def render_problem(error: SluicegateError, dialect: Dialect, request_id: str) -> "Response":
    """The whole answer for an error, for an ASGI application."""
    from starlette.responses import Response

    status, headers, body = render_error(error, dialect, request_id)
    return Response(body, status, headers)


def render_error(error: SluicegateError, dialect: Dialect, request_id: str) -> tuple[int, dict[str, str], bytes]:
    """Status, headers (names in lower case) and body that say an error."""
    status = 400 if isinstance(error, InvalidInput) and dialect != "native" else error.status
    headers = {"content-type": "application/json", **error.headers}
    match dialect:
        case "openai":
            content = _openai(error, status)
        case "chat":
            content = _chat(error)
        case "ollama":
            content = {"error": error.message}
        case "native":
            content = _native(error, status, request_id)
            headers["content-type"] = "application/problem+json"
        case _:
            assert_never(dialect)
    if error.retry_after is not None:
        headers["retry-after"] = str(max(1, math.ceil(error.retry_after)))
    if status in (408, 413):
        headers["connection"] = "close"
    return status, headers, msgspec.json.encode(content)


def openai_error(error: SluicegateError, status: int | None = None) -> dict[str, Any]:
    """The body of an error in OpenAI's dialect, also used inside a broken stream."""
    return _openai(error, status or error.status)


def _openai(error: SluicegateError, status: int) -> dict[str, Any]:
    kind = "invalid_request_error" if status < 500 else "server_error"
    if status == 429:
        kind = "rate_limit_error"
    param = error.faults[0].path or None if error.faults else error.details.get("param")
    code = "rate_limit_exceeded" if isinstance(error, LimitReached) else error.code
    return {"error": {"message": error.message, "type": kind, "param": param, "code": code}}


def _chat(error: SluicegateError) -> dict[str, Any]:
    is_invalid = isinstance(error, InvalidInput) or (isinstance(error, InvalidRequest) and error.status == 400)
    word = "INVALID_REQUEST" if is_invalid else error.code.upper()
    return {"error": word, "message": error.message, "details": _faults(error)}


def _native(error: SluicegateError, status: int, request_id: str) -> dict[str, Any]:
    problem: dict[str, Any] = {
        "type": f"urn:sluicegate:problem:{error.code}",
        "title": error.code.replace("_", " ").capitalize(),
        "status": status,
        "detail": error.message,
        "code": error.code,
        "request_id": request_id,
    }
    if error.faults:
        problem["errors"] = _faults(error)
    return problem | {name: value for name, value in error.details.items() if name not in problem}


def _faults(error: SluicegateError) -> list[dict[str, Any]]:
    return [
        {"field": fault.path, "message": fault.message} | ({"suggestion": fault.suggestion} if fault.suggestion else {})
        for fault in error.faults
    ]
