"""What an upstream's error answer means for the caller."""

import msgspec

from sluicegate.backends.backend import AnswerHead
from sluicegate.errors import (
    BackendError,
    BackendFailed,
    BackendRefused,
    BackendTimeout,
    BackendUnavailable,
)

_PASSED_ON = frozenset({400, 404, 409, 413, 415, 422, 429})
"""Refusals that are the caller's affair; any other error status of a backend is the backend's failure."""
MOST_ERROR_BYTES = 65_536


class _Words(msgspec.Struct):
    message: str = ""


class _ErrorBody(msgspec.Struct):
    error: _Words | str = ""
    message: str = ""
    detail: str = ""


def read_refusal(backend: str, head: AnswerHead, body: bytes) -> BackendError:
    """The error that an answer with another status than 200 stands for."""
    words = _error_words(body) or f"status {head.status}"
    if head.status < 400:
        mend = "is its url the right base address?"
        return BackendFailed(f'backend "{backend}" answered with status {head.status}; {mend}')
    if head.status in _PASSED_ON:
        retry_after = head.retry_after or (1.0 if head.status == 429 else None)
        return BackendRefused(words, status=head.status, retry_after=retry_after)
    if head.status in (401, 403):
        return BackendFailed(f'backend "{backend}" refused the gateway itself ({head.status}): {words}')
    if head.status == 503:
        return BackendUnavailable(f'backend "{backend}": {words}', retry_after=head.retry_after or 1.0)
    return BackendFailed(f'backend "{backend}" failed with status {head.status}: {words}')


def reason_of(error: BackendError) -> str:
    """The label of a failure in `sluicegate_backend_errors_total`."""
    match error:
        case BackendTimeout():
            return "timeout"
        case BackendUnavailable():
            return "refused"
        case BackendRefused():
            return "http_4xx"
        case _:
            return "http_5xx"


def _error_words(body: bytes) -> str:
    """The sentence inside an error body of any usual form."""
    try:
        decoded = msgspec.json.decode(body, type=_ErrorBody)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ""
    inner = decoded.error if isinstance(decoded.error, str) else decoded.error.message
    return (inner or decoded.message or decoded.detail)[:2_000]
