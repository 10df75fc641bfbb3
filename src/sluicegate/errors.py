"""The error tree. Every message says what was wrong, the value, and the mend.

    SluicegateError
    ├── InvalidSettings            the settings file, environment or flags have faults (all listed at once)
    ├── InvalidRequest             the caller's request cannot be served as it stands
    │   ├── MalformedBody          400  not JSON, not the declared form, cut short
    │   ├── InvalidInput           422  JSON, but wrong fields (400 in the OpenAI and chat dialects)
    │   ├── ImageRejected          422  bytes that are no picture we take
    │   ├── BodyTooLarge           413
    │   ├── RequestTimeout         408  the caller paused too long while sending
    │   ├── MethodNotAllowed       405
    │   └── OriginRefused          403  a web page of another site calls this gateway
    ├── NotFound                   404  also for another tenant's objects
    │   ├── UnknownModel, UnknownJob, UnknownAsset, UnknownStream, UnknownRoute
    ├── Conflict                   409
    │   └── IdempotencyMismatch    422  the same key with another body
    ├── LimitReached               429  a limit of the caller's tier; told with Retry-After
    │   └── QueueFull                   too many of the tenant's jobs, or too much work, wait already
    ├── Unavailable                503  told with Retry-After
    │   ├── StoreUnavailable       the database does not answer
    │   ├── Overloaded             a bound is reached
    │   │   └── TooLate            the job could not end by its deadline: too much is ahead of it
    │   └── Draining               this process is stopping
    ├── BackendError               the work failed at or before a backend
    │   ├── BackendUnavailable     503  nothing to connect to
    │   ├── BackendTimeout         504
    │   ├── BackendFailed          502  it answered with nonsense or its own 5xx
    │   └── BackendRefused         4xx  it refused the caller's request; its words are passed on
    ├── JobCanceled                the caller withdrew the job; raised inside running work
    └── LeaseLost                  another worker owns the job now; the result is discarded

`status` is the HTTP status that doors answer with (an upstream's own refusal keeps its status);
`code` is a stable word for programs.
Foreign exceptions are translated once, at the boundary where they appear.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing wrong with a value: where it stands, what is wrong, and how to mend it."""

    path: str
    message: str
    suggestion: str | None = None

    def __str__(self) -> str:
        mend = f" ({self.suggestion})" if self.suggestion else ""
        return f"{self.path}: {self.message}{mend}" if self.path else f"{self.message}{mend}"


class SluicegateError(Exception):
    """Root of every error that this package raises on purpose."""

    status: int = 500
    code: ClassVar[str] = "internal_error"

    def __init__(
        self,
        message: str,
        *,
        faults: Sequence[Fault] = (),
        details: Mapping[str, Any] | None = None,
        retry_after: float | None = None,
        status: int | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        if status is not None:
            self.status = status
        self.message = message
        self.faults = tuple(faults)
        self.details = dict(details or {})
        self.retry_after = retry_after
        self.headers = dict(headers or {})


class InvalidSettings(SluicegateError):
    """The settings have faults; the message lists every one."""

    code = "invalid_settings"

    def __init__(self, faults: Sequence[Fault], *, source: str) -> None:
        lines = "\n".join(f"  - {fault}" for fault in faults)
        count = "1 fault" if len(faults) == 1 else f"{len(faults)} faults"
        super().__init__(f"{source}: {count}\n{lines}", faults=faults)


class InvalidRequest(SluicegateError):
    """The caller's request cannot be served as it stands."""

    status = 400
    code = "invalid_request"


class MalformedBody(InvalidRequest):
    """The body is not what its content type says."""

    code = "malformed_body"


class InvalidInput(InvalidRequest):
    """The body is well-formed, but fields are wrong; `faults` names each."""

    status = 422
    code = "invalid_input"

    @classmethod
    def of(cls, *faults: Fault) -> Self:
        """Build the error from its faults; the message is all of them in one line."""
        return cls("; ".join(str(fault) for fault in faults), faults=faults)


class ImageRejected(InvalidInput):
    """Bytes that are no picture we take: another format, damaged, or too many pixels."""

    code = "image_rejected"


class MalformedHead(InvalidRequest):
    """What arrived is no HTTP/1.1 request, or one that could be understood in two ways."""

    code = "malformed_request"


class MethodUnknown(MalformedHead):
    """The request line begins with no method that HTTP knows."""

    status = 501
    code = "method_unknown"


class VersionUnsupported(MalformedHead):
    """Another version of HTTP than 1.0 and 1.1."""

    status = 505
    code = "version_unsupported"


class HeadTooLarge(MalformedHead):
    """The request line or the headers are longer than is taken."""

    status = 431
    code = "head_too_large"


class ExpectationFailed(MalformedHead):
    """An `Expect` header other than 100-continue."""

    status = 417
    code = "expectation_failed"


class BodyTooLarge(InvalidRequest):
    """The body is over the limit."""

    status = 413
    code = "body_too_large"


class OriginRefused(InvalidRequest):
    """A web page from an origin that is not allowed calls this gateway."""

    status = 403
    code = "origin_refused"


class NotFound(SluicegateError):
    """No such thing, or not this caller's."""

    status = 404
    code = "not_found"


class UnknownModel(NotFound):
    """No backend serves this model; the message names those that exist."""

    code = "model_not_found"


class UnknownJob(NotFound):
    """No job of this id for this tenant."""

    code = "job_not_found"


class UnknownAsset(NotFound):
    """No asset of this id for this tenant."""

    code = "asset_not_found"


class ExchangeCanceled(SluicegateError):
    """The call was cancelled by its id while it ran."""

    status = 409
    code = "canceled"


class UnknownStream(NotFound):
    """No running stream of this id for this tenant."""

    code = "stream_not_found"


class UnknownRoute(NotFound):
    """No route of this path."""

    code = "route_not_found"


class MethodNotAllowed(InvalidRequest):
    """The path exists, but not for this method."""

    status = 405
    code = "method_not_allowed"


class RequestTimeout(InvalidRequest):
    """The caller paused too long while sending the body."""

    status = 408
    code = "request_timeout"


class Conflict(SluicegateError):
    """The state of the object forbids what was asked."""

    status = 409
    code = "conflict"


class IdempotencyMismatch(Conflict):
    """The Idempotency-Key was used before with another body."""

    status = 422
    code = "idempotency_mismatch"


class LimitReached(SluicegateError):
    """The caller's tier grants no more; `retry_after` seconds say when to try again."""

    status = 429
    code = "limit_reached"

    def __init__(self, message: str, *, retry_after: float = 1.0, **more: Any) -> None:
        super().__init__(message, retry_after=retry_after, **more)


class QueueFull(LimitReached):
    """Too many of the tenant's jobs, or too much work, wait already."""

    code = "queue_full"


class Unavailable(SluicegateError):
    """Not now; `retry_after` seconds say when to try again."""

    status = 503
    code = "unavailable"

    def __init__(self, message: str, *, retry_after: float = 1.0, **more: Any) -> None:
        super().__init__(message, retry_after=retry_after, **more)


class StoreUnavailable(Unavailable):
    """The database does not answer, is locked or is full."""

    code = "store_unavailable"


class Overloaded(Unavailable):
    """A bound (streams, waiting calls) is reached."""

    code = "overloaded"


class TooLate(Overloaded):
    """The job could not end by its deadline: too much work is ahead of it."""

    code = "deadline_unreachable"


class Draining(Unavailable):
    """This process is stopping and takes no new work."""

    code = "draining"


class BackendError(SluicegateError):
    """The work failed at or before a backend. `retryable` says whether another attempt may help."""

    status = 502
    code = "backend_error"
    retryable: ClassVar[bool] = True
    backend: str = ""
    """The backend's name, where one was chosen."""


class BackendUnavailable(BackendError):
    """Nothing to connect to: down, starting, or refused."""

    status = 503
    code = "backend_unavailable"


class BackendTimeout(BackendError):
    """The backend was too late."""

    status = 504
    code = "backend_timeout"


class BackendFailed(BackendError):
    """The backend answered with an error of its own or with nonsense, or broke off."""

    code = "backend_failed"


class BackendRefused(BackendError):
    """The backend says that the request itself is wrong; another attempt cannot help."""

    status = 400
    code = "backend_refused"
    retryable = False


class JobCanceled(SluicegateError):
    """The caller withdrew the job, or its deadline passed; raised inside running work to stop it."""

    status = 409
    code = "job_canceled"


class LeaseLost(SluicegateError):
    """Another worker owns the job now (the fence moved on); whatever was made is discarded."""

    status = 409
    code = "lease_lost"
